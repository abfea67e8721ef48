//! Writing events to this CPU's rings.
//!
//! A CPU writes to its own rings only. EL2 runs with interrupts masked and nothing here switches
//! threads, so a write is never interrupted by another.
//!
//! Events for a checker are not overwritten: a CPU whose ring of them is full sends what is in it
//! itself (`super::sender`), with whatever table locks it holds.

use core::sync::atomic::{AtomicU64, Ordering};

use bootargs::{MAX_VCPUS, MAX_VMS};
use platform::timer;
use trace::event::{EVENT_WORDS, NOBODY};
use trace::{Event, Stamp, Stream};

use super::rings::{RINGS, Rings};
use super::sender;
use crate::percpu;

/// When a vCPU last left its guest, in ticks, if exits are traced. The vCPU's, and
/// not its CPU's: one that waits in a fault lets others have the CPU, and may go on on another.
#[repr(align(64))]
struct Left(AtomicU64);

/// Each vCPU's.
static LEFT: [[Left; MAX_VCPUS]; MAX_VMS] =
    [const { [const { Left(AtomicU64::new(0)) }; MAX_VCPUS] }; MAX_VMS];

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

/// Writes an event of the thread that is on this CPU.
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
