//! What can be known of virtual machines before anything is built or booted. A boot that cannot
//! work is refused here, where its user is told what to write instead, and not by a console some
//! minutes later.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bootargs::MAX_VMS;
use guest::args::Args;
use guest::catalogue;
use plural::count;

use super::kernel::Room;
use super::{Spec, disk, kernel};
use crate::debian;
use crate::size::Size;

/// The longest boot arguments of a guest, in bytes: Linux takes no longer ones
/// (`COMMAND_LINE_SIZE`), and the hypervisor's device trees have no room for them.
const LONGEST_APPEND: usize = 2047;

/// The machine that virtual machines are to run on, and what they have there unless they say
/// otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The machine's RAM, in bytes.
    memory: u64,
    /// A guest's RAM, in bytes.
    guest_memory: u64,
    /// A guest's boot arguments.
    guest_args: &'a str,
    /// Where what was fetched from Debian is.
    target: &'a Path,
}

impl<'a> Host<'a> {
    /// A machine with so much RAM, and a hypervisor with these boot arguments; `target` is the
    /// target directory.
    pub fn new(memory: Size, hyp_args: &'a str, target: &'a Path) -> Self {
        // What the hypervisor does not understand is refused elsewhere.
        let args = bootargs::parse(hyp_args, &mut |_| ());
        Self {
            memory: memory.bytes(),
            guest_memory: args.guest_memory,
            guest_args: args.guest_args,
            target,
        }
    }

    fn memory_of(&self, spec: &Spec) -> u64 {
        spec.memory.map_or(self.guest_memory, Size::bytes)
    }
}

/// Refuses machines that cannot work.
///
/// # Errors
///
/// The first reason, with the machine's name.
pub fn check(specs: &[Spec], host: &Host<'_>) -> Result<()> {
    if specs.len() > MAX_VMS {
        bail!(
            "{} are asked for, and the hypervisor has room for {MAX_VMS}",
            count(specs.len(), "VM", "VMs")
        );
    }
    for spec in specs {
        check_one(spec, host).with_context(|| format!("VM `{}`", spec.label()))?;
    }
    let mut names = BTreeSet::new();
    if let Some(name) = specs
        .iter()
        .filter_map(|spec| spec.name.as_deref())
        .find(|name| !names.insert(*name))
    {
        bail!(
            "two VMs are named `{name}`, and their consoles could not be told apart; name one of them otherwise"
        );
    }
    if !host.guest_args.is_empty() && specs.iter().all(|spec| spec.boot_arguments().is_some()) {
        bail!(
            "the boot argument guest-args= is for guests without boot arguments of their own, and there is none; \
             give them with --append, or with append= after --vm"
        );
    }
    Ok(())
}

fn check_one(spec: &Spec, host: &Host<'_>) -> Result<()> {
    let memory = host.memory_of(spec);
    let own = spec.boot_arguments();
    let arguments = own.as_deref().unwrap_or(host.guest_args);
    if arguments.len() > LONGEST_APPEND {
        bail!(
            "its boot arguments have {} bytes; guests take {LONGEST_APPEND} at most",
            arguments.len()
        );
    }
    if let Some(guest) = spec.guest.as_deref().and_then(catalogue::find) {
        Args::new(arguments, guest).map_err(|error| anyhow::anyhow!("{error}"))?;
        if memory < guest.least_mib << 20 {
            bail!(
                "{} needs {} MiB of memory at least, and gets {}",
                guest.name,
                guest.least_mib,
                memory >> 20
            );
        }
    }
    if spec.is_linux() && spec.initrd.is_none() {
        check_test(arguments)?;
    }
    check_files(spec, memory, host)
}

/// Refuses a test that the programs for Linux do not have.
fn check_test(arguments: &str) -> Result<()> {
    let words = arguments.split_whitespace();
    let Some(name) = words
        .filter_map(|word| word.strip_prefix("test="))
        .next_back()
    else {
        return Ok(());
    };
    let tests: Vec<_> = debian::linux_tests().collect();
    if !name.is_empty() && !tests.contains(&name) {
        bail!("linux has no test `{name}`; it has {}", tests.join(", "));
    }
    Ok(())
}

