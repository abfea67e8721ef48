//! Reservations: a 2 MiB frame set aside for a region of guest memory, filled page by page.
//!
//! A fault in a region reserves a whole 2 MiB frame but maps only the page that was touched, at its
//! place in the frame. When the region has been filled the pages are contiguous, and collapsing
//! them to a block copies nothing. A sparsely used region costs no more zeroing than its pages, and
//! its untouched frames can be had back when memory is short.
//!
//! Owns one word for each region that is RAM as a whole, the frame's address. Which of its frames
//! are still untouched is not recorded here but in the frames' own metadata: [`Use::Reserved`]
//! becomes [`Use::Data`] by one exchange, so of two faults on one page only one gets the frame.

use super::env::{Machine, Parts};
use super::guest_frames::of_data;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use frames::{Fill, FrameAllocator, LinearMap, Order, OutOfFrames, Use, VmId};
use speculation::masked::mask;
use stage2::{GuestFrame, Ipa, IpaRange, Level, PAGE_SIZE, Pa};

/// Set in a region's word when a frame is reserved for it.
const RESERVED: u64 = 1;

/// Frames that are enough for a VM that ran out of memory to go on.
const GIVEN_UP_AT_ONCE: usize = 64;
/// Bytes of a reservation that are given up before others get their turn.
const FREED_AT_ONCE: u64 = 64 * PAGE_SIZE;

/// The reservations of one VM.
pub struct Reservations {
    vm: VmId,
    /// The first region that is RAM as a whole, and how many follow from there on.
    first_region: Ipa,
    regions: u64,
    /// The words, one a region, in frames of the hypervisor's own.
    words: Pa,
    order: Order,
}

impl Reservations {
    /// No reservations yet, for a VM whose RAM is `ram`.
    pub fn new<P: Parts>(
        machine: &Machine<P>,
        vm: VmId,
        ram: IpaRange,
    ) -> Result<Self, OutOfFrames> {
        let first_region = Ipa::new(ram.start().get().next_multiple_of(Level::L2.size()));
        let bytes = ram.end().get().saturating_sub(first_region.get());
        let regions = bytes / Level::L2.size();
        let pages = (regions * size_of::<AtomicU64>() as u64).div_ceil(PAGE_SIZE);
        let order = u8::try_from(pages.next_power_of_two().trailing_zeros())
            .ok()
            .and_then(Order::new)
            .ok_or(OutOfFrames {
                order: Order::BLOCK_1G,
            })?;
        let words = machine.take_own(order, Fill::Zeroed)?;
        Ok(Self {
            vm,
            first_region,
            regions,
            words,
            order,
        })
    }

