//! A half-open span of intermediate physical addresses.

use core::fmt::{self, Display, Formatter};

/// IPAs from `start` up to but not including `end`; empty when they are equal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
}

impl Span {
    /// The span of `size` bytes from `start`; cut off at the end of the address space.
    pub const fn sized(start: u64, size: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(size),
        }
    }

    /// Its length in bytes.
    pub const fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Whether `address` lies in it.
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// The smallest span of whole pages, blocks or whatever is `unit` bytes large (a power of two)
    /// that contains this one.
    pub const fn widened_to(&self, unit: u64) -> Self {
        Self {
            start: self.start & !(unit - 1),
            end: self.end.next_multiple_of(unit),
        }
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_its_start_and_not_its_end() {
        let span = Span::sized(0x1000, 0x1000);
        assert!(span.contains(0x1000) && span.contains(0x1fff));
        assert!(!span.contains(0xfff) && !span.contains(0x2000));
        assert_eq!(span.size(), 0x1000);
    }

    #[test]
    fn widens_to_whole_units() {
        let span = Span::sized(0x1234, 0x1000);
        assert_eq!(
            span.widened_to(0x1000),
            Span {
                start: 0x1000,
                end: 0x3000
            }
        );
        assert_eq!(
            span.widened_to(0x1000).widened_to(0x1000),
            span.widened_to(0x1000)
        );
    }
}
