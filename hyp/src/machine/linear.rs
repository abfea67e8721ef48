//! RAM through pointers: EL2's tables map every address to itself.

use core::arch::asm;
use core::ptr::NonNull;

use hyp::frames::LinearMap;
use stage2::Pa;

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

/// EL2's identity map of RAM.
pub(crate) struct Identity;

// SAFETY: EL2's tables (`el2::tables`) map all RAM of the board to itself, readable and writable, and
// never change. Address zero is no RAM: QEMU virt has flash there, and the allocator has been told of
// the board's RAM only.
unsafe impl LinearMap for Identity {
    #[inline]
    fn pointer(&self, pa: Pa) -> NonNull<u8> {
        let pointer = core::ptr::with_exposed_provenance_mut(pa.get() as usize);
        // SAFETY: RAM does not begin at address zero, as said above.
        unsafe { NonNull::new_unchecked(pointer) }
    }

    unsafe fn zero(&self, pa: Pa, bytes: u64) {
        let Some(block) = zeroing_block() else {
            // SAFETY: as the caller promises for this call.
            unsafe { self.pointer(pa).write_bytes(0, bytes as usize) };
            return;
        };
        let mut at = pa.get();
        let end = at + bytes;
        while at < end {
            // SAFETY: the block lies in the range, whose ends are multiples of 4 KiB and so of its
            // size; that it is the caller's alone is the caller's promise.
            unsafe { asm!("dc zva, {}", in(reg) at, options(nostack, preserves_flags)) };
            at += block;
        }
    }
}
