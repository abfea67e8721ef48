//! What came over the console: bytes put together into lines, and lines read for what they say
//! about the run (the guest's verdict, a VM that was stopped, a panic, the end).
//!
//! Invariant: only the guest's own lines (`vm0| ...`) can give a verdict, and only the
//! hypervisor's can tell of a panic or the end, so that neither is taken for the other. What is
//! read for that are lines as they were said: [`Joiner`] makes them of the console's.

mod joiner;

pub use joiner::Joiner;

/// A line longer than this is broken up, so that a console gone mad cannot fill memory. In bytes.
const LONGEST_LINE: usize = 16 * 1024;

/// Puts bytes together into lines. Bytes arrive in pieces of any size.
#[derive(Debug, Default)]
pub struct LineReader {
    pending: Vec<u8>,
}

impl LineReader {
    /// Takes the next bytes and returns the lines that they complete, without their line ends.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' || self.pending.len() >= LONGEST_LINE {
                lines.push(self.take());
            }
            if byte != b'\n' {
                self.pending.push(byte);
            }
        }
        lines
    }

    /// The start of a line whose end has not come yet.
    pub fn partial(&self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    /// The last line, where the console ended without a line end.
    pub fn finish(&mut self) -> Option<String> {
        (!self.pending.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.pending)
            .trim_end_matches('\r')
            .to_owned();
        self.pending.clear();
        line
    }
}

/// What one console line says about the run.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// The guest says that it passed.
    Passed,
    /// The guest says that it failed, and why.
    Failed(&'a str),
    /// The hypervisor ended the guest, and why.
    Stopped(&'a str),
    /// The hypervisor panicked.
    Panicked,
    /// A VM is off.
    VmOff,
    /// The last VM is off and the hypervisor ends the machine.
    Off,
    /// A return address of the hypervisor's back trace (EL2 virtual address).
    Backtrace(u64),
    /// Nothing of that.
    Other,
}

/// Reads one line, as it was said.
pub fn read_line(line: &str) -> Mark<'_> {
    match guest_text(line) {
        Some(text) => read_guest(text),
        None => read_hypervisor(line),
    }
}

/// What a guest printed, where `line` is a guest's (`vm0| text`).
fn guest_text(line: &str) -> Option<&str> {
    let (name, text) = line.split_once('|')?;
    is_vm(Some(name)).then(|| text.strip_prefix(' ').unwrap_or(text))
}

fn read_guest(text: &str) -> Mark<'_> {
    match text.trim_end().strip_prefix("verdict: ") {
        Some("passed") => Mark::Passed,
        Some(other) => Mark::Failed(other.strip_prefix("failed:").map_or(other, str::trim_start)),
        None => Mark::Other,
    }
}

fn read_hypervisor(line: &str) -> Mark<'_> {
    if line.contains("tessera: PANIC") {
        return Mark::Panicked;
    }
    if let Some(address) = line.trim_start().strip_prefix("backtrace: 0x") {
        let digits = address.split_whitespace().next().unwrap_or_default();
        return u64::from_str_radix(digits, 16).map_or(Mark::Other, Mark::Backtrace);
    }
    match line.trim_end().strip_prefix("tessera: ") {
        Some("off") => Mark::Off,
        Some(text) if is_vm(text.strip_suffix(" off")) => Mark::VmOff,
        _ => stopped(line).map_or(Mark::Other, Mark::Stopped),
    }
}

/// Why the hypervisor stopped a VM, where this message of its log (`[time] ... vm0 stopped: why`)
/// tells.
fn stopped(line: &str) -> Option<&str> {
    let (who, why) = line.split_once(" stopped: ")?;
    let is_log = who.starts_with('[');
    (is_log && is_vm(who.split(' ').next_back())).then_some(why)
}

/// Whether this is the name of a VM (`vm0`).
fn is_vm(name: Option<&str>) -> bool {
    let number = name.and_then(|name| name.strip_prefix("vm"));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// What the console has said so far about the run.
#[derive(Debug, Default)]
pub struct Watcher {
    spoke: bool,
    passed: bool,
    failed: Option<String>,
    panicked: bool,
    vm_off: bool,
    off: bool,
}

impl Watcher {
    /// Reads the next line and returns what it says.
    pub fn line<'a>(&mut self, line: &'a str) -> Mark<'a> {
        self.spoke |=
            line.starts_with("tessera:") || line.starts_with('[') || guest_text(line).is_some();
        let mark = read_line(line);
        match mark {
            Mark::Passed => self.passed = true,
            Mark::Failed(reason) | Mark::Stopped(reason) => {
                self.failed.get_or_insert_with(|| reason.to_owned());
            }
            Mark::Panicked => self.panicked = true,
            Mark::VmOff => self.vm_off = true,
            Mark::Off => self.off = true,
            Mark::Backtrace(_) | Mark::Other => {}
        }
        mark
    }

    /// Whether a line of the hypervisor or of a guest has come, rather than QEMU's messages only.
    pub fn spoke(&self) -> bool {
        self.spoke
    }

    /// Whether the hypervisor has said its last word, so that QEMU is about to end.
    pub fn ended(&self) -> bool {
        self.off || self.panicked
    }

    /// The verdict, when the run is over: `None` where the console broke off with no verdict, no
    /// panic and no power-off. A panic outweighs a failure, a failure outweighs a pass.
    pub fn verdict(&self) -> Option<Verdict> {
        if self.panicked {
            Some(Verdict::Panicked)
        } else if let Some(reason) = &self.failed {
            Some(Verdict::Failed(reason.clone()))
        } else if !self.off {
            None
        } else if self.passed {
            Some(Verdict::Passed)
        } else if self.vm_off {
            Some(Verdict::Silent)
        } else {
            Some(Verdict::Failed(
                "no guest ran; the console says why".to_owned(),
            ))
        }
    }
}

