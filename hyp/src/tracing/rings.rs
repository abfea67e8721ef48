//! Each CPU's rings of events, and who is on it.
//!
//! A CPU writes to its own rings only, of which it has one for each [`Stream`]. EL2 runs with
//! interrupts masked and nothing here switches threads, so a write is never interrupted by another.
//!
//! Events for a checker are not overwritten: a CPU whose ring of them is full sends what is in it
//! itself (`super::sender`), with whatever table locks it holds.

use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use bootargs::{MAX_VCPUS, MAX_VMS};
use frames::Order;
use platform::board::MAX_CPUS;
use platform::timer;
use spin::Once;
use trace::event::{EVENT_WORDS, NOBODY, REPLAY_WORDS, WORDS};
use trace::ring::{Ring, Slot};
use trace::{Categories, Category, Event, Stamp, Stream};

use super::sender;
use crate::board::board;
use crate::percpu;

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
    who: AtomicU16,
}

/// When a vCPU last left its guest, in ticks, if somebody wants to know of exits. The vCPU's, and
/// not its CPU's: one that waits in a fault lets others have the CPU, and may go on on another.
#[repr(align(64))]
struct Left(AtomicU64);

/// Each vCPU's.
static LEFT: [[Left; MAX_VCPUS]; MAX_VMS] =
    [const { [const { Left(AtomicU64::new(0)) }; MAX_VCPUS] }; MAX_VMS];

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

/// This CPU's.
#[inline(always)]
fn here() -> (u8, &'static Rings) {
    let cpu = percpu::this().index();
    (cpu as u8, &RINGS[cpu])
}

/// Writes an event of VM `vm`, or of nobody's.
///
/// What the kind of an event decides, its head and its ring, is known where it happens. So this is
/// inlined there, and what is left to be done gets its words in registers.
#[inline(always)]
pub(super) fn write(vm: u8, event: Event) {
    let (head, words) = (event.head(), event.words());
    match event.stream() {
        Stream::Busy => write_busy(vm, head, words[0], words[1]),
        Stream::Rare => write_rare(vm, head, words[0], words[1]),
        Stream::Replay => write_for_replay(vm, head, words),
    }
}

/// Writes an event of whoever is on this CPU.
#[inline(always)]
pub(super) fn write_here(event: Event) {
    let [vm, _] = here().1.who.load(Ordering::Relaxed).to_be_bytes();
    write(vm, event);
}

/// What is written of an event that is of VM `vm`, on the CPU `cpu` with these rings.
#[inline(always)]
fn stamp(vm: u8, cpu: u8, rings: &Rings) -> Stamp {
    let [_, vcpu] = rings.who.load(Ordering::Relaxed).to_be_bytes();
    Stamp {
        time: timer::now(),
        cpu,
        vm,
        vcpu,
    }
}

#[cold]
#[inline(never)]
fn write_busy(vm: u8, head: u64, first: u64, second: u64) {
    let (cpu, rings) = here();
    if let Some(ring) = rings.busy.get() {
        let stamp = stamp(vm, cpu, rings);
        ring.write([stamp.time, head | stamp.head(), first, second]);
    }
}

#[cold]
#[inline(never)]
fn write_rare(vm: u8, head: u64, first: u64, second: u64) {
    let (cpu, rings) = here();
    if let Some(ring) = rings.rare.get() {
        let stamp = stamp(vm, cpu, rings);
        ring.write([stamp.time, head | stamp.head(), first, second]);
    }
}

/// Writes an event of which none may be lost: makes room where there is none.
#[cold]
#[inline(never)]
fn write_for_replay(vm: u8, head: u64, [a, b, c, d]: [u64; EVENT_WORDS]) {
    let (cpu, rings) = here();
    if let Some(ring) = rings.replay.get() {
        let stamp = stamp(vm, cpu, rings);
        while !ring.offer([stamp.time, head | stamp.head(), a, b, c, d]) {
            sender::send(cpu.into(), Stream::Replay);
        }
    }
}

/// From now on the thread of `vcpu` of a VM is on this CPU, or nobody's.
pub(super) fn set_who(vcpu: Option<(u8, u8)>) {
    let (vm, vcpu) = vcpu.unwrap_or((NOBODY, NOBODY));
    let who = u16::from_be_bytes([vm, vcpu]);
    here().1.who.store(who, Ordering::Relaxed);
}

/// Notes that the vCPU whose thread is on this CPU has left its guest.
#[inline(always)]
pub(super) fn note_exit() {
    if let Some(Left(left)) = left_here() {
        left.store(timer::now(), Ordering::Relaxed);
    }
}

/// How long ago the vCPU whose thread is on this CPU left its guest, in ticks.
#[inline(always)]
pub(super) fn since_exit() -> u64 {
    let left = left_here().map(|Left(left)| left.load(Ordering::Relaxed));
    left.map_or(0, |left| timer::now().saturating_sub(left))
}

#[inline(always)]
fn left_here() -> Option<&'static Left> {
    let [vm, vcpu] = here().1.who.load(Ordering::Relaxed).to_be_bytes();
    LEFT.get(usize::from(vm))?.get(usize::from(vcpu))
}
