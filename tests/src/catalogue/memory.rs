//! Guests' memory under compaction, under each policy, and while it is logged.

use crate::scenario::Scenario;

/// Memory stays as the guest left it while compaction pulls tables away under it. What must have
/// happened is what happens also where two busy host CPUs have to play eight.
pub(super) fn stress() -> Vec<Scenario> {
    let stress = |name, cpus, cpu| {
        Scenario::new(name, "stress")
            .on(cpus, cpu)
            .args("compaction=stress guest-args=\"seconds=8 seed=1\"")
            .wants(r" [1-9][0-9]* collapses by copying$")
            .wants(r" [1-9][0-9]* grace periods$")
            .within(180)
    };
    let migrations = r" [1-9][0-9]* migrations$";
    let splits = r" [1-9][0-9]* splits$";
    vec![
        stress("stress-1-cpu", 1, "cortex-a57")
            .wants(migrations)
            .wants(splits)
            .wants(r" [1-9][0-9]* collapses in place$")
            .wants(r" [1-9][0-9]* leaves unmapped$")
            .wants(r" [1-9][0-9]* tables freed$"),
        stress("stress-1-cpu-2-vcpus", 1, "max")
            .args("compaction=stress vcpus=2 guest-args=\"seconds=8 seed=2\"")
            .wants(migrations)
            .wants(splits),
        stress("stress-2-cpus", 2, "cortex-a72").wants(migrations),
        stress("stress-4-cpus", 4, "neoverse-n1")
            .wants(migrations)
            .quick(),
        stress("stress-8-cpus", 8, "max"),
    ]
}

/// Each policy for huge mappings, with compaction as it is by default, and no compaction at all.
pub(super) fn policies() -> Vec<Scenario> {
    let stress = |name, hyp_args| {
        Scenario::new(name, "stress")
            .on(2, "cortex-a76")
            .args(hyp_args)
            .within(180)
    };
    vec![
        stress("huge-always", "huge=always guest-args=\"seconds=4 seed=3\""),
        stress("huge-never", "huge=never guest-args=\"seconds=4 seed=4\""),
        stress(
            "huge-reserve",
            "huge=reserve guest-args=\"seconds=4 seed=5\"",
        ),
        stress(
            "compaction-off",
            "compaction=off guest-args=\"seconds=4 seed=6\"",
        ),
        // Physical memory is so short that blocks to copy into must be made by moving pages.
        stress(
            "defragment",
            "compaction=on compaction-period=1 collapse-fill=200 huge=never frames=140M \
             guest-memory=112M guest-args=\"seconds=6 seed=7\"",
        )
        .wants(r" [1-9][0-9]* collapses by copying$"),
    ]
}

/// What is written under dirty logging is told, whatever compaction does, and whichever vCPU gives
/// memory back.
pub(super) fn logging() -> Vec<Scenario> {
    let dirty = |name, cpus, cpu| {
        Scenario::new(name, "dirty")
            .on(cpus, cpu)
            .wants(r"^vm0\| dirty: [1-9][0-9]* migrations, [1-9][0-9]* stores, [1-9][0-9]* pages told, ")
            .within(120)
    };
    vec![
        dirty("dirty-1-cpu", 1, "cortex-a57")
            .args("table-calls=on huge=always compaction=off guest-args=\"seconds=3 seed=1\"")
            .wants(r" [1-9][0-9]* splits$"),
        dirty("dirty-1-cpu-2-vcpus", 1, "max")
            .args("table-calls=on vcpus=2 compaction=stress guest-args=\"seconds=4 seed=2\""),
        dirty("dirty-stress", 4, "cortex-a57")
            .args("table-calls=on compaction=stress guest-args=\"seconds=6 seed=3\"")
            .wants(r" [1-9][0-9]* collapses by copying$")
            .wants(r" [1-9][0-9]* splits$")
            .quick(),
        dirty("dirty-stress-max", 4, "max")
            .args("table-calls=on compaction=stress guest-args=\"seconds=6 seed=4\""),
        Scenario::new("measured-calls", "touch")
            .args("table-calls=on vcpus=2 huge=never compaction=off")
            .wants(r"^vm0\| touch: dirty_collect "),
    ]
}
