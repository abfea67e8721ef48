//! How far the boot tests are: a bar with the running tests on a terminal, plain lines elsewhere.
//!
//! All of it goes to standard error. `libtest-mimic` says on standard output how each test ended:
//! where a person sees both, as with `cargo test`, only what it does not say is shown here.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::runner::End;
use crate::scenario::Scenario;

/// The display. Workers share it.
pub struct Display {
    bar: Option<ProgressBar>,
    /// Whether the same terminal shows standard output, too.
    is_shared: bool,
    total: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: usize,
    running: BTreeMap<&'static str, Instant>,
}

impl Display {
    /// A display of so many tests.
    pub fn new(total: usize) -> Self {
        let is_shared = stdout().is_terminal() && stderr().is_terminal();
        // A bar is drawn in the line in which standard output goes on.
        let is_animated = !is_shared && xtask::terminal::is_animated();
        let bar = is_animated.then(|| {
            let template = "{spinner} boot [{bar:24}] {pos}/{len} {elapsed}  {wide_msg:.dim}";
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(total as u64);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            bar,
            is_shared,
            total,
            state: Mutex::default(),
        }
    }

    /// A test begins.
    pub fn start(&self, name: &'static str) {
        self.change(|state| {
            state.running.insert(name, Instant::now());
        });
    }

    /// A test has ended like this, and how long it took is shown.
    pub fn finish(&self, scenario: &Scenario, end: &End) {
        let name = scenario.name;
        let (done, seconds) = self.change(|state| {
            state.done += 1;
            let start = state.running.remove(name);
            let elapsed = start.map_or(Duration::ZERO, |start| start.elapsed());
            (state.done, elapsed.as_secs_f64())
        });
        let verdict = verdict(end, scenario.flaky);
        let total = self.total;
        let line = format!("boot {done:>2}/{total} {name}: {verdict}, {seconds:.1} s");
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                bar.suspend(|| eprintln!("{line}"));
            }
            None if self.is_shared => {}
            None => eprintln!("{line}"),
        }
    }

    /// Nothing more comes.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let result = change(&mut state);
        if let Some(bar) = &self.bar {
            let names: Vec<_> = state.running.keys().copied().collect();
            bar.set_message(names.join(", "));
        }
        result
    }
}

/// How a test ended, in words.
fn verdict(end: &End, flaky: Option<&str>) -> String {
    match (end, flaky) {
        (End::Passed { tries: 1 }, _) => "ok".to_owned(),
        (End::Passed { tries }, reason) => {
            let reason = reason.unwrap_or_default();
            format!("ok in try {tries}, which is flaky ({reason})")
        }
        (End::Failed(_), _) => "FAILED".to_owned(),
        (End::Interrupted, _) => "interrupted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_told() {
        assert_eq!(verdict(&End::Passed { tries: 1 }, Some("slow hosts")), "ok");
        assert_eq!(
            verdict(&End::Passed { tries: 2 }, Some("slow hosts")),
            "ok in try 2, which is flaky (slow hosts)"
        );
    }
}
