//! The table manager in another hypervisor.

use crate::scenario::Scenario;

/// The table manager in another hypervisor: its pages become a block under the guest, and come
/// back.
pub(super) fn embedded() -> [Scenario; 2] {
    let embed = |name, cpu| {
        Scenario::new(name, "hello")
            .on(1, cpu)
            .embeds()
            .wants("^embed: sum 130816, 1 block: passed$")
    };
    [
        embed("embed-cortex-a57", "cortex-a57").quick(),
        embed("embed-max", "max"),
    ]
}
