//! The boot tests with Linux (Debian's kernel, unmodified, with BusyBox; what each test does in the
//! guest is in `guest/linux/init`) and with other systems of Debian's.

use xtask::size::Size;

use crate::scenario::{Ending, Scenario};

/// `max` with an algorithm for pointer authentication that is fast to emulate.
const MAX: &str = "max,pauth-impdef=on";

/// Every boot test with Linux.
pub(super) fn linux() -> Vec<Scenario> {
    let mut tests = boots();
    tests.extend(speculation());
    tests.extend(memory());
    tests.extend(debugging());
    tests.extend(life());
    tests.extend(others());
    tests
}

/// Linux comes up with all its vCPUs: on each kind of CPU, on fewer CPUs, in little memory and in
/// much.
fn boots() -> Vec<Scenario> {
    let boot = |name, cpus, cpu| {
        let vm = match cpus {
            1 => "guest=linux,append=test=boot cpus=1 quiet",
            2 => "guest=linux,append=test=boot cpus=2 quiet",
            _ => "guest=linux,append=test=boot cpus=4 quiet",
        };
        Scenario::new(name, vm)
            .on(cpus, cpu)
            .args("guest-memory=256M")
            .within(120)
    };
    vec![
        boot("linux-1-cortex-a57", 1, "cortex-a57").quick(),
        boot("linux-2-cortex-a57", 2, "cortex-a57"),
        boot("linux-4-cortex-a57", 4, "cortex-a57"),
        boot("linux-1-neoverse-n1", 1, "neoverse-n1"),
        boot("linux-2-neoverse-n1", 2, "neoverse-n1"),
        boot("linux-4-neoverse-n1", 4, "neoverse-n1"),
        boot("linux-1-max", 1, MAX),
        boot("linux-2-max", 2, MAX),
        boot("linux-4-max", 4, MAX)
            .memory(Size::mib(4096))
            .args("guest-memory=3G"),
        Scenario::new(
            "linux-8-vcpus",
            "guest=linux,vcpus=8,append=test=boot cpus=8",
        )
        .on(2, "cortex-a72")
        .args("guest-memory=128M compaction=stress")
        .within(120),
        Scenario::new("linux-shell", "guest=linux,append=quiet")
            .on(2, "cortex-a57")
            .args("guest-memory=256M")
            .types("/ # ", "grep processor /proc/cpuinfo\npoweroff\n")
            .ends(Ending::PoweredOff)
            .wants(r"^vm0\| processor\s+: 1$"),
    ]
}

/// Linux finds itself as well protected as on hardware with the same firmware.
fn speculation() -> Vec<Scenario> {
    let told = |name, cpu, hyp_args| {
        Scenario::new(name, "guest=linux,append=test=speculation quiet")
            .on(1, cpu)
            .args(hyp_args)
            .within(120)
    };
    vec![
        told(
            "linux-speculation-firmware",
            "cortex-a57",
            "guest-memory=256M mitigations=firmware",
        )
        .wants("spectre_v2:Mitigation: Branch predictor hardening, BHB$")
        .wants("spec_store_bypass:Not affected$"),
        told(
            "linux-speculation-neoverse-n1",
            "neoverse-n1",
            "guest-memory=256M",
        )
        .wants("spectre_v2:Mitigation: CSV2, BHB$")
        .wants("spec_store_bypass:Mitigation: Speculative Store Bypass disabled via prctl$"),
        told("linux-speculation-none", "cortex-a57", "guest-memory=256M")
            .wants("spectre_v2:Vulnerable$")
            .wants("spec_store_bypass:Vulnerable$"),
    ]
}

/// Memory stays as programs wrote it while compaction pulls tables away under them.
fn memory() -> Vec<Scenario> {
    let check = |name, vm, cpus, cpu| {
        Scenario::new(name, vm)
            .on(cpus, cpu)
            .args("compaction=stress guest-memory=256M")
            .wants(r" [1-9][0-9]* collapses by copying$")
            .wants(r" [1-9][0-9]* splits$")
            .wants(r" [1-9][0-9]* migrations$")
            .wants(r"^vm0\| memcheck: process 0: [1-9]")
            .within(180)
    };
    vec![
        check(
            "linux-memory-2-vcpus",
            "guest=linux,append=test=memcheck seconds=30 quiet",
            2,
            "neoverse-n1",
        ),
        check(
            "linux-memory-4-vcpus",
            "guest=linux,vcpus=4,append=test=memcheck seconds=25 seed=2 quiet",
            2,
            "cortex-a76",
        ),
    ]
}

