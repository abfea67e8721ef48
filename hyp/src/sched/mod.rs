//! The scheduler: threads of EL2, which are vCPUs and the hypervisor's own helpers.
//!
//! Threads switch inside EL2 only where they ask for it: [`yield_now`], [`sleep_until`], [`park`].
//! EL2 runs with interrupts masked, so nothing else can take the CPU away there; a guest is
//! interrupted by its CPU's timer or by a message from another CPU, and [`after_interrupt`] then
//! decides. Long work calls [`cond_resched`] every few thousand instructions, which serves
//! interrupts and decides likewise.
//!
//! Each CPU has a queue of ready threads, served in turn. A thread that is woken goes to the CPU it
//! ran on last if that is idle, else to an idle one, else to the queue of the last one; a CPU that
//! runs out of work takes over a thread that waits elsewhere. An idle CPU zeroes frames
//! ahead for its guests' faults, and then waits in WFI.
//!
//! A thread that calls what may switch holds no lock and is in no read section of stage 2. On
//! return the thread may be on another CPU: what was derived from `percpu::this` is stale.
//!
//! - [`mod@thread`]: the table of threads;
//! - [`mod@cpu`]: the queues and the timer of each CPU;
//! - [`mod@switch`]: the switch itself.
//!
//! Lock order: a CPU's queues, a leaf.
//!
//! What decides without EL2, the states of a thread, the queues and the slices, is in the crate
//! [`threads`].

mod cpu;
mod switch;
mod thread;

pub(crate) use thread::{Context, SpawnError, ThreadId};

use core::sync::atomic::Ordering;

use aarch64_cpu::asm;
use spin::Once;
use threads::queue::ThreadIndex;

use crate::board::{board, ipi};
use crate::el2::serror;
use crate::percpu;
use crate::tracing;
use cpu::{After, Cpu};
use thread::thread;

/// What the scheduler has done by floors above it.
pub(crate) struct Hooks {
    /// Serves the interrupts that wait for this CPU, while no vCPU's registers are on it.
    pub(crate) serve_interrupts: fn(),
    /// Does a small piece of work that can as well be done now, when a CPU is idle; says whether
    /// there was any.
    pub(crate) work_when_idle: fn() -> bool,
}

static HOOKS: Once<Hooks> = Once::new();

/// Hands the scheduler what it calls. To be called before CPUs turn to it.
pub(crate) fn start(hooks: Hooks) {
    HOOKS.call_once(|| hooks);
}

fn serve_interrupts() {
    if let Some(hooks) = HOOKS.get() {
        (hooks.serve_interrupts)();
    }
}

/// Makes a thread that calls `function(argument)` and ends when that returns. It is ready at once.
///
/// `context` is what a vCPU keeps in the CPU's registers.
///
/// # Errors
///
/// There is no room for another thread; nothing has changed.
pub(crate) fn spawn(
    name: &'static str,
    function: extern "C" fn(usize),
    argument: usize,
    context: Option<&'static dyn Context>,
) -> Result<ThreadId, SpawnError> {
    let index = thread::claim(name, function, argument, context)?;
    // New threads start out spread over the CPUs.
    let first = usize::from(index) % board().cpus.len();
    thread(index).cpu.store(first, Ordering::Relaxed);
    place(index);
    Ok(ThreadId(index))
}

/// The name of the thread that runs on this CPU.
pub(crate) fn current_name() -> &'static str {
    thread(cpu::this().current()).name()
}

/// Lets another thread run here: one of this CPU's, or else one that waits for another CPU, since
/// the caller may be waiting for just that. Returns at once if there is none.
pub(crate) fn yield_now() {
    wake_sleepers();
    let cpu = cpu::this();
    if let Some(next) = cpu.pop().or_else(cpu::steal) {
        let idle = cpu.current() == idle_thread();
        switch_to(cpu, next, if idle { After::Idle } else { After::Ready });
    }
}

/// Serves the interrupts that wait for this CPU, and lets other threads run if the current one has
/// had its slice: for long work, which EL2 does with interrupts masked. One of the hypervisor's own
/// threads also lets those run that an interrupt or the end of a sleep has woken since it last did
/// so, as they would have interrupted a guest. Does neither while the machine comes up: what runs
/// then becomes an idle thread, which would get the CPU back only when nobody else wants it.
pub(crate) fn cond_resched() {
    let current = cpu::this().current();
    if current == idle_thread() {
        return wake_sleepers();
    }
    let context = thread(current).context();
    match context {
        Some(context) => context.serve_interrupts(),
        None => serve_interrupts(),
    }
    wake_sleepers();
    let cpu = cpu::this();
    if cpu.slice_is_over() || context.is_none() && cpu.take_woken() {
        yield_now();
    }
    // What was served may have been the timer, or news of a thread that waits for the end of a
    // slice.
    cpu::this().set_timer();
}

/// Waits until another thread, or an interrupt, calls [`wake`] with this thread, or did since the
/// last wait.
///
/// May also return for no reason: callers look again at what they wait for. Not for idle threads.
pub(crate) fn park() {
    let cpu = cpu::this();
    let current = cpu.current();
    debug_assert_ne!(current, idle_thread(), "an idle thread cannot wait");
    if thread(current).park.prepare() {
        switch_to(cpu, cpu.pop().unwrap_or(idle_thread()), After::Parked);
    }
}

/// Waits as [`park`], but not longer than until the counter reaches `deadline` ticks.
pub(crate) fn sleep_until(deadline: u64) {
    let cpu = cpu::this();
    let current = cpu.current();
    cpu.add_sleeper(current, deadline);
    park();
    // The CPU that was asked, wherever the thread is now.
    cpu.remove_sleeper(current);
}

