//! Recorded traces: read, shown, summed up and turned into what other tools open.
//!
//! A recording is a console as it came, text and frames together, between the marks of [`file`], so
//! a console that was kept in any other way does as well.

pub mod check;
#[cfg(any(test, feature = "example"))]
pub mod example;
mod file;
mod filter;
pub(crate) mod kind;
mod losses;
pub(crate) mod names;
pub mod options;
pub mod perfetto;
pub mod report;
mod show;
pub(crate) mod space;
mod summary;
pub(crate) mod threads;
pub mod top;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use trace::frame::{Frame, Unreadable, VERSION};
use trace::stream::{Piece, Splitter};
use trace::{Category, Record};

use crate::options::TraceOptions;
pub use file::About;
use file::Parts;
pub use file::{Planned, Recorder};
pub use losses::Losses;
use output::{self, Kind, Output};
pub use summary::{Figure, Summary};

/// What is said of a recording that was cut.
const CUT: &str =
    "is cut off: it ends before its run did, as the disk was full or the recording program killed";

/// What is traced where the user asks for a recording and not for certain events: all but the
/// entries and exits of vCPUs, which are too many for the console.
pub const DEFAULT: &str = "fault,map,change,race,free,tlb,sched,log";

/// Files for Perfetto that are ours.
const PERFETTO: Kind = Kind {
    name: "a file that --perfetto has written",
    is_one: |head| head.starts_with(perfetto::BEGINNING),
};

/// Files that are pages of ours.
const PAGE: Kind = Kind {
    name: "a page that `report` has written",
    is_one: report::is_page,
};

/// What was in a recording.
#[derive(Debug, Default)]
pub struct Recording {
    /// What run it is of, as far as it says.
    pub about: About,
    /// It ends before the run did: the disk was full, or its writer was killed.
    pub is_cut: bool,
    /// The events, by time.
    pub records: Vec<Record>,
    /// The counter's frequency in Hz.
    pub frequency: u64,
    /// Events that did not come.
    pub lost: Losses,
    /// Frames that were broken or cut.
    pub broken: usize,
    /// Bytes of the frames that came.
    pub bytes: usize,
    /// The version of frames that came whole and cannot be read.
    pub other_version: Option<u8>,
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or has no events.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
        let recording = Self::parse(&bytes);
        if let Some(version) = recording.other_version {
            bail!(
                "{} was recorded in version {version} of the encoding, and this reads version {VERSION}; \
                 record it anew, or use the version of Tessera that recorded it",
                path.display()
            );
        }
        if recording.records.is_empty() {
            bail!(
                "{} has no trace events; record one with `cargo xtask qemu --trace FILE`",
                path.display()
            );
        }
        if recording.is_cut {
            eprintln!("warning: {} {CUT}", path.display());
        }
        Ok(recording)
    }

    /// Takes the events out of a recording, or of a console that was kept.
    pub fn parse(file: &[u8]) -> Self {
        let Parts {
            about,
            console,
            is_cut,
        } = file::parts(file);
        let mut recording = Self {
            about,
            is_cut,
            ..Self::default()
        };
        let mut splitter = Splitter::new();
        let mut text = Vec::new();
        let mut sink = |piece: Piece<'_>| match piece {
            Piece::Text(byte) => text.push(byte),
            Piece::Unreadable(Unreadable::Broken) => recording.broken += 1,
            Piece::Unreadable(Unreadable::Version(other)) => recording.other_version = Some(other),
            Piece::Frame(frame) => recording.add(frame),
        };
        console.iter().for_each(|&b| splitter.feed(b, &mut sink));
        splitter.finish(&mut sink);
        recording.about.hear(&text);
        recording.records.sort_by_key(|record| record.stamp.time);
        recording
    }

    fn add(&mut self, frame: Frame<'_>) {
        let header = frame.header();
        self.frequency = header.frequency;
        self.bytes += frame.size_on_console();
        let before = self.records.len();
        self.records.extend(frame);
        let came = (self.records.len() - before) as u64;
        self.lost.add(&header, came, self.broken);
    }

    /// Whether all events are for the checker of the protocol.
    fn is_for_the_checker(&self) -> bool {
        let mut categories = self.records.iter().map(|record| record.event.category());
        categories.all(|category| category == Category::Replay)
    }

    /// Ticks of the counter in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(self.frequency.max(1));
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }

    /// The times of the first and the last event, in ticks.
    pub fn span(&self) -> (u64, u64) {
        let time = |record: Option<&Record>| record.map_or(0, |record| record.stamp.time);
        (time(self.records.first()), time(self.records.last()))
    }
}

/// `cargo xtask trace`: shows a recording as the options ask. Returns the exit status.
///
/// # Errors
///
/// When the recording cannot be read, has nothing of what is asked for, or a file cannot be
/// written.
pub fn trace(options: &TraceOptions) -> Result<u8> {
    let perfetto = match &options.perfetto {
        Some(path) => Some((path, Output::new(path, PERFETTO, &[&options.file])?)),
        None => None,
    };
    let mut recording = Recording::open(&options.file)?;
    if options.check {
        let mut text = Vec::new();
        let status = check::run(&recording, &mut text)?;
        return output::show(&String::from_utf8_lossy(&text)).map(|()| status);
    }
    filter::keep(&mut recording, options)?;
    if let Some((path, output)) = perfetto {
        output.write(&perfetto::json(&recording).to_string())?;
        let what = format!("{}: open it at https://ui.perfetto.dev\n", path.display());
        return output::show(&what).map(|()| 0);
    }
    let mut out = io::stdout().lock();
    let all = if options.events {
        show::events(&recording, &mut out)
    } else {
        Summary::of(&recording).show(&mut out)
    };
    output::shown(all.and_then(|()| out.flush())).map(|()| 0)
}

/// `cargo xtask report`: writes the page. Returns the exit status.
///
/// # Errors
///
/// When the recording cannot be read, has nothing for pictures, or the page cannot be written.
pub fn report(file: &Path, place: &Path) -> Result<u8> {
    let page = Output::new(place, PAGE, &[file])?;
    let recording = Recording::open(file)?;
    if recording.is_for_the_checker() {
        let file = file.display();
        bail!(
            "{file} was recorded for the checker and has nothing for pictures; check it with `cargo xtask trace \
             {file} --check`"
        );
    }
    let name = file.file_name().unwrap_or(file.as_os_str());
    page.write(&report::page(&recording, &name.to_string_lossy()))?;
    output::show(&format!("{}: open it in a browser\n", place.display())).map(|()| 0)
}

#[cfg(test)]
mod tests;
