//! The page's data, and the page in a browser: what is drawn is counted in the DOM that comes out.
//!
//! The tests in a browser are for `cargo xtask test`, which sees to it that there is one.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use trace::event::{Access, Cause, Step};
use trace::{Record, Stamp};

use super::*;
use crate::example::{collapse, recording};

/// The data that stands in a page.
fn data_of(page: &str) -> Value {
    let data = page.split("const D = ").nth(1);
    let data = data.and_then(|rest| rest.lines().next()).expect("data");
    serde_json::from_str(data.trim_end_matches(';')).expect("JSON")
}

/// What a browser makes of a page in a window of this width.
fn drawn(page: &str, width: u32) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let browser = std::env::var_os("TESSERA_BROWSER")
        .expect("TESSERA_BROWSER names a browser; `cargo xtask test --only browser` sets it");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("tessera-page-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("page.html");
    fs::write(&file, page).expect("a file");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .args(["--disable-background-networking", "--no-first-run"])
        .arg(format!("--window-size={width},1000"))
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!("file://{}", file.display()))
        .output();
    let _ = fs::remove_dir_all(&folder);
    let output = output.expect("a browser");
    String::from_utf8(output.stdout).expect("a page")
}

/// The start tags in a DOM that have this class, with their attributes.
fn marks<'d>(dom: &'d str, class: &str) -> Vec<&'d str> {
    let class = format!("class=\"{class}\"");
    let tags = dom.split('<').filter_map(|tag| tag.split('>').next());
    tags.filter(|tag| tag.contains(&class)).collect()
}

fn attribute<'d>(tag: &'d str, name: &str) -> &'d str {
    let rest = tag.split(&format!(" {name}=\"")).nth(1);
    rest.and_then(|rest| rest.split('"').next()).unwrap_or("")
}

/// Fails where the page says that something went wrong, or did not come to its end.
fn assert_whole(dom: &str) {
    let said = dom.split("id=\"error\"").nth(1).unwrap_or("");
    let said = said.split("</p>").next().unwrap_or("");
    assert!(said.contains("hidden") && said.ends_with('>'), "{said}");
    assert!(dom.contains("data-drawn=\"yes\""), "not drawn to the end");
    for nonsense in ["NaN", "undefined", "Infinity"] {
        let body = dom.split("<script>").next().unwrap_or("");
        assert!(!body.contains(nonsense), "{nonsense} is drawn");
    }
}

/// Stretches of one letter in the rows of a film: each is a rectangle.
fn stretches(vm: &Value) -> usize {
    let columns = vm["columns"].as_array().expect("columns");
    let columns: Vec<&[u8]> = columns
        .iter()
        .map(|c| c.as_str().unwrap().as_bytes())
        .collect();
    let rows = vm["rows"].as_u64().expect("rows") as usize;
    let letter = |x: usize, y: usize| columns[x].get(y).copied().unwrap_or(b'.');
    let begins = |x: usize, y: usize| x == 0 || letter(x, y) != letter(x - 1, y);
    (0..rows)
        .map(|y| (0..COLUMNS).filter(|&x| begins(x, y)).count())
        .sum()
}

/// Checks that every picture has the marks that its data ask for.
fn assert_drawn(page: &str, width: u32) {
    let (dom, data) = (drawn(page, width), data_of(page));
    assert_whole(&dom);
    let vms = data["vms"].as_array().expect("vms");
    let cells = marks(&dom, "cell");
    let rectangles = cells
        .iter()
        .map(|tag| attribute(tag, "d").matches('M').count());
    assert_eq!(
        rectangles.sum::<usize>(),
        vms.iter().map(stretches).sum::<usize>()
    );
    assert_eq!(marks(&dom, "area").len(), 2 * vms.len());
    let lanes = data["lanes"].as_array().expect("lanes");
    let counts = |lane: &Value| {
        let counts = lane["counts"].as_array().expect("counts").iter();
        counts.filter(|count| *count != 0).count()
    };
    let strips = marks(&dom, "bars");
    let drawn = strips
        .iter()
        .map(|tag| attribute(tag, "d").matches('M').count());
    assert!(drawn.eq(lanes.iter().map(counts).filter(|&count| count > 0)));
    let vms = data["latency"]["vms"].as_array().expect("vms").iter();
    let bars = vms.flat_map(|vm| vm["bars"].as_array().expect("bars"));
    let parts = bars.flat_map(|bar| [&bar[2], &bar[3]]);
    let latency = marks(&dom, "bar")
        .iter()
        .filter(|tag| !tag.contains("reason"))
        .count();
    assert_eq!(latency, parts.filter(|count| **count != 0).count());
    let figures = data["figures"].as_array().expect("figures");
    assert_eq!(dom.matches("<th scope=\"row\"").count(), figures.len());
}

/// Many events of two VMs with much memory, at pseudo-random places.
fn huge() -> Recording {
    const GIB: u64 = 1 << 30;
    let mut recording = Recording {
        frequency: 62_500_000,
        ..Recording::default()
    };
    let mut random = 1_u64;
    for time in 0..300_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (vm, ipa) = ((time % 2) as u8, GIB + (random >> 20) % (8 * GIB));
        let event = match (time, random >> 60) {
            (0 | 1, _) => Event::Ram {
                ipa: GIB,
                end: 9 * GIB,
            },
            (_, 0) => collapse(Step::Begin, ipa),
            (_, 1) => collapse(Step::Commit, ipa),
            (_, 2) => Event::Split { level: 2, ipa },
            (_, 3..8) => Event::Map {
                level: 3,
                ipa,
                pa: 0,
            },
            _ => Event::Fault {
                access: Access::Write,
                cause: Cause::Translation,
                outcome: if random & 1 << 32 == 0 {
                    Outcome::Resume
                } else {
                    Outcome::Busy
                },
                ipa,
                ticks: 1 << ((random >> 40) % 34),
            },
        };
        let stamp = Stamp {
            time: time * 1000,
            cpu: vm,
            vm,
            vcpu: 0,
        };
        recording.records.push(Record { stamp, event });
    }
    recording
}

