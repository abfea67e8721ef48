//! The `log` crate's messages, as lines on the console:
//! `[   1.234567] cpu0 INFO  module: text`, in seconds since the counter started.

use log::{LevelFilter, Log, Metadata, Record};
use platform::timer;

use crate::{console, percpu, tracing};

/// Prints every message that the level lets through.
struct Logger;

impl Log for Logger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::logged(record.level(), module(record.target()));
        let ticks = timer::now();
        let frequency = timer::frequency().max(1);
        let seconds = ticks / frequency;
        let micros = ticks % frequency * 1_000_000 / frequency;
        console::line(format_args!(
            "[{seconds:4}.{micros:06}] cpu{} {:<5} {}: {}",
            percpu::this().index(),
            record.level(),
            module(record.target()),
            record.args()
        ));
    }

    fn flush(&self) {}
}

/// The part of the hypervisor that speaks: of this program its top-level module, of others the
/// crate.
fn module(target: &str) -> &str {
    let path = target.strip_prefix("tessera::").unwrap_or(target);
    path.split("::").next().unwrap_or(path)
}

/// Starts logging, at `level`.
pub(crate) fn start(level: LevelFilter) {
    // An error says that a logger is there already: this one.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
}
