//! Operations, as values.

use stage2::{Access, Attributes, Rights};

/// A page: region and index.
pub(crate) type Place = (usize, usize);

/// Pages from here, so many, as far as there are any: over the borders of adjacent regions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages {
    pub(crate) from: Place,
    pub(crate) count: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    MapPage(Place, Attributes, bool),
    /// Maps pages by one call, each to a frame of its own.
    MapPages(Pages, Attributes, bool),
    MapBlock(usize, Attributes, bool),
    /// Maps what is empty in a region, except these indices; in adjacent frames or not.
    Populate {
        region: usize,
        attributes: Attributes,
        written: bool,
        adjacent: bool,
        holes: Vec<usize>,
    },
    Unmap(Pages),
    Protect(Pages, Rights),
    Split(usize),
    CollapseInPlace(usize),
    /// Collapses by copying; before the copy of the page of that index, something else happens.
    CollapseByCopying {
        region: usize,
        max_empty: usize,
        max_hot: usize,
        rounds: usize,
        meanwhile: Vec<(usize, Op)>,
    },
    Move(Place),
    /// Asks to move a page from a frame that it does not have.
    MoveFromElsewhere(Place),
    FreeEmptyTables(Pages),
    Age(Pages),
    WriteProtect(Pages),
    TrapStores(Pages),
    CollectDirty(Pages),
    Access {
        cpu: usize,
        place: Place,
        access: Access,
        split_blocks: bool,
    },
    Prefetch {
        cpu: usize,
        pages: Pages,
    },
}
