//! The queue of bytes that wait to be sent over the console, whose line may be slow.
//!
//! A UART takes some bytes at once and then, at 115200 baud, one in 87 us. So a speaker puts its
//! bytes into the queue and goes on; the UART is given what it takes without waiting, then and
//! later.

pub mod layout;
pub mod printable;

use core::fmt;

/// Where the bytes go.
pub trait Line {
    /// Takes a byte, unless there is no room for it now.
    fn take(&mut self, byte: u8) -> bool;
}

/// Bytes that wait, in the order in which they go. `N` is a power of two.
pub struct Queue<const N: usize> {
    bytes: [u8; N],
    /// How many bytes have been put into it, and how many have left it, ever.
    put: u64,
    sent: u64,
}

impl<const N: usize> Queue<N> {
    const MASK: u64 = {
        assert!(N.is_power_of_two());
        N as u64 - 1
    };

    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            put: 0,
            sent: 0,
        }
    }

    /// Puts a byte at the end. Where the queue is full, `line` is waited for: only for who may not
    /// wait otherwise, or sees to it that there is room.
    pub fn put(&mut self, byte: u8, line: &mut impl Line) {
        while self.put - self.sent == N as u64 {
            self.send(line);
            core::hint::spin_loop();
        }
        self.bytes[(self.put & Self::MASK) as usize] = byte;
        self.put += 1;
    }

    /// Gives `line` what it takes now; says whether that was all.
    pub fn send(&mut self, line: &mut impl Line) -> bool {
        while self.sent < self.put {
            if !line.take(self.bytes[(self.sent & Self::MASK) as usize]) {
                return false;
            }
            self.sent += 1;
        }
        true
    }

    /// Whether more than half of it waits.
    pub const fn is_behind(&self) -> bool {
        self.put - self.sent > N as u64 / 2
    }

    /// How many bytes have been put into it so far: the place of what comes next.
    pub const fn end(&self) -> u64 {
        self.put
    }

    /// How many bytes have left it so far: what ended there, or before, is sent.
    pub const fn sent(&self) -> u64 {
        self.sent
    }
}

impl<const N: usize> Default for Queue<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes text to a queue, with line ends as terminals want them.
pub struct Text<'q, L, const N: usize> {
    /// Where it goes.
    pub queue: &'q mut Queue<N>,
    /// Where that goes.
    pub line: &'q mut L,
}

impl<L: Line, const N: usize> fmt::Write for Text<'_, L, N> {
    /// Never fails.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.queue.put(b'\r', self.line);
            }
            self.queue.put(byte, self.line);
        }
        Ok(())
    }
}

/// When a UART with a FIFO has room, if its line has this speed: for lines that are faster than
/// they are to seem.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    ticks_per_byte: u64,
    /// When all that was taken so far will have been sent.
    empty_at: u64,
}

impl Pace {
    /// Bytes in the FIFO of a PL011 (of revision r1p4 and before).
    const FIFO: u64 = 16;

    /// `baud` bits a second, ten to a byte, by a counter with `frequency` ticks a second.
    pub const fn new(baud: u64, frequency: u64) -> Self {
        let baud = if baud == 0 { 1 } else { baud };
        Self {
            ticks_per_byte: frequency * 10 / baud,
            empty_at: 0,
        }
    }

    /// Whether there is room for a byte at the time `now`, which is then taken.
    pub fn take(&mut self, now: u64) -> bool {
        let empty_at = self.empty_at.max(now);
        let room = empty_at - now <= (Self::FIFO - 1) * self.ticks_per_byte;
        if room {
            self.empty_at = empty_at + self.ticks_per_byte;
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    /// A UART with a FIFO of so many bytes, which is emptied by hand.
    #[derive(Default)]
    struct Fifo {
        depth: usize,
        held: Vec<u8>,
        sent: Vec<u8>,
        refused: usize,
    }

    impl Fifo {
        fn with_depth(depth: usize) -> Self {
            Self {
                depth,
                ..Self::default()
            }
        }

        fn empty(&mut self) {
            self.sent.append(&mut self.held);
        }
    }

    impl Line for Fifo {
        fn take(&mut self, byte: u8) -> bool {
            let room = self.held.len() < self.depth;
            if room {
                self.held.push(byte);
            } else {
                self.refused += 1;
            }
            room
        }
    }

    fn say(queue: &mut Queue<64>, line: &mut Fifo, text: &str) {
        Text {
            queue: &mut *queue,
            line: &mut *line,
        }
        .write_str(text)
        .expect("it never fails");
        queue.send(line);
    }

    #[test]
    fn who_speaks_does_not_wait_for_the_line() {
        let (mut queue, mut line) = (Queue::new(), Fifo::with_depth(4));
        say(&mut queue, &mut line, "hello\n");
        say(&mut queue, &mut line, "world\n");
        // The line was asked until it was full, once for each that spoke.
        assert_eq!((line.held.len(), line.refused), (4, 2));
        while !queue.send(&mut line) {
            line.empty();
        }
        line.empty();
        assert_eq!(line.sent, b"hello\r\nworld\r\n");
        assert_eq!((queue.end(), queue.sent()), (14, 14));
    }

    #[test]
    fn a_queue_is_behind_when_more_than_half_of_it_waits() {
        let (mut queue, mut line) = (Queue::new(), Fifo::with_depth(0));
        say(&mut queue, &mut line, &"x".repeat(32));
        assert!(!queue.is_behind());
        say(&mut queue, &mut line, "x");
        assert!(queue.is_behind());
        line.depth = 1;
        queue.send(&mut line);
        assert!(!queue.is_behind());
    }

    #[test]
    fn what_does_not_fit_waits_for_the_line_and_nothing_is_lost() {
        /// A FIFO that has sent a byte whenever it was asked twice.
        struct Slow(Fifo, bool);
        impl Line for Slow {
            fn take(&mut self, byte: u8) -> bool {
                self.1 = !self.1;
                if self.1 {
                    return false;
                }
                self.0.empty();
                self.0.take(byte)
            }
        }
        let (mut queue, mut line) = (Queue::<8>::new(), Slow(Fifo::with_depth(1), false));
        let text: Vec<u8> = (0..100).collect();
        for &byte in &text {
            queue.put(byte, &mut line);
        }
        while !queue.send(&mut line) {}
        line.0.empty();
        assert_eq!(line.0.sent, text);
    }

    #[test]
    fn a_pace_is_that_of_the_line_behind_a_fifo() {
        // 100 ticks a byte.
        let mut pace = Pace::new(115_200, 1_152_000);
        let taken = (0..100).take_while(|_| pace.take(1000)).count();
        assert_eq!(taken, 16);
        assert!(!pace.take(1099) && pace.take(1100) && !pace.take(1101));
        let taken = (1100..1100 + 100_000).filter(|&now| pace.take(now)).count();
        assert_eq!(taken, 999);
        // After a pause the FIFO is empty again, and no more.
        let taken = (0..100).take_while(|_| pace.take(1_000_000)).count();
        assert_eq!(taken, 16);
    }
}
