//! Resets the machine once. RAM is fresh after that, so the hypervisor has to tell which boot it
//! is: `tessera,boot-count` in `/chosen`, 0 at first. The virtual timer's interrupt is pending, and
//! never taken, when the machine is reset; it must come all the same when it is asked for after
//! that.

use core::sync::atomic::Ordering;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTV_CTL_EL0, CNTV_CVAL_EL0, Writeable};
use guest::gic::{Gic, interface};
use guest::{boot, machine::Machine, println, psci, time};

/// Left in RAM before the reset; must be gone after it.
const MARK: u64 = 0x7e55_e7a0_0000_0002;

/// The virtual timer's interrupt.
const TIMER: u32 = 27;

/// First boot: leaves a mark in some pages, has the timer fire, and resets. Second boot: looks that
/// the mark is gone, and that the timer's interrupt comes.
pub(crate) fn run(machine: &'static Machine<'static>) {
    let Some(count) = machine.boot_count() else {
        println!("reset: skipped, no tessera,boot-count in /chosen tells the boots apart");
        return;
    };
    println!("reset: boot {count}");
    let pool = boot::pool(machine);
    let pages = (0..pool.pages()).step_by(64).map(|index| pool.page(index));
    match count {
        0 => {
            pages.for_each(|page| page.0[0].store(MARK, Ordering::Relaxed));
            fire();
            psci::system_reset()
        }
        1 => {
            let stale = pages
                .filter(|page| page.0[0].load(Ordering::Relaxed) != 0)
                .count();
            assert!(
                stale == 0,
                "{stale} pages still hold something after the reset"
            );
            take_interrupt(Gic::of(machine, 0));
        }
        _ => panic!("one reset was asked for, and {count} happened"),
    }
}

/// Has the virtual timer's interrupt be pending. Interrupts are masked.
fn fire() {
    CNTV_CVAL_EL0.set(0);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
    barrier::isb(barrier::SY);
}

/// Waits until the virtual timer's interrupt can be taken, and takes it.
fn take_interrupt(gic: Gic) {
    gic.init_distributor();
    gic.init_vcpu();
    fire();
    let deadline = time::now() + time::frequency();
    while interface::acknowledge() != TIMER {
        assert!(
            time::now() < deadline,
            "the timer's interrupt does not come after the reset"
        );
    }
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR);
    barrier::isb(barrier::SY);
    interface::end(TIMER.into());
}
