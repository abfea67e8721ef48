//! A check of everything that must hold of an allocator that nobody is using at the moment.

use super::super::frame::{BLOCK_FRAMES, Index};
use super::super::{FrameAllocator, Order, State, Usage, Use};
use crate::testing::Arena;

/// Checks the metadata of every frame against its neighbours' and against the figures.
pub(super) fn audit(allocator: &FrameAllocator<Arena>) -> Usage {
    let usage = allocator.usage();
    let mut seen = Usage {
        total: usage.total,
        low_water: usage.low_water,
        ..EMPTY
    };
    for region in &allocator.inventory.regions {
        let mut offset = 0;
        while offset < region.frames {
            offset += visit(allocator, region.first.plus(offset), &mut seen);
        }
    }
    assert_eq!(usage, seen, "figures against what the metadata says");
    let sum = seen.free + seen.cached + seen.isolated;
    assert_eq!(
        sum + seen.hypervisor + seen.tables + seen.data + seen.reserved,
        usage.total
    );
    for block in 0..allocator.inventory.blocks() {
        audit_block(allocator, Index(block * BLOCK_FRAMES));
    }
    usage
}

const EMPTY: Usage = Usage {
    total: 0,
    free: 0,
    free_blocks: [0; Order::COUNT],
    cached: 0,
    isolated: 0,
    hypervisor: 0,
    tables: 0,
    data: 0,
    reserved: 0,
    low_water: 0,
};

/// Checks what begins at `index` and returns its length.
fn visit(allocator: &FrameAllocator<Arena>, index: Index, seen: &mut Usage) -> u32 {
    let inventory = &allocator.inventory;
    let (count, order) = match inventory.frame(index).state() {
        State::Tail => panic!("{index:?} is a tail without a block"),
        State::Absent | State::Permanent => return 1,
        State::Cached { order } => (&mut seen.cached, order),
        State::Isolated { order } => (&mut seen.isolated, order),
        State::Free { order } => {
            seen.free_blocks[usize::from(order.get())] += 1;
            if order < Order::BLOCK_1G
                && let Some(buddy) = inventory.buddy(index, order)
            {
                assert_ne!(
                    inventory.frame(buddy).state(),
                    State::Free { order },
                    "buddies"
                );
            }
            (&mut seen.free, order)
        }
        State::Allocated { used, order } => match used {
            Use::Hypervisor => (&mut seen.hypervisor, order),
            Use::Table => (&mut seen.tables, order),
            Use::Data { .. } => (&mut seen.data, order),
            Use::Reserved { .. } => (&mut seen.reserved, order),
        },
    };
    *count += order.frames() as usize;
    assert_eq!(inventory.pa(index).get() % order.bytes(), 0, "alignment");
    for offset in 1..order.frames() {
        assert_eq!(
            inventory.frame(index.plus(offset)).state(),
            State::Tail,
            "inside a block"
        );
    }
    order.frames()
}

fn audit_block(allocator: &FrameAllocator<Arena>, block: Index) {
    let (mut small_free, mut held) = (0, 0);
    for (_, state) in allocator.inventory.heads(block) {
        match state {
            State::Free { order } if order < Order::BLOCK_2M => small_free += order.frames(),
            State::Isolated { order } => held += order.frames(),
            _ => {}
        }
    }
    let first = allocator.inventory.frame(block);
    assert_eq!(u32::from(first.small_free()), small_free);
    assert_eq!(u32::from(first.held().unwrap_or(0)), held);
}
