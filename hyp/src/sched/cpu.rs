//! What the scheduler keeps for each CPU: its queues, who runs, and its timer.
//!
//! Lock: each CPU's queues have one. It is a leaf: nothing else is locked, and nothing is called
//! that may switch threads, while it is held; no two of them are held at once.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use platform::board::MAX_CPUS;
use platform::timer;
use spin::Mutex;
use threads::queue::{ReadyQueue, Sleepers, ThreadIndex};
use threads::slice;

use super::thread::MAX_THREADS;
use crate::percpu;

/// What becomes of a thread that has left its CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It wants to go on: it is queued.
    Ready,
    /// It waits to be woken.
    Parked,
    /// It ended.
    Ended,
    /// It is the CPU's idle thread, which is in no queue.
    Idle,
}

struct Queues {
    ready: ReadyQueue<MAX_THREADS>,
    sleepers: Sleepers<MAX_THREADS>,
}

/// One CPU's part of the scheduler.
#[repr(align(64))]
pub(super) struct Cpu {
    queues: Mutex<Queues>,
    /// The number of threads in the ready queue, to be looked at without the lock.
    ready: AtomicUsize,
    /// Whether a thread was woken that waits in the ready queue; see [`Self::take_woken`].
    woken: AtomicBool,
    /// The earliest deadline of the sleepers, likewise; later than any if there are none.
    next_wake: AtomicU64,
    local: Local,
}

/// What only the CPU itself touches.
struct Local {
    current: Cell<ThreadIndex>,
    /// The thread that the last switch left, and what becomes of it.
    left: Cell<(ThreadIndex, After)>,
    /// When the current thread's slice began, in ticks.
    since: Cell<u64>,
}

// SAFETY: `Cpu::local` is private to this file, whose functions reach it only through `this`, on
// the CPU it belongs to; threads are switched there only by calls, so accesses never interleave.
unsafe impl Sync for Cpu {}

static CPUS: [Cpu; MAX_CPUS] = [
    Cpu::new(0),
    Cpu::new(1),
    Cpu::new(2),
    Cpu::new(3),
    Cpu::new(4),
    Cpu::new(5),
    Cpu::new(6),
    Cpu::new(7),
];

/// The CPUs that have nothing to do, one bit each.
static IDLE: AtomicU64 = AtomicU64::new(0);

/// The CPU this runs on. Good until the thread's next switch.
pub(super) fn this() -> &'static Cpu {
    &CPUS[percpu::this().index()]
}

impl Cpu {
    const fn new(index: usize) -> Self {
        Self {
            queues: Mutex::new(Queues {
                ready: ReadyQueue::new(),
                sleepers: Sleepers::new(),
            }),
            ready: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            next_wake: AtomicU64::new(u64::MAX),
            local: Local {
                current: Cell::new(index as ThreadIndex),
                left: Cell::new((index as ThreadIndex, After::Idle)),
                since: Cell::new(0),
            },
        }
    }

    /// The thread that runs here. Only for this CPU itself.
    pub(super) fn current(&self) -> ThreadIndex {
        self.local.current.get()
    }

    /// Notes a switch that is about to be made: from the current thread, with which `after` is to
    /// be done, to `next`, which gets a slice less what it owes. Returns what the current one owes.
    /// Only for this CPU itself.
    pub(super) fn begin_switch(&self, next: ThreadIndex, owes: u64, after: After) -> u64 {
        let local = &self.local;
        let now = timer::now();
        local.left.set((local.current.replace(next), after));
        let since = local.since.replace(slice::begin(now, owes));
        slice::debt(since, now, slice_ticks())
    }

    /// The thread that the last switch left, and what becomes of it. Only for this CPU itself.
    pub(super) fn left(&self) -> (ThreadIndex, After) {
        self.local.left.get()
    }

    /// Puts a thread into the ready queue.
    pub(super) fn push(&self, thread: ThreadIndex) {
        let mut queues = self.queues.lock();
        queues.ready.push(thread);
        // SeqCst: ordered before the caller's look at IDLE; see `idle_begin`.
        self.ready.store(queues.ready.len(), Ordering::SeqCst);
    }

    /// As [`Self::push`], for a thread that waited until now.
    pub(super) fn push_woken(&self, thread: ThreadIndex) {
        self.push(thread);
        self.note_woken();
    }

