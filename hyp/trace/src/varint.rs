//! Whole numbers in as few bytes as they need (LEB128: seven bits a byte, the lowest first).

/// Most bytes of a number.
pub(crate) const LONGEST: usize = 10;

/// Writes `value` at the start of `to`; returns the number of bytes, or `None` if it does not fit.
pub(crate) fn write(mut value: u64, to: &mut [u8]) -> Option<usize> {
    for (index, byte) in to.iter_mut().take(LONGEST).enumerate() {
        *byte = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 {
            return Some(index + 1);
        }
        *byte |= 0x80;
    }
    None
}

/// Takes a number off the start of `from`; `None` if there is none.
pub(crate) fn read(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for index in 0..LONGEST {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A difference as a number that is small if the difference is, whatever its sign.
pub(crate) const fn fold(difference: u64) -> u64 {
    difference << 1 ^ (difference as i64 >> 63) as u64
}

/// The difference again.
pub(crate) const fn unfold(folded: u64) -> u64 {
    folded >> 1 ^ (folded & 1).wrapping_neg()
}
