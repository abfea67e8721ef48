//! Uprobes: the kernel puts a breakpoint into a function, and executes what was there elsewhere, by
//! a single step.

use std::fs;
use std::hint::black_box;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::code::probed;

/// How often each thread calls the function.
const CALLS: u64 = 2000;

const TRACING: &str = "/sys/kernel/tracing";
/// The names of two probes: at the function's begin, and when it returns.
const PROBES: [(&str, char); 2] = [("debugcheck_begin", 'p'), ("debugcheck_return", 'r')];

/// Has `threads` threads call a function that is probed, in turn without and with probes; returns
/// how often those were hit.
pub(crate) fn check(threads: usize) -> Result<u64> {
    let own_file = fs::read_link(guest_linux::OWN_FILE).context("where is this program?")?;
    let offset = file_offset(probed as *const () as u64)?;
    let definitions =
        PROBES.map(|(name, kind)| format!("{kind}:{name} {}:{offset:#x}", own_file.display()));
    for definition in &definitions {
        write("uprobe_events", definition)?;
    }
    let result = hits(threads);
    switch(false)?;
    write("uprobe_events", "")?;
    result
}

fn hits(threads: usize) -> Result<u64> {
    let before = recorded()?;
    call(threads)?;
    ensure!(recorded()? == before, "probes hit before they were enabled");
    switch(true)?;
    call(threads)?;
    let hits = recorded()? - before;
    let expected = PROBES.len() as u64 * CALLS * threads as u64;
    ensure!(hits == expected, "probes hit {hits} times, not {expected}");
    for (name, _) in PROBES {
        ensure!(profiled(name)? > 0, "{name} was not hit");
    }
    switch(false)?;
    call(threads)?;
    ensure!(
        recorded()? - before == hits,
        "probes hit after they were disabled"
    );
    Ok(hits)
}

/// Calls the function from all threads, and looks at each result.
fn call(threads: usize) -> Result<()> {
    let is_right = || (0..CALLS).all(|value| black_box(probed)(value) == value + 1);
    let right = thread::scope(|scope| {
        let callers: Vec<_> = (0..threads).map(|_| scope.spawn(is_right)).collect();
        callers
            .into_iter()
            .all(|caller| caller.join().unwrap_or(false))
    });
    ensure!(right, "a function that is probed does not do what it did");
    Ok(())
}

/// How many events the kernel has recorded: of both probes, since no others are enabled. Each CPU
/// counts its own.
fn recorded() -> Result<u64> {
    let directory = format!("{TRACING}/per_cpu");
    let mut events = 0;
    for cpu in fs::read_dir(&directory).with_context(|| directory.clone())? {
        let file = cpu?.path().join("stats");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        // What was overwritten was recorded as well.
        for name in ["entries", "overrun"] {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok();
            let count: Option<u64> = text.lines().find_map(value);
            events += count.with_context(|| format!("{} lacks {name}", file.display()))?;
        }
    }
    Ok(events)
}

/// How often this probe was hit, by a count that older kernels keep for all CPUs: where two of
/// them add to it at once, one hit is lost.
fn profiled(name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("{TRACING}/uprobe_profile")).context("uprobe_profile")?;
    // File, name of the probe, hits.
    let lines = text.lines().map(|line| line.split_whitespace());
    lines
        .filter_map(|mut words| Some((words.nth(1)?, words.next()?)))
        .find(|(probe, _)| *probe == name)
        .and_then(|(_, hits)| hits.parse().ok())
        .with_context(|| format!("uprobe_profile lacks {name}"))
}

fn switch(on: bool) -> Result<()> {
    PROBES.iter().try_for_each(|(name, _)| {
        write(
            &format!("events/uprobes/{name}/enable"),
            if on { "1" } else { "0" },
        )
    })
}

fn write(file: &str, text: &str) -> Result<()> {
    let path = format!("{TRACING}/{file}");
    // One definition is added to others, and an empty text takes all away.
    let mut options = fs::OpenOptions::new();
    let options = options
        .write(true)
        .append(!text.is_empty())
        .truncate(text.is_empty());
    let file = options.open(&path).with_context(|| path.clone())?;
    use std::io::Write;
    (&file)
        .write_all(text.as_bytes())
        .with_context(|| format!("{path}: {text}"))
}

/// Where in this program's file the code at `address` is.
fn file_offset(address: u64) -> Result<u64> {
    let maps = fs::read_to_string("/proc/self/maps").context("/proc/self/maps")?;
    let offset = maps.lines().find_map(|line| {
        // start-end rights offset device inode path
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        let offset = hex(words.nth(1)?)?;
        (start..end)
            .contains(&address)
            .then_some(offset + address - start)
    });
    offset.context("this program's code is in no file")
}