#[test]
fn the_page_shows_what_became_of_memory() {
    let page = page(&recording(), "story");
    assert!(!page.contains("/*DATA*/"));
    let data = data_of(&page);
    let columns = data["vms"][0]["columns"].as_array().expect("columns");
    let row = |c: &Value| c.as_str().and_then(|c| c.chars().next());
    let film: String = columns.iter().filter_map(row).collect();
    assert!(
        film.contains('5') && film.contains('!') && film.contains('B'),
        "{film}"
    );
    assert!(film.ends_with('9'), "a split block is pages again: {film}");
}

#[test]
fn the_page_says_what_was_run_and_whose_faults_they_are() {
    let mut recording = recording();
    recording.about.add("CPUs", "2 of max");
    recording.records.extend([1, 1, 0].map(|vcpu| Record {
        stamp: Stamp {
            time: 9999,
            cpu: 0,
            vm: 3,
            vcpu,
        },
        event: Event::Fault {
            access: Access::Write,
            cause: Cause::Translation,
            outcome: Outcome::Busy,
            ipa: 0x4000_0000,
            ticks: 1 << 20,
        },
    }));
    let page = page(&recording, "story");
    assert!(is_page(page.as_bytes()) && !is_page(&PAGE.as_bytes()[..100]));
    let data = data_of(&page);
    assert_eq!(data["about"][0][1], "2 of max");
    let latency = &data["latency"];
    let faults = |of: &Value| {
        (
            of["name"].as_str().unwrap().to_owned(),
            of["faults"].as_u64(),
        )
    };
    assert_eq!(faults(&latency["all"]), ("all".into(), Some(515)));
    assert_eq!(faults(&latency["vms"][0]), ("vm0".into(), Some(512)));
    assert_eq!(faults(&latency["vms"][1]), ("vm3".into(), Some(3)));
    assert_eq!(latency["vms"][1]["vcpus"], 2);
    // What is quick of one VM says nothing of the other.
    let half = |of: &Value| of["percentiles"][0][1].as_u64().expect("nanoseconds");
    assert!(half(&latency["vms"][0]) < 10 && half(&latency["vms"][1]) > 1 << 19);
}

#[test]
fn a_name_cannot_end_the_script() {
    let page = page(&recording(), "</script><b>");
    assert!(!page.contains("</script><b>"));
    assert_eq!(data_of(&page)["file"], "</script><b>");
}

#[test]
fn a_page_stays_small() {
    let size = page(&huge(), "huge").len();
    assert!(size < 256 << 10, "{size} bytes");
}

/// What stands in `text` between each `before` and the next `after`.
fn between<'t>(text: &'t str, before: &'t str, after: &'t str) -> impl Iterator<Item = &'t str> {
    let pieces = text.split(before).skip(1);
    pieces.filter_map(move |piece| Some(piece.split_once(after)?.0))
}

/// The script knows the kinds of events by their names, which no compiler compares.
#[test]
fn the_script_knows_the_kinds_of_events() {
    let script = include_str!("page.js");
    let kinds = Kind::ALL.map(|kind| format!("{kind:?}"));
    let colours = between(script, "const LANE_COLOURS = {", "}").next();
    let coloured = colours.into_iter().flat_map(|colours| colours.split(','));
    let coloured = coloured.filter_map(|pair| Some(pair.split_once(':')?.0.trim()));
    assert!(coloured.eq(&kinds), "each kind has a colour: {colours:?}");
    let mut counted = 0;
    for name in between(script, "counts(\"", "\")") {
        assert!(kinds.iter().any(|kind| kind == name), "{name} is no kind");
        counted += 1;
    }
    assert!(counted > 0);
}

#[test]
#[ignore = "needs a browser, which `cargo xtask test` installs"]
fn a_browser_draws_every_picture() {
    let page = page(&recording(), "story");
    for width in [1280, 500] {
        assert_drawn(&page, width);
    }
}

#[test]
#[ignore = "needs a browser, which `cargo xtask test` installs"]
fn a_browser_draws_a_page_of_nothing() {
    let page = page(&Recording::default(), "empty");
    assert_drawn(&page, 1280);
    let dom = drawn(&page, 500);
    assert_eq!(marks(&dom, "none").len(), 3, "{dom}");
}

#[test]
#[ignore = "needs a browser, which `cargo xtask test` installs"]
fn a_browser_draws_a_page_of_much() {
    let page = page(&huge(), "huge");
    assert_drawn(&page, 1280);
    assert!(
        data_of(&page)["latency"]["vms"][0]["bars"]
            .as_array()
            .is_some_and(|bars| bars.len() > 60)
    );
}

#[test]
#[ignore = "needs a browser, which `cargo xtask test` installs"]
fn a_page_says_what_went_wrong() {
    for (part, broken) in [("\"lanes\":", "\"lines\":"), ("figures();", "figures(;")] {
        let page = page(&recording(), "story").replace(part, broken);
        let dom = drawn(&page, 1280);
        assert!(
            dom.contains("This page could not be drawn: Uncaught"),
            "{broken}"
        );
        assert!(!dom.contains("data-drawn=\"yes\""));
    }
}
