//! The boot tests with the guest that misbehaves on purpose, alone and beside Linux.

use xtask::size::Size;

use crate::scenario::Scenario;

/// What the first life with this seed and four vCPUs begins with, on whatever CPUs. It changes with
/// what the guest's steps are made of.
const SEED_1: &str = r"^vm0\| chaos: life 0: .*, digest 0xbad0bd042c46f530$";
/// The last life of the four that the guest has unless asked for others.
const LAST: &str = r"^vm0\| chaos: life 3: [1-9]";

/// Every boot test with the guest `chaos`.
pub(super) fn chaos() -> Vec<Scenario> {
    let chaos = |name, cpus, cpu| {
        Scenario::new(name, "chaos")
            .on(cpus, cpu)
            .wants(LAST)
            .within(120)
    };
    vec![
        chaos("chaos-1-cpu", 1, "cortex-a57")
            .args("vcpus=4 guest-args=\"seed=1\"")
            .wants(SEED_1),
        chaos("chaos-2-cpus", 2, "neoverse-n1")
            .args("vcpus=4 compaction=stress guest-args=\"seed=1\"")
            .wants(SEED_1)
            .quick(),
        chaos("chaos-4-cpus", 4, "max").args("guest-args=\"seed=2\""),
        beside_linux(),
    ]
}

/// Linux notices nothing, and has its share of the CPUs; all memory is free when both are off.
fn beside_linux() -> Scenario {
    Scenario::new(
        "chaos-beside-linux",
        "guest=linux,vcpus=2,append=test=memcheck seconds=15 quiet",
    )
    .beside("guest=chaos,vcpus=2,memory=64M,append=seed=3 seconds=20 lives=8")
    .on(2, "neoverse-n1")
    .memory(Size::mib(1024))
    .args("frames=512M guest-memory=192M compaction=stress")
    .wants(r"^vm0\| verdict: passed$")
    .wants(r"^vm1\| chaos: life 7: [1-9]")
    .wants(r"^vm1\| verdict: passed$")
    .wants(" 524288 in all$")
    .wants(" 524288 free$")
    .within(240)
}
