//! VMIDs that run out: race 52.

use crate::support::{World, explore, small};
use stage2::fake::{FakeMachine, Setup};
use std::sync::Arc;

/// A vCPU runs on, and is loaded again, while another CPU uses up the numbers and a new generation begins.
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
        let vcpu = a.on(1, |world| world.machine.enter(&world.vm).vmid());
        // Three numbers: the fourth VM begins a new generation.
        let mut others = [&b, &c, &d].map(|world| machine.enter(&world.vm).vmid());
        others.reverse();
        let again = vcpu.join().unwrap();
        assert_ne!(again, others[0], "two running VMs share a number");
        assert_eq!(again, before, "the number changed under a running VM");
    });
}

/// A CPU goes from one VM to another, whose number is of the current generation still, when a new one begins.
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
        let vcpu = a.on(1, |world| world.machine.enter(&world.vm).vmid());
        machine.enter(&c.vm);
        let theirs = machine.enter(&d.vm).vmid();
        let ours = vcpu.join().unwrap();
        assert_ne!(ours, theirs, "two running VMs share a number");
    });
}
