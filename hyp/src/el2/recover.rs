//! Instructions of EL2 that may end in an exception through no fault of its own, and where it goes
//! on then.
//!
//! EL2 reads what guests own: single words of their tables, pages that it copies. Where the memory
//! behind it fails, the load ends in a synchronous external abort. EL2 also has the hardware
//! translate by a guest's own tables, which may lie anywhere and hold anything. And it opens a
//! window for asynchronous errors (`super::serror`). Each such instruction is in the table that the
//! vectors search (`.fixups`): an exception at an address of the first two words of an entry goes
//! on at the third. Any other exception of EL2 is the end.
//!
//! An exception overwrites `ELR_EL2` and `SPSR_EL2`, which belong to the guest that the thread may
//! be about to return to, and the vectors use `TPIDRRO_EL0`, which is the guest's too. So each
//! function here reads them before, and puts them back where it goes on.

use core::arch::asm;
use core::ptr::NonNull;

use stage2::{PAGE_SIZE, Unreadable};

/// Lines of assembly: begins an entry of the table, `$first` to `$behind`, that goes on at
/// `$landing`.
macro_rules! fixup {
    ($first:literal, $behind:literal, $landing:literal) => {
        concat!(
            ".pushsection .fixups, \"a\"\n",
            ".quad ",
            $first,
            ", ",
            $behind,
            ", ",
            $landing,
            "\n",
            ".popsection"
        )
    };
}

/// Lines of assembly: what an exception overwrites.
macro_rules! keep {
    () => {
        "mrs {elr}, elr_el2\nmrs {spsr}, spsr_el2\nmrs {scratch}, tpidrro_el0"
    };
}

/// Lines of assembly: puts back what [`keep`] has read.
macro_rules! put_back {
    () => {
        "msr elr_el2, {elr}\nmsr spsr_el2, {spsr}\nmsr tpidrro_el0, {scratch}"
    };
}

/// `PAR_EL1.F`: the translation failed.
pub(crate) const PAR_FAILED: u64 = 1;

/// What `PAR_EL1`, which is changed, says of the guest's virtual `address`, by its own stage 1 and
/// at EL1: with [`PAR_FAILED`] alone if the walk ended in an exception.
#[inline(always)]
pub(crate) fn translate(address: u64) -> u64 {
    let par: u64;
    // SAFETY: The instruction writes PAR_EL1 only, which is the caller's to change. What an
    // exception changes besides is put back.
    unsafe {
        asm!(
            keep!(),
            "2: at s1e1r, {address}",
            "isb",
            "mrs {par}, par_el1",
            "3:",
            fixup!("2b", "3b", "4f"),
            ".pushsection .text.recover, \"ax\"",
            "4:",
            put_back!(),
            "mov {par}, #{failed}",
            "b 3b",
            ".popsection",
            address = in(reg) address,
            par = out(reg) par,
            elr = out(reg) _,
            spsr = out(reg) _,
            scratch = out(reg) _,
            failed = const PAR_FAILED,
            options(nostack, preserves_flags),
        );
    }
    par
}

/// Loads a word.
///
/// # Errors
///
/// The load ended in an external abort.
///
/// # Panics
///
/// If it ended in another exception, which is EL2's fault.
///
/// # Safety
///
/// The word is RAM that is mapped, at a multiple of eight bytes. Others may store to it meanwhile.
pub(crate) unsafe fn load(word: NonNull<u64>) -> Result<u64, Unreadable> {
    let (value, esr): (u64, u64);
    // SAFETY: The caller says that the word may be loaded. What an exception changes is put back.
    unsafe {
        asm!(
            keep!(),
            "mov {esr}, xzr",
            "2: ldr {value}, [{word}]",
            "3:",
            fixup!("2b", "3b", "4f"),
            ".pushsection .text.recover, \"ax\"",
            "4: mrs {esr}, esr_el2",
            put_back!(),
            "b 3b",
            ".popsection",
            word = in(reg) word.as_ptr(),
            value = out(reg) value,
            esr = out(reg) esr,
            elr = out(reg) _,
            spsr = out(reg) _,
            scratch = out(reg) _,
            options(nostack, preserves_flags),
        );
    }
    accessed(esr)?;
    Ok(value)
}

