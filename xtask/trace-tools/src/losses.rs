//! What did not come of the events: overwritten before they could be sent, or in frames that broke.

use std::collections::BTreeMap;

use trace::Stream;
use trace::frame::Header;

/// The events of one CPU and stream so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// The number that the next one should have.
    next: u64,
    came: u64,
    lost: u64,
    /// How many of those were in frames that broke.
    torn: u64,
    /// How many frames of whomever had come broken before its last one.
    broken: usize,
}

/// How many events came and how many did not, told by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Losses(BTreeMap<(u8, Stream), Count>);

impl Losses {
    /// Takes in a frame of so many records, before which so many frames came broken. Whose those
    /// were is not known: what is missing between two frames with a broken one between them is
    /// taken to have been in that.
    pub fn add(&mut self, header: &Header, records: u64, broken: usize) {
        let count = self.0.entry((header.cpu, header.stream)).or_default();
        // A lower number than the next is that of a machine that was started anew.
        let gap = header.first.saturating_sub(count.next);
        count.lost += gap;
        if broken > count.broken {
            count.torn += gap;
        }
        count.broken = broken;
        count.came += records;
        count.next = header.first + records;
    }

    /// All that did not come.
    pub fn total(&self) -> u64 {
        self.0.values().map(|count| count.lost).sum()
    }

    /// What did not come because frames broke; the rest was overwritten before it could be sent.
    pub fn torn(&self) -> u64 {
        self.0.values().map(|count| count.torn).sum()
    }

    /// What did not come of this stream.
    pub fn of(&self, stream: Stream) -> u64 {
        let mine = self.0.iter().filter(|((_, of), _)| *of == stream);
        mine.map(|(_, count)| count.lost).sum()
    }

    /// Of each CPU, how many came and how many did not.
    pub fn by_cpu(&self) -> BTreeMap<u8, (u64, u64)> {
        let mut cpus = BTreeMap::new();
        for ((cpu, _), count) in &self.0 {
            let (came, lost) = cpus.entry(*cpu).or_insert((0, 0));
            *came += count.came;
            *lost += count.lost;
        }
        cpus
    }
}
