//! VMIDs that run out: race 52.

use crate::support::{World, explore, small};
use stage2::fake::{FakeMachine, Setup};
use std::sync::Arc;

/// A vCPU runs on, and is loaded again, while another CPU uses up the numbers and a new generation begins.
///
/// Rule: what runs keeps its number, and loading a VM notices a new generation. Taken out by
/// `52-running-vm-not-reserved.patch` and `52-loaded-without-an-exchange.patch`.
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
