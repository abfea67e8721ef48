//! How a vCPU waits for an interrupt: what it looks at before its thread is parked, and in which
//! order.
//!
//! Three kinds of things end a wait. Interrupts that others send or let through (a timer's
//! interrupt that another vCPU enables is one more timer to sleep for), asynchronous errors, and
//! the machine's stop wake the thread: the sender announces it first and then wakes, and a wake-up
//! that comes before the thread is parked is kept for it (`sched::park`). An error may be found by
//! the thread itself, as it leaves the CPU to park. The time that the guest named is looked at
//! again and again. The timers of the vCPU itself wake no thread once this one has left the CPU,
//! since their lines leave with its registers. So each must be seen before that: either it has
//! fired, which is an interrupt, or it runs, and the thread sleeps only as long. Timers are read
//! *before* the question whether there is an interrupt, so that one that fires in between is found
//! by the question. The other way round neither would find it.

/// The vCPU that waits, and its thread.
pub trait Waiter {
    /// Announces that the vCPU waits: from here on the sender of an interrupt wakes its thread.
    fn begin(&self);
    /// Whether its machine is to stop.
    fn is_stopping(&self) -> bool;
    /// When the next of its timers fires that runs and whose interrupt is let through, in ticks.
    fn next_timer(&self) -> Option<u64>;
    /// Whether there is an interrupt that ends the wait, those of timers that have fired included,
    /// or an error that the guest is to take.
    fn has_interrupt(&self) -> bool;
    /// The counter, in ticks.
    fn now(&self) -> u64;
    /// Waits until the thread is woken, or was since its last wait. May return for no reason.
    fn park(&self);
    /// As [`park`](Self::park), but not longer than until the counter reaches `deadline`.
    fn sleep_until(&self, deadline: u64);
}

