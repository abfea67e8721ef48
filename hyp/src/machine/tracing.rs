//! Tracing at EL2: each CPU's ring, and the thread that sends what is in them over the console.
//!
//! A CPU writes to its own ring only. EL2 runs with interrupts masked and nothing here switches
//! threads, so a write is never interrupted by another. Readers share one lock, below which the
//! console's is taken; it is never held across a thread switch.
//!
//! What is wanted is fixed before any guest runs. While it is nothing, an event costs a load and a
//! branch.

use core::slice;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use hyp::bootargs::ConsoleMode;
use hyp::frames::{Contents, LinearMap, Order, Use};
use hyp::memory::observe::{self, Tracer};
use hyp::memory::{Fault, Outcome};
use log::warn;
use platform::board::MAX_CPUS;
use platform::timer;
use spin::{Mutex, Once};
use trace::event::{Exit, NOBODY};
use trace::frame::{Header, LONGEST_TEXT, Writer};
use trace::ring::{Cursor, Ring, Slot};
use trace::{Categories, Category, Event, Record, Stamp};

use super::{El2, machine};
use crate::{console, percpu, sched};

/// The size of a ring: 1 MiB, 32768 records.
const RING_ORDER: u8 = 8;
/// More frames than a ring has records for.
const FRAMES_OF_A_RING: usize = 2048;
/// How long the thread sleeps when there is nothing to send, in milliseconds.
const PERIOD_MS: u64 = 2;
/// How many frames the thread sends between two looks at what memory is left.
const FRAMES_BETWEEN_LOOKS: usize = 64;

/// The bit of `WANTED` that says [`wants_exits`]; no category's.
const EXITS: u32 = 1 << 31;

/// [`Categories`], as bits, and `EXITS`.
static WANTED: AtomicU32 = AtomicU32::new(0);

/// Each CPU's ring, if anything is wanted.
static RINGS: [Once<Ring<'static>>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// The VM and vCPU whose thread is on each CPU, VM in the upper byte.
static WHO: [AtomicU16; MAX_CPUS] = [const { AtomicU16::new(u16::MAX) }; MAX_CPUS];

/// When a guest left to each CPU last, in ticks, if somebody wants to know of exits.
static LEFT: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// How far each ring was read.
static READ: Mutex<[Cursor; MAX_CPUS]> = Mutex::new([Cursor::new(); MAX_CPUS]);

impl Tracer for El2 {
    #[inline(always)]
    fn wanted() -> Categories {
        Categories::from_bits(WANTED.load(Ordering::Relaxed))
    }

    fn emit(vm: u8, event: Event) {
        write(vm, event);
    }

    fn now() -> u64 {
        timer::now()
    }
}

/// Whether events of `category` are wanted.
#[inline(always)]
pub(crate) fn wants(category: Category) -> bool {
    El2::wanted().has(category)
}

/// Whether anything is traced.
pub(crate) fn is_on() -> bool {
    !El2::wanted().is_empty()
}

/// Makes the rings and starts the thread, if anything is wanted. To be called once, before guests
/// are made. Where that fails, tracing stays off.
///
/// Not where guests' bytes go to the console as they are: a guest could forge events.
pub(crate) fn start(wanted: Categories, console: ConsoleMode) {
    if wanted.is_empty() {
        return;
    }
    if console == ConsoleMode::Raw {
        return warn!("no trace: console=raw lets guests write what they like; use console=lines");
    }
    for ring in RINGS.iter().take(crate::boot::board().cpus.len()) {
        let Some(slots) = new_slots() else {
            return warn!("no trace: there is no memory for it; give QEMU more with -m");
        };
        ring.call_once(|| Ring::new(slots));
    }
    match sched::spawn("trace", run, 0, None) {
        Ok(_) => {
            let exits = wanted.has(Category::Vcpu) || wanted.has(Category::Fault);
            let exits = if exits { EXITS } else { 0 };
            WANTED.store(wanted.bits() | exits, Ordering::Relaxed);
        }
        Err(reason) => warn!("no trace: {reason}"),
    }
}

fn new_slots() -> Option<&'static [Slot]> {
    let order = Order::new(RING_ORDER)?;
    let cpu = percpu::this().index();
    let allocator = machine().allocator();
    let memory = allocator
        .alloc(cpu, order, Contents::Zeroed, Use::Hypervisor)
        .ok()?;
    let first = allocator.map().pointer(memory).cast::<Slot>();
    let count = (1usize << RING_ORDER << stage2::PAGE_SHIFT) / size_of::<Slot>();
    // SAFETY: The block is RAM of this size that the linear map reaches, is aligned to a page, was
    // handed to us alone and is never given back. Zeroes are slots, which are atomics throughout.
    Some(unsafe { slice::from_raw_parts(first.as_ptr(), count) })
}

