//! The queues of one CPU: threads that are ready to run, and threads that sleep.
//!
//! Threads are named by their index in the thread table, below `N`. Both queues hold an index at
//! most once and have a place for every index, so adding cannot fail. They are plain data: the
//! scheduler, which shares them, keeps them behind a lock.

/// A thread's place in the thread table.
pub type ThreadIndex = u16;

/// Marks the end of a list; no thread has this index.
const NONE: ThreadIndex = ThreadIndex::MAX;

/// Threads in the order in which they became ready.
///
/// A list through an array of links, one for each thread of the table.
#[derive(Debug)]
pub struct ReadyQueue<const N: usize> {
    next: [ThreadIndex; N],
    head: ThreadIndex,
    tail: ThreadIndex,
    length: usize,
}

impl<const N: usize> ReadyQueue<N> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            next: [NONE; N],
            head: NONE,
            tail: NONE,
            length: 0,
        }
    }

    /// How many threads are in the queue.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether no thread is in the queue.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Puts `thread`, which must not be in the queue, behind all others.
    pub fn push(&mut self, thread: ThreadIndex) {
        let Some(link) = self.next.get_mut(usize::from(thread)) else {
            debug_assert!(false, "thread {thread} is outside the table");
            return;
        };
        *link = NONE;
        match self.next.get_mut(usize::from(self.tail)) {
            Some(last) => *last = thread,
            None => self.head = thread,
        }
        self.tail = thread;
        self.length += 1;
    }

    /// Takes the thread that has waited longest.
    pub fn pop(&mut self) -> Option<ThreadIndex> {
        let first = self.head;
        self.head = *self.next.get(usize::from(first))?;
        if self.head == NONE {
            self.tail = NONE;
        }
        self.length -= 1;
        Some(first)
    }
}

impl<const N: usize> Default for ReadyQueue<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Threads that wait for the counter to reach a deadline.
///
/// The earliest deadline is kept, since it is looked at far more often than threads go to sleep.
/// Deadlines are in ticks of the generic timer's counter.
#[derive(Debug)]
pub struct Sleepers<const N: usize> {
    deadlines: [u64; N],
    earliest: u64,
}

impl<const N: usize> Sleepers<N> {
    /// The deadline of a thread that does not sleep: the counter never gets there.
    const AWAKE: u64 = u64::MAX;

    /// Nobody sleeps.
    pub const fn new() -> Self {
        Self {
            deadlines: [Self::AWAKE; N],
            earliest: Self::AWAKE,
        }
    }

    /// Puts `thread` to sleep until `deadline`, in place of a deadline it had.
    pub fn insert(&mut self, thread: ThreadIndex, deadline: u64) {
        let Some(slot) = self.deadlines.get_mut(usize::from(thread)) else {
            debug_assert!(false, "thread {thread} is outside the table");
            return;
        };
        if *slot != deadline {
            *slot = deadline;
            self.earliest = self.deadlines.iter().copied().min().unwrap_or(Self::AWAKE);
        }
    }

    /// Forgets the deadline of `thread`, if it has one.
    pub fn remove(&mut self, thread: ThreadIndex) {
        self.insert(thread, Self::AWAKE);
    }

    /// The earliest deadline, if any thread sleeps.
    pub fn earliest(&self) -> Option<u64> {
        (self.earliest != Self::AWAKE).then_some(self.earliest)
    }

    /// Takes a thread whose deadline is not after `now`, the earliest first.
    pub fn pop_expired(&mut self, now: u64) -> Option<ThreadIndex> {
        if self.earliest == Self::AWAKE || self.earliest > now {
            return None;
        }
        let earliest = self.earliest;
        let index = self
            .deadlines
            .iter()
            .position(|&deadline| deadline == earliest)?;
        let thread = index as ThreadIndex;
        self.remove(thread);
        Some(thread)
    }
}

impl<const N: usize> Default for Sleepers<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn ready_threads_leave_in_the_order_they_came() {
        let mut queue = ReadyQueue::<4>::new();
        let mut model = VecDeque::new();
        for round in 0..20u16 {
            for thread in 0..4 {
                if (round >> (thread % 3)) & 1 == 1 && !model.contains(&thread) {
                    queue.push(thread);
                    model.push_back(thread);
                }
            }
            assert_eq!(queue.len(), model.len());
            assert_eq!(queue.pop(), model.pop_front());
            assert_eq!(queue.is_empty(), model.is_empty());
        }
        while let Some(thread) = model.pop_front() {
            assert_eq!(queue.pop(), Some(thread));
        }
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn sleepers_wake_in_the_order_of_their_deadlines() {
        let mut sleepers = Sleepers::<4>::new();
        assert_eq!(sleepers.earliest(), None);
        sleepers.insert(0, 30);
        sleepers.insert(1, 10);
        sleepers.insert(2, 20);
        sleepers.insert(3, 10);
        assert_eq!(sleepers.earliest(), Some(10));
        assert_eq!(sleepers.pop_expired(9), None);
        assert_eq!(sleepers.pop_expired(10), Some(1));
        assert_eq!(sleepers.pop_expired(25), Some(3));
        assert_eq!(sleepers.pop_expired(25), Some(2));
        assert_eq!(sleepers.pop_expired(25), None);
        assert_eq!(sleepers.earliest(), Some(30));
    }

    #[test]
    fn a_thread_woken_early_has_no_deadline_left() {
        let mut sleepers = Sleepers::<2>::new();
        sleepers.insert(0, 5);
        sleepers.insert(1, 7);
        sleepers.remove(0);
        assert_eq!(sleepers.earliest(), Some(7));
        assert_eq!(sleepers.pop_expired(100), Some(1));
        assert_eq!(sleepers.pop_expired(100), None);
    }
}
