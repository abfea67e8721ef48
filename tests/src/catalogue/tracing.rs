//! What is traced, and what the checker of the protocol says of it.

use crate::scenario::{Ending, Scenario};

/// Everything is traced: the console stays readable, and the events come whole.
pub(super) fn traced() -> Scenario {
    Scenario::new("trace", "stress")
        .on(2, "neoverse-n1")
        .args("trace=all compaction=stress guest-args=\"seconds=4 seed=8\"")
        .traces(&[
            "Ram", "Frames", "Fault", "Map", "Unmap", "Split", "Collapse", "Migrate", "Detached",
            "Grace", "Freed", "Tlbi", "Enter", "Exit", "Switch", "Log",
        ])
        .within(180)
}

/// A page is moved by one vCPU while the other wants it, in turns on one CPU: so what happens only
/// where two meet does happen.
pub(super) fn traced_races() -> Scenario {
    Scenario::new("trace-races", "touch")
        .on(1, "neoverse-n1")
        .args("trace=race,map table-calls=on vcpus=2 huge=never compaction=off")
        .counts_instructions()
        .traces(&["Marker", "Refused"])
        .within(180)
}

/// All that is done to tables and TLBs is told to the checker of the protocol, which finds no rule
/// broken: with and without direct changes of size, and with several machines.
pub(super) fn replayed() -> Vec<Scenario> {
    let replay = |name, guest, cpu| {
        Scenario::new(name, guest)
            .on(2, cpu)
            .args("trace=replay compaction=stress")
            .keeps_the_rules()
            .within(240)
    };
    vec![
        replay(
            "trace-replay",
            "guest=stress,append=seconds=3 seed=12",
            "cortex-a57",
        )
        .quick(),
        replay(
            "trace-replay-direct",
            "guest=stress,append=seconds=3 seed=13",
            "max",
        ),
        replay(
            "trace-replay-machines",
            "guest=stress,vcpus=2,memory=64M,append=seconds=3 seed=14",
            "max",
        )
        .beside("guest=hello")
        .beside("guest=stress,vcpus=1,memory=64M,append=seconds=3 seed=15"),
        // How much of what comes about in the time of those is up to the host. Here each change is
        // asked for, or, of memory that the guest leaves alone, is what stress does to it all the
        // while.
        replay("trace-replay-calls", "touch", "cortex-a57")
            .args("trace=replay table-calls=on vcpus=2 huge=never compaction=off")
            .sees(&["block split", "table collapsed", "leaf moved"])
            .sees(&["leaf taken away", "table put in"]),
        // More starts than there are VMIDs of 8 bits: a new generation begins.
        replay(
            "trace-replay-generations",
            "guest=hello,vcpus=1,memory=16M,restarts=270,append=mode=poweroff",
            "cortex-a57",
        )
        .ends(Ending::PoweredOff)
        .sees(&["tlbi alle1is", "TreeEnded", "Held"]),
        // As many VMIDs as CPUs can have at once, and one more: generations begin all the time.
        few_vmids("trace-replay-vmids")
            .args("trace=replay vmid-bits=2 compaction=stress")
            .keeps_the_rules()
            .sees(&["tlbi alle1is"]),
        replay(
            "trace-replay-empty",
            "guest=hello,append=mode=storm kind=calls ms=1000",
            "cortex-a57",
        )
        .sees(&["table taken away", "tlbi vmalls12e1is"])
        .quick(),
    ]
}

/// More machines than VMIDs of two bits, on two CPUs.
fn few_vmids(name: &'static str) -> Scenario {
    const VM: &str = "guest=stress,vcpus=1,memory=32M,append=seconds=4";
    let mut test = Scenario::new(name, VM).on(2, "cortex-a57").within(240);
    test.vms = vec![VM; 4];
    test
}

/// The checker of the protocol reports what it is there for, on recordings of a hypervisor that
/// does it.
pub(super) fn breaches() -> Vec<Scenario> {
    let mapped = |name, args| {
        Scenario::new(name, "hello")
            .args(args)
            .may_complain()
            .wants("a rule of isolation is broken on purpose")
    };
    vec![
        few_vmids("breach-vmid")
            .args("trace=replay vmid-bits=2 compaction=stress breach=vmid")
            .may_complain()
            .breaks("which it had before, and under which what"),
        mapped("breach-twice", "trace=replay breach=twice").breaks("a frame has one place"),
        mapped("breach-image", "trace=replay breach=image")
            .breaks("which is the hypervisor's image"),
        mapped("breach-device", "trace=replay breach=device").breaks("which is a device's"),
    ]
}
