//! Failing on purpose (`panic=...`), so that tests can see that EL2's memory has the rights it
//! should have, and that the report of a failure arrives.

use core::hint::black_box;
use core::mem;
use core::ptr::NonNull;

use bootargs::InjectedFault;
use log::info;

use crate::board::board;
use crate::el2::{layout, recover};

/// Fails in the way that was asked for.
pub(super) fn fail(way: InjectedFault) -> ! {
    match way {
        InjectedFault::Panic => {}
        InjectedFault::Overflow => {
            black_box(descend(0));
        }
        InjectedFault::WriteCode => {
            // SAFETY: The address is mapped read-only: this faults, and nothing is changed.
            unsafe { (layout::text().start as *mut u32).write_volatile(0) };
        }
        InjectedFault::RunData => {
            let code: [u32; 1] = [0xd65f_03c0]; // RET
            let address = black_box(&raw const code).cast::<()>();
            // SAFETY: The stack is mapped execute-never: this faults, and nothing is executed. If
            // it did not, it would be a function that returns at once.
            unsafe { mem::transmute::<*const (), extern "C" fn()>(address)() };
        }
        InjectedFault::BadMemory => load_refused(),
    }
    panic!("asked for by the boot argument `panic` ({way:?})");
}

/// Calls itself until the stack is used up.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    let room = black_box([depth; 16]);
    // The sum after the call keeps the frame alive during it.
    if depth == u64::MAX {
        return depth;
    }
    descend(depth + 1) + black_box(room)[0]
}

/// Loads a word, and copies a page, where EL2 has access and nothing answers: behind the
/// redistributors of the CPUs that there are, which QEMU's device tree leaves room for. Both must
/// be error values.
fn load_refused() {
    let regions = &board().gic.redistributors;
    let Some(end) = regions.last().map(|region| region.end()) else {
        return;
    };
    let page = (end - stage2::PAGE_SIZE) as *mut u8;
    let mut to = Page([0; stage2::PAGE_SIZE as usize]);
    if let (Some(page), Some(to)) = (NonNull::new(page), NonNull::new(to.0.as_mut_ptr())) {
        // SAFETY: EL2's tables map the page, as a device's, and what is there has no effect when it
        // is loaded. The page on the stack is ours.
        let (word, copy) = unsafe { (recover::load(page.cast()), recover::copy_page(page, to)) };
        info!("loaded: {word:?}, copied: {copy:?}");
    }
}

/// Room for what is copied.
#[repr(align(4096))]
struct Page([u8; stage2::PAGE_SIZE as usize]);
