//! What goes wrong.

use xtask::size::Size;

use crate::scenario::{Ending, Scenario};

/// What goes wrong, goes wrong for the one who did it.
pub(super) fn trouble() -> Vec<Scenario> {
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
        // It ends a WFI, though it is found only when the thread has decided to wait: nobody else
        // wants the CPU before.
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
