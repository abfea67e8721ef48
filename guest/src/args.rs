//! The guest's boot arguments: `key=value` pairs from `/chosen/bootargs`, separated by spaces.
//!
//! A guest is a test, so an argument it does not know, or can't read, is an error: a run that
//! silently tested something else would pass for the wrong reason.

use core::fmt::{self, Display, Formatter};

use crate::catalogue::{Argument, Guest, Takes};

/// What is wrong with the arguments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArgsError<'a> {
    /// Not one of the guest's arguments, or not of the form `key=value`.
    Unknown {
        /// The argument as written.
        argument: &'a str,
        /// The guest.
        guest: &'a Guest,
    },
    /// The value is not one that the argument takes.
    Value {
        /// The argument.
        argument: &'a Argument,
        /// Its value as written.
        value: &'a str,
    },
}

impl Display for ArgsError<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { argument, guest } => {
                write!(
                    f,
                    "unknown guest argument `{argument}`; {} takes",
                    guest.name
                )?;
                if guest.arguments.is_empty() {
                    write!(f, " none")?;
                }
                for known in guest.arguments {
                    write!(f, " {known}")?;
                }
                Ok(())
            }
            Self::Value { argument, value } => {
                let key = argument.key;
                write!(f, "guest argument `{key}={value}`: expected {argument}")
            }
        }
    }
}

impl Display for Argument {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.key)?;
        match self.takes {
            Takes::Number => write!(f, "NUMBER"),
            Takes::OneOf(words) => words.iter().enumerate().try_for_each(|(index, word)| {
                let bar = if index == 0 { "" } else { "|" };
                write!(f, "{bar}{word}")
            }),
        }
    }
}

impl Argument {
    fn allows(&self, value: &str) -> bool {
        match self.takes {
            Takes::Number => value.parse::<u64>().is_ok(),
            Takes::OneOf(words) => words.contains(&value),
        }
    }
}

/// Checked arguments: the guest knows every key, and takes every value.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    text: &'a str,
}

impl<'a> Args<'a> {
    /// Takes `text` apart.
    ///
    /// # Errors
    ///
    /// The first argument that `guest` does not take.
    pub fn new(text: &'a str, guest: &'static Guest) -> Result<Self, ArgsError<'a>> {
        for argument in text.split_ascii_whitespace() {
            let unknown = ArgsError::Unknown { argument, guest };
            let (key, value) = argument.split_once('=').ok_or(unknown)?;
            let mut known = guest.arguments.iter();
            let argument = known.find(|known| known.key == key).ok_or(unknown)?;
            if !argument.allows(value) {
                return Err(ArgsError::Value { argument, value });
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

    /// The value of `key`, which takes numbers; `default` if it was not given.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        let value = self.value(key).and_then(|value| value.parse().ok());
        value.unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{HELLO, STRESS, TOUCH};

    fn error(text: &str, guest: &'static Guest) -> String {
        Args::new(text, guest).expect_err(text).to_string()
    }

    #[test]
    fn reads_numbers_and_defaults() {
        let args = Args::new("  seconds=5 seed=1 seed=2", &STRESS).unwrap();
        assert_eq!(args.number("seconds", 2), 5);
        assert_eq!(args.number("seed", 0), 2, "the last one counts");
        assert_eq!(Args::new("", &STRESS).unwrap().number("seconds", 2), 2);
    }

    #[test]
    fn names_what_it_does_not_know() {
        for text in ["second=5", "seed=1 quick", "=3"] {
            let error = error(text, &STRESS);
            assert!(
                error.contains("unknown")
                    && error.ends_with("stress takes seconds=NUMBER seed=NUMBER"),
                "{error}"
            );
        }
        assert!(error("x=1", &TOUCH).ends_with("touch takes none"));
    }

    #[test]
    fn names_what_it_cannot_read_with_what_it_could() {
        assert_eq!(
            error("seconds=2s", &STRESS),
            "guest argument `seconds=2s`: expected seconds=NUMBER"
        );
        let error = error("mode=hallo", &HELLO);
        assert!(
            error.starts_with("guest argument `mode=hallo`: expected mode=hello|"),
            "{error}"
        );
    }
}
