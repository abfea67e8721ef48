//! The guest's boot arguments: `key=value` pairs from `/chosen/bootargs`, separated by spaces.
//!
//! A guest is a test, so an argument it does not know, or can't read, is an error: a run that silently
//! tested something else would pass for the wrong reason.

use core::fmt::{self, Display, Formatter};

/// What is wrong with the arguments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArgsError<'a> {
    /// Not one of the guest's arguments, or not of the form `key=value`.
    Unknown {
        /// The argument as written.
        argument: &'a str,
        /// The keys that this guest knows.
        known: &'a [&'a str],
    },
    /// The value is not a decimal number.
    NotANumber {
        /// Its key.
        key: &'a str,
        /// Its value as written.
        value: &'a str,
    },
}

impl Display for ArgsError<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { argument, known } => {
                write!(f, "unknown guest argument `{argument}`; this guest takes")?;
                for key in *known {
                    write!(f, " {key}=...")?;
                }
                Ok(())
            }
            Self::NotANumber { key, value } => {
                write!(
                    f,
                    "guest argument {key}={value}: {value} is no number; give a decimal one"
                )
            }
        }
    }
}

/// Checked arguments: every one has a known key.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    text: &'a str,
}

impl<'a> Args<'a> {
    /// Takes `text` apart; fails at the first argument whose key is not in `known`.
    pub fn new(text: &'a str, known: &'a [&'a str]) -> Result<Self, ArgsError<'a>> {
        for argument in text.split_ascii_whitespace() {
            match argument.split_once('=') {
                Some((key, _)) if known.contains(&key) => (),
                _ => return Err(ArgsError::Unknown { argument, known }),
            }
        }
        Ok(Self { text })
    }

    /// The value of `key`, the last one if it was given more than once.
    pub fn value(&self, key: &str) -> Option<&'a str> {
        self.text
            .split_ascii_whitespace()
            .rev()
            .filter_map(|argument| argument.split_once('='))
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The value of `key` as a decimal number, `default` if it was not given.
    pub fn number(&self, key: &'a str, default: u64) -> Result<u64, ArgsError<'a>> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| ArgsError::NotANumber { key, value }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["seconds", "seed"];

    #[test]
    fn reads_numbers_and_defaults() {
        let args = Args::new("  seconds=5 seed=1 seed=2", KNOWN).unwrap();
        assert_eq!(args.number("seconds", 2), Ok(5));
        assert_eq!(args.number("seed", 0), Ok(2), "the last one counts");
        assert_eq!(Args::new("", KNOWN).unwrap().number("seconds", 2), Ok(2));
    }

    #[test]
    fn names_what_it_does_not_know() {
        for text in ["second=5", "seed=1 quick", "=3"] {
            let error = Args::new(text, KNOWN).err().unwrap().to_string();
            assert!(
                error.contains("unknown") && error.contains("seconds="),
                "{error}"
            );
        }
    }

    #[test]
    fn names_what_it_cannot_read() {
        let args = Args::new("seconds=2s", KNOWN).unwrap();
        let error = args.number("seconds", 2).unwrap_err();
        assert_eq!(
            error,
            ArgsError::NotANumber {
                key: "seconds",
                value: "2s"
            }
        );
    }
}
