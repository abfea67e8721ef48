//! Accesses that may abort: each answers with the abort's syndrome instead of ending the guest.
//!
//! The vectors know a probe by the address of its one instruction, as Linux's exception table does,
//! so an abort is recovered only where it is expected, and that ELR names the very instruction is
//! checked by the way.

use core::arch::naked_asm;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use aarch64_rt::RegisterStateRef;

/// What a probe met.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Outcome {
    /// ESR_EL1 of the abort; 0 if there was none.
    pub esr: u64,
    /// FAR_EL1 of the abort: the virtual address of the access.
    pub far: u64,
}

/// Exception classes and fault status codes (Arm ARM, `ESR_EL1`).
const CLASS_INSTRUCTION_ABORT: u64 = 0x21;
const CLASS_DATA_ABORT: u64 = 0x25;
const EXTERNAL_ABORT: u64 = 0x10;
const EXTERNAL_ABORT_ON_WALK: u64 = 0x14;
/// ESR_EL1.IL.
const LONG_INSTRUCTION: u64 = 1 << 25;

impl Outcome {
    /// Whether it was a synchronous external abort of a load or store, not of a table walk.
    pub const fn is_external_data_abort(&self) -> bool {
        self.esr >> 26 == CLASS_DATA_ABORT && self.esr & 0x3f == EXTERNAL_ABORT
    }

    /// Whether it was a synchronous external abort of an instruction fetch, not of a table walk.
    pub const fn is_external_instruction_abort(&self) -> bool {
        self.esr >> 26 == CLASS_INSTRUCTION_ABORT && self.esr & 0x3f == EXTERNAL_ABORT
    }

    /// Whether it was a synchronous external abort on the walk for a load, a store (`write`) or an
    /// instruction fetch (`fetch`), when that came to the table of this level.
    pub const fn is_external_abort_on_walk(&self, level: u64, write: bool, fetch: bool) -> bool {
        let class = if fetch {
            CLASS_INSTRUCTION_ABORT
        } else {
            CLASS_DATA_ABORT
        };
        let written = (write as u64) << 6;
        self.esr == class << 26 | LONG_INSTRUCTION | written | EXTERNAL_ABORT_ON_WALK | level
    }
}

/// One kind of access to a virtual address.
///
/// # Safety
///
/// The address holds nothing that the guest's Rust code uses: a store overwrites what is there, a
/// fetch runs it.
pub type Probe = unsafe extern "C" fn(address: u64) -> Outcome;

/// Defines a probe that is the one instruction `$access`, with the address in x2.
macro_rules! probe {
    ($(#[$doc:meta])* $name:ident, $at:literal, $access:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As [`Probe`] says.
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name(address: u64) -> Outcome {
            naked_asm!(
                "mov x2, x0",
                "mov x0, #0",
                "mov x1, #0",
                concat!(".global ", $at),
                concat!($at, ":"),
                $access,
                "ret",
            )
        }
    };
}

probe!(
    /// Loads 4 bytes.
    load, "probe_load_at", "ldr w3, [x2]"
);
probe!(
    /// Stores 4 bytes.
    store, "probe_store_at", "str w3, [x2]"
);
probe!(
    /// Loads 16 bytes with one instruction that writes two registers, for which a stage-2 fault
    /// carries no instruction syndrome.
    load_pair, "probe_load_pair_at", "ldp x3, x4, [x2]"
);
probe!(
    /// Stores 8 bytes and writes the address back, which leaves no instruction syndrome either.
    store_write_back, "probe_store_write_back_at", "str x3, [x2], #8"
);

probe!(
    /// Loads 16 bytes as an array of a vector's elements, which no hypervisor has reason to
    /// emulate.
    load_array, "probe_load_array_at",
    ".arch_extension simd\nld1 {{v0.16b}}, [x2]\n.arch_extension nosimd"
);

/// Branches to the address.
///
/// # Safety
///
/// As [`Probe`] says.
#[unsafe(naked)]
pub unsafe extern "C" fn fetch(address: u64) -> Outcome {
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "mov x2, x0",
        "mov x0, #0",
        "mov x1, #0",
        "blr x2",
        ".global probe_fetch_back",
        "probe_fetch_back:",
        "ldp x29, x30, [sp], #16",
        "ret",
    )
}

unsafe extern "C" {
    static probe_load_at: u8;
    static probe_store_at: u8;
    static probe_load_pair_at: u8;
    static probe_store_write_back_at: u8;
    static probe_load_array_at: u8;
    static probe_fetch_back: u8;
}

/// First and last address of the code that [`forgive`] was told of.
static FORGIVEN: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// From now on an exception of an instruction in this code puts its ESR_EL1 into x1, and the next
/// instruction is run. One area at a time.
///
/// # Safety
///
/// All code there, which nobody else runs, works if any of its instructions does nothing but this.
pub unsafe fn forgive(code: Range<usize>) {
    FORGIVEN[0].store(code.start, Relaxed);
    FORGIVEN[1].store(code.end, Relaxed);
}

/// If the exception is of code that is forgiven, goes on behind its instruction, and says so.
fn forgiven(state: &mut RegisterStateRef<'_>, esr: u64) -> bool {
    let [start, end] = FORGIVEN.each_ref().map(|end| end.load(Relaxed));
    let of_code = (start..end).contains(&state.elr);
    if of_code {
        // SAFETY: the caller of `forgive` says that the code is made for it.
        let registers = unsafe { state.get_mut() };
        registers.registers[1] = esr;
        registers.elr += 4;
    }
    of_code
}

/// If the exception is a probe's, makes the probe return `esr` and `far`, and says so.
pub(crate) fn recover(state: &mut RegisterStateRef<'_>, esr: u64, far: u64) -> bool {
    if forgiven(state, esr) {
        return true;
    }
    let accesses = [
        &raw const probe_load_at,
        &raw const probe_store_at,
        &raw const probe_load_pair_at,
        &raw const probe_store_write_back_at,
        &raw const probe_load_array_at,
    ];
    let fetch_back = &raw const probe_fetch_back as usize;
    // A fetch aborts at the address that was branched to, with the probe in x30 (`sp` in this
    // struct).
    let fetched = state.elr as u64 == far && state.sp == fetch_back as u64;
    let resume = if fetched {
        fetch_back
    } else if accesses.iter().any(|&at| at as usize == state.elr) {
        state.elr + 4
    } else {
        return false;
    };
    // SAFETY: the probes return x0 and x1 and go on at `resume`, just after their access, with
    // nothing else changed.
    let registers = unsafe { state.get_mut() };
    registers.registers[0] = esr;
    registers.registers[1] = far;
    registers.elr = resume;
    true
}
