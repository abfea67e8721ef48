//! The file of a recording: the console as it came, between two marks.
//!
//! The first mark says of what run this is, and by it a file is known for a recording. The second
//! stands there only if the recording is whole: where the disk was full, or this program was
//! killed, it is missing. Both are application program commands, as frames are, so that terminals
//! do not show them; a console that was kept in another way has none.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use output::{Kind, Output, Written};

const BEGIN: &[u8] = b"\x1b_tessera-recording;";
const END: &[u8] = b"\x1b\\";
const WHOLE: &[u8] = b"\x1b_tessera-recording-ends\x1b\\";

/// Files that are recordings of ours.
const KIND: Kind = Kind {
    name: "a recording",
    is_one: |head| head.starts_with(BEGIN),
};

/// What a run was: names and values, for a person to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About(pub Vec<(String, String)>);

impl About {
    /// Adds what this is of the run.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// What of this name there is.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Takes in what guests say on the console of seeds that nobody has named: `vm0| stress: 4
    /// vcpus, seed 1`.
    pub(super) fn hear(&mut self, console: &[u8]) {
        let console = String::from_utf8_lossy(console);
        for (vm, said) in console.lines().filter_map(|line| line.split_once("| ")) {
            let Some((_, guest)) = self.0.iter_mut().find(|(name, _)| name == vm) else {
                continue;
            };
            let seed = said.rsplit_once(" seed ").map(|(_, seed)| seed.trim_end());
            if let Some(seed) = seed.filter(|seed| seed.parse::<u64>().is_ok())
                && !guest.contains("seed")
            {
                guest.push_str(&format!(", seed {seed}"));
            }
        }
    }
}

/// A file taken apart.
pub(super) struct Parts<'f> {
    /// What run it is of, where the first mark stands and says so.
    pub(super) about: About,
    /// What came over the console.
    pub(super) console: &'f [u8],
    /// The recording was cut off: it has the first mark and not the second.
    pub(super) is_cut: bool,
}

/// Takes the marks off.
pub(super) fn parts(file: &[u8]) -> Parts<'_> {
    let unmarked = Parts {
        about: About::default(),
        console: file,
        is_cut: false,
    };
    let Some(marked) = file.strip_prefix(BEGIN) else {
        return unmarked;
    };
    let Some(end) = marked.windows(END.len()).position(|bytes| bytes == END) else {
        return Parts {
            console: &[],
            is_cut: true,
            ..unmarked
        };
    };
    let (json, console) = (&marked[..end], &marked[end + END.len()..]);
    let whole = console.strip_suffix(WHOLE);
    Parts {
        about: serde_json::from_slice(json).unwrap_or_default(),
        console: whole.unwrap_or(console),
        is_cut: whole.is_none(),
    }
}

/// A recording that is to be made.
pub struct Planned {
    output: Output,
    path: PathBuf,
}

impl Planned {
    /// Looks whether a recording may be written there; `inputs` are files that the run reads.
    ///
    /// # Errors
    ///
    /// When there is something else.
    pub fn new(path: &Path, inputs: &[&Path]) -> Result<Self> {
        let output = Output::new(path, KIND, inputs)?;
        let path = path.to_owned();
        Ok(Self { output, path })
    }

    /// Begins the recording of this run.
    ///
    /// # Errors
    ///
    /// When its file cannot be made, or takes nothing.
    pub fn begin(self, about: &About) -> Result<Recorder> {
        let about = serde_json::to_vec(about).context("could not write what run this is")?;
        let mut file = self.output.create()?;
        let mark = [BEGIN, &about, END].concat();
        file.write_all(&mark).with_context(|| file.incomplete())?;
        Ok(Recorder {
            file,
            path: self.path,
            stopped: None,
        })
    }
}

/// A recording that is being made.
pub struct Recorder {
    file: Written,
    path: PathBuf,
    /// Why nothing is recorded any more.
    stopped: Option<io::Error>,
}

impl Recorder {
    /// Takes what came next. If it cannot be written the recording ends there, and that is
    /// returned, once, in words.
    pub fn add(&mut self, bytes: &[u8]) -> Option<String> {
        if self.stopped.is_some() {
            return None;
        }
        let error = self.file.write_all(bytes).err()?;
        let said = format!("The recording ends here: {error}");
        self.stopped = Some(error);
        Some(said)
    }

