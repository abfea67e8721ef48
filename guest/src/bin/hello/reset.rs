//! Resets the machine once. RAM is fresh after that, so the hypervisor has to tell which boot it is:
//! `tessera,boot-count` in `/chosen`, 0 at first.

use core::sync::atomic::Ordering;

use guest::{boot, machine::Machine, println, psci};

/// Left in RAM before the reset; must be gone after it.
const MARK: u64 = 0x7e55_e7a0_0000_0002;

/// First boot: leaves a mark in some pages and resets. Second boot: looks that it is gone.
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
        }
        _ => panic!("one reset was asked for, and {count} happened"),
    }
}
