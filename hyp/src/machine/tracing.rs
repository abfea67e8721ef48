//! Tracing at EL2: each CPU's ring, and the thread that sends what is in them over the console.
//!
//! A CPU writes to its own rings only, of which it has one for each [`Stream`]. EL2 runs with interrupts
//! masked and nothing here switches threads, so a write is never interrupted by another. Readers
//! share one lock, below which the console's is taken; it is never held across a thread switch.
//!
//! Events for a checker are not overwritten: a CPU whose ring of them is full sends what is in it
//! itself, with whatever table locks it holds. So the readers' lock and the console's come after
//! every table lock, and nothing of the table manager is called under them.
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
use trace::event::{Barrier, Exit, NOBODY, REPLAY_WORDS, Register, Tlbi, WORDS};
use trace::frame::{Header, LONGEST_TEXT, Writer};
use trace::ring::{Cursor, Ring, Slot};
use trace::{Categories, Category, Event, Record, Stamp, Stream};

use super::{El2, machine};
use crate::{console, percpu, sched};

/// The size of a ring of what happens often: 1 MiB, 32768 records.
const BUSY_ORDER: u8 = 8;
/// The size of a ring of what happens now and then: 128 KiB, 4096 records.
const RARE_ORDER: u8 = 5;
/// The size of a ring for a checker: 1 MiB, 16384 records.
const REPLAY_ORDER: u8 = 8;
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

/// The rings of a CPU, as far as something is wanted that goes there.
struct Rings {
    busy: Once<Ring<'static, WORDS>>,
    rare: Once<Ring<'static, WORDS>>,
    replay: Once<Ring<'static, REPLAY_WORDS>>,
}

/// Each CPU's rings.
static RINGS: [Rings; MAX_CPUS] = [const {
    Rings {
        busy: Once::new(),
        rare: Once::new(),
        replay: Once::new(),
    }
}; MAX_CPUS];

/// The last number of the total order of events for a checker.
static ORDER: AtomicU64 = AtomicU64::new(0);

/// The VM and vCPU whose thread is on each CPU, VM in the upper byte.
static WHO: [AtomicU16; MAX_CPUS] = [const { AtomicU16::new(u16::MAX) }; MAX_CPUS];

/// When a guest left to each CPU last, in ticks, if somebody wants to know of exits.
static LEFT: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// What reading the rings takes. It is too large for a stack on which much may be.
struct Reader {
    /// How far each ring was read: of each CPU, by stream.
    cursors: [[Cursor; Stream::ALL.len()]; MAX_CPUS],
    frame: Writer,
    text: [u8; LONGEST_TEXT],
}

static READER: Mutex<Reader> = Mutex::new(Reader {
    cursors: [[Cursor::new(); Stream::ALL.len()]; MAX_CPUS],
    frame: Writer::new(),
    text: [0; LONGEST_TEXT],
});

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

    fn next_order() -> u64 {
        // What happened before, on any CPU, has taken its number before: the counter's own order
        // is that of its changes, and acquire and release keep everything else on its side.
        ORDER.fetch_add(1, Ordering::AcqRel) + 1
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
    for rings in RINGS.iter().take(crate::boot::board().cpus.len()) {
        if rings.make(wanted).is_none() {
            return warn!("no trace: there is no memory for it; give QEMU more with -m");
        }
    }
    match sched::spawn("trace", run, 0, None) {
        Ok(_) => {
            let exits = wanted.has(Category::Vcpu) || wanted.has(Category::Fault);
            let exits = if exits { EXITS } else { 0 };
            WANTED.store(wanted.bits() | exits, Ordering::Relaxed);
            if replays() {
                let (bbm, order) = (crate::boot::features().bbm_level, El2::next_order());
                write(NOBODY, Event::Allowed { bbm, order });
            }
        }
        Err(reason) => warn!("no trace: {reason}"),
    }
}

impl Rings {
    /// Makes those that something of what is wanted goes to.
    fn make(&self, wanted: Categories) -> Option<()> {
        if wanted.has_any(Categories::ALL) {
            let (busy, rare) = (new_slots(BUSY_ORDER)?, new_slots(RARE_ORDER)?);
            self.busy.call_once(|| Ring::new(busy));
            self.rare.call_once(|| Ring::new(rare));
        }
        if wanted.has(Category::Replay) {
            let slots = new_slots(REPLAY_ORDER)?;
            self.replay.call_once(|| Ring::new(slots));
        }
        Some(())
    }
}

/// As many slots of `N` words as a block of this order holds, down to a power of two.
fn new_slots<const N: usize>(order: u8) -> Option<&'static [Slot<N>]> {
    let block = Order::new(order)?;
    let cpu = percpu::this().index();
    let allocator = machine().allocator();
    let memory = allocator
        .alloc(cpu, block, Contents::Zeroed, Use::Hypervisor)
        .ok()?;
    let first = allocator.map().pointer(memory).cast::<Slot<N>>();
    let fit = (1usize << order << stage2::PAGE_SHIFT) / size_of::<Slot<N>>();
    let count = 1 << fit.ilog2();
    // SAFETY: The block is RAM of at least this size that the linear map reaches, is aligned to a
    // page, was handed to us alone and is never given back. Zeroes are slots, which are atomics
    // throughout.
    Some(unsafe { slice::from_raw_parts(first.as_ptr(), count) })
}

