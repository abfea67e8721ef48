//! Memory sizes as a person writes them on a command line: a number and a unit.
//!
//! Invariant: a [`Size`] is never zero, and it always has a spelling with a unit that QEMU and the
//! hypervisor's boot arguments both read alike (QEMU takes a bare number for MiB, others for bytes,
//! which is why a bare number is refused here).

use std::fmt;
use std::str::FromStr;

/// Bytes of a page, of which there are only whole ones: the hypervisor maps no less.
const PAGE: u64 = 4 << 10;

/// A memory size in bytes, at least a page and a whole number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// A size of `mebibytes` MiB, for sizes that stand in the source.
    ///
    /// # Panics
    ///
    /// When `mebibytes` is zero or does not fit.
    pub const fn mib(mebibytes: u64) -> Self {
        assert!(mebibytes > 0 && mebibytes < 1 << 40);
        Self(mebibytes << 20)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, 'G'), (20, 'M')] {
            if self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}K", self.0 >> 10)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HELP: &str = "write a number and K, M or G, such as 512M";
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match &text[digits.len()..] {
            "K" | "k" | "KiB" => 10,
            "M" | "m" | "MiB" => 20,
            "G" | "g" | "GiB" => 30,
            "" => return Err(format!("no unit: {HELP}")),
            unit => return Err(format!("unknown unit `{unit}`: {HELP}")),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| format!("`{digits}` is no number: {HELP}"))?;
        match number.checked_mul(1 << shift) {
            Some(0) => Err(format!("a size of nothing: {HELP}")),
            Some(bytes) if !bytes.is_multiple_of(PAGE) => {
                Err(format!("not a multiple of 4K, the size of a page: {HELP}"))
            }
            Some(bytes) => Ok(Self(bytes)),
            None => Err(format!("too large: {HELP}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<u64, String> {
        text.parse::<Size>().map(Size::bytes)
    }

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!(bytes("4K"), Ok(4 << 10));
        assert_eq!(bytes("128M"), Ok(128 << 20));
        assert_eq!(bytes("2g"), Ok(2 << 30));
        assert_eq!(bytes("3GiB"), Ok(3 << 30));
    }

    #[test]
    fn what_is_no_size_says_what_would_be() {
        for wrong in [
            "", "512", "M", "-1M", "1.5G", "1T", "0M", "1 M", "é", "1Mé", "2K", "131073K",
        ] {
            let error = bytes(wrong).expect_err(wrong);
            assert!(error.contains("such as 512M"), "{wrong}: {error}");
        }
    }

    #[test]
    fn overflow_is_an_error() {
        assert!(bytes("17179869184G").is_err());
        assert!(bytes("99999999999999999999G").is_err());
    }

    #[test]
    fn shown_in_the_largest_exact_unit() {
        for text in ["1G", "1536M", "4K", "1028K"] {
            assert_eq!(text.parse::<Size>().map(|s| s.to_string()), Ok(text.into()));
        }
        assert_eq!(Size::mib(1024).to_string(), "1G");
    }
}