    /// The word of a region; none if that is not RAM as a whole.
    #[inline]
    fn word<'a, M: LinearMap>(
        &'a self,
        allocator: &'a FrameAllocator<M>,
        region: u64,
    ) -> Option<&'a AtomicU64> {
        if region >= self.regions {
            return None;
        }
        let first = allocator.map().pointer(self.words).cast::<AtomicU64>();
        // SAFETY: `new` allocated zeroed frames for `regions` words, which are accessed by atomics
        // only until `free` takes `self`; `region` is below that number.
        Some(unsafe {
            first
                .add(mask(region as usize, self.regions as usize))
                .as_ref()
        })
    }

    /// The number of the region round `ipa`; that of one before the first is none of them.
    fn region_of(&self, ipa: Ipa) -> u64 {
        ipa.get().wrapping_sub(self.first_region.get()) >> Level::L2.shift()
    }

    fn start_of(&self, region: u64) -> Ipa {
        self.first_region.offset(region << Level::L2.shift())
    }

    /// Takes the frame for the page at `ipa`, reserving one for the region if there is none. Its
    /// use is [`Use::Data`] from now on, and its contents are dirty. None if the page's own frame
    /// is taken, if no 2 MiB frame is free, or where the region is not RAM as a whole.
    // Always inline: see `GuestMemory::fault`.
    #[inline(always)]
    pub fn take<P: Parts>(&self, machine: &Machine<P>, ipa: Ipa) -> Option<GuestFrame> {
        let allocator = machine.allocator();
        let region = self.region_of(ipa);
        let word = self.word(allocator, region)?;
        let seen = word.load(Ordering::Acquire);
        let block = match seen {
            0 => self.reserve(machine, region, word)?,
            _ => Pa::new(seen & !RESERVED),
        };
        self.take_from(machine, ipa, block)
    }

    /// As [`take`](Self::take), from the 2 MiB frame `block`; none also if that is not reserved for
    /// the region, or is no more.
    // Always inline: as above.
    #[inline(always)]
    pub fn take_from<P: Parts>(
        &self,
        machine: &Machine<P>,
        ipa: Ipa,
        block: Pa,
    ) -> Option<GuestFrame> {
        let page = block.offset(ipa.get() & (Level::L2.size() - 1));
        let vm = self.vm;
        let (from, to) = (Use::Reserved { vm, ipa }, Use::Data { vm, ipa });
        machine
            .allocator()
            .try_change_use(machine.cpu(), page, from, to)
            // SAFETY: the exchange has made it data.
            .then(|| unsafe { of_data(page, Level::L3) })
    }

    /// Gives back a frame of the VM's data that was meant for the page at `ipa` and was not mapped:
    /// to the region's reservation, if it is the page's own there, else to the allocator.
    #[cold]
    #[inline(never)]
    pub fn give_back<P: Parts>(&self, machine: &Machine<P>, ipa: Ipa, frame: GuestFrame) {
        let page = frame.pa();
        let (allocator, vm, cpu) = (machine.allocator(), self.vm, machine.cpu());
        if (page.get() ^ ipa.get()) & (Level::L2.size() - 1) != 0 {
            return machine.free_of_guest(frame);
        }
        let region = self.region_of(ipa);
        let (from, to) = (Use::Data { vm, ipa }, Use::Reserved { vm, ipa });
        if !allocator.try_change_use(cpu, page, from, to) {
            return;
        }
        // Pairs with the fence in `give_up`: that call sees the frame reserved again, or this one
        // sees the reservation given up, and then the frame goes too.
        fence(Ordering::SeqCst);
        let reserved = self
            .word(allocator, region)
            .is_some_and(|word| word.load(Ordering::Relaxed) == frame_word(page));
        if !reserved {
            self.free_untouched(machine, ipa, page, PAGE_SIZE);
        }
    }

    #[cold]
    #[inline(never)]
    fn reserve<P: Parts>(&self, machine: &Machine<P>, region: u64, word: &AtomicU64) -> Option<Pa> {
        let block = self.set_aside(machine, region)?;
        self.offer(machine, region, word, block)
    }

    /// Sets a 2 MiB frame aside for a region.
    fn set_aside<P: Parts>(&self, machine: &Machine<P>, region: u64) -> Option<Pa> {
        let (allocator, cpu) = (machine.allocator(), machine.cpu());
        let used = Use::Reserved {
            vm: self.vm,
            ipa: self.start_of(region),
        };
        let block = allocator
            .alloc(cpu, Order::BLOCK_2M, Fill::Dirty, used)
            .ok()?;
        allocator.split(block, Order::BLOCK_2M).ok()?;
        Some(block)
    }

    /// Reserves `block`, which was set aside for the region, unless another vCPU was faster;
    /// returns the block that is reserved then.
    fn offer<P: Parts>(
        &self,
        machine: &Machine<P>,
        region: u64,
        word: &AtomicU64,
        block: Pa,
    ) -> Option<Pa> {
        match word.compare_exchange(0, frame_word(block), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(block),
            Err(faster) => {
                // One by one, since pages of the block may be taken already: it may be the one that
                // was reserved for the region before, and a vCPU that found it then may take a page
                // now.
                self.free_all_untouched(machine, region, block);
                Some(Pa::new(faster & !RESERVED))
            }
        }
    }

    /// Gives up the reservation of the region round `ipa`, if there is one: frees the frames that
    /// were not touched, and returns how many. Those that were mapped stay mapped.
    pub fn give_up<P: Parts>(&self, machine: &Machine<P>, ipa: Ipa) -> usize {
        let region = self.region_of(ipa);
        let Some(word) = self.word(machine.allocator(), region) else {
            return 0;
        };
        // Most have none, which a load tells without taking the line from other CPUs.
        if word.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let seen = word.swap(0, Ordering::AcqRel);
        if seen == 0 {
            return 0;
        }
        // Pairs with the fence in `give_back`.
        fence(Ordering::SeqCst);
        self.free_all_untouched(machine, region, Pa::new(seen & !RESERVED))
    }

    /// Gives up reservations, those of the lowest addresses first, until `GIVEN_UP_AT_ONCE` frames
    /// or more came free, or nothing is reserved any more; returns how many. Not all: who runs out
    /// of memory has interrupts to take.
    pub fn give_up_some<P: Parts>(&self, machine: &Machine<P>) -> usize {
        let mut freed = 0;
        for region in 0..self.regions {
            freed += self.give_up(machine, self.start_of(region));
            if freed >= GIVEN_UP_AT_ONCE {
                break;
            }
        }
        freed
    }

    /// Frees the frames of `block` that are reserved for the region and untouched; returns how
    /// many.
    fn free_all_untouched<P: Parts>(&self, machine: &Machine<P>, region: u64, block: Pa) -> usize {
        let first = self.start_of(region);
        let free =
            |at, size| self.free_untouched(machine, first.offset(at), block.offset(at), size);
        // One goes to the CPU's cache, by itself: else all of them would be joined again, and where
        // nothing else is left the next fault would find that block, set it aside, and have no
        // frame for a table.
        let mut pages = (0..Level::L2.size()).step_by(PAGE_SIZE as usize);
        let alone = pages.find(|&at| free(at, PAGE_SIZE) > 0);
        let parts = (0..Level::L2.size()).step_by(FREED_AT_ONCE as usize);
        let rest = parts.map(|at| {
            machine.cond_resched();
            free(at, FREED_AT_ONCE)
        });
        usize::from(alone.is_some()) + rest.sum::<usize>()
    }

    /// Frees those of `size` bytes of frames from `page` on, for the pages from `ipa` on, that are
    /// reserved and untouched; returns how many. Frames that lie side by side are freed together.
    fn free_untouched<P: Parts>(
        &self,
        machine: &Machine<P>,
        ipa: Ipa,
        page: Pa,
        size: u64,
    ) -> usize {
        let (allocator, cpu) = (machine.allocator(), machine.cpu());
        let mut freed = 0;
        let pages = (0..size).step_by(PAGE_SIZE as usize).map(|at| {
            let (vm, ipa, page) = (self.vm, ipa.offset(at), page.offset(at));
            let from = Use::Reserved { vm, ipa };
            let untouched = allocator.try_change_use(cpu, page, from, Use::Hypervisor);
            freed += usize::from(untouched);
            untouched.then_some(page)
        });
        allocator.free_run(cpu, Use::Hypervisor, pages);
        freed
    }

    /// Gives up all reservations and the words themselves, at the end of the VM.
    pub fn free<P: Parts>(self, machine: &Machine<P>) {
        for region in 0..self.regions {
            self.give_up(machine, self.start_of(region));
        }
        machine.give_back_own(self.words, self.order);
    }
}

