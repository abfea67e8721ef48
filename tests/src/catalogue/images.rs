//! Boot tests of what guests start from: where images are put, and what is said of those that
//! cannot run.

use crate::scenario::{Ending, Scenario};

/// The tests of images.
pub(super) fn images() -> Vec<Scenario> {
    let mut tests = places();
    tests.extend(halts());
    tests
}

/// Where an image and the device tree are: the places are QEMU's.
fn places() -> Vec<Scenario> {
    vec![
        Scenario::new("image-header", "guest=placed,memory=128M")
            .wants(
                r"^vm0\| placed: runs at 0x00000000400fffc0, x0 0x0000000044000000, start of RAM 0x0000000000000000$",
            )
            .quick(),
        // The tree, which x0 does not tell of, is at the start of RAM.
        Scenario::new("image-elf", "guest=placed,memory=128M")
            .as_elf()
            .wants(
                r"^vm0\| placed: runs at 0x0000000040080000, x0 0x0000000000000000, start of RAM 0x00000000edfe0dd0$",
            ),
    ]
}

/// Guests that nothing gets going again end, with a line that says what they lack.
fn halts() -> Vec<Scenario> {
    let halted = |name, guest, line| {
        Scenario::new(name, guest)
            .on(2, "cortex-a57")
            // Nothing else interrupts a CPU then.
            .args("compaction=off")
            .ends(Ending::Stopped)
            .wants(line)
            .wants("^tessera: vm0 off$")
            .may_complain()
    };
    vec![
        // What another vCPU writes ends a loop that is endless but for that.
        Scenario::new(
            "halted-for-a-while",
            "guest=hello,vcpus=2,append=mode=halt kind=while",
        )
        .on(2, "cortex-a57")
        .wants(r"^vm0\| halting: the other vCPU goes on$"),
        halted(
            "halted",
            "guest=hello,vcpus=1,append=mode=halt kind=loop",
            r"vm0 stopped: vcpu0 is in a loop at 0x[0-9a-f]+ that nothing ends, with interrupts masked",
        ),
        // Two halt and two go off, in any order.
        halted(
            "halted-all",
            "guest=hello,vcpus=4,append=mode=halt kind=all",
            r"vm0 stopped: vcpu0 is in a loop at 0x[0-9a-f]+ that nothing ends",
        ),
        halted(
            "halted-early",
            "guest=hello,vcpus=1,append=mode=halt kind=early",
            r"vm0 stopped: vcpu0 gave up at 0x[0-9a-f]+, before its MMU was on: .* needs EL2",
        )
        .quick(),
        halted(
            "halted-el2",
            "guest=hello,vcpus=1,append=mode=halt kind=el2",
            r"vm0 stopped: it needs EL2 or EL3, .* vcpu0 tried to execute 0xd51cc009 at 0x[0-9a-f]+",
        ),
        halted(
            "halted-zeros",
            "guest=hello,vcpus=1,append=mode=halt kind=zeros",
            r"vm0 stopped: vcpu0 took an exception before it had exception vectors",
        ),
    ]
}
