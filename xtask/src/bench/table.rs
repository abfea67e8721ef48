//! Figures for a person.

use std::fmt::Write;

use super::CPUS;
use super::figures::Figures;
use super::linux;
use super::rows::{Boot, ROWS, Row};
use super::speculation;

/// What a row is called.
struct Name {
    /// In JSON.
    key: &'static str,
    /// For a person.
    text: &'static str,
    /// The policy for 2 MiB frames that it is measured with.
    policy: &'static str,
}

/// The names of all rows, in the table's order.
fn names() -> impl Iterator<Item = Name> {
    let of = |boot: Boot| {
        move |(key, text)| Name {
            key,
            text,
            policy: boot.policy(),
        }
    };
    let rows = ROWS
        .iter()
        .map(move |row| of(row.boot)((row.key, row.text)));
    rows.chain(speculation::ROWS.map(of(speculation::BOOT)))
        .chain(linux::ROWS.map(of(linux::BOOT)))
}

/// The table: ours beside the peers'.
pub(super) fn table(figures: &Figures) -> String {
    let mut text = format!(
        "{:<47}{:<7}{:>11}{:>9}{:>9}{:>11}{:>9}{:>10}\n",
        "instructions", "huge=", CPUS[0], CPUS[1], "at most", "KVM a57", "KVM max", "Xen a57"
    );
    for row in &ROWS {
        let ours = |cpu| ours(figures.get(cpu, row.key), row);
        let limit = row
            .limit
            .map_or_else(String::new, |limit| limit.to_string());
        let peer = |peer: Option<u32>| peer.map_or("-".into(), |figure| figure.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<47}{:<7}{:>11}{:>9}{limit:>9}{:>11}{:>9}{:>10}",
            row.text,
            row.boot.policy(),
            ours(CPUS[0]),
            ours(CPUS[1]),
            peer(row.peers.kvm_a57),
            peer(row.peers.kvm_max),
            peer(row.peers.xen_a57),
        );
    }
    text.push_str("A figure marked with ! is above its limit. KVM is Linux 6.12's, Xen 4.17.\n");
    text
}

fn ours(figure: Option<f64>, row: &Row) -> String {
    let Some(figure) = figure else {
        return "-".into();
    };
    let above = row.limit.is_some_and(|limit| figure > f64::from(limit));
    format!("{}{figure:.1}", if above { "!" } else { "" })
}

/// What has changed: for each CPU model before, now, and the difference in percent.
pub(super) fn comparison(before: &Figures, now: &Figures) -> String {
    let mut text = String::new();
    for cpu in CPUS {
        let _ = writeln!(
            text,
            "{cpu:<47}{:<7}{:>11}{:>11}{:>9}",
            "huge=", "before", "now", "change"
        );
        for Name {
            key,
            text: name,
            policy,
        } in names()
        {
            let (was, is) = (before.get(cpu, key), now.get(cpu, key));
            if was.is_none() && is.is_none() {
                continue;
            }
            let show =
                |figure: Option<f64>| figure.map_or("-".into(), |value| format!("{value:.1}"));
            let change = match (was, is) {
                (Some(was), Some(is)) if was > 0.0 => {
                    format!("{:+.1} %", (is - was) / was * 100.0)
                }
                _ => "-".into(),
            };
            let _ = writeln!(
                text,
                "{:<47}{:<7}{:>11}{:>11}{change:>9}",
                name,
                policy,
                show(was),
                show(is)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(hvc: f64) -> Figures {
        let mut figures = Figures::default();
        figures.add(CPUS[0], "hvc", hvc);
        figures.add(CPUS[1], "hvc", 99.04);
        figures
    }

    #[test]
    fn json_comes_back() {
        let written = serde_json::to_string(&figures(108.0)).expect("JSON");
        assert_eq!(
            written,
            r#"{"cortex-a57":{"hvc":108.0},"max":{"hvc":99.0}}"#
        );
        let read = |text: &str| serde_json::from_str::<Figures>(text).ok();
        assert_eq!(read(&written), Some(figures(108.0)));
        assert_eq!(read(r#"{"max": {"hvc": "?"}}"#), None);
        assert_eq!(read("[1]"), None);
    }

    #[test]
    fn what_is_above_its_limit_is_marked() {
        assert!(table(&figures(111.0)).contains(" !111.0"));
        assert!(table(&figures(109.0)).contains("  109.0"));
    }

    #[test]
    fn changes_are_in_percent() {
        let text = comparison(&figures(100.0), &figures(90.0));
        assert!(
            text.contains("-10.0 %") && text.contains("+0.0 %"),
            "{text}"
        );
    }

    /// Rows of the same name are told apart by the policy for 2 MiB frames.
    #[test]
    fn each_row_says_which_policy_it_is_for() {
        let mut figures = figures(100.0);
        for key in ["fault_4k", "fault_4k_reserve", "linux_boot_ratio"] {
            figures.add(CPUS[0], key, 600.0);
        }
        let found = |text: &str, name: &str| -> Vec<String> {
            let rows = text.lines().filter(|line| line.starts_with(name));
            let policy = |line: &str| line[47..].split_whitespace().next().map(str::to_owned);
            rows.filter_map(policy).collect()
        };
        let new_page = "store to a new 4 KiB page  ";
        assert_eq!(found(&table(&figures), new_page), ["never", "reserve"]);
        let changes = comparison(&figures, &figures);
        assert_eq!(found(&changes, new_page), ["never", "reserve"]);
        assert_eq!(found(&changes, "the one divided"), ["reserve"]);
    }
}
