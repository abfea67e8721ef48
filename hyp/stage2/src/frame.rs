//! Memory that guests may have, as values.
//!
//! Owns [`GuestFrame`], whose making is the promise that guests may do with the memory what they
//! like. A frame goes into the tables as a value and comes out of them as one: the caller that maps
//! it parts with it, and the one that unmaps, moves or collapses is given it, when no translation
//! of it is left. So code without `unsafe` can map no address that it made up: no table, and
//! nothing of the hypervisor's.

use crate::addr::{ENTRIES, Level, PAGE_SIZE, Pa};
use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;

/// Bits of the level, below those of the address.
const LEVEL: u64 = 0b11;
/// Always set: no frame is zero, so that an `Option` of one takes no room.
const SOME: u64 = 0b100;

/// A page or block of memory, or of a device's registers, that guests may have.
///
/// It is not freed when it is dropped, but lost: its maker takes it apart by
/// [`into_pa`](Self::into_pa).
///
/// No address is one, whatever is there, as long as nobody has promised:
///
/// ```compile_fail,E0308
/// # use stage2::{Attributes, Environment, Ipa, Stage2};
/// fn give_a_guest_its_own_tables<E: Environment>(vm: &Stage2<E>) {
///     let _ = vm.map_page(Ipa::new(0), vm.root(), Attributes::RAM, DirtyState::Dirty);
/// }
/// ```
///
/// ```compile_fail,E0133
/// # use stage2::{GuestFrame, Level, Pa};
/// let frame = GuestFrame::new(Pa::new(0x4000_0000), Level::L3);
/// ```
///
/// And what was mapped once cannot be mapped again:
///
/// ```compile_fail,E0382
/// # use stage2::{Attributes, Environment, GuestFrame, Ipa, Stage2};
/// fn map_twice<E: Environment>(vm: &Stage2<E>, page: GuestFrame) {
///     let _ = vm.map_page(Ipa::new(0), page, Attributes::RAM, DirtyState::Dirty);
///     let _ = vm.map_page(Ipa::new(0x1000), page, Attributes::RAM, DirtyState::Dirty);
/// }
/// ```
#[must_use = "the memory is lost unless the frame is mapped or given back"]
#[derive(PartialEq, Eq)]
#[repr(transparent)]
pub struct GuestFrame(NonZeroU64);

impl GuestFrame {
    /// The memory at `pa` that a leaf of `level` covers.
    ///
    /// # Safety
    ///
    /// - `pa` [fits](Pa::fits) the level, which is not 0.
    /// - From here until [`into_pa`](Self::into_pa), guests may load from, store to and fetch from
    ///   all of it at any time, and devices' registers are such that EL2 suffers from nothing that
    ///   guests do to them. So no table is there, nor code, stack, heap or variables of the
    ///   hypervisor; and the hypervisor itself accesses it in ways only that mind no change by a
    ///   guest: by atomics, or by raw copies that it can throw away.
    ///
    /// There may be several values of one frame, for guests that share it, if their maker counts
    /// them: the promise holds until the last is gone.
    #[inline(always)]
    pub const unsafe fn new(pa: Pa, level: Level) -> Self {
        // SAFETY: so the caller has promised. With the level known, what is asked of a new frame is
        // then known as well.
        unsafe { core::hint::assert_unchecked(pa.fits(level)) };
        Self::of(pa, level)
    }

    /// The frame of a leaf that was taken out of the tables, or that fake memory has.
    #[inline(always)]
    pub(crate) const fn of(pa: Pa, level: Level) -> Self {
        debug_assert!(pa.fits(level) && !matches!(level, Level::L0));
        match NonZeroU64::new(pa.get() | SOME | level as u64) {
            Some(bits) => Self(bits),
            None => unreachable!(),
        }
    }

    /// Where it begins.
    #[inline]
    pub const fn pa(&self) -> Pa {
        Pa::new(self.0.get() & !(PAGE_SIZE - 1))
    }

