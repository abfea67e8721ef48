//! What a recording says of its run, so that pictures and figures can be told from each other
//! later.

use std::path::Path;
use std::process::Command;

use bootargs::BootArgs;

use crate::qemu::Machine;
use crate::vms::Spec;
use crate::workspace;
use trace_tools::About;

/// How many digits of a commit are shown.
const DIGITS: &str = "--short=12";

/// What there is to say of a machine with these guests.
pub(crate) fn about(machine: &Machine, specs: &[Spec]) -> About {
    let args = bootargs::parse(&machine.hyp_args, &mut |_| {});
    let mut about = About::default();
    about.add("CPUs", format!("{} of {}", machine.cpus, machine.cpu));
    about.add("RAM", machine.memory.to_string());
    for (vm, spec) in specs.iter().enumerate() {
        about.add(&format!("vm{vm}"), guest(spec, &args));
    }
    about.add("boot arguments", machine.hyp_args.as_str());
    about.add("commit", commit(&workspace::root()));
    about
}

/// A guest, with the arguments that it got, its seed among them if it was named.
fn guest(spec: &Spec, args: &BootArgs<'_>) -> String {
    let file = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    let own = spec
        .kernel
        .as_deref()
        .or(spec.firmware.as_deref())
        .map(file);
    let name = own.or_else(|| spec.guest.clone()).unwrap_or_default();
    let arguments = spec.append.as_deref().unwrap_or(args.guest_args);
    format!("{name} {arguments}").trim_end().to_owned()
}

/// The commit of the source tree, and whether there are changes to it.
fn commit(tree: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .current_dir(tree)
            .args(args)
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(said)
    };
    let changes = || git(&["status", "--porcelain", "--untracked-files=no"]);
    match git(&["rev-parse", DIGITS, "HEAD"]) {
        None => "unknown: the source tree is not under git".to_owned(),
        Some(commit) if changes().is_none_or(|changes| changes.is_empty()) => commit,
        Some(commit) => format!("{commit}, with changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::size::Size;

    #[test]
    fn cpus_guests_and_seeds_are_named() {
        let machine = Machine {
            cpu: "max".parse().expect("a model"),
            cpus: 2,
            memory: Size::mib(1024),
            hyp_args: "compaction=stress guest-args=\"seconds=3 seed=7\"".into(),
            extra: Vec::new(),
        };
        let specs = [
            Spec::of_guest("stress"),
            Spec::parse("kernel=/boot/Image,append=quiet").expect("a guest"),
        ];
        let about = about(&machine, &specs);
        for (name, value) in [
            ("CPUs", "2 of max"),
            ("vm0", "stress seconds=3 seed=7"),
            ("vm1", "Image quiet"),
            ("boot arguments", machine.hyp_args.as_str()),
        ] {
            assert_eq!(about.get(name), Some(value), "{name}");
        }
        assert!(about.get("commit").is_some_and(|commit| !commit.is_empty()));
    }

    #[test]
    fn changes_to_the_tree_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(commit(folder.path()).starts_with("unknown"));
        let file = folder.path().join("file");
        std::fs::write(&file, "one").expect("a file");
        for args in [
            &["init", "--quiet"][..],
            &["add", "file"],
            &[
                "-c",
                "user.name=n",
                "-c",
                "user.email=e",
                "commit",
                "--quiet",
                "-m",
                "m",
            ],
        ] {
            let done = Command::new("git")
                .current_dir(folder.path())
                .args(args)
                .status();
            assert!(done.expect("git").success(), "{args:?}");
        }
        assert_eq!(commit(folder.path()).len(), 12);
        std::fs::write(file, "two").expect("a change");
        assert!(commit(folder.path()).ends_with(", with changes"));
    }
}