    /// Notes that a thread in the ready queue should not wait for the end of a slice of the
    /// hypervisor's own threads.
    pub(super) fn note_woken(&self) {
        self.woken.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::note_woken`] was called since this was last asked. A hint: it may have
    /// run meanwhile, and what another CPU has queued just now may be missed until its message
    /// comes.
    pub(super) fn take_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::Relaxed)
    }

    /// Takes the thread that has been ready longest.
    pub(super) fn pop(&self) -> Option<ThreadIndex> {
        if !self.has_ready() {
            return None;
        }
        let mut queues = self.queues.lock();
        let thread = queues.ready.pop();
        self.ready.store(queues.ready.len(), Ordering::SeqCst);
        thread
    }

    /// Whether a thread is ready here, a moment ago.
    pub(super) fn has_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) > 0
    }

    /// Lets the timer of this CPU end the sleep of `thread` at `deadline` ticks.
    pub(super) fn add_sleeper(&self, thread: ThreadIndex, deadline: u64) {
        self.with_sleepers(|sleepers| sleepers.insert(thread, deadline));
    }

    /// Takes back what [`Self::add_sleeper`] did, if the sleep has not ended.
    pub(super) fn remove_sleeper(&self, thread: ThreadIndex) {
        self.with_sleepers(|sleepers| sleepers.remove(thread));
    }

    /// Takes a thread whose sleep is over.
    pub(super) fn pop_sleeper(&self) -> Option<ThreadIndex> {
        let now = timer::now();
        if self.next_wake.load(Ordering::Relaxed) > now {
            return None;
        }
        self.with_sleepers(|sleepers| sleepers.pop_expired(now))
    }

    fn with_sleepers<T>(&self, change: impl FnOnce(&mut Sleepers<MAX_THREADS>) -> T) -> T {
        let mut queues = self.queues.lock();
        let result = change(&mut queues.sleepers);
        let earliest = queues.sleepers.earliest().unwrap_or(u64::MAX);
        self.next_wake.store(earliest, Ordering::Relaxed);
        result
    }

    /// Whether others wait while the current thread has had its slice. Only for this CPU itself.
    pub(super) fn slice_is_over(&self) -> bool {
        self.has_ready() && timer::now() - self.local.since.get() >= slice_ticks()
    }

    /// Sets this CPU's timer for the next sleeper, for the end of the current thread's slice if
    /// others wait for that, and for a look at a guest that has not been interrupted for long. Only
    /// for this CPU itself.
    pub(super) fn set_timer(&self) {
        let mut deadline = self.next_wake.load(Ordering::Relaxed);
        if usize::from(self.local.current.get()) != percpu::this().index() {
            deadline = deadline.min(timer::now() + look_ticks());
        }
        if self.has_ready() {
            deadline = deadline.min(self.local.since.get() + slice_ticks());
        }
        match deadline {
            u64::MAX => timer::disable(),
            _ => timer::set_deadline(deadline),
        }
    }
}

/// Says that this CPU has nothing to do.
///
/// To be called before the last look at the queues: who queues a thread looks at this set after
/// that, so one of the two sees the other.
pub(super) fn idle_begin() {
    IDLE.fetch_or(1 << percpu::this().index(), Ordering::SeqCst);
}

/// Says that this CPU has something to do.
pub(super) fn idle_end() {
    IDLE.fetch_and(!(1 << percpu::this().index()), Ordering::SeqCst);
}

/// Takes an idle CPU, `preferred` if it is one, for a thread to run on.
pub(super) fn claim_idle(preferred: usize) -> Option<usize> {
    loop {
        let idle = IDLE.load(Ordering::SeqCst);
        if idle == 0 {
            return None;
        }
        let cpu = if idle >> preferred & 1 == 1 {
            preferred
        } else {
            idle.trailing_zeros() as usize
        };
        if IDLE.fetch_and(!(1 << cpu), Ordering::SeqCst) >> cpu & 1 == 1 {
            return Some(cpu);
        }
    }
}

/// CPU number `index`, which is below [`MAX_CPUS`].
pub(super) fn cpu(index: usize) -> &'static Cpu {
    &CPUS[index]
}

/// Takes a ready thread from another CPU.
pub(super) fn steal() -> Option<ThreadIndex> {
    let own = percpu::this().index();
    (1..MAX_CPUS).find_map(|distance| CPUS[(own + distance) % MAX_CPUS].pop())
}

/// How long a guest runs before EL2 looks whether it gets on, in ticks: 0.25 s.
fn look_ticks() -> u64 {
    timer::frequency() / 4
}

/// How long a thread runs while others wait, in ticks: 0.25 ms.
///
/// A vCPU may be spinning for a lock whose next owner, in the order of the queue for it, is another
/// vCPU that waits for this CPU. Waiting with WFE gives the CPU away, but emulators take WFE for a
/// no-op: then each time the lock changes hands takes a slice. With longer ones Linux with 8 vCPUs
/// on 2 CPUs gets less done under load (at 1 ms two thirds); with shorter ones the switches take
/// over.
fn slice_ticks() -> u64 {
    timer::frequency() / 4000
}
