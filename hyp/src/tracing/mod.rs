//! Tracing at EL2: what is wanted, and the events of EL2's own parts.
//!
//! `rings` are what each CPU writes to, `sender` sends what is in them over the console. What is
//! wanted is fixed before any guest runs. While it is nothing, an event costs a load and a branch.

mod rings;
mod sender;
mod writer;

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bootargs::ConsoleMode;
use frames::Order;
use log::warn;
use memory::tracing::{Tracer, fault};
use memory::{Fault, FaultKind, Outcome};
use platform::timer;
use stage2::{Access, Ipa, Pa};
use trace::event::{Barrier, Exit, Holder, NOBODY, Register, Tlbi};
use trace::{Categories, Category, Event};

pub(crate) use sender::{drain, send_round};

use self::writer::{write, write_here};
use crate::board::board;
use crate::cpu;
use crate::el2::layout;

/// The bit of `WANTED` that says [`wants_exits`]; no category's.
const EXITS: u32 = 1 << 31;

/// [`Categories`], as bits, and `EXITS`.
static WANTED: AtomicU32 = AtomicU32::new(0);

/// The last number of the total order of events for a checker.
static ORDER: AtomicU64 = AtomicU64::new(0);

/// Where the table manager's and the fault path's events go: to the rings.
pub(crate) struct Sink;

impl Tracer for Sink {
    #[inline(always)]
    fn wanted() -> Categories {
        Categories::from_bits(WANTED.load(Ordering::Relaxed))
    }

    #[inline(always)]
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
    Sink::wanted().has(category)
}

/// Whether anything is traced.
pub(crate) fn is_on() -> bool {
    !Sink::wanted().is_empty()
}

/// Makes the rings, if anything is wanted, of memory that `allocate` gives: zeroed blocks of an
/// order, which are never given back. Returns whether events are kept from now on; what is in the
/// rings is sent by [`send_round`]. To be called once, before guests are made. Where it fails,
/// tracing stays off.
///
/// Not where guests' bytes go to the console as they are: a guest could forge events.
pub(crate) fn start(
    wanted: Categories,
    console: ConsoleMode,
    allocate: impl FnMut(Order) -> Option<NonNull<u8>>,
) -> bool {
    if wanted.is_empty() {
        return false;
    }
    if console == ConsoleMode::Raw {
        warn!("no trace: console=raw lets guests write what they like; use console=lines");
        return false;
    }
    if rings::make(wanted, allocate).is_none() {
        warn!("no trace: there is no memory for it; give QEMU more with -m");
        return false;
    }
    let exits = wanted.has(Category::Vcpu) || wanted.has(Category::Fault);
    let exits = if exits { EXITS } else { 0 };
    WANTED.store(wanted.bits() | exits, Ordering::Relaxed);
    true
}

/// Traces, for a checker, what the CPUs allow and whose addresses are: those that the allocator
/// knows are told by `holdings`. Called when no other CPU takes frames yet.
pub(crate) fn begin_replay(holdings: impl FnOnce(&mut dyn FnMut(Range<Pa>, Holder))) {
    let features = cpu::features();
    let event = Event::Allowed {
        bbm: features.stage2.bbm_level,
        dic: features.stage2.instructions_follow_data.into(),
        order: Sink::next_order(),
    };
    write(NOBODY, event);
    holdings(&mut |range, holder| held(range.start.get(), range.end.get(), holder));
    let image = layout::image();
    held(image.start as u64, image.end as u64, Holder::Image);
    let board = board();
    let gic = &board.gic;
    let devices = [board.uart.registers, gic.distributor].into_iter();
    let devices = devices.chain(gic.redistributors.iter().copied());
    for registers in devices.chain(board.clock) {
        held(registers.base, registers.end(), Holder::Device);
    }
}

/// Traces how much memory is left.
pub(crate) fn frames(free: u64, total: u64) {
    if wants(Category::Map) {
        write(NOBODY, Event::Frames { free, total });
    }
}

/// Tells a checker whose these physical addresses are.
fn held(start: u64, end: u64, holder: Holder) {
    let event = Event::Held {
        holder,
        order: Sink::next_order(),
        start,
        end,
    };
    write(NOBODY, event);
}

/// Whether a checker is to be told of what this CPU does to its translations.
#[inline(always)]
pub(crate) fn replays() -> bool {
    wants(Category::Replay)
}

/// Tells a checker of a barrier that was executed.
#[cold]
pub(crate) fn barrier(barrier: Barrier) {
    let order = Sink::next_order();
    write(NOBODY, Event::Barrier { barrier, order });
}

/// Tells a checker that the instruction caches of all CPUs are about to be emptied.
#[cold]
pub(crate) fn fetches_invalidated() {
    let order = Sink::next_order();
    write(NOBODY, Event::FetchesInvalidated { order });
}

/// Tells a checker of a TLBI that is about to be executed with this operand and VTTBR_EL2.
#[cold]
pub(crate) fn tlbi(tlbi: Tlbi, operand: u64, vttbr: u64) {
    let order = Sink::next_order();
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
pub(crate) fn register(register: Register, value: u64) {
    let order = Sink::next_order();
    let event = Event::RegisterSet {
        register,
        order,
        value,
    };
    write(NOBODY, event);
}

/// A thread leaves the CPU for another, which is that of `vcpu`, if it is one's.
#[cold]
pub(crate) fn switched(from: u64, to: u64, vcpu: Option<(u8, u8)>) {
    writer::set_who(vcpu);
    if wants(Category::Sched) {
        write_here(Event::Switch { from, to });
    }
}

/// Whether it is to be noted that a guest has left: for its own sake, or to tell how long a fault
/// takes.
#[inline(always)]
pub(crate) fn wants_exits() -> bool {
    WANTED.load(Ordering::Relaxed) & EXITS != 0
}

/// The guest has left for `exit`; the syndrome, if there is one, is `esr`.
#[cold]
pub(crate) fn left(exit: Exit, esr: u64, pc: u64) {
    writer::note_exit();
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

/// A fault of the vCPU that is on this CPU was dealt with.
// Its parts singly: the caller has them in registers, and so they need not be in memory as well.
#[cold]
pub(crate) fn faulted(ipa: Ipa, access: Access, kind: FaultKind, outcome: Outcome) {
    let met = Fault { ipa, access, kind };
    write_here(fault(met, outcome, writer::since_exit()));
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
    if replays() {
        let order = Sink::next_order();
        write(vm, Event::RamMade { order, ipa, end });
    }
}
