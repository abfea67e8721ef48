//! Copying guest pages.
//!
//! Owns the accesses to guest memory by copying. A guest may store to a page at the same moment;
//! the table manager throws such a copy away or makes it again, so a torn one does no harm.

use super::env::{Hardware, Machine, Parts};
use frames::LinearMap;
use stage2::{GuestPage, PAGE_SIZE, Unmapped, Unreadable};

/// Moves contents between frames of one machine, and frees frames that lost their mapping.
pub struct PageCopier<'m, P: Parts> {
    machine: &'m Machine<P>,
    held_up: u64,
}

impl<'m, P: Parts> PageCopier<'m, P> {
    /// A copier for guest memory of this machine.
    pub fn new(machine: &'m Machine<P>) -> Self {
        Self {
            machine,
            held_up: 0,
        }
    }

    /// For how long a store was held up at most, in ticks.
    pub fn longest_hold_up(&self) -> u64 {
        self.held_up
    }

    /// Whether a page is all zeros, as far as that can be told: one that cannot be read is not.
    pub fn is_zero(&self, page: GuestPage<'_>) -> bool {
        let pa = page.pa();
        self.machine.hardware().before_reading(pa);
        let words = self.machine.allocator().map().pointer(pa).cast::<u64>();
        (0..PAGE_SIZE as usize / size_of::<u64>()).all(|index| {
            // SAFETY: `pa` is a guest's frame: a page of RAM, which the linear map makes readable.
            unsafe { self.machine.hardware().load_word(words.add(index)) == Ok(0) }
        })
    }
}

impl<P: Parts> stage2::CopyPages for PageCopier<'_, P> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        let (from, to) = (from.pa(), to.pa());
        let (hardware, map) = (self.machine.hardware(), self.machine.allocator().map());
        hardware.before_reading(from);
        // SAFETY: both are pages of RAM, which the linear map makes accessible. `to` is the
        // caller's alone. `from` may be stored to meanwhile: by a guest, or by its next owner if it
        // was unmapped and freed since it was looked up. Such a copy is torn at worst, and the
        // table manager throws it away.
        unsafe { hardware.copy_page(map.pointer(from), map.pointer(to)) }?;
        hardware.after_writing(to);
        Ok(())
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        // SAFETY: the page is RAM and the caller's alone: not mapped yet.
        unsafe { self.machine.allocator().map().zero(to.pa(), PAGE_SIZE) };
    }

    fn held_up(&mut self, ticks: u64) {
        self.held_up = self.held_up.max(ticks);
    }

    fn release(&mut self, leaf: Unmapped) {
        self.machine.free_of_guest(leaf.frame);
    }
}
