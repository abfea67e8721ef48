//! What was measured, and how it is kept in a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Instructions, by CPU model and row. In JSON `{"cortex-a57": {"hvc": 99.0, ...}, ...}`; rows that
/// are not known are in no table.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Figures(BTreeMap<String, BTreeMap<String, f64>>);

impl Figures {
    /// Adds a figure, to a tenth.
    pub(super) fn add(&mut self, cpu: &str, key: &str, figure: f64) {
        self.set(cpu, key, (figure * 10.0).round() / 10.0);
    }

    /// Adds a figure as it is.
    pub(super) fn set(&mut self, cpu: &str, key: &str, figure: f64) {
        let rows = self.0.entry(cpu.to_owned()).or_default();
        rows.insert(key.to_owned(), figure);
    }

    pub(super) fn get(&self, cpu: &str, key: &str) -> Option<f64> {
        self.0.get(cpu)?.get(key).copied()
    }
}
