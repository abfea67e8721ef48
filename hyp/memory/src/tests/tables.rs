//! What is a table is no guest's memory.

use crate::testing::{guest, machine, page, store};
use bootargs::HugePolicy;
use frames::{Order, Use, VmId};
use stage2::Level;

/// The root, and a table below it, are neither free nor data while a guest's addresses are
/// translated by them.
#[test]
fn the_allocator_gives_no_table_away() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Never);
    store(&memory, 0, 1);
    let mut tables = vec![memory.stage2().root()];
    memory.stage2().walk(memory.ram(), |entry| {
        if let stage2::EntryKind::Table(table) = entry.kind() {
            tables.push(table);
        }
    });
    assert_eq!(tables.len(), 3, "one for each level but level 0");
    let (allocator, ipa) = (machine.allocator(), page(0));
    let data = Use::Data { vm: VmId(0), ipa };
    for table in tables {
        assert!(allocator.free(0, table, Order::PAGE).is_err());
        assert!(allocator.free_zeroed(0, table).is_err());
        assert!(allocator.change_use(0, table, Use::Table, data).is_err());
        assert!(!allocator.try_change_use(0, table, Use::Table, data));
        assert_eq!(allocator.use_of(table), Some(Use::Table));
    }
    let entry = memory.stage2().query(page(0)).expect("RAM");
    assert_eq!(entry.level, Level::L3);
    memory.destroy();
    assert_eq!(allocator.usage().tables, 0);
}
