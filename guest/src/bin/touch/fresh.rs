//! Memory that nobody has touched.

use guest::span::Span;

pub(crate) const BLOCK_SIZE: u64 = 2 << 20;

/// Free memory, taken from its start.
pub(crate) struct Fresh(Span);

impl Fresh {
    /// The whole blocks of 2 MiB in `free`.
    pub(crate) fn new(free: Span) -> Self {
        Self(Span {
            start: free.start.next_multiple_of(BLOCK_SIZE),
            end: free.end & !(BLOCK_SIZE - 1),
        })
    }

    /// How much is left, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.0.size()
    }

    /// That many blocks of 2 MiB that nobody has touched.
    pub(crate) fn take(&mut self, blocks: u64) -> Span {
        let taken = Span::sized(self.0.start, blocks * BLOCK_SIZE);
        assert!(
            taken.end <= self.0.end,
            "touch needs at least 64 MiB of RAM"
        );
        self.0.start = taken.end;
        taken
    }
}