/// Single steps, breakpoints, watchpoints and uprobes of programs, on vCPUs that take turns and
/// move.
fn debugging() -> Vec<Scenario> {
    let debug = |name, cpus, cpu| {
        Scenario::new(
            name,
            "guest=linux,vcpus=3,append=test=debug seconds=3 processes=4 quiet",
        )
        .on(cpus, cpu)
        .args("guest-memory=192M")
        .wants(r"^vm0\| debugcheck: process 3: [1-9]\d+ steps, [1-9]\d* hits of 6 breakpoints, [1-9]\d* hits of 4 watchpoints$")
        .wants(r"^vm0\| debugcheck: [1-9]\d+ hits of uprobes$")
        .within(120)
    };
    vec![
        debug("linux-debug", 2, "cortex-a57"),
        // Another machine uses the same registers meanwhile.
        debug("linux-debug-beside", 2, MAX)
            .beside("guest=hello,vcpus=2,append=mode=debug ms=4000")
            .wants(r"^vm1\| verdict: passed$"),
    ]
}

/// vCPUs go off and on, the machine starts again, and machines do not disturb each other.
fn life() -> Vec<Scenario> {
    vec![
        Scenario::new("linux-hotplug", "guest=linux,append=test=hotplug quiet")
            .on(4, "cortex-a76")
            .args("guest-memory=256M")
            .within(120),
        Scenario::new(
            "linux-hotplug-alone",
            "guest=linux,vcpus=1,append=test=hotplug quiet",
        )
        .on(1, "cortex-a76")
        .args("guest-memory=192M")
        .ends(Ending::Failed)
        .wants(r"^vm0\| verdict: failed: there is one vCPU, and nothing to unplug")
        .within(120),
        Scenario::new(
            "linux-reboot",
            "guest=linux,append=test=reboot resets=2 quiet",
        )
        .on(2, "cortex-a57")
        .args("guest-memory=256M")
        .wants(r"^vm0\| boot 0$")
        .wants(r"^vm0\| boot 2$")
        .within(120),
        // Each time it has used most of its memory, and at the end all of that is free.
        Scenario::new(
            "linux-restarts",
            "guest=linux,restarts=3,append=test=memcheck seconds=2 quiet",
        )
        .on(2, "neoverse-n1")
        .args("guest-memory=192M compaction=stress")
        .within(180),
        Scenario::new(
            "linux-twice",
            "guest=linux,vcpus=2,append=test=memcheck seconds=8 quiet",
        )
        .beside("guest=linux,vcpus=1,append=test=memcheck seconds=8 seed=3 quiet")
        .beside("guest=stress,vcpus=2,memory=64M,append=seconds=8 seed=11")
        .on(2, "neoverse-n1")
        .memory(Size::mib(1024))
        .args("guest-memory=192M compaction=stress")
        .wants(r"^vm0\| verdict: passed$")
        .wants(r"^vm1\| verdict: passed$")
        .wants(r"^vm2\| verdict: passed$")
        .within(180),
    ]
}

/// Other systems of Debian's come to where they wait for a person.
fn others() -> Vec<Scenario> {
    vec![
        Scenario::new("u-boot", "guest=u-boot")
            .on(1, "cortex-a57")
            // What is saved is in flash, and still there when the machine has started again.
            .types("Hit any key", " ")
            .types("=> ", "setenv kept 42\n")
            .types("=> ", "saveenv\n")
            .types("=> ", "reset\n")
            .types("Hit any key", " ")
            .types("=> ", "echo kept $kept\npoweroff\n")
            .ends(Ending::PoweredOff)
            .wants(r"^vm0\| kept 42$")
            .wants("vm0: reset 1$")
            .wants(r"^vm0\| U-Boot \d+\.\d+\S* \(")
            .within(90),
        Scenario::new("edk2", "guest=edk2")
            .on(2, "cortex-a57")
            // A variable is in flash, and still there when the machine has started again.
            .types(
                "Shell>",
                "setvar kept -guid c57ad6b7-0515-40a8-9d21-551652854e37 -nv -bs =2a00\r",
            )
            .types("Shell>", "reset\r")
            .types(
                "Shell>",
                "dmpstore kept -guid c57ad6b7-0515-40a8-9d21-551652854e37\r",
            )
            .types("Shell>", "reset -s\r")
            .ends(Ending::PoweredOff)
            .wants(r"UEFI Interactive Shell v\d")
            .wants(r"^vm0\| .*00000000: 2A 00")
            .wants("vm0: reset 1$")
            .within(120),
        Scenario::new(
            "installer",
            "guest=installer,append=console=ttyAMA0 priority=low",
        )
        .on(2, "neoverse-n1")
        .memory(Size::mib(1536))
        .args("guest-memory=512M compaction=stress")
        // Ctrl-A q: the test installs nothing.
        .types("Choose language", "\u{1}q")
        .ends(Ending::PoweredOff)
        .wants("Debian installer main menu")
        .within(180),
    ]
}
