//! A function to read and one to write each register, written at run time: an MRS or MSR, and a
//! return. Where that instruction has an exception, it does nothing but say so
//! ([`probe::forgive`]).

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arch::Encoding;
use guest::probe;

use crate::registers::{COUNT, encoding, place};

/// Words of the two functions of a register.
const WORDS: usize = 4;
/// Where the one that writes begins.
const WRITE: usize = 2;
const RET: u32 = 0xd65f_03c0;
/// No cache line is shorter, in bytes.
const SHORTEST_LINE: usize = 16;

#[repr(C, align(64))]
struct Code([AtomicU32; COUNT * WORDS]);

static CODE: Code = Code([const { AtomicU32::new(0) }; COUNT * WORDS]);

/// What a function returns: x0, and x1.
#[repr(C)]
struct Returned {
    value: u64,
    esr: u64,
}

type Function = extern "C" fn(value: u64, esr: u64) -> Returned;

/// Writes the functions. To be called first, by the only vCPU.
pub(crate) fn write() {
    for (words, register) in CODE.0.chunks(WORDS).zip((0..COUNT).map(encoding)) {
        let code = [register.mrs(0), RET, register.msr(0), RET];
        for (place, word) in words.iter().zip(code) {
            place.store(word, Relaxed);
        }
    }
    let bytes = CODE.0.as_ptr_range();
    let bytes = bytes.start as usize..bytes.end as usize;
    for line in bytes.clone().step_by(SHORTEST_LINE) {
        // SAFETY: cleaning a line of mapped memory changes no contents.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers, and instruction caches are emptied: no contents change.
    unsafe {
        asm!(
            "dsb ish",
            "ic iallu",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        );
    }
    // SAFETY: each function is an access and a return. An access that did not happen leaves x0 as
    // it is.
    unsafe { probe::forgive(bytes) };
}

/// Reads a register; `None` if it cannot be read.
pub(crate) fn read(register: Encoding) -> Option<u64> {
    call(register, 0, 0)
}

/// Writes a register, and says whether it can be written. The caller knows what that does.
pub(crate) fn store(register: Encoding, value: u64) -> bool {
    call(register, WRITE, value).is_some()
}

fn call(register: Encoding, offset: usize, value: u64) -> Option<u64> {
    let address = CODE.0[place(register) * WORDS + offset].as_ptr();
    // SAFETY: `write` put a function of this type there.
    let function: Function = unsafe { core::mem::transmute(address) };
    let Returned { value, esr } = function(value, 0);
    (esr == 0).then_some(value)
}
