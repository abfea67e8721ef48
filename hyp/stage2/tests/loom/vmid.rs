//! VMIDs that are given and that run out: races 44 and 52.

use crate::support::world::{World, explore, only, page, small};
use stage2::fake::{FakeMachine, Setup};
use std::sync::Arc;

/// A vCPU runs on, and is loaded again, while another CPU uses up the numbers and a new generation
/// begins.
///
/// Rule: what runs keeps its number. Taken out by
/// `52-running-vm-not-reserved.patch`.
#[test]
fn race_52_rollover_under_a_running_vcpu() {
    explore(|| {
        let setup = Setup {
            vmid_bits: 2,
            table_frames: 4,
            ..small()
        };
        let machine = Arc::new(FakeMachine::new(setup));
        let [a, b, c, d] = [1, 2, 3, 4].map(|owner| World::beside(&machine, owner));
        let before = machine.enter_on(1, &a.vm).vmid();
        // Three numbers: the fourth VM begins a new generation.
        let enter_others = move |_: &World| {
            b.enter();
            c.enter();
            d.enter()
        };
        let (theirs, again) = a.race(enter_others, World::enter);
        assert_ne!(again, theirs, "two running VMs share a number");
        assert_eq!(again, before, "the number changed under a running VM");
    });
}

/// A CPU goes from one VM to another, whose number is of the current generation still, when a new
/// one begins.
///
/// Rule: loading a VM notices a generation that began meanwhile. Taken out by
/// `52-loaded-without-an-exchange.patch`.
#[test]
fn race_52_rollover_while_a_vm_is_loaded() {
    explore(|| {
        let setup = Setup {
            vmid_bits: 2,
            table_frames: 4,
            ..small()
        };
        let machine = Arc::new(FakeMachine::new(setup));
        let [a, b, c, d] = [1, 2, 3, 4].map(|owner| World::beside(&machine, owner));
        machine.enter_on(1, &a.vm);
        machine.enter_on(1, &b.vm);
        let enter_others = move |_: &World| {
            c.enter();
            d.enter()
        };
        let (theirs, ours) = a.race(enter_others, World::enter);
        assert_ne!(ours, theirs, "two running VMs share a number");
    });
}

/// A page is unmapped when the VM has never run, so there is nothing to invalidate; it runs for the
/// first time at that moment.
///
/// Rule: a thread that changes entries sees under which number the VM runs, or the CPU that runs it
/// sees the changed entries. Taken out by `44-number-looked-up-too-early.patch`.
#[test]
fn race_44_a_vm_first_runs_while_a_page_is_unmapped() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        let unmap = |world: &World| world.unmap(only(0));
        world.race(unmap, |world| {
            let guest = world.machine.enter(&world.vm);
            let _ = guest.write(page(0), 5);
        });
        let guest = world.machine.enter_on(1, &world.vm);
        assert!(guest.write(page(0), 6).is_err(), "a translation is left");
        world.end();
    });
}