/// Copies a page.
///
/// # Errors
///
/// As [`load`]. The page at `to` may hold anything then.
///
/// # Panics
///
/// As [`load`].
///
/// # Safety
///
/// Both are pages of RAM that is mapped, and `to` is the caller's alone. Others may store to `from`
/// meanwhile.
pub(crate) unsafe fn copy_page(from: NonNull<u8>, to: NonNull<u8>) -> Result<(), Unreadable> {
    let esr: u64;
    // SAFETY: The caller says that the pages may be loaded from and stored to. What an exception
    // changes is put back.
    unsafe {
        asm!(
            keep!(),
            "mov {esr}, xzr",
            "2:",
            ".rept 4",
            "ldp {a}, {b}, [{from}], #64",
            "ldp {c}, {d}, [{from}, #-48]",
            "ldp {e}, {f}, [{from}, #-32]",
            "ldp {g}, {h}, [{from}, #-16]",
            "stp {a}, {b}, [{to}], #64",
            "stp {c}, {d}, [{to}, #-48]",
            "stp {e}, {f}, [{to}, #-32]",
            "stp {g}, {h}, [{to}, #-16]",
            ".endr",
            "tst {from}, #{last}",
            "b.ne 2b",
            "3:",
            fixup!("2b", "3b", "4f"),
            ".pushsection .text.recover, \"ax\"",
            "4: mrs {esr}, esr_el2",
            put_back!(),
            "b 3b",
            ".popsection",
            from = inout(reg) from.as_ptr() => _,
            to = inout(reg) to.as_ptr() => _,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
            esr = out(reg) esr,
            elr = out(reg) _,
            spsr = out(reg) _,
            scratch = out(reg) _,
            last = const PAGE_SIZE - 1,
            options(nostack),
        );
    }
    accessed(esr)
}

/// What an access has come to that ended in an exception with this syndrome, or in none if that is
/// zero.
fn accessed(esr: u64) -> Result<(), Unreadable> {
    if esr == 0 {
        return Ok(());
    }
    // Synchronous external aborts, of the access and of EL2's own walk, and parity or ECC errors.
    let refused = matches!(esr & 0x3f, 0x10 | 0x13..=0x1f);
    assert!(
        refused,
        "EL2 has no access to a guest's memory: ESR {esr:#x}"
    );
    Err(Unreadable)
}

/// Lets an asynchronous error that is pending be taken, here; returns its `ESR_EL2`, or zero if
/// none was.
#[inline(never)]
pub(super) fn take_system_error() -> u64 {
    let esr: u64;
    // SAFETY: Nothing but such an error is unmasked, which the table has go on at the end. What it
    // changes is put back.
    unsafe {
        asm!(
            keep!(),
            "mov {esr}, xzr",
            "2: msr daifclr, #4",
            "isb",
            "3: msr daifset, #4",
            "5:",
            fixup!("2b", "5b", "4f"),
            ".pushsection .text.recover, \"ax\"",
            // Errors are unmasked still, as they were where this one was taken: another may follow.
            "4: msr daifset, #4",
            "6: mrs {esr}, esr_el2",
            put_back!(),
            "b 5b",
            ".popsection",
            fixup!("4b", "6b", "4b"),
            esr = out(reg) esr,
            elr = out(reg) _,
            spsr = out(reg) _,
            scratch = out(reg) _,
            options(nostack, preserves_flags),
        );
    }
    esr
}

/// What [`take_system_error`] does when an error with this syndrome is pending, from the moment at
/// which the CPU goes to the vector: for tests, on machines that have no such errors.
#[inline(never)]
pub(super) fn take_planted_system_error(planted: u64) -> u64 {
    /// Where the vector of SErrors from EL2 with SP_EL2 is.
    const VECTOR: u64 = 0x380;
    /// PSTATE.A, and EL2 with SP_EL2, as a SPSR has them.
    const MASKED: u64 = 1 << 8;
    const EL2H: u64 = 0b1001;
    let esr: u64;
    // SAFETY: The registers are as the CPU would set them for an error that is taken in the window,
    // with A clear. The vector goes on at the end, as above.
    unsafe {
        asm!(
            keep!(),
            "mrs {esr}, daif",
            "bic {esr}, {esr}, #{MASKED}",
            "mov {scratch2}, #{EL2H}",
            "orr {esr}, {esr}, {scratch2}",
            "msr spsr_el2, {esr}",
            "adr {esr}, 2f",
            "msr elr_el2, {esr}",
            "msr esr_el2, {planted}",
            "mrs {esr}, vbar_el2",
            "add {esr}, {esr}, #{VECTOR}",
            "br {esr}",
            "2: udf #0",
            "5:",
            fixup!("2b", "5b", "4f"),
            ".pushsection .text.recover, \"ax\"",
            "4: msr daifset, #4",
            "mrs {esr}, esr_el2",
            put_back!(),
            "b 5b",
            ".popsection",
            planted = in(reg) planted,
            esr = out(reg) esr,
            elr = out(reg) _,
            spsr = out(reg) _,
            scratch = out(reg) _,
            scratch2 = out(reg) _,
            MASKED = const MASKED,
            EL2H = const EL2H,
            VECTOR = const VECTOR,
            options(nostack),
        );
    }
    esr
}
