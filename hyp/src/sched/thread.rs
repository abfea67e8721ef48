//! The thread table.
//!
//! A thread is an entry of a fixed table and a stack. Entries below [`MAX_CPUS`] are the CPUs' idle
//! threads, which run on the stacks the CPUs started on; the others are taken by
//! [`spawn`](super::spawn) and given back when the thread's function returns. What is in an entry
//! besides atomics is written while nobody else can know of the thread: before it is first queued,
//! or after it ended.

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use platform::board::MAX_CPUS;
use threads::park::ParkState;
use threads::queue::ThreadIndex;

use super::switch;
use crate::el2::stacks::{OutOfStacks, Stack};

/// How many threads there can be, idle threads included.
pub(super) const MAX_THREADS: usize = MAX_CPUS + 128;

/// What a thread has in the CPU's registers besides its own: a guest's state.
pub(crate) trait Context: Sync {
    /// The thread leaves the CPU; it may come back on another.
    fn switch_out(&self);
    /// The thread is on this CPU now.
    fn switch_in(&self);
    /// Serves the interrupts that wait for the CPU, while the thread does long work there: some may
    /// be the guest's.
    fn serve_interrupts(&self);
    /// When the guest's next timer interrupt is due, in ticks, if there is one that it waits for.
    /// Called while the thread is on its CPU.
    fn next_timer(&self) -> Option<u64>;
    /// The thread has ended and is off its CPU. Called while another is being switched to: may not
    /// switch.
    fn ended(&self);
    /// The VM and vCPU that it is, for traces.
    fn name(&self) -> (u8, u8);
}

/// A thread, as others name it to wake it.
///
/// A thread that ended may still be named; waking it does nothing, or at most ends some other
/// thread's wait early, for which all waits are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadId(pub(super) ThreadIndex);

/// Why a thread could not be made. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpawnError {
    /// The table is full.
    TooManyThreads,
    /// There is no stack for it.
    OutOfStacks(OutOfStacks),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyThreads => write!(
                f,
                "no thread is left: this build has {}; run fewer VMs or vCPUs",
                MAX_THREADS - MAX_CPUS
            ),
            Self::OutOfStacks(reason) => reason.fmt(f),
        }
    }
}

/// An entry of the table.
pub(super) struct Thread {
    in_use: AtomicBool,
    /// Its SP while it is off its CPU.
    pub(super) sp: AtomicUsize,
    pub(super) park: ParkState,
    /// The CPU it ran on last, or is to run on first.
    pub(super) cpu: AtomicUsize,
    /// The ticks by which it has overrun its slices (`threads::slice`), while it is off its CPU.
    pub(super) debt: AtomicU64,
    fixed: UnsafeCell<Fixed>,
}

/// What does not change in a thread's life.
struct Fixed {
    name: &'static str,
    stack: Option<Stack>,
    context: Option<&'static dyn Context>,
}

// SAFETY: All but `fixed` is atomic. `fixed` is written in `claim`'s and `release`'s owners' hands
// only: between setting `in_use` and the first queueing (the queue's lock publishes it), and after
// the thread has left its last CPU for good. In between it is only read.
unsafe impl Sync for Thread {}

static THREADS: [Thread; MAX_THREADS] = [const {
    Thread {
        in_use: AtomicBool::new(false),
        sp: AtomicUsize::new(0),
        park: ParkState::new(),
        cpu: AtomicUsize::new(0),
        debt: AtomicU64::new(0),
        fixed: UnsafeCell::new(Fixed {
            name: "idle",
            stack: None,
            context: None,
        }),
    }
}; MAX_THREADS];

/// The entry of a thread.
pub(super) fn thread(index: ThreadIndex) -> &'static Thread {
    &THREADS[usize::from(index)]
}

impl Thread {
    pub(super) fn context(&self) -> Option<&'static dyn Context> {
        self.fixed().context
    }

    pub(super) fn name(&self) -> &'static str {
        self.fixed().name
    }

    fn fixed(&self) -> &Fixed {
        // SAFETY: The thread is running or queued, so nobody writes (see the `Sync` claim).
        unsafe { &*self.fixed.get() }
    }
}

/// Takes an entry and a stack for a thread that will call `function(argument)`.
///
/// The caller queues it.
pub(super) fn claim(
    name: &'static str,
    function: extern "C" fn(usize),
    argument: usize,
    context: Option<&'static dyn Context>,
) -> Result<ThreadIndex, SpawnError> {
    let stack = Stack::new().map_err(SpawnError::OutOfStacks)?;
    let free = |thread: &Thread| !thread.in_use.swap(true, Ordering::Acquire);
    let index = THREADS
        .iter()
        .skip(MAX_CPUS)
        .position(free)
        .ok_or(SpawnError::TooManyThreads)?
        + MAX_CPUS;
    let thread = &THREADS[index];
    // SAFETY: The stack was taken just now and is used by nobody.
    let sp = unsafe { switch::prepare_stack(stack.top(), function, argument) };
    thread.sp.store(sp, Ordering::Relaxed);
    thread.park.reset();
    thread.debt.store(0, Ordering::Relaxed);
    let fixed = Fixed {
        name,
        stack: Some(stack),
        context,
    };
    // SAFETY: `in_use` was false, so the entry is ours, and the thread is not yet known to others.
    unsafe { thread.fixed.get().write(fixed) };
    Ok(index as ThreadIndex)
}

/// Gives a thread's entry and stack back; returns what it had in the CPU's registers.
///
/// # Safety
///
/// The thread must have left its CPU never to return, and the caller be the only one told so.
pub(super) unsafe fn release(index: ThreadIndex) -> Option<&'static dyn Context> {
    let thread = thread(index);
    // SAFETY: The caller's promise: nobody runs or queues the thread, so nobody reads.
    let fixed = unsafe { &mut *thread.fixed.get() };
    fixed.stack = None;
    let context = fixed.context.take();
    thread.in_use.store(false, Ordering::Release);
    context
}
