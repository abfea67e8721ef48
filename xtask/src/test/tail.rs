//! The end of what a command printed, which is shown where it failed.

use std::collections::VecDeque;
use std::fmt;

/// How many lines it has. The whole is in the log of the step.
const LINES: usize = 200;

/// The last lines so far.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<String>);

impl Tail {
    /// Adds a line, in place of the first one where there are enough.
    pub(super) fn add(&mut self, line: String) {
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_end() {
        let mut tail = Tail::default();
        assert_eq!(tail.to_string(), "");
        tail.add("a".to_owned());
        tail.add("b".to_owned());
        assert_eq!(tail.to_string(), "a\nb\n");
        (0..LINES).for_each(|number| tail.add(number.to_string()));
        let text = tail.to_string();
        assert!(text.starts_with("0\n1\n") && text.ends_with(&format!("\n{}\n", LINES - 1)));
    }
}
