//! What the sequences against attacks by speculation add to an exit.
//!
//! Each that a CPU may need is executed, on a model that needs it or is made to believe so; what it
//! does to predictors no emulator shows. The call of the firmware ends in QEMU, which knows no
//! workaround and returns: what a firmware takes comes on top.

use std::fmt::Write;

use anyhow::Result;

use super::figures::Figures;
use super::rows::Boot;
use super::{figure_of, measure};
use crate::build::Images;

/// A sequence.
struct Case {
    /// Its name in JSON, among the CPU models.
    key: &'static str,
    /// Whose it is, for a person.
    text: &'static str,
    /// QEMU's CPU model.
    cpu: &'static str,
    /// The value of the boot argument `mitigations`.
    mitigations: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        key: "cortex-a57-firmware",
        text: "Cortex-A57, A72: call of the firmware",
        cpu: "cortex-a57",
        mitigations: "firmware",
    },
    // QEMU's own has a revision that needs the firmware.
    Case {
        key: "cortex-a72-r1p0",
        text: "Cortex-A72 from r1p0: 15 branches",
        cpu: "neoverse-n1,midr=0x411fd080",
        mitigations: "on",
    },
    Case {
        key: "neoverse-n1",
        text: "Cortex-A76, Neoverse N1: 47 branches",
        cpu: "neoverse-n1",
        mitigations: "on",
    },
    Case {
        key: "max-clrbhb",
        text: "FEAT_CLRBHB",
        cpu: "max",
        mitigations: "clrbhb",
    },
];

/// The rows that are measured, by key and for a person: an exit of each kind.
pub(super) const ROWS: [(&str, &str); 3] = [
    ("hvc_more", "hypercall"),
    ("gicd_typer_more", "load from a device"),
    ("store_4k_ready_more", "fault"),
];

/// How guest memory is mapped meanwhile.
pub(super) const BOOT: Boot = Boot::Pages;

/// The most that an exit may take more.
const MOST: f64 = 40.0;

/// Measures each case, and adds by how much it is above the same with `mitigations=off`.
///
/// # Errors
///
/// When a boot does not pass.
pub(super) fn add(images: &Images, figures: &mut Figures) -> Result<()> {
    for case in &CASES {
        let boot = |mitigations| {
            let arguments = BOOT.hyp_args_with(mitigations);
            measure(images, case.cpu, &arguments)
        };
        let (without, with) = (boot("off")?, boot(case.mitigations)?);
        for (key, _) in ROWS {
            let line = key.trim_end_matches("_more");
            let more = figure_of(&with, line)? - figure_of(&without, line)?;
            figures.add(case.key, key, more);
        }
    }
    Ok(())
}

/// The table.
pub(super) fn table(figures: &Figures) -> String {
    let title = format!("instructions more, against Spectre, huge={}", BOOT.policy());
    let mut text = format!("{title:<47}");
    for (_, name) in ROWS {
        let _ = write!(text, "{name:>21}");
    }
    let _ = writeln!(text, "{:>9}", "at most");
    for case in &CASES {
        let _ = write!(text, "{:<47}", case.text);
        for (key, _) in ROWS {
            let more = figures.get(case.key, key).unwrap_or(f64::NAN);
            let mark = if more > MOST { "!" } else { "" };
            let _ = write!(text, "{:>21}", format!("{mark}{more:.1}"));
        }
        let _ = writeln!(text, "{MOST:>9}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_limit_is_marked() {
        let mut figures = Figures::default();
        figures.add("neoverse-n1", "hvc_more", 48.0);
        figures.add("max-clrbhb", "hvc_more", 2.0);
        let text = table(&figures);
        assert!(text.contains(" !48.0") && text.contains("  2.0"), "{text}");
    }
}