/// Waits for an interrupt, also if the guest has masked it, and at the longest until the counter
/// reaches `end`.
pub fn for_interrupt(waiter: &impl Waiter, end: Option<u64>) {
    waiter.begin();
    loop {
        // First: see above.
        let timer = waiter.next_timer();
        if waiter.is_stopping()
            || waiter.has_interrupt()
            || end.is_some_and(|end| waiter.now() >= end)
        {
            return;
        }
        match timer.into_iter().chain(end).min() {
            Some(deadline) => waiter.sleep_until(deadline),
            None => waiter.park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::ParkState;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    /// More steps than a wait takes.
    const STEPS: usize = 24;

    /// What happens beside the wait.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The counter has come that far.
        Time(u64),
        /// Another vCPU's interrupt is pending.
        Interrupt,
        /// The machine is to stop.
        Stop,
        /// Who did one of these calls for attention.
        Call,
    }

    /// A vCPU on a CPU, at every step of which something may happen.
    struct Model {
        step: Cell<usize>,
        /// What happens, before which step.
        events: RefCell<VecDeque<(usize, Event)>>,
        /// When the two timers fire.
        timers: [Option<u64>; 2],
        thread: ParkState,
        time: Cell<u64>,
        interrupt: Cell<bool>,
        stopping: Cell<bool>,
        in_guest: Cell<bool>,
    }

    impl Model {
        fn new(timers: [Option<u64>; 2], events: &[(usize, Event)]) -> Self {
            Self {
                step: Cell::new(0),
                events: RefCell::new(events.iter().copied().collect()),
                timers,
                thread: ParkState::new(),
                time: Cell::new(0),
                interrupt: Cell::new(false),
                stopping: Cell::new(false),
                in_guest: Cell::new(true),
            }
        }

        /// Lets happen what is due, until the thread is to be queued again.
        fn step(&self) -> bool {
            let step = self.step.replace(self.step.get() + 1);
            assert!(step < 10 * STEPS, "the wait does not end");
            let mut events = self.events.borrow_mut();
            while events.front().is_some_and(|&(before, _)| before <= step) {
                let woken = events
                    .pop_front()
                    .is_some_and(|(_, event)| self.happen(event));
                if woken {
                    return true;
                }
            }
            false
        }

        /// Whether the thread is to be queued again.
        fn happen(&self, event: Event) -> bool {
            match event {
                Event::Time(time) => self.time.set(time),
                Event::Interrupt => self.interrupt.set(true),
                Event::Stop => self.stopping.set(true),
                // Else its CPU is interrupted, which it is told of when it enters the guest.
                Event::Call => return !self.in_guest.get() && self.thread.wake(),
            }
            false
        }

        fn fired(&self) -> bool {
            self.timers
                .iter()
                .flatten()
                .any(|&at| self.time.get() >= at)
        }

        /// Leaves the CPU until the thread is woken, or the time has come.
        fn leave(&self, deadline: Option<u64>) {
            self.step();
            if !self.thread.prepare() {
                return;
            }
            self.step();
            if !self.thread.commit() {
                return;
            }
            while !self.step() {
                if deadline.is_some_and(|deadline| self.time.get() >= deadline) {
                    assert!(self.thread.wake());
                    return;
                }
                if self.events.borrow().is_empty() {
                    let deadline = deadline.expect("nobody wakes the thread any more");
                    self.time.set(deadline);
                }
            }
        }
    }

    impl Waiter for Model {
        fn begin(&self) {
            self.step();
            self.in_guest.set(false);
            self.step();
        }
        fn is_stopping(&self) -> bool {
            self.step();
            self.stopping.get()
        }
        fn next_timer(&self) -> Option<u64> {
            let runs = |at: &u64| {
                self.step();
                self.time.get() < *at
            };
            self.timers.into_iter().flatten().filter(runs).min()
        }
        fn has_interrupt(&self) -> bool {
            self.step();
            let interrupt = self.interrupt.get();
            self.step();
            interrupt || self.fired()
        }
        fn now(&self) -> u64 {
            self.step();
            self.time.get()
        }
        fn park(&self) {
            self.leave(None);
        }
        fn sleep_until(&self, deadline: u64) {
            self.leave(Some(deadline));
        }
    }

    /// Each two of these at all steps, one not before the other.
    fn at_all_steps(first: Event, second: Event) -> impl Iterator<Item = Vec<(usize, Event)>> {
        let early = (0..STEPS).flat_map(|early| (early..STEPS).map(move |late| (early, late)));
        early.map(move |(early, late)| vec![(early, first), (late, second)])
    }

    /// What happens may include the time's coming to 10, at any step.
    fn with_time(events: Vec<(usize, Event)>) -> impl Iterator<Item = Vec<(usize, Event)>> {
        (0..=STEPS).map(move |step| {
            let mut events = events.clone();
            if step < STEPS {
                let place = events.partition_point(|&(before, _)| before <= step);
                events.insert(place, (step, Event::Time(10)));
            }
            events
        })
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes when interpreted")]
    fn whatever_comes_while_the_thread_is_about_to_park_ends_the_wait() {
        let calls = [Event::Interrupt, Event::Stop]
            .into_iter()
            .flat_map(|what| at_all_steps(what, Event::Call));
        let cases: Vec<_> = calls.chain([Vec::new()]).flat_map(with_time).collect();
        let timers = [
            [None, None],
            [Some(10), None],
            [None, Some(10)],
            [Some(20), Some(10)],
        ];
        let settings = timers
            .iter()
            .flat_map(|&timers| [None, Some(10), Some(20)].map(|end| (timers, end)));
        let waits = settings.flat_map(|setting| cases.iter().map(move |events| (setting, events)));
        for ((timers, end), events) in waits {
            let called = events.iter().any(|(_, event)| matches!(event, Event::Call));
            let due = timers.into_iter().flatten().chain(end).min();
            if !called && due.is_none() {
                // A guest that waits for nothing does so for ever.
                continue;
            }
            let model = Model::new(timers, events);
            for_interrupt(&model, end);
            let is_over = end.is_some_and(|end| model.time.get() >= end);
            let has_reason = model.interrupt.get() || model.stopping.get() || model.fired();
            assert!(has_reason || is_over, "{timers:?}, {end:?}, {events:?}");
            let late = due.is_some_and(|due| model.time.get() > due.max(10));
            assert!(!late, "overslept: {timers:?}, {end:?}, {events:?}");
        }
    }
}