/// Ends the wait of `thread`, or its next one if it is not waiting.
pub(crate) fn wake(ThreadId(index): ThreadId) {
    if thread(index).park.wake() {
        place(index);
    }
}

/// After interrupts of a guest were served: wakes whose sleep is over, and lets others run if the
/// current thread has had its share.
pub(crate) fn after_interrupt() {
    wake_sleepers();
    let cpu = cpu::this();
    if cpu.slice_is_over() {
        yield_now();
    }
    // Also then: there may have been nobody to yield to any more.
    cpu::this().set_timer();
}

/// Turns what this CPU has been running so far into its idle thread.
pub(crate) fn run_idle() -> ! {
    let cpu = cpu::this();
    loop {
        serve_interrupts();
        wake_sleepers();
        if let Some(next) = cpu.pop().or_else(cpu::steal) {
            switch_to(cpu, next, After::Idle);
            continue;
        }
        // One at a time: who becomes ready does not wait for more than that.
        if HOOKS.get().is_some_and(|hooks| (hooks.work_when_idle)()) {
            continue;
        }
        cpu::idle_begin();
        let next = cpu.pop().or_else(cpu::steal);
        if next.is_none() {
            cpu.set_timer();
            // A pending interrupt ends this although it is masked.
            asm::wfi();
        }
        cpu::idle_end();
        if let Some(next) = next {
            switch_to(cpu, next, After::Idle);
        }
    }
}

/// Ends the current thread.
pub(crate) extern "C" fn exit() -> ! {
    let cpu = cpu::this();
    switch_to(cpu, cpu.pop().unwrap_or(idle_thread()), After::Ended);
    unreachable!("a thread that ended was switched to");
}

/// Queues a thread that is ready, and makes sure that some CPU takes note.
fn place(index: ThreadIndex) {
    let last = thread(index).cpu.load(Ordering::Relaxed);
    let here = percpu::this().index();
    let cpu = cpu::this();
    if last == here && cpu.current() == idle_thread() {
        // The idle thread looks into the queue next.
        cpu.push(index);
        return;
    }
    if let Some(idle) = cpu::claim_idle(last) {
        cpu::cpu(idle).push(index);
        ipi::kick(idle);
        return;
    }
    cpu::cpu(last).push_woken(index);
    // A CPU that turned idle meanwhile may have looked into the queues too early.
    match cpu::claim_idle(last) {
        Some(idle) => ipi::kick(idle),
        None if last == here => cpu.set_timer(),
        None => ipi::kick(last),
    }
}

/// Makes sure that threads in this CPU's queue get to run: on an idle CPU, or else here when the
/// timer ends the current thread's slice.
fn share(cpu: &Cpu) {
    if cpu.has_ready()
        && let Some(idle) = cpu::claim_idle(percpu::this().index())
    {
        ipi::kick(idle);
    }
    cpu.set_timer();
}

/// The idle thread of this CPU.
fn idle_thread() -> ThreadIndex {
    percpu::this().index() as ThreadIndex
}

/// Queues the threads whose sleep is over.
fn wake_sleepers() {
    while let Some(index) = cpu::this().pop_sleeper() {
        if thread(index).park.wake() {
            place(index);
        } else {
            // It is ready, and its guest's timer has fired: see `switch_to`.
            cpu::this().note_woken();
        }
    }
}

/// Leaves the current thread for `next`; returns when another thread switches back, maybe on
/// another CPU.
fn switch_to(cpu: &Cpu, next: ThreadIndex, after: After) {
    let slot = &percpu::slots()[percpu::this().index()];
    assert!(
        !slot.in_section(),
        "a thread switch in a read section of stage 2"
    );
    let from = thread(cpu.current());
    let to = thread(next);
    if after == After::Ready
        && to.context().is_none()
        && let Some(deadline) = from.context().and_then(Context::next_timer)
    {
        // One of the hypervisor's own threads takes over from a guest that has not finished: it
        // gives way to the guest's timer, and not only at the end of its slice.
        cpu.add_sleeper(cpu.current(), deadline);
    }
    match from.context() {
        Some(context) => context.switch_out(),
        None => serror::drain_own(),
    }
    to.cpu.store(percpu::this().index(), Ordering::Relaxed);
    if tracing::is_on() {
        let vcpu = to.context().map(Context::name);
        tracing::switched(cpu.current().into(), next.into(), vcpu);
    }
    let owes = to.debt.load(Ordering::Relaxed);
    from.debt
        .store(cpu.begin_switch(next, owes, after), Ordering::Relaxed);
    // SAFETY: `to` was taken from a queue, or is this CPU's idle thread: it is off its CPU, its SP
    // was stored when it left (or by `claim`), and nobody else switches to it. `from.sp` is written
    // by this CPU alone until `finish_switch` has made the thread known again.
    unsafe { switch::thread_switch(from.sp.as_ptr(), to.sp.load(Ordering::Relaxed)) };
    finish_switch();
}

/// On the new thread: does with the old one what is to be done now that it is off the CPU.
extern "C" fn finish_switch() {
    let cpu = cpu::this();
    let (left, after) = cpu.left();
    let queued = match after {
        After::Ready => true,
        After::Parked => !thread(left).park.commit(),
        After::Ended => {
            // SAFETY: The thread is off its CPU, `exit` does not let it return, and only the switch
            // from it is told that it ended.
            let context = unsafe { thread::release(left) };
            if let Some(context) = context {
                context.ended();
            }
            false
        }
        After::Idle => false,
    };
    if queued {
        cpu.push(left);
    }
    share(cpu);
    if let Some(context) = thread(cpu.current()).context() {
        context.switch_in();
    }
}
