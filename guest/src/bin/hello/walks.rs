//! Walks that come to a table where neither RAM is nor anything else that could be one. Each must
//! give a synchronous external abort on the walk, with the level of that table.

use core::sync::atomic::Ordering;

use guest::{
    boot,
    machine::Machine,
    pool::Pool,
    println,
    probe::{self, Probe},
};

use crate::window::{self, Granule};

/// A table's descriptor, but for the address.
const TABLE: u64 = 0b11;
/// The size of the largest tables.
const LARGEST: u64 = 1 << 16;

/// A shape of stage-1 tables.
struct Shape {
    granule: Granule,
    /// The bits of an address that are translated.
    bits: u64,
    /// The level of the root.
    top: u64,
}

const fn shape(granule: Granule, bits: u64, top: u64) -> Shape {
    Shape { granule, bits, top }
}

const SHAPES: [Shape; 7] = [
    shape(Granule::KiB4, 48, 0),
    shape(Granule::KiB4, 39, 1),
    shape(Granule::KiB4, 32, 1),
    shape(Granule::KiB4, 30, 2),
    shape(Granule::KiB16, 48, 0),
    shape(Granule::KiB16, 36, 2),
    shape(Granule::KiB64, 48, 1),
];

/// What makes the CPU walk: its name, whether it writes, whether it fetches.
const ACCESSES: [(&str, Probe, bool, bool); 3] = [
    ("load", probe::load, false, false),
    ("store", probe::store, true, false),
    ("fetch", probe::fetch, false, true),
];

/// Tries every access with the table of every level at every place. Returns how many went wrong.
pub(crate) fn run(machine: &'static Machine<'static>) -> u32 {
    let pool = boot::pool(machine);
    let [distributor, _] = machine
        .interrupt_controller()
        .expect("the device tree has a GICv3");
    let places = [
        machine.memory.end,
        distributor.start,
        machine.uart,
        0x70_0000_0000,
    ];
    let (mut wrong, mut count) = (0, 0);
    for shape in SHAPES.iter().filter(|shape| shape.granule.is_there()) {
        for (level, place) in (shape.top..4).flat_map(|level| places.map(|place| (level, place))) {
            for access in &ACCESSES {
                count += 1;
                wrong += u32::from(!shape.aborts(&pool, level, place, access));
            }
        }
    }
    println!("outside: {count} walks, {wrong} of them ended otherwise than they must");
    wrong
}

impl Shape {
    /// Makes the table of `level` lie at `place`, and the walk for an access go there.
    fn aborts(
        &self,
        pool: &Pool,
        level: u64,
        place: u64,
        &(name, probe, write, fetch): &(&str, Probe, bool, bool),
    ) -> bool {
        // Of each table above only the first entry is used, since the address is the half's first.
        let first = pool.ipa(0).next_multiple_of(LARGEST);
        let table = |of: u64| match of == level {
            true => place,
            false => first + (of - self.top) * LARGEST,
        };
        for above in self.top..level {
            let page = (table(above) - pool.ipa(0)) / 4096;
            let entry = &pool.page(page as usize).0[0];
            entry.store(table(above + 1) | TABLE, Ordering::Relaxed);
        }
        let address = window::use_table(table(self.top), self.bits, self.granule);
        // SAFETY: the half's first address leads to no memory, and nothing else uses that half.
        let outcome = unsafe { probe(address) };
        let ok = outcome.is_external_abort_on_walk(level, write, fetch) && outcome.far == address;
        if !ok {
            println!(
                "outside: {name}, level {level} of {:?} tables for {} bits at {place:#x}: ESR {:#x} FAR {:#x}",
                self.granule, self.bits, outcome.esr, outcome.far
            );
        }
        ok
    }
}
