//! RAM through pointers: EL2's tables map every address to itself.

use core::arch::asm;
use core::ptr::NonNull;

use arch::features::Features;
use frames::LinearMap;
use stage2::{PAGE_SIZE, Pa};

use crate::tlb::caches;

/// How many bytes DC ZVA clears: 64 on the usual cores, at most 2 KiB; none if it may not be used.
#[inline]
fn zeroing_block() -> Option<u64> {
    /// DCZID_EL0.DZP: the instruction is prohibited.
    const PROHIBITED: u64 = 1 << 4;
    let id: u64;
    // SAFETY: reading DCZID_EL0 has no effect.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) id, options(nomem, nostack, preserves_flags)) };
    (id & PROHIBITED == 0).then_some(4 << (id & 0xf))
}

/// The usual cache line, and what DC ZVA clears with it.
const LINE: u64 = 64;

/// EL2's identity map of RAM.
pub(crate) struct Identity {
    /// Guests may see memory past the caches (FEAT_S2FWB is not in use): what is zeroed is cleaned
    /// too.
    clean: bool,
}

impl Identity {
    pub(super) fn new(features: &Features) -> Self {
        Self {
            clean: !features.stage2.force_write_back,
        }
    }
}

/// Zeroes memory by lines of [`LINE`] bytes, cleaning each to the point of coherency if asked to.
///
/// # Safety
///
/// The bytes are RAM, mapped to itself, and the caller's alone; both ends are multiples of 4 KiB;
/// and DC ZVA clears [`LINE`] bytes.
unsafe fn zero_lines(start: u64, end: u64, clean: bool) {
    // SAFETY: as the caller promises. A page a round: the ends are multiples of 4 KiB.
    unsafe {
        if clean {
            asm!(
                "2:",
                ".rept 64",
                "dc zva, {at}",
                "dc cvac, {at}",
                "add {at}, {at}, #64",
                ".endr",
                "cmp {at}, {end}",
                "b.lo 2b",
                "dsb ish",
                at = inout(reg) start => _,
                end = in(reg) end,
                options(nostack)
            );
        } else {
            asm!(
                "2:",
                ".rept 64",
                "dc zva, {at}",
                "add {at}, {at}, #64",
                ".endr",
                "cmp {at}, {end}",
                "b.lo 2b",
                at = inout(reg) start => _,
                end = in(reg) end,
                options(nostack)
            );
        }
    }
}

// SAFETY: EL2's tables (`el2::tables`) map all RAM of the board to itself, readable and writable,
// and never change. Address zero is no RAM: QEMU virt has flash there, and the allocator has been
// told of the board's RAM only.
unsafe impl LinearMap for Identity {
    #[inline]
    fn pointer(&self, pa: Pa) -> NonNull<u8> {
        let pointer = core::ptr::with_exposed_provenance_mut(pa.get() as usize);
        // SAFETY: RAM does not begin at address zero, as said above.
        unsafe { NonNull::new_unchecked(pointer) }
    }

    #[inline]
    unsafe fn zero(&self, pa: Pa, bytes: u64) {
        if zeroing_block() == Some(LINE) && caches::line() >= LINE {
            // SAFETY: as the caller promises, and DC ZVA clears a line.
            return unsafe { zero_lines(pa.get(), pa.get() + bytes, self.clean) };
        }
        // SAFETY: as the caller promises for this call.
        unsafe { self.pointer(pa).write_bytes(0, bytes as usize) };
        if self.clean {
            for page in (0..bytes).step_by(PAGE_SIZE as usize) {
                caches::clean(pa.offset(page));
            }
        }
    }
}
