//! Whole numbers in as few bytes as they need (LEB128: seven bits a byte, the lowest first).

/// Most bytes of a number: 70 bits.
pub(crate) const LONGEST: usize = 10;

/// Bits of the largest number that is written.
const BITS: usize = 7 * LONGEST;

/// How many bytes `value` takes.
pub(crate) const fn length(value: u128) -> usize {
    let bits = BITS.saturating_sub(value.leading_zeros() as usize - (128 - BITS));
    let bytes = bits.div_ceil(7);
    if bytes == 0 { 1 } else { bytes }
}

/// Writes `value`, of at most 70 bits, at the start of `to`; returns the number of bytes, or `None`
/// if it does not fit.
pub(crate) fn write(mut value: u128, to: &mut [u8]) -> Option<usize> {
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
pub(crate) fn read(from: &mut &[u8]) -> Option<u128> {
    let mut value = 0;
    for index in 0..LONGEST {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u128::from(byte & 0x7f) << (7 * index);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_as_many_bytes_as_it_says() {
        for shift in 0..66 {
            for value in [(1u128 << shift) - 1, 1 << shift] {
                let mut bytes = [0; LONGEST];
                let written = write(value, &mut bytes);
                assert_eq!(written, Some(length(value)), "{value:#x}");
                assert_eq!(read(&mut &bytes[..]), Some(value));
            }
        }
    }

    #[test]
    fn differences_of_both_signs_are_small() {
        for (difference, folded) in [(0, 0), (u64::MAX, 1), (1, 2), (1 << 63, u64::MAX)] {
            assert_eq!(fold(difference), folded);
            assert_eq!(unfold(folded), difference);
        }
    }
}
