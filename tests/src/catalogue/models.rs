//! What each CPU model has: features, devices, exceptions and registers.

use crate::scenario::Scenario;

/// What the hardware has is read, shown and used, on every CPU model. The expressions hold what
/// Arm's manuals say of the model, as far as QEMU 7.2 and newer models agree.
pub(super) fn cpu_models() -> Vec<Scenario> {
    let hello = |name, cpu| {
        Scenario::new(name, "hello")
            .on(2, cpu)
            .wants(r"features: VMID +FEAT_VMID16 +(8|16) bits$")
            .wants(r"features: .* FEAT_BBM +level [012]$")
            .wants(r"features: .* FEAT_XNX +(yes|no)$")
            .wants("vm0 is hello: 2 vCPUs, 128 MiB")
            .wants("^tessera: vm0 off$")
    };
    let devices = |name, cpu| {
        Scenario::new(name, "hello")
            .on(1, cpu)
            .args("guest-args=mode=devices")
            .wants(r"^vm0\| devices: every access is right$")
    };
    let accesses = |name, cpu| {
        Scenario::new(name, "hello")
            .on(1, cpu)
            .args("guest-args=mode=accesses")
            .wants(r"vm0: the instruction 0x4c407040 at 0x[0-9a-f]+ accesses a device, .* not emulated")
            // The first one only is told.
            .does_not_want("the instruction 0xa9401043")
            .wants(r"^vm0\| accesses: [3-9][0-9] instructions do to devices what they do to memory$")
    };
    let origins = |name, cpu| {
        Scenario::new(name, "hello")
            .on(1, cpu)
            .args("guest-args=mode=origins")
            .wants(r"^vm0\| origins: [1-9][0-9]+ exceptions from AArch64 and AArch32 are as the CPU's own$")
    };
    // Against attacks by speculation: what a guest is told of the three workarounds, and what is
    // executed.
    let firmware_is_needed =
        r"features: Spectre v2 +CSV2 +vulnerable: the firmware offers no workaround$";
    let history_is_overwritten = r"features: Spectre-BHB .* mitigated: branches$";
    let bypass_is_off = r"features: Spectre v4 +SSBS +mitigated: SSBS$";
    let meltdown = r"features: Meltdown +CSV3 +not affected$";
    let pa_44 = r"features: .* PARange +44 bits$";
    let pa_40_or_more = r"features: .* PARange +(40|44|48|52) bits$";
    let lse = r"features: .* FEAT_LSE +yes$";
    vec![
        hello("hello-cortex-a57", "cortex-a57")
            .wants(pa_44)
            .wants(firmware_is_needed)
            .wants(meltdown)
            .wants(r"^vm0\| workarounds -1, -1, -1; CSV2 0, SSBS 0$")
            .quick(),
        hello("hello-cortex-a72", "cortex-a72")
            .wants(pa_44)
            .wants(firmware_is_needed)
            .wants(meltdown)
            .wants(r"^vm0\| workarounds -1, -1, -1; CSV2 0, SSBS 0$"),
        hello("hello-cortex-a76", "cortex-a76")
            .wants(pa_40_or_more)
            .wants(lse)
            .wants(history_is_overwritten)
            .wants(bypass_is_off)
            .wants(meltdown)
            .wants("cpu1 INFO .* on leaving a guest: 47 branches$")
            .wants(r"^vm0\| workarounds 1, -1, 0; CSV2 1, SSBS 1$"),
        hello("hello-neoverse-n1", "neoverse-n1")
            .wants(pa_40_or_more)
            .wants(lse)
            .wants(history_is_overwritten)
            .wants(bypass_is_off)
            .wants(meltdown)
            .wants("cpu1 INFO .* on leaving a guest: 47 branches$")
            .wants(r"^vm0\| workarounds 1, -1, 0; CSV2 1, SSBS 2$"),
        hello("hello-max", "max")
            .wants(pa_40_or_more)
            .wants(lse)
            .wants(r"features: .* FEAT_TLBIRANGE +yes$")
            .wants(r"features: .* FEAT_TTL +yes$")
            .wants(r"features: .* FEAT_S2FWB +yes$")
            .quick(),
        devices("devices-cortex-a57", "cortex-a57"),
        devices("devices-max", "max").quick(),
        accesses("accesses-cortex-a57", "cortex-a57"),
        accesses("accesses-max", "max").quick(),
        origins("origins-cortex-a57", "cortex-a57").does_not_want("there is no DBGDIDR"),
        origins("origins-neoverse-n1", "neoverse-n1"),
        origins("origins-max", "max")
            .does_not_want("there is no DBGDIDR")
            .quick(),
        // A guest that may not have its tables worked on finds no calls for that.
        Scenario::new("touch-max", "touch").does_not_want(r"touch: split"),
        // Who packs no archive has one guest, and gives it no name.
        Scenario::new("image", "hello")
            .on(1, "max")
            .as_image()
            .wants("vm0 is guest: 1 vCPU, 128 MiB"),
    ]
}

/// Every register is as the contract has it, and nobody else's, on every CPU model: three machines
/// take turns on two CPUs.
pub(super) fn registers() -> Vec<Scenario> {
    let sweep = |name, cpu| {
        Scenario::new(name, "guest=sweep,vcpus=1,memory=64M,append=seed=1")
            .beside("guest=sweep,vcpus=1,memory=64M,append=seed=2")
            .beside("guest=sweep,vcpus=1,memory=64M,append=seed=3")
            .on(2, cpu)
            .args("trace=sched")
            .takes_turns()
            .wants(r"^vm0\| sweep: 100 rounds, 0 mismatches$")
            .wants(r"^vm1\| verdict: passed$")
            .wants(r"^vm2\| verdict: passed$")
            .within(30)
    };
    vec![
        sweep("registers-cortex-a57", "cortex-a57"),
        sweep("registers-cortex-a72", "cortex-a72"),
        sweep("registers-cortex-a76", "cortex-a76"),
        sweep("registers-neoverse-n1", "neoverse-n1").quick(),
        sweep("registers-max", "max").quick(),
    ]
}
