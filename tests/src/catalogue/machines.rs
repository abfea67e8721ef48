//! Machines that end, begin again, and share CPUs.

use crate::scenario::{Ending, Scenario};

/// Power-off and reset, asked for by the guest.
pub(super) fn power() -> Vec<Scenario> {
    vec![
        Scenario::new("power-off", "hello")
            .on(2, "max")
            .args("guest-args=mode=poweroff")
            .ends(Ending::PoweredOff)
            .wants("^tessera: vm0 off$"),
        reset("reset", 2),
        // What the machine leaves to the CPU it comes back to.
        reset("reset-one-cpu", 1),
    ]
}

/// A machine that resets itself once.
fn reset(name: &'static str, cpus: u32) -> Scenario {
    Scenario::new(name, "hello")
        .on(cpus, "max")
        .args("guest-args=mode=reset")
        .wants(r"^vm0\| reset: boot 0$")
        .wants(r"^vm0\| reset: boot 1$")
}

/// Several machines share the CPUs, and what becomes of one is no other's concern.
pub(super) fn machines() -> Vec<Scenario> {
    vec![
        Scenario::new("machines", "name=first,guest=hello,vcpus=2")
            .on(2, "cortex-a57")
            .beside("guest=stress,vcpus=2,memory=64M,append=seconds=4 seed=8")
            .beside("guest=hello,append=mode=poweroff")
            .args("compaction=stress")
            .wants("vm0 is first: 2 vCPUs")
            .wants(r"^vm0\| verdict: passed$")
            .wants(r"^vm1\| verdict: passed$")
            .wants("^tessera: vm2 off$")
            .quick(),
        // Each fits alone, and both never do, since what one has it keeps until something is typed.
        // Which of the two asks for the page too much is up to chance.
        Scenario::new(
            "machine-out-of-memory",
            "guest=hello,memory=64M,append=mode=hold",
        )
        .on(2, "neoverse-n1")
        .beside("guest=hello,memory=64M,append=mode=hold")
        .args("frames=96M")
        .types("tessera: vm", "x")
        .ends(Ending::Stopped)
        .wants("vm[01] stopped: no physical memory is left")
        .wants(r"^vm[01]\| verdict: passed$")
        .wants(" 98304 free$")
        .may_complain(),
        // The first has touched a page of each 2 MiB, for which it has all of its memory reserved.
        // The second gets what of that is not used.
        Scenario::new(
            "machine-with-reservations",
            "guest=hello,memory=64M,append=mode=hold step=512",
        )
        .on(2, "max")
        .beside("guest=hello,memory=64M,append=mode=hold wait=0")
        .args("frames=96M")
        .types("tessera: vm1 off", "x")
        .wants(r"^vm0\| verdict: passed$")
        .wants(r"^vm1\| verdict: passed$")
        .wants(" 98304 free$"),
        // A place for machines is used again, and its clock is the next machine's own.
        Scenario::new(
            "clock-of-its-own",
            "guest=hello,vcpus=1,restarts=2,append=mode=clock",
        )
        .on(1, "cortex-a57")
        .ends(Ending::PoweredOff)
        .wants(r"^vm0\| clock: as it must be$"),
        Scenario::new(
            "hundred-restarts",
            "guest=hello,restarts=100,append=mode=poweroff",
        )
        .on(2, "max")
        .args("frames=64M compaction=stress")
        .ends(Ending::PoweredOff)
        .wants(" 65536 in all$")
        .wants(" 65536 free$"),
    ]
}
