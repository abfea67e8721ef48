//! What guests see of their vCPUs beside registers: interrupts, timers, and debugging.

use crate::scenario::Scenario;

/// The interrupt controller and the timers do what the architecture says, also with more interrupts
/// than list registers, and on vCPUs that share a CPU.
pub(super) fn interrupts() -> Vec<Scenario> {
    let interrupts = |name, cpus, cpu| {
        Scenario::new(name, "interrupts")
            .on(cpus, cpu)
            .wants(r"^vm0\| interrupts: the timers are right$")
            .wants(r"^vm0\| interrupts: those that are active are right$")
            .wants(r"^vm0\| interrupts: those between vCPUs are right$")
            .does_not_want(
                r"^vm0\| interrupts: a group that is not let through holds back the other$",
            )
    };
    vec![
        interrupts("interrupts-2-cpus", 2, "cortex-a57").quick(),
        interrupts("interrupts-1-cpu-2-vcpus", 1, "neoverse-n1").args("vcpus=2"),
        interrupts("interrupts-without-tdir", 2, "cortex-a57").args("gic-tdir=off"),
        interrupts("interrupts-moving", 2, "max").args("vcpus=4 compaction=stress"),
    ]
}

/// Guests debug themselves, and find their own breakpoints, watchpoints and steps, on whichever CPU
/// they go on: not those of other vCPUs or machines.
pub(super) fn debugging() -> Vec<Scenario> {
    let debug = |name, cpus, cpu| {
        Scenario::new(name, "guest=hello,vcpus=3,append=mode=debug ms=1500")
            .on(cpus, cpu)
            .beside("guest=hello,vcpus=2,append=mode=debug ms=1500 seed=2")
            .wants(r"^vm[01]\| debug: 6 breakpoints, 2 of them for contexts, 4 watchpoints$")
            .wants(r"^vm[01]\| debug: every hit and every step is right$")
            .wants(r"^vm0\| debug: 3 vcpus, [1-9][0-9]+ turns, each with its own registers$")
            .wants(r"^vm1\| debug: 2 vcpus, [1-9][0-9]+ turns, each with its own registers$")
    };
    vec![
        debug("debug-cortex-a57", 2, "cortex-a57").quick(),
        debug("debug-neoverse-n1", 3, "neoverse-n1"),
        debug("debug-max", 1, "max"),
    ]
}
