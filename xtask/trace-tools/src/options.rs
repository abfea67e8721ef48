//! What the verbs take on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::names;

/// The options of `cargo xtask trace`.
#[derive(Args, Debug)]
pub struct TraceOptions {
    /// The recording
    pub file: PathBuf,

    /// Show every event instead of their sums
    #[arg(long)]
    pub events: bool,

    /// Check what was recorded with `trace=replay` against the rules of break-before-make
    ///
    /// The exit status is 1 if a rule was broken, or events are missing.
    #[arg(long, conflicts_with_all = ["events", "category", "event", "cpu", "vm", "perfetto"])]
    pub check: bool,

    /// Only these categories: fault,map,change,race,free,tlb,vcpu,sched,log,replay
    #[arg(long, value_name = "LIST", value_parser = |text: &str| trace::Categories::parse(text)
        .ok_or("expected some of fault,map,change,race,free,tlb,vcpu,sched,log,replay"))]
    pub category: Option<trace::Categories>,

    /// Only events of this name, such as split; may be given several times
    #[arg(long, value_name = "NAME", value_parser = event_name)]
    pub event: Vec<String>,

    /// Only events of this CPU
    #[arg(long, value_name = "N")]
    pub cpu: Option<u8>,

    /// Only events of this VM
    #[arg(long, value_name = "N")]
    pub vm: Option<u8>,

    /// Write what Perfetto's UI and Chrome's tracing open, instead
    #[arg(long, value_name = "FILE")]
    pub perfetto: Option<PathBuf>,
}

/// The options of `cargo xtask report`.
#[derive(Args, Debug)]
pub struct ReportOptions {
    /// The recording
    pub file: PathBuf,

    /// Where the page goes
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    pub output: PathBuf,
}

/// The name of an event, as recordings are shown with it.
fn event_name(text: &str) -> Result<String, String> {
    names::meant(text).ok_or_else(|| {
        let names = trace::Event::NAMES.iter().map(|name| names::hyphened(name));
        let names: Vec<_> = names.collect();
        format!("there is no such event; there are {}", names.join(", "))
    })
}
