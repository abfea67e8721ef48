//! Guests' lines put together again, where others' output has cut them on the console.
//!
//! The hypervisor prints a guest's line as soon as a piece of it is there: behind `vm0|` its start,
//! and what comes after something else behind `vm0+`. Where more may come there is a backslash.
//! That alone says nothing, since a guest may have written it: its line is complete if its next one
//! begins with `vm0|`.

use std::collections::BTreeMap;

/// Longer lines are not kept, so that a guest that never ends its line cannot fill memory. In
/// bytes.
const LONGEST: usize = 64 * 1024;

/// Joins the lines of one console.
#[derive(Debug, Default)]
pub struct Joiner {
    /// What each guest has said of a line that may go on: its text, backslash included.
    held: BTreeMap<String, String>,
}

impl Joiner {
    /// Takes the next line of the console, and returns the lines that are complete by it, each as
    /// it was said. What goes on where no start was is returned as it stands.
    pub fn feed(&mut self, line: &str) -> Vec<String> {
        let Some(part) = Part::of(line) else {
            return vec![line.to_owned()];
        };
        let before = self.held.remove(part.vm);
        let (mut complete, text) = match (before, part.goes_on) {
            (Some(start), true) => (Vec::new(), joined(&start, part.text)),
            (None, true) => return vec![line.to_owned()],
            (before, false) => {
                let whole = before.map(|text| whole(part.vm, &text));
                (whole.into_iter().collect(), part.text.to_owned())
            }
        };
        if text.ends_with('\\') && text.len() < LONGEST {
            self.held.insert(part.vm.to_owned(), text);
        } else {
            complete.push(whole(part.vm, &text));
        }
        complete
    }

    /// What has been said of the line that grows on the console, of which `start` is there.
    pub fn partial(&self, start: &str) -> String {
        let grown = Part::of(start)
            .filter(|part| part.goes_on)
            .and_then(|part| {
                let before = self.held.get(part.vm)?;
                Some(whole(part.vm, &joined(before, part.text)))
            });
        grown.unwrap_or_else(|| start.to_owned())
    }

    /// The lines of which nothing more will come.
    pub fn finish(&mut self) -> Vec<String> {
        let held = std::mem::take(&mut self.held);
        held.iter().map(|(vm, text)| whole(vm, text)).collect()
    }
}

/// A line of the console that is a guest's line or part of one.
struct Part<'a> {
    vm: &'a str,
    /// Whether the line began on another line of the console.
    goes_on: bool,
    text: &'a str,
}

impl<'a> Part<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (vm, rest) = line.split_at(line.find(['|', '+'])?);
        let text = &rest[1..];
        super::is_vm(Some(vm)).then(|| Self {
            vm,
            goes_on: rest.starts_with('+'),
            text: text.strip_prefix(' ').unwrap_or(text),
        })
    }
}

fn joined(start: &str, rest: &str) -> String {
    format!("{}{rest}", start.strip_suffix('\\').unwrap_or(start))
}

fn whole(vm: &str, text: &str) -> String {
    format!("{vm}| {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(console: &[&str]) -> Vec<String> {
        let mut joiner = Joiner::default();
        let mut said: Vec<_> = console.iter().flat_map(|line| joiner.feed(line)).collect();
        said.extend(joiner.finish());
        said
    }

    #[test]
    fn a_line_that_was_cut_is_one() {
        let console = [
            r"vm0| verd\",
            "vm1| hello",
            r"vm0+ ict: \",
            "tessera: hello",
            r"vm1| sec\",
            "vm0+ passed",
            "vm1+ ond",
        ];
        let expected = [
            "vm1| hello",
            "tessera: hello",
            "vm0| verdict: passed",
            "vm1| second",
        ];
        assert_eq!(said(&console), expected);
    }

    #[test]
    fn a_backslash_of_the_guests_own_joins_nothing() {
        let console = [
            r"vm0| a \",
            "tessera: hello",
            "vm0| b",
            r"vm0| c\\",
            "vm0+ d",
        ];
        let expected = ["tessera: hello", r"vm0| a \", "vm0| b", r"vm0| c\d"];
        assert_eq!(said(&console), expected);
        assert_eq!(said(&[r"vm0| a\"]), [r"vm0| a\"]);
    }

    #[test]
    fn what_is_no_guests_line_stays() {
        let console = [
            "tessera: a|b",
            "vm| x",
            "vmx+ y",
            "+ z",
            "",
            "vm0+ no start",
        ];
        assert_eq!(said(&console), console);
    }

    #[test]
    fn a_line_that_grows_has_its_start() {
        let mut joiner = Joiner::default();
        joiner.feed(r"vm0| / \");
        assert_eq!(joiner.partial("vm0+ # "), "vm0| / # ");
        assert_eq!(joiner.partial("vm0| # "), "vm0| # ");
        assert_eq!(joiner.partial("vm1+ # "), "vm1+ # ");
        assert_eq!(joiner.partial("tess"), "tess");
    }

    #[test]
    fn a_line_without_end_does_not_fill_memory() {
        let mut joiner = Joiner::default();
        joiner.feed(r"vm0| \");
        let piece = format!("vm0+ {}\\", "x".repeat(1000));
        let complete: Vec<_> = (0..100).flat_map(|_| joiner.feed(&piece)).collect();
        assert!(complete[0].len() < LONGEST + 1100, "{}", complete[0].len());
        assert!(complete[1..].iter().all(|rest| *rest == piece));
    }
}
