//! The list of boot tests.

use xtask::size::Size;

use crate::chaos::chaos;
use crate::consoles::consoles;
use crate::images::images;
use crate::linux::linux;
use crate::scenario::{Ending, Scenario};
use crate::shares::shares;

/// Every boot test, in the order in which they are shown.
pub fn catalogue() -> Vec<Scenario> {
    let mut tests = cpu_models();
    tests.extend(speculation());
    tests.extend(registers());
    tests.extend(stress());
    tests.extend(policies());
    tests.extend(logging());
    tests.extend(interrupts());
    tests.extend(debugging());
    tests.extend([traced(), traced_races()]);
    tests.extend(replayed());
    tests.extend(breaches());
    tests.extend(power());
    tests.extend(machines());
    tests.extend(shares());
    tests.extend(consoles());
    tests.extend(trouble());
    tests.extend(images());
    tests.extend(embedded());
    tests.extend(chaos());
    tests.extend(linux());
    tests
}

/// The table manager in another hypervisor: its pages become a block under the guest, and come back.
fn embedded() -> [Scenario; 2] {
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

/// What the hardware has is read, shown and used, on every CPU model. The expressions hold what Arm's
/// manuals say of the model, as far as QEMU 7.2 and newer models agree.
fn cpu_models() -> Vec<Scenario> {
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
    // Against attacks by speculation: what a guest is told of the three workarounds, and what is executed.
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

/// What each CPU needs against attacks by speculation is executed whenever a guest is left, with all that a guest
/// has in its registers, and guests are told so: where the firmware helps, with each sequence that the models
/// have, and where it is switched off.
fn speculation() -> Vec<Scenario> {
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
        // The model with a shorter history, of which QEMU has no revision that keeps branch targets apart.
        hello(
            "speculation-cortex-a72-r1p0",
            "neoverse-n1,midr=0x411fd080",
            "",
        )
        .wants("cpu1 INFO .* on leaving a guest: 15 branches$"),
        // The sequence is executed, and nothing in its place where it is switched off: a hypercall takes 48
        // instructions more, or not.
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

/// Every register is as the contract has it, and nobody else's, on every CPU model: three machines take turns on two CPUs.
fn registers() -> Vec<Scenario> {
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

/// Memory stays as the guest left it while compaction pulls tables away under it. What must have
/// happened is what happens also where two busy host CPUs have to play eight.
fn stress() -> Vec<Scenario> {
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
fn policies() -> Vec<Scenario> {
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

/// What is written under dirty logging is told, whatever compaction does, and whoever gives memory back.
fn logging() -> Vec<Scenario> {
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

/// The interrupt controller and the timers do what the architecture says, also with more interrupts than
/// list registers, and on vCPUs that share a CPU.
fn interrupts() -> Vec<Scenario> {
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

/// Guests debug themselves, and find their own breakpoints, watchpoints and steps, on whichever CPU they go on: not
/// those of other vCPUs or machines.
fn debugging() -> Vec<Scenario> {
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

/// Everything is traced: the console stays readable, and the events come whole.
fn traced() -> Scenario {
    Scenario::new("trace", "stress")
        .on(2, "neoverse-n1")
        .args("trace=all compaction=stress guest-args=\"seconds=4 seed=8\"")
        .traces(&[
            "Ram", "Frames", "Fault", "Map", "Unmap", "Split", "Collapse", "Migrate", "Detached",
            "Grace", "Freed", "Tlbi", "Enter", "Exit", "Switch", "Log",
        ])
        .within(180)
}

/// A page is moved by one vCPU while the other wants it, in turns on one CPU: so what happens only where two meet
/// does happen.
fn traced_races() -> Scenario {
    Scenario::new("trace-races", "touch")
        .on(1, "neoverse-n1")
        .args("trace=race,map table-calls=on vcpus=2 huge=never compaction=off")
        .counts_instructions()
        .traces(&["Marker", "Refused"])
        .within(180)
}

/// All that is done to tables and TLBs is told to the checker of the protocol, which finds no rule broken:
/// with and without direct changes of size, and with several machines.
fn replayed() -> Vec<Scenario> {
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
        // How much of what comes about in the time of those is up to the host. Here each change is asked for,
        // or, of memory that the guest leaves alone, is what stress does to it all the while.
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

/// The checker of the protocol reports what it is there for, on recordings of a hypervisor that does it.
fn breaches() -> Vec<Scenario> {
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

/// Power-off and reset, asked for by the guest.
fn power() -> Vec<Scenario> {
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
fn machines() -> Vec<Scenario> {
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
        // Each fits alone, and both never do, since what one has it keeps until something is typed. Which
        // of the two asks for the page too much is up to chance.
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
        // The first has touched a page of each 2 MiB, for which it has all of its memory reserved. The second
        // gets what of that is not used.
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

/// What goes wrong, goes wrong for the one who did it.
fn trouble() -> Vec<Scenario> {
    let fails = |name, hyp_args| {
        Scenario::new(name, "hello")
            .args(hyp_args)
            .ends(Ending::Panicked)
            .wants("^tessera: PANIC on cpu0")
            .wants("^  backtrace: 0x[0-9a-f]+$")
            .wants(r"^      tessera::boot::fault_injection::\w+ at hyp/src/boot/fault_injection\.rs:\d+$")
            .may_complain()
    };
    let error = |name, cpu, guest, esr: &'static str| {
        Scenario::new(name, guest)
            .on(1, cpu)
            .args("error-calls=on")
            .beside("guest=hello,append=mode=error syndrome=0 ms=100")
            .wants(esr)
            .wants(r"^vm1\| error: vector 4, ESR 0x[0-9a-f]+$")
            .wants("^tessera: vm1 off$")
            .may_complain()
    };
    let outside = |name, cpu| {
        Scenario::new(name, "hello")
            .on(2, cpu)
            .args("guest-args=mode=outside")
            .wants(r"^vm0\| outside: load at 0x[0-9a-f]+: ESR 0x[0-9a-f]+, external abort$")
            .wants(r"^vm0\| outside: [1-9][0-9]+ walks, 0 of them ended otherwise than they must$")
    };
    vec![
        // An error is that of the guest that has caused it, and comes to nobody else.
        error(
            "system-error",
            "neoverse-n1",
            "guest=hello,append=mode=error syndrome=1041",
            r"^vm0\| error: vector 7, ESR 0xbe000411$",
        )
        .wants("vm0 vcpu0: unrecoverable system error, syndrome 0x411: the guest is told$")
        .quick(),
        error(
            "system-error-without-ras",
            "cortex-a57",
            "guest=hello,append=mode=error syndrome=1041",
            r"^vm0\| error: vector 7, ESR 0xbe000000$",
        ),
        // It ends a WFI, though it is found only when the thread has decided to wait: nobody else wants the CPU before.
        Scenario::new(
            "system-error-ends-a-wait",
            "guest=hello,append=mode=error syndrome=1041 waits=1 ms=2000",
        )
        .on(1, "max")
        .args("error-calls=on compaction=off")
        .wants(r"^vm0\| error: vector 7, ESR 0xbe000411$")
        .may_complain(),
        error(
            "system-error-corrected",
            "max",
            "guest=hello,append=mode=error syndrome=6161 comes=0",
            r"^vm0\| error: vector 4, ESR 0x[0-9a-f]+$",
        )
        .wants("vm0 vcpu0: corrected system error, syndrome 0x1811: nothing was lost$"),
        Scenario::new(
            "system-error-uncontained",
            "guest=hello,append=mode=error syndrome=17",
        )
        .on(1, "max")
        .args("error-calls=on")
        .beside("guest=hello,append=mode=error syndrome=0 ms=100")
        .ends(Ending::Panicked)
        .wants(
            "^tessera: PANIC on cpu0 .*: uncontained system error, syndrome 0x11, while vm0 vcpu0",
        )
        .may_complain(),
        outside("outside-memory", "neoverse-n1").quick(),
        outside("outside-memory-max", "max"),
        Scenario::new("out-of-memory", "stress")
            .on(2, "max")
            .memory(Size::mib(1024))
            .args("frames=64M guest-memory=256M guest-args=\"seconds=30 seed=7\"")
            .ends(Ending::Stopped)
            .wants("vm0 stopped: no physical memory is left")
            .wants("^tessera: vm0 off$")
            .wants("^tessera: off$")
            .may_complain()
            .within(120),
        Scenario::new("memory-too-wide", "hello")
            .args("guest-memory=2000G")
            .ends(Ending::Stopped)
            .wants("addresses for 1047552 MiB of RAM; lower guest-memory")
            .may_complain()
            .quick(),
        Scenario::new("unknown-arguments", "hello")
            .args("frobnicate=1 huge=enormous")
            .wants("frobnicate")
            .wants("enormous")
            .wants("compaction-period")
            .may_complain(),
        fails("panic", "panic=now").quick(),
        fails("stack-overflow", "panic=overflow").wants("^tessera: PANIC.*stack overflow"),
        fails("write-to-code", "panic=write-code").wants("ESR 0x"),
        fails("run-data", "panic=run-data").wants("ESR 0x"),
        // What a guest's memory refuses is an error value, and the panic that of the test.
        fails("bad-memory", "panic=bad-memory")
            .wants(r"boot: loaded: Err\(Unreadable\), copied: Err\(Unreadable\)$")
            .wants("asked for by the boot argument"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_fit_for_folders() {
        let mut seen = HashSet::new();
        for test in catalogue() {
            let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(test.name.chars().all(fit), "{}", test.name);
            assert!(seen.insert(test.name), "{} is there twice", test.name);
        }
    }

    #[test]
    fn patterns_are_regular_expressions() {
        for test in catalogue() {
            for pattern in test.wanted.iter().chain(&test.unwanted) {
                assert!(
                    regex::Regex::new(pattern).is_ok(),
                    "{}: {pattern}",
                    test.name
                );
            }
        }
    }

    #[test]
    fn machines_are_possible_and_guests_exist() {
        let workspace = xtask::workspace::Workspace::load().expect("a workspace");
        for test in catalogue() {
            let specs = test.specs().expect(test.name);
            xtask::vms::check_guests(&specs, &workspace.guests()).expect(test.name);
            let target = workspace.kept_directory();
            let host = xtask::vms::Host::new(test.memory, test.hyp_args, &target);
            xtask::vms::check(&specs, &host).expect(test.name);
            let cpu: Result<xtask::qemu::CpuModel, _> = test.cpu.parse();
            assert!(cpu.is_ok_and(|cpu| cpu.is_tested()), "{}", test.name);
            assert!(
                (1..=xtask::qemu::MOST_CPUS).contains(&test.cpus),
                "{}",
                test.name
            );
            let is_known = xtask::hyp_args::HypArgs::parse(test.hyp_args).is_ok();
            assert_eq!(is_known, test.name != "unknown-arguments", "{}", test.name);
        }
    }

    #[test]
    fn every_cpu_model_and_every_kind_of_race_is_covered() {
        let tests = catalogue();
        for cpu in xtask::qemu::TESTED_CPUS {
            assert!(
                tests
                    .iter()
                    .any(|test| test.vms == ["hello"] && test.cpu == cpu)
            );
        }
        for cpus in [1, 2, 4, 8] {
            assert!(
                tests.iter().any(|test| {
                    test.cpus == cpus && test.hyp_args.contains("compaction=stress")
                })
            );
        }
    }
}