/// Writes an event of VM `vm` to this CPU's ring.
fn write(vm: u8, event: Event) {
    let cpu = percpu::this().index();
    let [_, vcpu] = WHO[cpu].load(Ordering::Relaxed).to_be_bytes();
    let stamp = Stamp {
        time: timer::now(),
        cpu: cpu as u8,
        vm,
        vcpu,
    };
    let (rings, record) = (&RINGS[cpu], Record { stamp, event });
    let ring = match event.stream() {
        Stream::Busy => &rings.busy,
        Stream::Rare => &rings.rare,
        Stream::Replay => return write_for_replay(cpu, &record),
    };
    if let Some(ring) = ring.get() {
        ring.write(record.to_words());
    }
}

/// Writes an event of which none may be lost: makes room where there is none.
#[cold]
fn write_for_replay(cpu: usize, record: &Record) {
    if let Some(ring) = RINGS[cpu].replay.get() {
        while !ring.offer(record.to_words()) {
            send(cpu, Stream::Replay);
        }
    }
}

/// Whether a checker is to be told of what this CPU does to its translations.
#[inline(always)]
pub(crate) fn replays() -> bool {
    wants(Category::Replay)
}

/// Tells a checker of a barrier that was executed.
#[cold]
pub(super) fn barrier(barrier: Barrier) {
    let order = El2::next_order();
    write(NOBODY, Event::Barrier { barrier, order });
}

/// Tells a checker of a TLBI that is about to be executed with this operand and VTTBR_EL2.
#[cold]
pub(super) fn tlbi(tlbi: Tlbi, operand: u64, vttbr: u64) {
    let order = El2::next_order();
    let event = Event::TlbiDone {
        tlbi,
        order,
        operand,
        vttbr,
    };
    write(NOBODY, event);
}

/// Tells a checker of a register that is about to be written.
#[cold]
pub(super) fn register(register: Register, value: u64) {
    let order = El2::next_order();
    let event = Event::RegisterSet {
        register,
        order,
        value,
    };
    write(NOBODY, event);
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
            let now = send_round();
            if now == 0 {
                sched::sleep_until(timer::now() + timer::frequency() * PERIOD_MS / 1000);
                break;
            }
            sent += now;
            sched::give_way();
        }
    }
}

/// Sends all that is rare, then a frame of each other ring; returns how many frames.
fn send_round() -> usize {
    let mut sent = 0;
    for cpu in 0..MAX_CPUS {
        sent += send_all(cpu, Stream::Rare);
    }
    for cpu in 0..MAX_CPUS {
        sent += usize::from(send(cpu, Stream::Replay));
        sent += usize::from(send(cpu, Stream::Busy));
    }
    sent
}

/// Sends what is in a ring. Others may go on writing, so this has its bounds: a frame takes many
/// records, so this many empty a ring that is full.
fn send_all(cpu: usize, stream: Stream) -> usize {
    (0..FRAMES_OF_A_RING)
        .take_while(|_| send(cpu, stream))
        .count()
}

fn note_frames() {
    if wants(Category::Map) {
        let usage = machine().allocator().usage();
        let free = (usage.free + usage.cached) as u64;
        let total = usage.total as u64;
        write(NOBODY, Event::Frames { free, total });
    }
}

/// Sends what is in the rings, as a machine ends.
pub(super) fn drain() {
    for cpu in 0..MAX_CPUS {
        for &stream in Stream::ALL {
            send_all(cpu, stream);
        }
    }
}

/// Sends a frame of what is in a ring of CPU `cpu`; says whether there was anything to send.
fn send(cpu: usize, stream: Stream) -> bool {
    let (rings, mut reader) = (&RINGS[cpu], READER.lock());
    match stream {
        Stream::Busy => reader.send(rings.busy.get(), cpu, stream),
        Stream::Rare => reader.send(rings.rare.get(), cpu, stream),
        Stream::Replay => reader.send(rings.replay.get(), cpu, stream),
    }
}

impl Reader {
    fn send<const N: usize>(
        &mut self,
        ring: Option<&Ring<'static, N>>,
        cpu: usize,
        stream: Stream,
    ) -> bool {
        let Some(ring) = ring else { return false };
        let cursor = &mut self.cursors[cpu][stream as usize];
        let Some((first, words)) = ring.read(cursor) else {
            return false;
        };
        let header = Header {
            cpu: cpu as u8,
            stream,
            frequency: timer::frequency(),
            first,
        };
        self.frame.begin(header, words[0]);
        self.frame.push(&words);
        // What was overwritten meanwhile makes a gap, behind which a new frame begins.
        while self.frame.has_room()
            && let Some(words) = ring.read_on(cursor)
        {
            self.frame.push(&words);
        }
        console::frame(self.frame.finish(&mut self.text));
        true
    }
}
