//! Events as lines for a person.

use std::io::{self, Write};

use trace::event::{NOBODY, Step};
use trace::{Event, Record};

use super::Recording;
use super::names::hyphened;

/// Shows every event, a line each, by time.
pub(super) fn events(recording: &Recording, out: &mut impl Write) -> io::Result<()> {
    for record in &recording.records {
        writeln!(out, "{}", line(recording, record))?;
    }
    Ok(())
}

/// An event as a line.
pub(super) fn line(recording: &Recording, record: &Record) -> String {
    let nanoseconds = recording.nanoseconds(record.stamp.time);
    let text = format!(
        "[{:4}.{:09}] cpu{} {:<10} {:<8} {}",
        nanoseconds / 1_000_000_000,
        nanoseconds % 1_000_000_000,
        record.stamp.cpu,
        whose(record),
        hyphened(record.event.name()),
        details(recording, &record.event),
    );
    text.trim_end().to_owned()
}

/// The VM, and the vCPU if it is one's thread.
fn whose(record: &Record) -> String {
    match (record.stamp.vm, record.stamp.vcpu) {
        (NOBODY, _) => "-".to_owned(),
        (vm, NOBODY) => format!("vm{vm}"),
        (vm, vcpu) => format!("vm{vm}/vcpu{vcpu}"),
    }
}

/// A time in a unit that suits it.
pub(super) fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

fn details(recording: &Recording, event: &Event) -> String {
    let time = |ticks: u64| duration(recording.nanoseconds(ticks));
    // Without `_`, so that a new event is given words here.
    let what = match *event {
        Event::Fault {
            access,
            cause,
            outcome,
            ipa,
            ticks,
        } => format!(
            "{} at {ipa:#x}, {}: {} after {}",
            access.text(),
            cause.text(),
            outcome.text(),
            time(ticks)
        ),
        Event::Refused { reason, level, ipa } => {
            format!("{ipa:#x} level {level}: {}", reason.text())
        }
        Event::Retry { level, ipa } | Event::Detached { level, ipa } => {
            format!("table of level {level} at {ipa:#x}")
        }
        Event::LockWait { level, ipa, ticks } => {
            format!("table of level {level} at {ipa:#x}: {}", time(ticks))
        }
        Event::Map { level, ipa, pa } => format!("{ipa:#x} to {pa:#x}, level {level}"),
        Event::Unmap { level, ipa, end } => format!("{ipa:#x} to {end:#x}, level {level}"),
        Event::Split { level, ipa } => format!("{ipa:#x}, level {level}"),
        Event::Collapse {
            step,
            reason,
            level,
            ipa,
        } => match step {
            Step::Abort => format!("abort of {ipa:#x}, level {level}: {}", reason.text()),
            Step::Begin | Step::Copy | Step::Commit => {
                format!("{} of {ipa:#x}, level {level}", step.text())
            }
        },
        Event::Migrate { ipa, to } => format!("{ipa:#x} to the frame {to:#x}"),
        Event::Marker {
            operation,
            level,
            ipa,
        } => {
            format!("{} at {ipa:#x}, level {level}", operation.text())
        }
        Event::Grace { ticks } => time(ticks),
        Event::Freed { pa } => format!("{pa:#x}"),
        Event::Tlbi {
            reach,
            level,
            ipa,
            end,
        } => format!("{ipa:#x} to {end:#x}, {} {level}", reach.text()),
        Event::Exit { exit, esr, pc } => format!("{}, ESR {esr:#x} at {pc:#x}", exit.text()),
        Event::Enter {} | Event::FetchesInvalidated { .. } | Event::TreeEnded { .. } => {
            String::new()
        }
        Event::Switch { from, to } => format!("from thread {from} to {to}"),
        Event::Log {
            level,
            module,
            length,
        } => {
            let bytes = module.to_le_bytes();
            let name = String::from_utf8_lossy(&bytes[..bytes.len().min(length as usize)]);
            format!("level {level}, module {name}")
        }
        Event::Ram { ipa, end } => format!("{ipa:#x} to {end:#x}"),
        Event::Frames { free, total } => format!("{free} of {total} free"),
        // For the checker.
        Event::Written {
            store,
            entry,
            old,
            new,
            ..
        } => format!("{entry:#x}: {old:#x} -> {new:#x}, {}", store.text()),
        Event::Barrier { barrier, .. } => barrier.text().to_owned(),
        Event::TlbiDone {
            tlbi,
            operand,
            vttbr,
            ..
        } => format!("{} {operand:#x}, VMID {}", tlbi.text(), vttbr >> 48),
        Event::RegisterSet {
            register, value, ..
        } => format!("{} = {value:#x}", register.text()),
        Event::Locked {
            taking,
            level,
            table,
            claimed,
            section,
            ..
        } => {
            let claimed = if claimed == 0 { "" } else { ", claimed" };
            let how = taking.text();
            format!("table {table:#x} of level {level}, {how} in section {section}{claimed}")
        }
        Event::GraceBegun { number, .. } | Event::GraceEnded { number, .. } => number.to_string(),
        Event::TableMade { level, table, .. } => format!("{table:#x}, level {level}"),
        Event::RootMade {
            level, table, ipa, ..
        } => format!("{table:#x}, level {level}, for {ipa:#x}"),
        Event::Unlocked { table, .. } | Event::TableEnded { table, .. } => format!("{table:#x}"),
        Event::Held {
            holder, start, end, ..
        } => format!("{start:#x} to {end:#x}: {}", holder.text()),
        Event::RamMade { ipa, end, .. } => format!("{ipa:#x} to {end:#x}"),
        Event::Allowed { bbm, dic, .. } => format!("FEAT_BBM level {bbm}, CTR_EL0.DIC {dic}"),
    };
    match event.order() {
        Some(order) => format!("#{order} {what}"),
        None => what,
    }
}