/// Refuses files that cannot be read, are not what they are named for, or do not fit in `memory`.
fn check_files(spec: &Spec, memory: u64, host: &Host<'_>) -> Result<()> {
    if let Some(path) = &spec.firmware {
        return kernel::read(path, Room::FLASH).map(drop);
    }
    let room = memory.min(host.memory);
    let fetched = spec.debian_guest();
    let fetched = fetched.and_then(|name| debian::fetched_kernel(name, host.target));
    let kernel = spec.kernel.clone().or(fetched);
    let kernel = kernel.map_or(Ok(0), |path| {
        kernel::read(&path, Room::memory(memory, host.memory)).map(|bytes| kernel::needs(&bytes))
    })?;
    let length = spec.initrd.as_deref().map_or(Ok(0), disk::length)?;
    let needed = kernel.saturating_add(length);
    if needed > room {
        bail!(
            "its kernel and initial RAM disk need more than {} MiB of memory, and it gets {} of a machine with {}; raise \
             memory= or --guest-memory, and --memory",
            needed >> 20,
            memory >> 20,
            host.memory >> 20
        );
    }
    Ok(())
}

/// What is allowed and will most likely disappoint: guests with more memory than there is.
pub fn warning(specs: &[Spec], host: &Host<'_>) -> Option<String> {
    let memory = specs.iter().map(|spec| host.memory_of(spec));
    let sum = memory.fold(0, u64::saturating_add);
    (sum > host.memory).then(|| {
        let who = match specs.len() {
            1 => "the guest has",
            _ => "the guests have, together,",
        };
        format!(
            "{who} {} MiB of memory, more than the machine's {}; one that uses what is not there is stopped",
            sum >> 20,
            host.memory >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    fn host(hyp_args: &str) -> Host<'_> {
        Host::new(Size::mib(1024), hyp_args, Path::new("/nonexistent"))
    }

    fn specs(vms: &[&str]) -> Vec<Spec> {
        let spec = |text: &&str| Spec::parse(text).expect("a VM");
        vms.iter().map(spec).collect()
    }

    fn wrong(vms: &[&str], hyp_args: &str) -> String {
        let error = check(&specs(vms), &host(hyp_args)).expect_err("a reason");
        format!("{error:#}")
    }

    /// A folder that is gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = format!("xtask-check-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            fs::create_dir_all(&folder).expect("a folder");
            Self(folder)
        }

        fn file(&self, name: &str, contents: &[u8]) -> String {
            let path = self.0.join(name);
            fs::write(&path, contents).expect("a file");
            path.display().to_string()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn every_guest_is_in_the_catalogue() {
        let workspace = crate::workspace::Workspace::load().expect("a workspace");
        let guests = workspace.guests();
        assert_eq!(guests, catalogue::GUESTS.map(|guest| guest.name));
    }

    #[test]
    fn what_works_passes() {
        for vms in [
            &["guest=hello,append=mode=clock"][..],
            &["guest=stress,vcpus=2,memory=64M,append=seconds=3 seed=14"],
            &["guest=linux,append=quiet test=memcheck seconds=9"],
            &["guest=linux", "guest=touch"],
        ] {
            check(&specs(vms), &host("")).expect(vms[0]);
        }
        check(
            &specs(&["guest=stress"]),
            &host("guest-args=\"seconds=1 seed=3\""),
        )
        .expect("arguments");
    }

    #[test]
    fn two_machines_of_one_name_are_refused() {
        let two = ["guest=hello,name=x", "guest=touch,name=x"];
        assert!(wrong(&two, "").starts_with("two VMs are named `x`"));
        let other = ["guest=hello,name=x", "guest=hello,name=y", "guest=hello"];
        check(&specs(&other), &host("")).expect("three names");
    }

    #[test]
    fn arguments_that_a_guest_of_ours_does_not_take_are_refused() {
        for (vm, hyp_args, expected) in [
            (
                "guest=hello,append=mod=clock",
                "",
                "VM `hello`: unknown guest argument `mod=clock`; hello takes mode=hello|",
            ),
            (
                "guest=stress,name=x",
                "guest-args=seconds=2s",
                "VM `x`: guest argument `seconds=2s`: expected seconds=NUMBER",
            ),
            (
                "guest=linux,append=test=memchek",
                "",
                "VM `linux`: linux has no test `memchek`; it has boot, memcheck, ",
            ),
            (
                "guest=linux",
                "guest-args=test=boot",
                "the boot argument guest-args= is for guests without",
            ),
        ] {
            let error = wrong(&[vm], hyp_args);
            assert!(error.starts_with(expected), "{error}");
        }
        let long = format!("guest=linux,append={}", "x".repeat(LONGEST_APPEND));
        assert!(wrong(&[&long], "").contains("2047 at most"));
        assert!(wrong(&["guest=hello"; 9], "").starts_with("9 VMs are asked for"));
    }

    #[test]
    fn memory_that_does_not_do_is_refused() {
        let error = wrong(&["guest=stress,memory=16M"], "");
        assert_eq!(
            error,
            "VM `stress`: stress needs 32 MiB of memory at least, and gets 16"
        );
        let folder = Folder::new("memory");
        let kernel = folder.file("Image", &[1; 4096]);
        let disk = folder.0.join("disk");
        let sparse = File::create(&disk).expect("a file");
        sparse.set_len(200 << 20).expect("a sparse file");
        let vm = format!("kernel={kernel},initrd={}", disk.display());
        let error = wrong(&[&vm], "");
        assert!(
            error.contains("need more than 200 MiB of memory, and it gets 128 "),
            "{error}"
        );
        check(&specs(&[&format!("{vm},memory=256M")]), &host("")).expect("memory enough");
    }

    #[test]
    fn a_kernel_larger_than_memory_is_refused_unread() {
        let folder = Folder::new("sparse");
        let path = folder.0.join("Image");
        let sparse = File::create(&path).expect("a file");
        sparse.set_len(3 << 30).expect("a sparse file");
        let start = Instant::now();
        let error = wrong(&[&format!("kernel={}", path.display())], "");
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(
            error.contains("it has 3072 MiB, and the guest's memory, which --guest-memory or memory= raises, 128 MiB"),
            "{error}"
        );
        let firmware = format!("firmware={}", path.display());
        assert!(wrong(&[&firmware], "").contains("and the flash 64 MiB"));
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let folder = Folder::new("files");
        let (kernel, empty) = (folder.file("Image", &[1; 64]), folder.file("empty", &[]));
        for (vm, expected) in [
            (format!("kernel={kernel},initrd={empty}"), "empty is empty"),
            (format!("kernel={empty}"), "it is empty"),
            (
                format!("kernel={kernel},initrd=/nonexistent"),
                "could not read",
            ),
            (format!("kernel={}", folder.0.display()), "it is no file"),
            ("kernel=/dev/zero".into(), "it is no file"),
            (
                format!("kernel={kernel},initrd=/dev/zero"),
                "/dev/zero is no file",
            ),
        ] {
            let error = wrong(&[&vm], "");
            assert!(error.contains(expected), "{vm}: {error}");
        }
    }

    #[test]
    fn more_memory_than_there_is_is_remarked_upon() {
        let warn = |vms: &[&str]| warning(&specs(vms), &host(""));
        assert_eq!(warn(&["guest=hello"; 8]), None);
        let one = warn(&["guest=hello,memory=2G"]).expect("a warning");
        assert!(
            one.starts_with("the guest has 2048 MiB of memory, more than the machine's 1024"),
            "{one}"
        );
        let two = warn(&["guest=hello,memory=1G", "guest=hello"]).expect("a warning");
        assert!(two.contains("together, 1152 MiB"), "{two}");
    }
}