    /// Ends the recording, and returns where it is.
    ///
    /// # Errors
    ///
    /// When it is not whole.
    pub fn end(mut self) -> Result<PathBuf> {
        let incomplete = self.file.incomplete();
        let whole = match self.stopped {
            Some(error) => Err(error),
            None => self.file.write_all(WHOLE),
        };
        whole.context(incomplete)?;
        self.file.close()?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::Recording;
    use crate::example::{console, story};
    use tempfile::TempDir;

    fn about() -> About {
        let mut about = About::default();
        about.add("guest", "stress \"1\" \u{1b}\\");
        about
    }

    /// A recording of the story, in two pieces.
    fn recorded(path: &Path) -> Result<PathBuf> {
        let mut recorder = Planned::new(path, &[])?.begin(&about())?;
        let console = console(&story());
        let (first, second) = console.split_at(1000);
        assert_eq!(
            [first, second].map(|bytes| recorder.add(bytes)),
            [None, None]
        );
        recorder.end()
    }

    #[test]
    fn what_was_recorded_comes_back() {
        let folder = TempDir::new().expect("a folder");
        let path = recorded(&folder.path().join("r")).expect("a recording");
        let file = fs::read(&path).expect("the file");
        let parts = parts(&file);
        assert_eq!((parts.about, parts.is_cut), (about(), false));
        assert_eq!(parts.console, console(&story()));
        // It may be recorded anew, and nothing else be written there.
        recorded(&path).expect("another one");
        let other = folder.path().join("other");
        fs::write(&other, console(&story())).expect("a file");
        let said = format!("{:#}", recorded(&other).expect_err("no recording"));
        assert!(said.contains("is there and is not a recording"), "{said}");
    }

    #[test]
    fn a_seed_that_nobody_named_is_heard_from_the_guest() {
        let mut about = About::default();
        about.add("vm0", "stress");
        about.add("vm1", "stress seed=7");
        about.hear(
            b"vm0| plant a seed here\nvm1| stress: 1 vcpus, seed 7\r\nvm0| stress: 4 vcpus, seed 1\r\nvm2| x seed 3\n",
        );
        assert_eq!(about.get("vm0"), Some("stress, seed 1"));
        assert_eq!(about.get("vm1"), Some("stress seed=7"));
    }

    #[test]
    fn a_recording_that_was_cut_says_so() {
        let folder = TempDir::new().expect("a folder");
        let path = recorded(&folder.path().join("r")).expect("a recording");
        let file = fs::read(&path).expect("the file");
        for length in [
            file.len() - 1,
            file.len() - WHOLE.len(),
            BEGIN.len() + 5,
            BEGIN.len(),
        ] {
            assert!(parts(&file[..length]).is_cut, "{length}");
            assert!(Recording::parse(&file[..length]).is_cut, "{length}");
        }
        assert!(!Recording::parse(&console(&story())).is_cut, "nobody knows");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_told_at_once_or_at_the_end() {
        let full = recorded(Path::new("/dev/full")).expect_err("a full disk");
        let full = format!("{full:#}");
        let expected = "/dev/full could not be written whole: No space left";
        assert!(full.starts_with(expected), "{full}");
        // Here it is full only when the recording is under way.
        let (reader, writer) = io::pipe().expect("a pipe");
        let path = PathBuf::from(format!("/proc/self/fd/{}", writer.as_raw_fd()));
        let planned = Planned::new(&path, &[]).expect("a place");
        let mut recorder = planned.begin(&about()).expect("a recording");
        assert_eq!(recorder.add(b"console"), None);
        drop((reader, writer));
        let said = recorder.add(b"more").expect("an error");
        assert!(
            said.starts_with("The recording ends here: Broken pipe"),
            "{said}"
        );
        assert_eq!(recorder.add(b"more"), None, "once is enough");
        let error = format!("{:#}", recorder.end().expect_err("an error"));
        assert!(
            error.ends_with("could not be written whole: Broken pipe (os error 32)"),
            "{error}"
        );
    }
}
