//! What is done against attacks by speculation.

use crate::scenario::Scenario;

/// What each CPU needs against attacks by speculation is executed whenever a guest is left, with
/// all that a guest has in its registers, and guests are told so: where the firmware helps, with
/// each sequence that the models have, and where it is switched off.
pub(super) fn speculation() -> Vec<Scenario> {
    let hello = |name, cpu, hyp_args| {
        Scenario::new(name, "hello")
            .on(2, cpu)
            .args(hyp_args)
            .wants("^tessera: vm0 off$")
    };
    let on_firmware = |name, cpu| Scenario::new(name, "hello").on(1, cpu).on_firmware();
    let stress = |name, cpu, hyp_args| Scenario::new(name, "stress").on(2, cpu).args(hyp_args);
    let counted = |name, hyp_args| {
        Scenario::new(name, "touch")
            .on(1, "neoverse-n1")
            .args(hyp_args)
            .counts_instructions()
    };
    vec![
        hello("speculation-firmware", "cortex-a57", "mitigations=firmware")
            .wants("cpu1 INFO .* on leaving a guest: ARCH_WORKAROUND_3$")
            .wants(r"features: Spectre-BHB .* mitigated: firmware$")
            .wants(r"features: Spectre v4 +SSBS +mitigated: firmware$")
            .wants(r"^vm0\| workarounds 0, -2, 0; CSV2 0, SSBS 0$")
            .quick(),
        // One CPU of each kind, on a firmware that counts what it is called for.
        on_firmware("speculation-at-el3-cortex-a57", "cortex-a57")
            .wants("cpu0 INFO .* on leaving a guest: ARCH_WORKAROUND_3$")
            .wants(r"^vm0\| workarounds 0, -2, 0; CSV2 0, SSBS 0$")
            .wants(r"^firmware: workarounds 1 to 3 were called 0, 1, [1-9][0-9]{2,} times$"),
        on_firmware("speculation-at-el3-neoverse-n1", "neoverse-n1")
            .wants("cpu0 INFO .* on leaving a guest: 47 branches$")
            .wants(r"^vm0\| workarounds 1, -1, 0; CSV2 1, SSBS 2$")
            .wants(r"^firmware: workarounds 1 to 3 were called 0, 0, 0 times$"),
        hello("speculation-off", "neoverse-n1", "mitigations=off")
            .wants("cpu1 INFO .* on leaving a guest: nothing$")
            .wants(r"features: Spectre-BHB .* vulnerable: switched off$")
            .wants(r"features: Spectre v4 +SSBS +vulnerable: switched off$")
            .wants(r"features: Spectre v2 +CSV2 +not affected$")
            .wants(r"^vm0\| workarounds 1, -1, -1; CSV2 1, SSBS 2$"),
        // The model with a shorter history, of which QEMU has no revision that keeps branch targets
        // apart.
        hello(
            "speculation-cortex-a72-r1p0",
            "neoverse-n1,midr=0x411fd080",
            "",
        )
        .wants("cpu1 INFO .* on leaving a guest: 15 branches$"),
        // The sequence is executed, and nothing in its place where it is switched off: a hypercall
        // takes 48 instructions more, or not.
        counted("speculation-counted", "")
            .wants(r"^vm0\| touch: hvc .* 1[3-9][0-9]\.[0-9] instructions per iteration$"),
        counted("speculation-counted-off", "mitigations=off").wants(
            r"^vm0\| touch: hvc .* (1[0-2][0-9]|[0-9]{2})\.[0-9] instructions per iteration$",
        ),
        stress(
            "speculation-stress-firmware",
            "cortex-a72",
            "mitigations=firmware compaction=stress guest-args=\"seconds=3 seed=21\"",
        ),
        stress(
            "speculation-stress-clrbhb",
            "max",
            "mitigations=clrbhb compaction=stress guest-args=\"seconds=3 seed=22\"",
        )
        .wants("cpu1 INFO .* on leaving a guest: CLRBHB$"),
    ]
}
