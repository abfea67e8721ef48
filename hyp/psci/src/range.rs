//! The memory that a call works on.

use stage2::{Ipa, IpaRange};

/// The most memory that one call works on, in bytes: it bounds the time the call takes.
pub const MAX_SIZE: u64 = 2 << 20;

/// The range of the `size` bytes from `ipa` on, if one call may work on it: whole pages, at least
/// one, at most [`MAX_SIZE`].
pub(crate) fn bounded_range(ipa: u64, size: u64) -> Option<IpaRange> {
    let end = ipa.checked_add(size).filter(|_| size <= MAX_SIZE)?;
    IpaRange::new(Ipa::new(ipa), Ipa::new(end))
}