/// The word of a region for which the 2 MiB frame round `pa` is reserved.
fn frame_word(pa: Pa) -> u64 {
    pa.align_down(Level::L2).get() | RESERVED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{GUEST, RAM, machine};

    /// A region's frame comes back to the region that had it, while a vCPU still takes it for
    /// reserved.
    #[test]
    fn a_frame_that_was_set_aside_in_vain_goes_back_but_for_what_was_taken() {
        let machine = machine();
        let ram = IpaRange::new(Ipa::new(RAM), Ipa::new(RAM + GUEST)).expect("whole pages");
        let reservations =
            Reservations::new(&machine, VmId(3), ram).expect("a frame for the words");
        let before = machine.allocator().usage();
        let late = reservations.set_aside(&machine, 0).expect("a frame");
        let page = |number| Ipa::new(RAM + number * PAGE_SIZE);
        let taken = reservations.take_from(&machine, page(3), late);
        let taken = taken.map(|frame| frame.into_pa());
        assert_eq!(taken, Some(late.offset(3 * PAGE_SIZE)));
        let faster = reservations.take(&machine, page(0));
        let faster = faster.expect("another frame").into_pa();
        let word = reservations.word(machine.allocator(), 0).expect("a region");
        let reserved = reservations.offer(&machine, 0, word, late);
        assert_eq!(reserved, Some(faster));
        let usage = machine.allocator().usage();
        assert_eq!((usage.data, usage.reserved), (before.data + 2, 511));
        assert_eq!(reservations.give_up(&machine, page(0)), 511);
        assert_eq!(machine.allocator().usage().reserved, 0);
    }

    /// A page for which the region had no frame left, and which another vCPU has mapped meanwhile.
    #[test]
    fn a_frame_from_elsewhere_goes_back_to_the_allocator() {
        let machine = machine();
        let ram = IpaRange::new(Ipa::new(RAM), Ipa::new(RAM + GUEST)).expect("whole pages");
        let reservations =
            Reservations::new(&machine, VmId(3), ram).expect("a frame for the words");
        let page = |number| Ipa::new(RAM + number * PAGE_SIZE);
        let own = reservations.take(&machine, page(0)).expect("a frame");
        let before = machine.allocator().usage();
        let [frame, aligned] = [1, 512].map(|number| {
            let frame = || {
                machine
                    .alloc_for(VmId(3), page(number), Level::L3, Fill::Dirty)
                    .expect("a frame")
            };
            // One of them at the same place of its 2 MiB as the page has.
            let place = page(number).get() % Level::L2.size();
            let found = (0..512)
                .map(|_| frame())
                .find(|frame| (frame.pa().get() % Level::L2.size() == place) == (number == 512));
            found.expect("one of 512")
        });
        let taken = machine.allocator().usage();
        reservations.give_back(&machine, page(1), frame);
        reservations.give_back(&machine, page(512), aligned);
        let after = machine.allocator().usage();
        assert_eq!(
            (after.data, after.reserved),
            (taken.data - 2, before.reserved)
        );
        reservations.give_back(&machine, page(0), own);
        assert_eq!(machine.allocator().usage().reserved, before.reserved + 1);
        assert_eq!(reservations.give_up(&machine, page(0)), 512);
    }

    /// What is not RAM as a whole has no reservation.
    #[test]
    fn the_edges_of_ram_are_left_alone() {
        let machine = machine();
        let (start, end) = (RAM + PAGE_SIZE, RAM + 3 * Level::L2.size() - PAGE_SIZE);
        let ram = IpaRange::new(Ipa::new(start), Ipa::new(end)).expect("whole pages");
        let reservations =
            Reservations::new(&machine, VmId(3), ram).expect("a frame for the words");
        let last = end - PAGE_SIZE;
        for edge in [
            start,
            RAM + Level::L2.size() - PAGE_SIZE,
            RAM + 2 * Level::L2.size(),
            last,
        ] {
            assert_eq!(
                reservations.take(&machine, Ipa::new(edge)),
                None,
                "{edge:#x}"
            );
            assert_eq!(reservations.give_up(&machine, Ipa::new(edge)), 0);
        }
        let whole = reservations.take(&machine, Ipa::new(RAM + Level::L2.size()));
        assert!(whole.is_some());
    }
}
