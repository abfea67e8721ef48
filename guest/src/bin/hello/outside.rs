//! Accesses outside RAM and devices. Each must give a synchronous external abort, with FAR the
//! address and ELR the instruction, and none may harm anything else.

use core::sync::atomic::Ordering;

use guest::{
    boot,
    machine::Machine,
    println,
    probe::{self, Outcome, Probe},
};

use crate::{
    facts, walks,
    window::{self, Kind},
};

const GIB: u64 = 1 << 30;

/// An access, how the window maps what it goes to, and the abort that must come of it.
struct Access {
    name: &'static str,
    probe: Probe,
    kind: Kind,
    expected: fn(&Outcome) -> bool,
}

const ACCESSES: [Access; 6] = [
    Access {
        name: "load",
        probe: probe::load,
        kind: Kind::Normal,
        expected: Outcome::is_external_data_abort,
    },
    Access {
        name: "device load",
        probe: probe::load,
        kind: Kind::Device,
        expected: Outcome::is_external_data_abort,
    },
    Access {
        name: "store",
        probe: probe::store,
        kind: Kind::Normal,
        expected: Outcome::is_external_data_abort,
    },
    Access {
        name: "load of a pair",
        probe: probe::load_pair,
        kind: Kind::Normal,
        expected: Outcome::is_external_data_abort,
    },
    Access {
        name: "store with write-back",
        probe: probe::store_write_back,
        kind: Kind::Device,
        expected: Outcome::is_external_data_abort,
    },
    Access {
        name: "fetch",
        probe: probe::fetch,
        kind: Kind::Normal,
        expected: Outcome::is_external_instruction_abort,
    },
];

/// A value that must survive the bad accesses around it.
const KEPT: u64 = 0x7e55_e7a0_0000_0001;

/// Tries every access at every place; panics after the last if one went wrong.
pub(crate) fn run(machine: &'static Machine<'static>) {
    let pool = boot::pool(machine);
    let last_word = &pool.page(pool.pages() - 1).0[511];
    last_word.store(KEPT, Ordering::Relaxed);
    let mut wrong = 0;
    for ipa in places(machine) {
        if let Some(device) = machine.device_at(ipa) {
            println!("outside: {ipa:#x} skipped, here it is {device}");
            continue;
        }
        for access in &ACCESSES {
            wrong += u32::from(!aborts(access, ipa));
        }
    }
    wrong += walks::run(machine);
    assert!(
        last_word.load(Ordering::Relaxed) == KEPT,
        "the last word of RAM changed"
    );
    assert!(
        wrong == 0,
        "{wrong} accesses outside memory did not end as they must"
    );
}

/// IPAs at which neither RAM nor a device may be: in and between the devices, just above RAM, far
/// above it, and at the end of what the CPU can address.
fn places(machine: &Machine<'static>) -> [u64; 7] {
    let top = 1 << facts::pa_bits().min(48);
    [
        0,
        machine.uart + 0x1000,
        0x0b00_0000,
        machine.memory.end,
        machine.memory.end + 5 * GIB + 0x10_0000,
        0x70_0000_0000,
        top - 0x1000,
    ]
}

fn aborts(access: &Access, ipa: u64) -> bool {
    let address = window::open(ipa, access.kind);
    // SAFETY: by the device tree nothing is at `ipa`, let alone anything that Rust code uses; the
    // window is used for nothing else.
    let outcome = unsafe { (access.probe)(address) };
    let ok = (access.expected)(&outcome) && outcome.far == address;
    println!(
        "outside: {} at {ipa:#x}: ESR {:#x}{}",
        access.name,
        outcome.esr,
        match outcome {
            _ if ok => ", external abort",
            Outcome { esr: 0, .. } => ": NO ABORT",
            _ if outcome.far != address => ": WRONG FAR",
            _ => ": WRONG ABORT",
        }
    );
    ok
}
