//! The machine that QEMU is asked for: its options, checked, and the command line made of them.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use crate::size::Size;

/// The QEMU that is run.
pub const PROGRAM: &str = "qemu-system-aarch64";

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

/// The most CPUs of the machine, and the most vCPUs of a VM.
pub const MOST_CPUS: u32 = 8;

/// A CPU model as QEMU's `-cpu` takes it: a name, and properties after commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuModel(String);

impl CpuModel {
    /// Whether the boot tests cover this model, its properties aside.
    pub fn is_tested(&self) -> bool {
        let name = self.0.split(',').next().unwrap_or_default();
        TESTED_CPUS.contains(&name)
    }
}

impl FromStr for CpuModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.,=".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            let known = TESTED_CPUS.join(", ");
            Err(format!("not the name of a CPU model; tested ones: {known}"))
        }
    }
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
    /// QEMU's standard input and output. SIGINT ends QEMU, unless the console is for a terminal: then
    /// Ctrl-C is the guest's.
    pub fn command(&self, hypervisor: &Path, guest: &Path) -> Command {
        let signal = if self.is_raw() { "off" } else { "on" };
        let mut command = Command::new(PROGRAM);
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
