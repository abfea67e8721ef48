//! Boot arguments, well formed and malformed.

use super::*;
use trace::Category;

/// Parses `text` and returns the result with the complaints as text.
fn parse_all(text: &str) -> (BootArgs<'_>, Vec<Complaint<'_>>) {
    let mut complaints = Vec::new();
    let args = parse(text, &mut |complaint| complaints.push(complaint));
    (args, complaints)
}

fn expect_reason(text: &str, reason: Reason) {
    let (args, complaints) = parse_all(text);
    assert_eq!(args, BootArgs::default(), "{text}");
    assert_eq!(complaints.len(), 1, "{text}: {complaints:?}");
    assert_eq!(complaints[0].argument, text.trim());
    assert_eq!(complaints[0].reason, reason, "{text}");
}

#[test]
fn nothing_gives_the_defaults() {
    let (args, complaints) = parse_all("  ");
    assert_eq!(args, BootArgs::default());
    assert!(complaints.is_empty());
}

#[test]
fn every_key_is_understood() {
    let (args, complaints) = parse_all(
        "log=trace vcpus=3 guest-memory=64M guest-args=\"seconds=5 seed=7\" console=raw console-baud=9600 compaction=stress \
         compaction-period=2 compaction-step=512 collapse-fill=17 huge=never frames=1G trace=map,tlb \
         table-calls=on error-calls=on gic-tdir=off mitigations=off panic=now \
         vmid-bits=3 breach=twice",
    );
    assert!(complaints.is_empty(), "{complaints:?}");
    assert_eq!(
        args,
        BootArgs {
            log: LevelFilter::Trace,
            vcpus: Some(3),
            guest_memory: 64 << 20,
            guest_args: "seconds=5 seed=7",
            console: ConsoleMode::Raw,
            compaction: Compaction::Stress,
            compaction_period: 2,
            compaction_step: 512,
            collapse_fill: 17,
            huge: HugePolicy::Never,
            frames: Some(1 << 30),
            trace: Categories::NONE.with(Category::Map).with(Category::Tlb),
            table_calls: true,
            error_calls: true,
            console_baud: Some(9600),
            gic_tdir: false,
            mitigations: Mitigations::Off,
            panic: Some(InjectedFault::Panic),
            vmid_bits: Some(3),
            breach: Some(Breach::Twice),
        }
    );
}

#[test]
fn the_list_of_known_arguments_names_every_key() {
    for known in KNOWN {
        let (key, _) = known.split_once('=').unwrap();
        let word = format!("{key}=?");
        let (_, complaints) = parse_all(&word);
        for complaint in complaints {
            assert_ne!(complaint.reason, Reason::Unknown, "{key}");
        }
    }
}

#[test]
fn the_list_of_known_arguments_names_every_category() {
    let names: Vec<_> = Category::ALL
        .iter()
        .map(|category| category.text())
        .collect();
    let list = names.join(",");
    assert!(
        KNOWN
            .iter()
            .any(|known| known.starts_with("trace=") && known.ends_with(&list))
    );
    assert!(TRACE.ends_with(&list));
}

#[test]
fn unknown_and_malformed_words_are_named_and_ignored() {
    expect_reason("wibble=1", Reason::Unknown);
    expect_reason("quiet", Reason::NoValue);
    expect_reason("guest-args=\"a b", Reason::OpenQuote);
    expect_reason("guest-args=\"", Reason::OpenQuote);
    expect_reason("vcpus=0", Reason::Expected("a number from 1 to 8"));
    expect_reason("vcpus=9", Reason::Expected("a number from 1 to 8"));
    expect_reason("vcpus=-1", Reason::Expected("a number from 1 to 8"));
    expect_reason("huge=maybe", Reason::Expected("always, never or reserve"));
    expect_reason(
        "panic=later",
        Reason::Expected("now, overflow, write-code, run-data or bad-memory"),
    );
}

#[test]
fn the_rest_of_the_line_survives_a_bad_word() {
    let (args, complaints) = parse_all("nonsense vcpus=2 vcpus=many log=debug");
    assert_eq!(args.vcpus, Some(2));
    assert_eq!(args.log, LevelFilter::Debug);
    assert_eq!(complaints.len(), 2);
}

#[test]
fn sizes_have_suffixes_and_are_whole_pages() {
    for (text, bytes) in [
        ("4096", 4096),
        ("8k", 8192),
        ("3M", 3 << 20),
        ("2G", 2 << 30),
    ] {
        assert_eq!(size(text), Some(bytes), "{text}");
    }
    for text in [
        "",
        "M",
        "0",
        "0G",
        "4095",
        "1T",
        "-4K",
        "99999999999G",
        "4K4",
        "é",
    ] {
        assert!(size(text).is_none(), "{text}");
    }
}

#[test]
fn a_complaint_says_what_to_write_instead() {
    let (_, complaints) = parse_all("huge=2M");
    assert_eq!(
        complaints[0].to_string(),
        "boot argument `huge=2M` ignored: expected always, never or reserve"
    );
}
