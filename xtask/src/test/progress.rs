//! How far the tests are: a spinner on a terminal, plain lines elsewhere and in CI.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::steps::StepName;
use super::summary::Row;
use crate::terminal;

/// The display.
pub(super) struct Progress {
    steps: usize,
    step: usize,
    /// Shared by the commands of a step that run side by side.
    bar: Mutex<Option<ProgressBar>>,
    animated: bool,
}

impl Progress {
    /// A display of this many steps.
    pub(super) fn new(steps: usize) -> Self {
        let animated = terminal::is_animated();
        Self {
            steps,
            step: 0,
            bar: Mutex::default(),
            animated,
        }
    }

    /// A step begins.
    pub(super) fn start(&mut self, name: StepName) {
        self.step += 1;
        let title = format!("[{}/{}] {name}", self.step, self.steps);
        if !self.animated {
            eprintln!("{title}: {}", name.about());
            return;
        }
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed}  {wide_msg:.dim}");
        let bar = ProgressBar::new_spinner().with_prefix(title);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        *self.bar() = Some(bar);
    }

    /// The step's latest output.
    pub(super) fn note(&self, line: &str) {
        if let Some(bar) = &*self.bar() {
            bar.set_message(line.trim().to_owned());
        }
    }

    /// The step shows its progress itself from here on.
    pub(super) fn hide(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    /// A line, or several, that stay.
    pub(super) fn print(&self, text: &str) {
        match &*self.bar() {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// The step has ended.
    pub(super) fn finish(&mut self, row: &Row) {
        self.hide();
        eprintln!("[{}/{}] {row}", self.step, self.steps);
    }

    /// A step is left out.
    pub(super) fn skip(&mut self, name: StepName, reason: &str) {
        self.step += 1;
        eprintln!("[{}/{}] {name}: skipped: {reason}", self.step, self.steps);
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
