//! What a flash bank holds: frames that are not part of the guest's memory, so that they stay when
//! the machine starts again.
//!
//! A page that was never read or programmed has no frame, and is all ones. The frames are shown to
//! the guest for reading and fetching only ([`GuestMemory::show`](super::GuestMemory::show)).
//!
//! Owns one list of the frames' addresses, itself a frame. Without locks: addresses are put in
//! place by compare-and-exchange, and the caller that comes second frees its frame.

use super::env::{Hardware, Machine, Parts};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use frames::{Fill, LinearMap, Order, OutOfFrames};
use stage2::{GuestFrame, Level, PAGE_SIZE, Pa};

/// Pages of a bank.
const PAGES: u64 = PAGE_SIZE / size_of::<AtomicU64>() as u64;

/// Words of 32 bits in a page.
const WORDS: usize = (PAGE_SIZE / 4) as usize;

/// The contents of a bank of [`Bank::SIZE`] bytes. Offsets are in bytes from its start.
#[derive(Debug)]
pub struct Bank {
    /// The address of the list; zero as long as there is none.
    list: AtomicU64,
}

impl Bank {
    /// Size in bytes.
    pub const SIZE: u64 = PAGES * PAGE_SIZE;

    /// All ones.
    pub const fn new() -> Self {
        Self {
            list: AtomicU64::new(0),
        }
    }

    /// The frame of the page round `offset`, made if there is none, to be shown to a guest, without
    /// the right to store. It stays the bank's, and is there until [`Self::free`].
    ///
    /// # Errors
    ///
    /// No frame is left. Nothing has changed.
    pub fn page<P: Parts>(
        &self,
        machine: &Machine<P>,
        offset: u64,
    ) -> Result<GuestFrame, OutOfFrames> {
        let page = self.frame(machine, offset)?;
        // SAFETY: a page of RAM, which the bank accesses by atomics only, and keeps until the guest
        // is no more.
        Ok(unsafe { GuestFrame::new(page, Level::L3) })
    }

    fn frame<P: Parts>(&self, machine: &Machine<P>, offset: u64) -> Result<Pa, OutOfFrames> {
        let list = address(machine, &self.list, Fill::Zeroed, |_| {})?;
        let entry = entry(machine, list, offset);
        address(machine, entry, Fill::Dirty, |page| fill(machine, page))
    }

    /// Clears bits in the `size` bytes, 1, 2 or 4, from `offset` on, a multiple of that: those that
    /// are clear in `value`.
    ///
    /// # Errors
    ///
    /// As [`Self::page`].
    pub fn program<P: Parts>(
        &self,
        machine: &Machine<P>,
        offset: u64,
        size: u32,
        value: u32,
    ) -> Result<(), OutOfFrames> {
        let page = self.frame(machine, offset)?;
        let shift = 8 * (offset % 4) as u32;
        let bytes = u32::MAX >> (32 - 8 * size.clamp(1, 4));
        let kept = !(bytes << shift) | (value & bytes) << shift;
        word(machine, page, (offset % PAGE_SIZE / 4) as usize).fetch_and(kept, Ordering::Relaxed);
        machine.hardware().after_writing(page);
        Ok(())
    }

    /// Sets all bits of the pages that begin in the `length` bytes from `offset` on.
    pub fn erase<P: Parts>(&self, machine: &Machine<P>, offset: u64, length: u64) {
        let list = self.list.load(Ordering::Acquire);
        if list == 0 {
            return;
        }
        for at in (offset..offset + length).step_by(PAGE_SIZE as usize) {
            let page = entry(machine, Pa::new(list), at).load(Ordering::Acquire);
            if page != 0 {
                fill(machine, Pa::new(page));
            }
        }
    }

    /// Gives all frames back. Nobody uses the bank meanwhile, and no frame of it is mapped any
    /// more.
    pub fn free<P: Parts>(&self, machine: &Machine<P>) {
        let list = self.list.swap(0, Ordering::Acquire);
        if list == 0 {
            return;
        }
        let entries = (0..PAGES).map(|index| entry(machine, Pa::new(list), index * PAGE_SIZE));
        let pages = entries.map(|entry| entry.load(Ordering::Acquire));
        for frame in pages.filter(|&page| page != 0).chain([list]) {
            machine.give_back_own(Pa::new(frame), Order::PAGE);
        }
    }
}

impl Default for Bank {
    fn default() -> Self {
        Self::new()
    }
}

/// The address in `place`, where a frame is put, made ready by `prepare`, if there is none.
fn address<P: Parts>(
    machine: &Machine<P>,
    place: &AtomicU64,
    fill: Fill,
    prepare: impl FnOnce(Pa),
) -> Result<Pa, OutOfFrames> {
    let found = place.load(Ordering::Acquire);
    if found != 0 {
        return Ok(Pa::new(found));
    }
    let new = machine.take_own(Order::PAGE, fill)?;
    prepare(new);
    let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
    match place.compare_exchange(0, new.get(), success, failure) {
        Ok(_) => Ok(new),
        Err(faster) => {
            machine.give_back_own(new, Order::PAGE);
            Ok(Pa::new(faster))
        }
    }
}

/// The list's entry for the page round `offset`; the bank repeats behind its end.
fn entry<P: Parts>(machine: &Machine<P>, list: Pa, offset: u64) -> &AtomicU64 {
    let first = machine.allocator().map().pointer(list).cast::<AtomicU64>();
    let index = (offset / PAGE_SIZE % PAGES) as usize;
    // SAFETY: `list` is a frame that `page` allocated, zeroed, for words that are accessed by
    // atomics only until `free`; it has `PAGES` of them.
    unsafe { first.add(index).as_ref() }
}

/// Word `index`, below [`WORDS`], of a page of the bank.
fn word<P: Parts>(machine: &Machine<P>, page: Pa, index: usize) -> &AtomicU32 {
    let first = machine.allocator().map().pointer(page).cast::<AtomicU32>();
    debug_assert!(index < WORDS);
    // SAFETY: `page` is a frame that `page` allocated, which the hypervisor accesses by atomics
    // only until `free`, and guests cannot store to; it has `WORDS` words.
    unsafe { first.add(index % WORDS).as_ref() }
}

fn fill<P: Parts>(machine: &Machine<P>, page: Pa) {
    (0..WORDS).for_each(|index| word(machine, page, index).store(u32::MAX, Ordering::Relaxed));
    machine.hardware().after_writing(page);
}