/// How a run that came to its end went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every guest passed and powered off.
    Passed,
    /// Every guest powered off, and none gave a verdict.
    Silent,
    /// A guest failed or was stopped, for this reason.
    Failed(String),
    /// The hypervisor panicked.
    Panicked,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(console: &str) -> Option<Verdict> {
        let mut reader = LineReader::default();
        let mut joiner = Joiner::default();
        let mut watcher = Watcher::default();
        let mut lines = reader.feed(console.as_bytes());
        lines.extend(reader.finish());
        let mut said: Vec<_> = lines.iter().flat_map(|line| joiner.feed(line)).collect();
        said.extend(joiner.finish());
        for line in said {
            watcher.line(&line);
        }
        watcher.verdict()
    }

    #[test]
    fn lines_survive_any_cut() {
        let console = "tessera: hi\r\nvm0| verdict: passed\r\n\r\ntessera: off\n";
        let whole = LineReader::default().feed(console.as_bytes());
        assert_eq!(
            whole,
            ["tessera: hi", "vm0| verdict: passed", "", "tessera: off"]
        );
        for size in 1..console.len() {
            let mut reader = LineReader::default();
            let pieces: Vec<String> = console
                .as_bytes()
                .chunks(size)
                .flat_map(|piece| reader.feed(piece))
                .collect();
            assert_eq!(pieces, whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_kept_until_the_end() {
        let mut reader = LineReader::default();
        assert!(reader.feed(b"tessera: o").is_empty());
        assert_eq!(reader.partial(), "tessera: o");
        assert!(reader.feed(b"ff").is_empty());
        assert_eq!(reader.finish().as_deref(), Some("tessera: off"));
        assert_eq!(reader.finish(), None);
    }

    #[test]
    fn broken_text_does_not_stop_the_reader() {
        let mut reader = LineReader::default();
        assert_eq!(reader.feed(b"\xff\xfe\n"), ["\u{fffd}\u{fffd}"]);
        let long = vec![b'x'; LONGEST_LINE + 1];
        assert_eq!(reader.feed(&long).len(), 1);
        assert_eq!(reader.partial(), "x");
    }

    #[test]
    fn verdicts() {
        assert_eq!(
            verdict("vm0| verdict: passed\ntessera: vm0 off\ntessera: off\n"),
            Some(Verdict::Passed)
        );
        assert_eq!(
            verdict("vm0| verdict: failed: 3 mismatches\ntessera: off\n"),
            Some(Verdict::Failed("3 mismatches".into()))
        );
        assert_eq!(
            verdict("tessera: vm0 off\ntessera: off"),
            Some(Verdict::Silent)
        );
        assert_eq!(
            verdict("[   1.2] cpu0 ERROR vm: vm0 stopped: out of memory\ntessera: off\n"),
            Some(Verdict::Failed("out of memory".into()))
        );
    }

    #[test]
    fn a_hypervisor_without_a_guest_has_failed() {
        let console = "[   1.2] cpu0 ERROR boot: the guest does not fit\ntessera: off\n";
        assert!(matches!(verdict(console), Some(Verdict::Failed(_))));
    }

    #[test]
    fn a_pass_counts_only_when_the_machine_ended() {
        assert_eq!(verdict("vm0| verdict: passed\ntessera: vm0 off\n"), None);
        assert_eq!(
            verdict("vm0| verdict: pas"),
            Some(Verdict::Failed("pas".into()))
        );
        assert_eq!(verdict("vm0| verd"), None);
    }

    #[test]
    fn the_worse_outweighs() {
        let failed = "vm0| verdict: passed\nvm0| verdict: failed: late\ntessera: off\n";
        assert_eq!(verdict(failed), Some(Verdict::Failed("late".into())));
        let panicked = "vm0| verdict: failed: a\ntessera: PANIC at x\n";
        assert_eq!(verdict(panicked), Some(Verdict::Panicked));
    }

    #[test]
    fn a_verdict_that_was_cut_counts() {
        let console = "vm0| verd\\\nvm1| verdict: passed\nvm0+ ict: failed: late\ntessera: off\n";
        assert_eq!(verdict(console), Some(Verdict::Failed("late".into())));
        let console = "vm0| verdict: pas\\\ntessera: vm1 off\nvm0+ sed\ntessera: off\n";
        assert_eq!(verdict(console), Some(Verdict::Passed));
        // What only goes on has not begun so.
        let console =
            "vm0| it prints \\\ntessera: x\nvm0+ verdict: passed\ntessera: vm0 off\ntessera: off\n";
        assert_eq!(verdict(console), Some(Verdict::Silent));
    }

    #[test]
    fn guests_cannot_speak_for_the_hypervisor() {
        for line in [
            "vm0| tessera: off",
            "vm0| tessera: PANIC",
            "vm0|   backtrace: 0x10",
            "vm0| vm0 stopped: x",
        ] {
            assert_eq!(read_line(line), Mark::Other, "{line}");
        }
        for line in [
            "verdict: passed",
            "vm| verdict: passed",
            "vmx| verdict: passed",
        ] {
            assert_eq!(read_line(line), Mark::Other, "{line}");
        }
    }

    #[test]
    fn backtraces() {
        assert_eq!(
            read_line("  backtrace: 0x40201234"),
            Mark::Backtrace(0x4020_1234)
        );
        assert_eq!(read_line("  backtrace: 0xzz"), Mark::Other);
    }
}
