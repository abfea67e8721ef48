//! What is piped into standard input, and typed to the guest that listens to the console.
//!
//! Guests get it as fast as they read, from the start, as they would on QEMU alone. But for those
//! whose drivers throw away what came before they were ready (Linux reads its UART's FIFO empty
//! when it opens it) typing begins at their first prompt. After its end nothing more comes, and the
//! guest goes on.

use std::io::{self, Read};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::terminal::Terminal;

/// What comes at the end of prompts of shells and boot loaders, blanks aside.
const ENDS_OF_PROMPTS: [char; 4] = ['#', '$', '>', '%'];

/// A guest that has spoken and is silent for so long waits for something, whatever its prompt looks
/// like.
const SILENCE: Duration = Duration::from_secs(10);

/// When typing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At once.
    AtOnce,
    /// At the guest's first prompt.
    AtPrompt,
}

/// The text that is typed, until it has begun to be.
#[derive(Debug)]
pub(crate) struct Script {
    /// What tells the thread that types to begin, until it has.
    begin: Option<Sender<()>>,
    /// The last start of a line that paused.
    paused: String,
    /// When something came over the console last, once a guest has spoken.
    last_word: Option<Instant>,
}

impl Script {
    /// Has what `source` gives typed, by a thread that ends with it. The terminal is what QEMU is
    /// given.
    ///
    /// # Errors
    ///
    /// When there is no pipe to be had.
    pub(crate) fn new(
        mut source: impl Read + Send + 'static,
        begin: Begin,
    ) -> Result<(Self, Terminal)> {
        let (reader, mut writer) = io::pipe().context("could not make a pipe to type into")?;
        let (sender, begun) = channel();
        thread::spawn(move || {
            if begun.recv().is_ok() {
                // What QEMU does not read, since it has ended, nobody needs; and what cannot be
                // read ends here.
                let _ = io::copy(&mut source, &mut writer);
            }
        });
        let mut script = Self {
            begin: Some(sender),
            paused: String::new(),
            last_word: None,
        };
        if begin == Begin::AtOnce {
            script.begin();
        }
        Ok((script, Terminal::Piped(reader)))
    }

    fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            // A thread that has ended has nothing to type.
            let _ = begin.send(());
        }
    }

    /// A line has come.
    pub(crate) fn line(&mut self, line: &str) {
        self.paused.clear();
        self.note(line);
        // A prompt that others' output has cut off.
        if line.strip_suffix('\\').is_some_and(is_prompt) {
            self.begin();
        }
    }

    /// A line has grown to `start`, and paused; called again and again while it does.
    pub(crate) fn paused(&mut self, start: &str) {
        let stands = start == self.paused;
        if !stands {
            self.note(start);
            start.clone_into(&mut self.paused);
        }
        let is_silent = self.last_word.is_some_and(|then| then.elapsed() > SILENCE);
        if is_silent || stands && is_prompt(start) {
            self.begin();
        }
    }

    /// Something has come.
    fn note(&mut self, line: &str) {
        if self.last_word.is_some() || is_guests(line) {
            self.last_word = Some(Instant::now());
        }
    }
}

/// Whether this is a guest's line, or the start of one.
fn is_guests(line: &str) -> bool {
    line.starts_with("vm") && line.contains(['|', '+'])
}

fn is_prompt(start: &str) -> bool {
    is_guests(start) && without_sequences(start).ends_with(ENDS_OF_PROMPTS)
}

/// `text` without blanks at its end, and without a terminal's control sequences there as the
/// hypervisor shows them: a shell may ask where the cursor is (`ESC [6n`) or choose colours.
fn without_sequences(text: &str) -> &str {
    let text = text.trim_end();
    let is_parameter = |c: char| c.is_ascii_digit() || ";?".contains(c);
    let before = text
        .strip_suffix(|c: char| c.is_ascii_alphabetic())
        .and_then(|rest| rest.trim_end_matches(is_parameter).strip_suffix("\\u{1b}["));
    before.map_or(text, without_sequences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Verdict;
    use crate::run::{Outcome, Screen, run};
    use std::process::Command;

    struct Console {
        script: Script,
        lines: Vec<String>,
    }

    impl Screen for Console {
        fn line(&mut self, line: &str) {
            self.script.line(line);
            self.lines.push(line.to_owned());
        }

        fn partial(&mut self, start: &str) {
            self.script.paused(start);
        }
    }

    /// Runs a shell script in QEMU's place, with this text piped in.
    fn stand_in(shell: &str, text: &'static str, begin: Begin) -> Vec<String> {
        let (script, terminal) = Script::new(text.as_bytes(), begin).expect("a pipe");
        let mut console = Console {
            script,
            lines: Vec::new(),
        };
        let mut command = Command::new("sh");
        command.args(["-c", shell]);
        let limit = Some(Duration::from_secs(60));
        let outcome = run(command, limit, None, &terminal, &mut console).expect("a shell");
        assert_eq!(outcome, Outcome::Ended(Verdict::Silent));
        console.lines
    }

    /// A guest that loses what comes before its prompt, reads two lines, and ends after all input
    /// has.
    const SHELL: &str = "echo 'vm0| hello'; sleep 0.3; timeout 0.3 cat > /dev/null; printf 'vm0| # '; \
                         read -r a; read -r b; echo; echo \"vm0| $a+$b\"; read -r c; \
                         echo 'tessera: vm0 off'; echo 'tessera: off'";

    #[test]
    fn typing_begins_at_a_prompt() {
        let lines = stand_in(SHELL, "uname -a\nls\n", Begin::AtPrompt);
        assert_eq!(lines[2], "vm0| uname -a+ls");
    }

    #[test]
    fn others_get_it_at_once() {
        let lines = stand_in(
            "read -r a; echo \"vm0| $a\"; echo 'tessera: vm0 off'; echo 'tessera: off'",
            "x\n",
            Begin::AtOnce,
        );
        assert_eq!(lines[0], "vm0| x");
    }

    #[test]
    fn prompts_are_told_from_lines() {
        for prompt in [
            "vm0| / # ",
            "vm0| => ",
            "vm0| user@host:~$",
            "vm0+ Shell> ",
            r"vm0| / # \u{1b}[6n",
            r"vm0| \u{1b}[33mShell> \u{1b}[0m\u{1b}[37;40m",
        ] {
            assert!(is_prompt(prompt), "{prompt}");
        }
        for other in [
            "vm0| [    0.1] Booting",
            "vm0| ",
            "tessera: >",
            "# ",
            r"vm0| # \u{1b}[0ma",
            r"vm0| # \u{1b}x",
        ] {
            assert!(!is_prompt(other), "{other}");
        }
    }

    #[test]
    fn a_prompt_that_is_cut_is_one() {
        let (mut script, _terminal) = Script::new(io::empty(), Begin::AtPrompt).expect("a pipe");
        script.line("vm0| # a comment");
        script.paused("vm0| 100 %");
        script.paused("vm0| 100 % of");
        assert!(script.begin.is_some());
        script.line(r"vm0| / # \");
        assert!(script.begin.is_none());
    }
}