    /// The level of the leaf that maps it, and so its size.
    #[inline]
    pub const fn level(&self) -> Level {
        match self.0.get() & LEVEL {
            1 => Level::L1,
            2 => Level::L2,
            _ => Level::L3,
        }
    }

    /// Whether it is a page; a block else.
    #[inline]
    pub(crate) const fn is_page(&self) -> bool {
        self.0.get() & LEVEL == Level::L3 as u64
    }

    /// Its first 4 KiB, for copying: all of it where it is a page.
    #[inline]
    pub const fn first_page(&self) -> GuestPage<'_> {
        GuestPage::at(self.pa())
    }

    /// Ends the promise: the memory is its maker's again.
    #[inline]
    pub const fn into_pa(self) -> Pa {
        self.pa()
    }

    /// The 4 KiB page of this index of it, for copying; none behind its end.
    #[inline]
    pub fn page(&self, index: usize) -> Option<GuestPage<'_>> {
        let pages = self.level().size() / PAGE_SIZE;
        let index = index as u64;
        (index < pages).then(|| GuestPage::at(self.pa().offset(index * PAGE_SIZE)))
    }

    /// The frames of the next level that it consists of; itself where it is a page.
    pub fn into_parts(self) -> impl Iterator<Item = GuestFrame> {
        let (first, level) = (self.pa(), self.level());
        let (count, level) = match level.next() {
            Some(next) => (ENTRIES, next),
            None => (1, level),
        };
        (0..count as u64).map(move |index| Self::of(first.offset(index * level.size()), level))
    }
}

impl fmt::Debug for GuestFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.pa(), self.level())
    }
}

/// A 4 KiB page of a [`GuestFrame`], lent for copying.
///
/// Only this crate and the owner of a frame can make one: code that is given one may access the
/// page, in ways that mind no change by a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPage<'f> {
    pa: Pa,
    frame: PhantomData<&'f GuestFrame>,
}

impl GuestPage<'_> {
    #[inline]
    pub(crate) const fn at(pa: Pa) -> Self {
        Self {
            pa,
            frame: PhantomData,
        }
    }

    /// Where it is.
    #[inline]
    pub const fn pa(self) -> Pa {
        self.pa
    }
}

/// What was asked for was refused, and the frame that was to be mapped is the caller's again.
#[must_use = "the frame is lost unless it is given back"]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused<R> {
    /// Why. What the guest sees is unchanged.
    pub reason: R,
    /// The frame.
    pub frame: GuestFrame,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_address_and_level_in_one_word() {
        for (pa, level) in [(0, Level::L1), (0x20_0000, Level::L2), (0x3000, Level::L3)] {
            let frame = GuestFrame::of(Pa::new(pa), level);
            assert_eq!((frame.pa(), frame.level()), (Pa::new(pa), level));
            assert_eq!(frame.is_page(), level == Level::L3);
            // SAFETY: it fits, and is mapped nowhere.
            assert_eq!(unsafe { GuestFrame::new(Pa::new(pa), level) }, frame);
        }
        assert_eq!(size_of::<Option<GuestFrame>>(), 8);
    }

    #[test]
    fn a_block_has_its_pages_and_no_more() {
        let block = GuestFrame::of(Pa::new(0x20_0000), Level::L2);
        let last = block.page(ENTRIES - 1).map(GuestPage::pa);
        assert_eq!(last, Some(Pa::new(0x3f_f000)));
        assert_eq!(block.page(ENTRIES), None);
        let parts: Vec<_> = block.into_parts().collect();
        assert_eq!(parts.len(), ENTRIES);
        assert_eq!(parts[1], GuestFrame::of(Pa::new(0x20_1000), Level::L3));
        let [page] = parts
            .into_iter()
            .next()
            .unwrap()
            .into_parts()
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        assert_eq!(page, GuestFrame::of(Pa::new(0x20_0000), Level::L3));
    }
}