/// Writes an event of VM `vm` to this CPU's ring.
fn write(vm: u8, event: Event) {
    let cpu = percpu::this().index();
    let Some(ring) = RINGS[cpu].get() else { return };
    let [_, vcpu] = WHO[cpu].load(Ordering::Relaxed).to_be_bytes();
    let stamp = Stamp {
        time: timer::now(),
        cpu: cpu as u8,
        vm,
        vcpu,
    };
    ring.write(Record { stamp, event }.to_words());
}

/// Writes an event of whoever is on this CPU.
fn write_here(event: Event) {
    let who = WHO[percpu::this().index()].load(Ordering::Relaxed);
    let [vm, _] = who.to_be_bytes();
    write(vm, event);
}

/// A thread leaves the CPU for another, which is that of `vcpu`, if it is one's.
#[cold]
pub(crate) fn switched(from: u64, to: u64, vcpu: Option<(u8, u8)>) {
    let (vm, vcpu) = vcpu.unwrap_or((NOBODY, NOBODY));
    let who = u16::from_be_bytes([vm, vcpu]);
    WHO[percpu::this().index()].store(who, Ordering::Relaxed);
    if wants(Category::Sched) {
        write_here(Event::Switch { from, to });
    }
}

/// Whether it is to be noted that a guest has left: for its own sake, or to tell how long a fault takes.
#[inline(always)]
pub(crate) fn wants_exits() -> bool {
    WANTED.load(Ordering::Relaxed) & EXITS != 0
}

/// The guest has left for `exit`; the syndrome, if there is one, is `esr`.
#[cold]
pub(crate) fn left(exit: Exit, esr: u64, pc: u64) {
    LEFT[percpu::this().index()].store(timer::now(), Ordering::Relaxed);
    if wants(Category::Vcpu) {
        write_here(Event::Exit { exit, esr, pc });
    }
}

/// The guest is about to be entered.
#[inline]
pub(crate) fn entering() {
    if wants(Category::Vcpu) {
        write_here(Event::Enter {});
    }
}

/// A fault was dealt with, on the CPU to which the guest has left.
#[cold]
pub(crate) fn faulted(fault: Fault, outcome: Outcome) {
    let left = LEFT[percpu::this().index()].load(Ordering::Relaxed);
    let ticks = timer::now().saturating_sub(left);
    write_here(observe::fault(fault, outcome, ticks));
}

/// A line was logged by `module`.
pub(crate) fn logged(level: log::Level, module: &str) {
    if wants(Category::Log) {
        let mut name = [0; 8];
        let length = module.len().min(name.len());
        name[..length].copy_from_slice(&module.as_bytes()[..length]);
        write_here(Event::Log {
            level: level as u8,
            module: u64::from_le_bytes(name),
            length: module.len() as u64,
        });
    }
}

/// A VM's RAM is there, and nothing of it is mapped.
pub(crate) fn ram(vm: u8, ipa: u64, end: u64) {
    if wants(Category::Map) {
        write(vm, Event::Ram { ipa, end });
    }
}

/// The thread: sends what there is, and sleeps.
extern "C" fn run(_: usize) {
    loop {
        note_frames();
        let mut sent = 0;
        while sent < FRAMES_BETWEEN_LOOKS {
            let now = (0..MAX_CPUS).filter(|&cpu| send(cpu)).count();
            if now == 0 {
                sched::sleep_until(timer::now() + timer::frequency() * PERIOD_MS / 1000);
                break;
            }
            sent += now;
            sched::give_way();
        }
    }
}

fn note_frames() {
    if wants(Category::Map) {
        let usage = machine().allocator().usage();
        let free = (usage.free + usage.cached) as u64;
        let total = usage.total as u64;
        write(NOBODY, Event::Frames { free, total });
    }
}

/// Sends what is in the rings, as a machine ends. Others may go on writing, so this has its bounds.
pub(super) fn drain() {
    for cpu in 0..MAX_CPUS {
        // A frame takes many records, so this many empty a ring that is full.
        for _ in 0..FRAMES_OF_A_RING {
            if !send(cpu) {
                break;
            }
        }
    }
}

/// Sends a frame of CPU `cpu`; says whether there was anything to send.
fn send(cpu: usize) -> bool {
    let Some(ring) = RINGS[cpu].get() else {
        return false;
    };
    let mut cursors = READ.lock();
    let cursor = &mut cursors[cpu];
    let Some(first) = ring.read(cursor) else {
        return false;
    };
    let header = Header {
        cpu: cpu as u8,
        frequency: timer::frequency(),
        lost: cursor.lost(),
    };
    let mut frame = Writer::new(header, first[0]);
    frame.push(first);
    while frame.has_room()
        && let Some(words) = ring.read(cursor)
    {
        frame.push(words);
    }
    console::frame(frame.finish(&mut [0; LONGEST_TEXT]));
    true
}
