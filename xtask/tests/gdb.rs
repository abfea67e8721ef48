//! `cargo xtask gdb` on a booted stress guest: what the commands print, and that nothing is left
//! running.
//!
//! For `cargo xtask test`, which sees to it that there are QEMU and GDB.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(120);

/// `cargo xtask gdb` with these options and commands of GDB.
fn gdb(options: &[&str], commands: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["gdb", "--cpus", "2"]).args(options);
    command.args(commands.iter().flat_map(|gdb| ["--command", gdb]));
    command.stdin(Stdio::null());
    command
}

/// What GDB printed of the stress guest.
fn printed(commands: &[&str]) -> String {
    printed_of(&[], commands)
}

/// What GDB printed.
fn printed_of(options: &[&str], commands: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = gdb(options, commands).output().expect("xtask");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    for trouble in ["Python Exception", "Traceback"] {
        assert!(!stderr.contains(trouble), "{stdout}\n{stderr}");
    }
    format!("{stdout}{stderr}")
}

/// The number behind `before` and in front of `after`.
fn number(text: &str, before: &str, after: &str) -> usize {
    let found = text.lines().find_map(|line| {
        let end = line.split_once(after)?.0;
        end.rsplit_once(before)?.1.trim().parse().ok()
    });
    found.unwrap_or_else(|| panic!("no `{before}N{after}` in {text}"))
}

#[test]
#[ignore = "needs GDB, which `cargo xtask test` installs"]
fn tables_threads_and_symbols_of_a_running_guest_are_seen() {
    let all = printed(&[
        "info symbol 0x40080000",
        "tessera run 8",
        "tessera vms",
        "tessera threads",
        "tessera walk 0 0x40080000",
        "echo the table\\n",
        "tessera table $table",
        "tessera walk 0 0x9000000",
        "tessera walk 7 0",
        "tessera walk 0 0xffffffffff000",
        "tessera table 0",
        "tessera walk 0",
        "tessera markers 0",
    ]);
    for part in [
        "in section .init of",
        "vm0: 2 vCPU threads, owner 1, 40 bits of IPA, root of level 1 at 0x",
        "compaction ",
        "vcpu ",
        "vm0, IPA 0x40080000:\n  level 1: table 0x",
        "level 2 of owner 1; 64 entries in use",
        "vm0, IPA 0x9000000:",
        "0x0000000000000000: empty",
        " markers\n",
        "vm7 has no memory",
        "is outside of vm0's 40 bits of IPA",
        "the frame at 0x0 is no table",
        "expected VM IPA",
    ] {
        assert!(all.contains(part), "{part} in\n{all}");
    }
    let leaf = |line: &&str| line.contains(": page at 0x") || line.contains(": block at 0x");
    let leaf = all
        .lines()
        .find(leaf)
        .unwrap_or_else(|| panic!("no leaf in {all}"));
    assert!(leaf.contains("normal, read"), "{leaf}");
    // The code's page is in use, so the last table is one with leaves: its entries are what it
    // counts.
    let table = all.split("the table\n").nth(1).expect("a table");
    if table.contains("lock free") {
        let empty = table.split("entries in use").nth(1).unwrap_or("");
        let empty = empty.split("\nvm0").next().unwrap_or("");
        let empty = if empty.contains(" empty") {
            number(empty, " ", " empty")
        } else {
            0
        };
        assert_eq!(
            number(table, "; ", " entries in use"),
            512 - empty,
            "{table}"
        );
    }
}

#[test]
#[ignore = "needs GDB, which `cargo xtask test` installs"]
fn a_machine_runs_until_a_marker_stands_and_its_end_is_survived() {
    let arguments = "compaction=stress guest-args=\"seconds=3 seed=1\"";
    let all = printed_of(
        &["--hyp-args", arguments],
        &[
            "tessera run 0.25",
            "tessera until-marker 0 100",
            "echo marked\\n",
            "tessera markers 0",
            "echo all\\n",
            "tessera run none",
            "tessera run -1",
            // It switches itself off long before.
            "tessera run 1000",
            "tessera vms",
            "tessera threads",
            "tessera run 1",
            "continue",
            "echo the end\\n",
        ],
    );
    let marked = all
        .split("marked\n")
        .nth(1)
        .and_then(|rest| rest.split("all\n").next());
    let marked = marked.unwrap_or_else(|| panic!("{all}"));
    assert!(
        marked.contains(": marker: ") && !marked.contains(": 0 markers"),
        "{all}"
    );
    for part in [
        "The machine has switched itself off",
        "compaction ",
        "the end",
    ] {
        assert!(all.contains(part), "{part} in\n{all}");
    }
    // Of `run` and of `continue`.
    assert_eq!(all.matches("the machine is off").count(), 2, "{all}");
    assert_eq!(
        all.matches("expected a time in seconds").count(),
        1,
        "{all}"
    );
    assert!(all.contains("`none` is no number"), "{all}");
}

/// The processes that `child` has started and that have not ended, zombies aside.
fn children(child: &Child) -> Vec<PathBuf> {
    let id = child.id();
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_whitespace()
        .map(|id| PathBuf::from("/proc").join(id))
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs GDB, which `cargo xtask test` installs"]
fn ctrl_c_ends_both() {
    let mut child = gdb(&[], &["continue"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("xtask");
    let start = Instant::now();
    let both = loop {
        let now = children(&child);
        // The build has one child at a time.
        if now.len() == 2 {
            break now;
        }
        assert!(
            start.elapsed() < PATIENCE * 5,
            "QEMU and GDB do not come up"
        );
        sleep(Duration::from_millis(100));
    };
    sleep(Duration::from_secs(1));
    let id = i32::try_from(child.id()).expect("an id");
    kill(Pid::from_raw(id), Signal::SIGINT).expect("a signal");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a status") {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "it goes on");
        sleep(Duration::from_millis(100));
    };
    assert_eq!(status.code(), Some(130));
    assert!(both.iter().all(|process| !process.exists()), "{both:?}");
    let socket = std::env::temp_dir().join(format!("tessera-gdb-{id}"));
    assert!(!socket.exists());
}
