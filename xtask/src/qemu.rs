//! The machine that QEMU is asked for: its options, checked, and the command line made of them.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::{Result, bail};

use crate::size::Size;

/// The QEMU that is run where the user names none.
pub const PROGRAM: &str = "qemu-system-aarch64";

/// The environment variable that names another one.
pub const VARIABLE: &str = "TESSERA_QEMU";

/// The one that the user has named.
static NAMED: OnceLock<OsString> = OnceLock::new();

/// From now on this QEMU is run, if the user has named one. What was named first stays.
pub fn choose(named: Option<&Path>) {
    if let Some(path) = named {
        // Commands run in other folders than the user's. A bare name is looked for in PATH.
        let is_bare = path.components().count() == 1 && !path.exists();
        let whole = match is_bare {
            true => Ok(path.to_owned()),
            false => std::path::absolute(path),
        };
        NAMED.get_or_init(|| whole.unwrap_or_else(|_| path.to_owned()).into());
    }
}

/// The QEMU that the user has named, if any.
pub fn named() -> Option<&'static OsString> {
    NAMED.get()
}

/// The QEMU that is run.
pub fn program() -> OsString {
    NAMED.get().cloned().unwrap_or_else(|| PROGRAM.into())
}

/// The CPU models that the boot tests cover.
pub const TESTED_CPUS: [&str; 5] = [
    "cortex-a57",
    "cortex-a72",
    "cortex-a76",
    "neoverse-n1",
    "max",
];

/// The CPU model where none is asked for: a server CPU with LSE atomics, 16-bit VMIDs and hardware
/// management of access flag and dirty state, and without `max`'s slow pointer authentication.
pub const DEFAULT_CPU: &str = "neoverse-n1";

/// Where the hypervisor's image lies, where QEMU puts the first guest if there are 256 MiB, and
/// where the boot tests' firmware has the device tree, for which there must be 512.
const IMAGE: u64 = 0x4020_0000;
const GUEST: u64 = 0x4800_0000;
const TREE: u64 = 0x5f00_0000;

/// A machine with less RAM has no room for the hypervisor, which QEMU puts 2 MiB above RAM's base.
pub const LEAST_MEMORY: Size = Size::mib(16);

/// The most CPUs of the machine, and the most vCPUs of a VM.
pub const MOST_CPUS: u32 = 8;

/// How the names of QEMU's CPUs begin that have no 64-bit state: the hypervisor would not say a
/// word on them.
const NOT_64_BIT: [&str; 11] = [
    "arm",
    "cortex-a15",
    "cortex-a5-",
    "cortex-a7-",
    "cortex-a8-",
    "cortex-a9-",
    "cortex-m",
    "cortex-r",
    "pxa",
    "sa11",
    "ti925t",
];

/// A CPU model as QEMU's `-cpu` takes it: a name, and properties after commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuModel(String);

impl CpuModel {
    /// Whether the boot tests cover this model, its properties aside.
    pub fn is_tested(&self) -> bool {
        TESTED_CPUS.contains(&self.name())
    }

    /// The name, without properties.
    fn name(&self) -> &str {
        self.0.split(',').next().unwrap_or_default()
    }

    /// Makes sure that the installed QEMU has this model.
    ///
    /// # Errors
    ///
    /// When it has not; the message lists those that would do.
    pub fn check(&self) -> Result<()> {
        let list = Command::new(program()).args(["-cpu", "help"]).output();
        // QEMU itself will say what is wrong.
        list.map_or(Ok(()), |output| {
            self.check_in(&String::from_utf8_lossy(&output.stdout))
        })
    }

    /// As [`Self::check`], with what QEMU lists.
    fn check_in(&self, list: &str) -> Result<()> {
        let names: Vec<_> = list
            .lines()
            .filter(|line| line.starts_with(char::is_whitespace))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| is_64_bit(name))
            .collect();
        if names.is_empty() || names.contains(&self.name()) {
            return Ok(());
        }
        let names = names.join(", ");
        bail!(
            "this QEMU has no CPU model `{}`; of 64 bits it has {names}",
            self.name()
        );
    }
}

impl FromStr for CpuModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = TESTED_CPUS.join(", ");
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.,=".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
            let model = Self(text.to_owned());
            if is_64_bit(model.name()) {
                return Ok(model);
            }
            Err(format!(
                "this CPU has no 64-bit state, which EL2 needs; tested ones: {known}"
            ))
        } else {
            Err(format!("not the name of a CPU model; tested ones: {known}"))
        }
    }
}

/// Whether the CPU of this name has AArch64, and EL2 with it, as far as is known.
fn is_64_bit(name: &str) -> bool {
    // So that `cortex-a7` is not taken for the start of `cortex-a76`.
    let whole = format!("{name}-");
    !NOT_64_BIT.iter().any(|start| whole.starts_with(start))
}

impl std::fmt::Display for CpuModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A machine to boot.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The CPU model.
    pub cpu: CpuModel,
    /// How many CPUs, 1 to [`MOST_CPUS`].
    pub cpus: u32,
    /// The size of RAM.
    pub memory: Size,
    /// The hypervisor's boot arguments.
    pub hyp_args: String,
    /// What else QEMU is given, as it stands.
    pub extra: Vec<OsString>,
}

