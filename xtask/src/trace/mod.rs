//! Recorded traces: read, shown, summed up and turned into what other tools open.
//!
//! A recording is a console as it came, text and frames together, so a console that was kept in any
//! other way does as well.

pub mod check;
mod filter;
pub(crate) mod kind;
mod losses;
pub mod perfetto;
pub mod report;
mod show;
pub(crate) mod space;
mod summary;
pub(crate) mod threads;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use trace::Record;
use trace::frame::{Frame, Unreadable, VERSION};
use trace::stream::{Piece, Splitter};

use crate::cli::TraceOptions;
pub use losses::Losses;
pub use summary::{Figure, Summary};

/// What is traced where the user asks for a recording and not for certain events: all but the entries
/// and exits of vCPUs, which are too many for the console.
pub const DEFAULT: &str = "fault,map,change,race,free,tlb,sched,log";

/// What was in a recording.
#[derive(Debug, Default)]
pub struct Recording {
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
        Ok(recording)
    }

    /// Takes the events out of a console.
    pub fn parse(console: &[u8]) -> Self {
        let mut recording = Self::default();
        let mut splitter = Splitter::new();
        let mut sink = |piece: Piece<'_>| match piece {
            Piece::Text(_) => {}
            Piece::Unreadable(Unreadable::Broken) => recording.broken += 1,
            Piece::Unreadable(Unreadable::Version(other)) => recording.other_version = Some(other),
            Piece::Frame(frame) => recording.add(frame),
        };
        console.iter().for_each(|&b| splitter.feed(b, &mut sink));
        splitter.finish(&mut sink);
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
/// When the recording cannot be read, has nothing of what is asked for, or a file cannot be written.
pub fn trace(options: &TraceOptions) -> Result<u8> {
    let mut recording = Recording::open(&options.file)?;
    if options.check {
        return check::run(&recording, &mut io::stdout().lock());
    }
    filter::keep(&mut recording, options)?;
    if let Some(path) = &options.perfetto {
        write(path, &perfetto::json(&recording).to_string())?;
        println!("{}: open it at https://ui.perfetto.dev", path.display());
        return Ok(0);
    }
    let mut out = io::stdout().lock();
    let shown = if options.events {
        show::events(&recording, &mut out)
    } else {
        Summary::of(&recording).show(&mut out)
    };
    match shown.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        other => other.map(|()| 0).context("could not write"),
    }
}

/// `cargo xtask report`: writes the page. Returns the exit status.
///
/// # Errors
///
/// When the recording cannot be read or the page not be written.
pub fn report(file: &Path, output: &Path) -> Result<u8> {
    let recording = Recording::open(file)?;
    let name = file.file_name().unwrap_or(file.as_os_str());
    write(output, &report::page(&recording, &name.to_string_lossy()))?;
    println!("{}: open it in a browser", output.display());
    Ok(0)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
pub(crate) mod tests;
