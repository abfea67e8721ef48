//! Failing on purpose (`panic=...`), so that tests can see that EL2's memory has the rights it should
//! have, and that the report of a failure arrives.

use core::hint::black_box;
use core::mem;

use hyp::bootargs::Sabotage;

use crate::el2::layout;

/// Fails in the way that was asked for.
pub(super) fn fail(way: Sabotage) -> ! {
    match way {
        Sabotage::Panic => {}
        Sabotage::Overflow => {
            black_box(descend(0));
        }
        Sabotage::WriteCode => {
            // SAFETY: The address is mapped read-only: this faults, and nothing is changed.
            unsafe { (layout::text().start as *mut u32).write_volatile(0) };
        }
        Sabotage::RunData => {
            let code: [u32; 1] = [0xd65f_03c0]; // RET
            let address = black_box(&raw const code).cast::<()>();
            // SAFETY: The stack is mapped execute-never: this faults, and nothing is executed. If it
            // did not, it would be a function that returns at once.
            unsafe { mem::transmute::<*const (), extern "C" fn()>(address)() };
        }
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