impl Machine {
    /// The command line that boots `hypervisor` with `guest` as its first guest, the console at
    /// QEMU's standard input and output. SIGINT ends QEMU, unless the console is for a terminal:
    /// then Ctrl-C is the guest's.
    pub fn command(&self, hypervisor: &Path, guest: &Path) -> Command {
        let signal = if self.is_raw() { "off" } else { "on" };
        let mut command = Command::new(program());
        command
            .args(["-machine", "virt,virtualization=on,gic-version=3"])
            .args(["-cpu", &self.cpu.0])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-m", &self.memory.to_string()])
            .args(["-nic", "none", "-display", "none", "-monitor", "none"])
            .args(["-chardev", &format!("stdio,id=console,signal={signal}")])
            .args(["-serial", "chardev:console"])
            .arg("-kernel")
            .arg(hypervisor)
            .arg("-initrd")
            .arg(guest)
            .args(["-append", &self.hyp_args])
            .args(&self.extra);
        command
    }

    /// The command line that writes the device tree of the same machine to `tree`, and boots
    /// nothing.
    pub fn describe(&self, hypervisor: &Path, guest: &Path, tree: &Path) -> Command {
        let mut command = self.command(hypervisor, guest);
        let mut option = OsString::from("dumpdtb=");
        option.push(tree);
        command.arg("-machine").arg(option);
        command
    }

    /// The command line that boots the same on a firmware at EL3, which finds image, guest and tree
    /// in memory. QEMU's own tree for such a machine says nothing of a guest, so `tree` is from
    /// [`Self::describe`].
    pub fn on_firmware(
        &self,
        firmware: &Path,
        hypervisor: &Path,
        guest: &Path,
        tree: &Path,
    ) -> Command {
        let mut command = Command::new(program());
        command
            .args(["-machine", "virt,virtualization=on,secure=on,gic-version=3"])
            .args(["-cpu", &self.cpu.0])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-m", &self.memory.to_string()])
            .args(["-nic", "none", "-display", "none", "-monitor", "none"])
            .args(["-serial", "stdio"])
            // By which the firmware ends.
            .args(["-semihosting-config", "enable=on,target=native"])
            .arg("-bios")
            .arg(firmware);
        for (file, address) in [(hypervisor, IMAGE), (guest, GUEST), (tree, TREE)] {
            let mut option = OsString::from("loader,force-raw=on,file=");
            option.push(file);
            option.push(format!(",addr={address:#x}"));
            command.arg("-device").arg(option);
        }
        command.args(&self.extra);
        command
    }

    /// Whether guests' output comes as it is, for a terminal.
    pub fn is_raw(&self) -> bool {
        let mut words = self.hyp_args.split_whitespace();
        words.any(|word| word == "console=raw")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;

    #[test]
    fn cpu_models_are_checked() {
        for name in TESTED_CPUS {
            assert!(
                name.parse::<CpuModel>()
                    .is_ok_and(|model| model.is_tested())
            );
        }
        let with_property: CpuModel = "max,lpa2=off".parse().expect("a model");
        assert!(with_property.is_tested());
        let other: CpuModel = "cortex-a53".parse().expect("a model");
        assert!(!other.is_tested());
        for wrong in ["", "-smp", "max -S", "a;b", ",max"] {
            assert!(wrong.parse::<CpuModel>().is_err(), "{wrong}");
        }
        for small in [
            "cortex-a15",
            "cortex-a7",
            "cortex-m33",
            "arm1176",
            "cortex-a9,x=y",
        ] {
            let error = small.parse::<CpuModel>().expect_err(small);
            assert!(
                error.contains("64-bit") && error.contains("neoverse-n1"),
                "{error}"
            );
        }
        for other in [
            "cortex-a53",
            "cortex-a710",
            "cortex-a55",
            "a64fx",
            "neoverse-v1",
        ] {
            assert!(other.parse::<CpuModel>().is_ok(), "{other}");
        }
    }

    #[test]
    fn a_model_that_qemu_does_not_have_is_refused_with_those_it_has() {
        let list = "Available CPUs:\n  a64fx\n  arm926\n  cortex-a57\n  max (most of it)\n";
        for known in ["max,lpa2=off", "a64fx"] {
            let model: CpuModel = known.parse().expect("a model");
            model.check_in(list).expect(known);
        }
        let missing: CpuModel = "cortex-a99,x=y".parse().expect("a name");
        let error = missing.check_in(list).expect_err("no model").to_string();
        let expected =
            "this QEMU has no CPU model `cortex-a99`; of 64 bits it has a64fx, cortex-a57, max";
        assert_eq!(error, expected);
        assert!(missing.check_in("").is_ok(), "for QEMU to say");
    }

    #[test]
    fn a_terminals_interrupts_are_the_guests() {
        let line = |hyp_args: &str| {
            let machine = Machine {
                cpu: "max".parse().expect("a model"),
                cpus: 1,
                memory: Size::mib(1024),
                hyp_args: hyp_args.into(),
                extra: Vec::new(),
            };
            shell::line(&machine.command(Path::new("hyp"), Path::new("guest")))
        };
        assert!(line("vcpus=1").contains(",signal=on"));
        assert!(line("vcpus=1 console=raw").contains(",signal=off"));
    }

    #[test]
    fn the_command_line_says_what_was_asked() {
        let machine = Machine {
            cpu: "max".parse().expect("a model"),
            cpus: 2,
            memory: Size::mib(1536),
            hyp_args: "log=debug guest-args=\"seconds=1 seed=2\"".into(),
            extra: vec!["-S".into()],
        };
        let line = shell::line(&machine.command(Path::new("/a b/hyp"), Path::new("guest")));
        assert!(
            line.starts_with("qemu-system-aarch64 -machine virt,"),
            "{line}"
        );
        for part in [
            "-cpu max -smp 2 -m 1536M",
            "-kernel '/a b/hyp' -initrd guest",
            "-append 'log=debug guest-args=\"seconds=1 seed=2\"' -S",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
