//! RAM through pointers: EL2's tables map every address to itself.

use core::arch::asm;
use core::ptr::NonNull;

use aarch64_cpu::registers::{DCZID_EL0, Readable};
use hyp::frames::LinearMap;
use stage2::Pa;

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
        if DCZID_EL0.is_set(DCZID_EL0::DZP) {
            // SAFETY: as the caller promises for this call.
            unsafe { self.pointer(pa).write_bytes(0, bytes as usize) };
            return;
        }
        // DC ZVA is given 4 << BS bytes: 64 on the usual cores, at most 2 KiB.
        let block = 4u64 << DCZID_EL0.read(DCZID_EL0::BS);
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
