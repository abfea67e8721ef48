//! Each CPU's rings of events, one for each [`Stream`](trace::Stream), and the vCPU that is on it.

use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::AtomicU16;

use frames::Order;
use platform::board::MAX_CPUS;
use spin::Once;
use trace::event::{REPLAY_WORDS, WORDS};
use trace::ring::{Ring, Slot};
use trace::{Categories, Category};

use crate::board::board;

/// The size of a ring of what happens often: 1 MiB, 32768 records.
const BUSY_ORDER: u8 = 8;
/// The size of a ring of what happens now and then: 128 KiB, 4096 records.
const RARE_ORDER: u8 = 5;
/// The size of a ring for a checker: 1 MiB, 16384 records.
const REPLAY_ORDER: u8 = 8;

/// A ring of a CPU, if something is wanted that goes there.
type Place<const N: usize> = Once<Ring<'static, N>>;

/// What a CPU has for its events. Aligned so that no two CPUs write the same cache line.
#[repr(align(64))]
pub(super) struct Rings {
    pub(super) busy: Place<WORDS>,
    pub(super) rare: Place<WORDS>,
    pub(super) replay: Place<REPLAY_WORDS>,
    /// VM and vCPU whose thread is on the CPU, VM in the upper byte.
    pub(super) who: AtomicU16,
}

/// Each CPU's.
pub(super) static RINGS: [Rings; MAX_CPUS] = [const {
    Rings {
        busy: Once::new(),
        rare: Once::new(),
        replay: Once::new(),
        who: AtomicU16::new(u16::MAX),
    }
}; MAX_CPUS];

/// Makes every CPU's rings of what is wanted, of zeroed blocks that `allocate` gives for good;
/// `None` if there is no memory for them.
pub(super) fn make(
    wanted: Categories,
    mut allocate: impl FnMut(Order) -> Option<NonNull<u8>>,
) -> Option<()> {
    let cpus = board().cpus.len();
    let allocate = &mut allocate;
    RINGS.iter().take(cpus).try_for_each(|rings| {
        if wanted.has_any(Categories::ALL) {
            let (busy, rare) = (
                new_slots(BUSY_ORDER, allocate)?,
                new_slots(RARE_ORDER, allocate)?,
            );
            rings.busy.call_once(|| Ring::new(busy));
            rings.rare.call_once(|| Ring::new(rare));
        }
        if wanted.has(Category::Replay) {
            let slots = new_slots(REPLAY_ORDER, allocate)?;
            rings.replay.call_once(|| Ring::new(slots));
        }
        Some(())
    })
}

/// As many slots of `N` words as a block of this order holds, down to a power of two.
fn new_slots<const N: usize>(
    order: u8,
    allocate: &mut impl FnMut(Order) -> Option<NonNull<u8>>,
) -> Option<&'static [Slot<N>]> {
    let first = allocate(Order::new(order)?)?.cast::<Slot<N>>();
    let fit = (1usize << order << stage2::PAGE_SHIFT) / size_of::<Slot<N>>();
    let count = 1 << fit.ilog2();
    // SAFETY: The block is RAM of at least this size that EL2 has mapped, is aligned to a page, was
    // handed to us alone and is never given back, as `start` asks for. Zeroes are slots, which are
    // atomics throughout.
    Some(unsafe { slice::from_raw_parts(first.as_ptr(), count) })
}
