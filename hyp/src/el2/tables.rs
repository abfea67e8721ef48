//! EL2's stage-1 tables: what EL2 can see, and with which rights.
//!
//! Every address maps to itself. RAM and the image's data are read-write and never executable, the
//! code is read-execute, constants are read-only, device registers are Device-nGnRE, guard pages
//! are not mapped. `SCTLR_EL2.WXN` backs this up. The tables are built once, by the first CPU with
//! its MMU off, and do not change afterwards.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr::NonNull;

use aarch64_paging::descriptor::{El23Attributes, PhysicalAddress};
use aarch64_paging::paging::{Constraints, El2, MemoryRegion, PageTable, Translation};
use aarch64_paging::{MapError, Mapping};
use platform::{Board, Region};

use super::mmu::VA_BITS;
use super::{layout, stacks};

/// Lookups start here: 39-bit addresses with 4 KiB pages.
const ROOT_LEVEL: usize = 1;

/// How many tables there is room for.
///
/// A range needs at most a level-2 and a level-3 table at each end. The ranges are the board's RAM
/// (8), its devices (6) and the image's three kinds of memory: 17 × 4. The guard pages add a
/// level-3 table for each 2 MiB of the image, which the linker script keeps below 32 MiB: 17. And
/// the root.
const MAX_TABLES: usize = 17 * 4 + 17 + 1;

const NORMAL: El23Attributes = El23Attributes::VALID
    .union(El23Attributes::ACCESSED)
    .union(El23Attributes::USER_RES1)
    .union(El23Attributes::INNER_SHAREABLE)
    .union(El23Attributes::ATTRIBUTE_INDEX_1);
const CODE: El23Attributes = NORMAL.union(El23Attributes::READ_ONLY);
const CONSTANTS: El23Attributes = CODE.union(El23Attributes::XN);
const DATA: El23Attributes = NORMAL.union(El23Attributes::XN);
const DEVICE: El23Attributes = El23Attributes::VALID
    .union(El23Attributes::ACCESSED)
    .union(El23Attributes::USER_RES1)
    .union(El23Attributes::ATTRIBUTE_INDEX_0)
    .union(El23Attributes::XN);
const UNMAPPED: El23Attributes = El23Attributes::empty();

type Table = PageTable<El23Attributes>;

/// The tables' memory.
struct Arena(UnsafeCell<MaybeUninit<[Table; MAX_TABLES]>>);

// SAFETY: Only `Pool` touches it, which `build` makes once, on the only CPU that runs.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new(MaybeUninit::uninit()));

/// Hands out the arena's tables in order.
struct Pool {
    used: usize,
}

impl Translation<El23Attributes> for Pool {
    fn allocate_table(&mut self) -> (NonNull<Table>, PhysicalAddress) {
        // The bound is proven at MAX_TABLES; the caller's trait knows no error.
        assert!(self.used < MAX_TABLES, "EL2 has too few table frames");
        // SAFETY: In bounds as just checked, and not null because it is in a static.
        let table = unsafe {
            let first = ARENA.0.get().cast::<Table>();
            NonNull::new_unchecked(first.add(self.used))
        };
        // SAFETY: No other reference to this element exists: it was not handed out before.
        unsafe { table.write(Table::EMPTY) };
        self.used += 1;
        (table, PhysicalAddress(table.as_ptr() as usize))
    }

    unsafe fn deallocate_table(&mut self, _table: NonNull<Table>) {
        // Merging ranges while building may drop a table; the arena is sized without reuse.
    }

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<Table> {
        NonNull::new(pa.0 as *mut Table).unwrap_or(NonNull::dangling())
    }
}

/// Builds the tables for a board and returns the physical address of the root.
///
/// RAM beyond EL2's address space (512 GiB) is left out.
///
/// # Errors
///
/// The library's reason when a range cannot be mapped.
///
/// # Safety
///
/// May be called once, by the first CPU while it is alone and its MMU is off.
pub(crate) unsafe fn build(board: &Board<'_>) -> Result<u64, MapError> {
    let mut map = Mapping::new(Pool { used: 0 }, ROOT_LEVEL, El2);
    for &region in &board.memory {
        if let Some(range) = addressable(region) {
            identity(&mut map, range, DATA)?;
        }
    }
    let devices = board
        .gic
        .redistributors
        .iter()
        .copied()
        .chain([board.gic.distributor, board.uart.registers])
        .chain(board.clock);
    for range in devices.filter_map(addressable) {
        identity(&mut map, range, DEVICE)?;
    }
    identity(&mut map, layout::text(), CODE)?;
    identity(&mut map, layout::rodata(), CONSTANTS)?;
    for guard in stacks::guards() {
        identity(&mut map, guard, UNMAPPED)?;
    }
    let root = map.root_address().0 as u64;
    // Dropping the mapping would take the tables apart; they are to stay.
    core::mem::forget(map);
    Ok(root)
}

fn identity(
    map: &mut Mapping<Pool, El2>,
    range: Range<usize>,
    attributes: El23Attributes,
) -> Result<(), MapError> {
    map.map_range(
        &MemoryRegion::new(range.start, range.end),
        PhysicalAddress(range.start),
        attributes,
        Constraints::empty(),
    )
}

/// The part of a region that EL2 has addresses for.
fn addressable(region: Region) -> Option<Range<usize>> {
    let limit = 1u64 << VA_BITS;
    (region.base < limit).then(|| region.base as usize..region.end().min(limit) as usize)
}
