//! What is measured, and of whom.

/// Regions of 2 MiB, on all threads together.
pub(crate) const REGIONS: usize = 64;
/// Where the guest's memory begins.
pub(crate) const BASE: u64 = 1 << 30;
/// Tables that each CPU may need: the root, one below it, one for each region, and one for each
/// that another CPU made first or that is kept for a split.
pub(crate) const TABLES: usize = 2 * REGIONS + 4;

/// What is done, and how much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Map a page; of each 512, the first finds no table and makes one.
    MapFirst,
    /// Map a page whose table is there.
    Map,
    /// Find the table that has a page's entry and lock what guards it.
    Lock,
    /// Look at a page's entry.
    Walk,
    /// Unmap a page.
    Unmap,
    /// Map the pages of 2 MiB by one call.
    MapRange,
    /// Look at the entries of 2 MiB by one call.
    WalkRange,
    /// Unmap the pages of 2 MiB by one call.
    UnmapRange,
    /// Make a block of 512 pages that are contiguous.
    Collapse,
    /// Make 512 pages of a block.
    Split,
}

impl Operation {
    /// In the order in which each finds the tables as it needs them.
    pub(crate) const ALL: [Operation; 10] = {
        use Operation::*;
        [
            MapFirst, Unmap, Map, Lock, Walk, MapRange, WalkRange, Collapse, Split, UnmapRange,
        ]
    };

    /// The head of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Operation::MapFirst => "map new",
            Operation::Map => "map",
            Operation::Lock => "lock",
            Operation::Walk => "walk",
            Operation::Unmap => "unmap",
            Operation::MapRange => "map 2M",
            Operation::WalkRange => "walk 2M",
            Operation::UnmapRange => "unmap 2M",
            Operation::Collapse => "collapse",
            Operation::Split => "split",
        }
    }

    /// Whether its time is given for a page, also where many are done by one call.
    pub(crate) fn counts_pages(self) -> bool {
        !matches!(self, Operation::Collapse | Operation::Split)
    }
}

/// One guest's tables of three levels. All addresses are mapped to themselves.
pub(crate) trait Subject: Sync {
    /// What to call it.
    const NAME: &'static str;
    /// Whether a call that maps something keeps all others out as long as it lasts.
    const EXCLUSIVE: bool;

    /// Empty tables for threads that are these CPUs.
    fn new(cpus: usize) -> Self;

    /// Does it to the page, or the 2 MiB, at this address.
    ///
    /// Always inline, so that each measured loop has just one operation in it.
    fn run(&self, operation: Operation, ipa: u64);

    /// Whether it can do it.
    fn can(_: Operation) -> bool {
        true
    }

    /// Before a region's time for `operation` counts: sees to it that there is what it takes.
    fn prepare(&self, _: Operation, _region: u64) {}
}
