//! A VM's memory as cells, as many as there is room for: a cell is some regions, or a part of one,
//! down to a page.

use crate::space::{PAGES, REGION, Region, Space};

/// What a cell shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Nothing is mapped.
    Empty,
    /// So many eighths, 1 to 8, are mapped, at least half of that by pages.
    Pages(u8),
    /// Blocks map it, or most of it.
    Block,
    /// Some of it is being collapsed.
    Busy,
}

/// The cells of a VM's memory.
pub(super) struct Map<'s> {
    space: &'s Space,
    /// Cells of one region, or, where it is 1, regions of one cell.
    parts: usize,
    regions: usize,
}

impl<'s> Map<'s> {
    /// Makes the most of `room` cells.
    pub(super) fn new(space: &'s Space, room: usize) -> Self {
        let regions = space.regions.len().max(1);
        let fit = (room / regions).min(PAGES as usize);
        // Powers of two, so that rows begin at round addresses more often than not.
        let parts = if fit == 0 { 1 } else { 1 << fit.ilog2() };
        let regions = if fit == 0 {
            regions.div_ceil(room.max(1)).next_power_of_two()
        } else {
            1
        };
        Self {
            space,
            parts,
            regions,
        }
    }

    /// What a cell stands for, in bytes.
    pub(super) fn cell_bytes(&self) -> u64 {
        REGION * self.regions as u64 / self.parts as u64
    }

    /// How many cells there are.
    pub(super) fn len(&self) -> usize {
        self.space.regions.len().div_ceil(self.regions) * self.parts
    }

    /// The cells, by address.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        let groups = self.space.regions.chunks(self.regions);
        groups.flat_map(move |group| (0..self.parts).map(move |part| self.cell(group, part)))
    }

    fn cell(&self, group: &[Region], part: usize) -> Cell {
        let size = PAGES as usize / self.parts;
        let pages = |region: &Region| match self.parts {
            1 => region.pages(),
            _ => region.pages_in(part * size..(part + 1) * size),
        };
        let pages: u32 = group.iter().map(pages).sum();
        let blocks = group.iter().filter(|region| region.block).count();
        let most = PAGES * group.len() as u32 / self.parts as u32;
        let full = pages + blocks as u32 * PAGES / self.parts as u32;
        if group.iter().any(|region| region.busy) {
            Cell::Busy
        } else if blocks * 2 >= group.len() {
            Cell::Block
        } else if full == 0 {
            Cell::Empty
        } else {
            Cell::Pages((full * 8).div_ceil(most).min(8) as u8)
        }
    }
}
