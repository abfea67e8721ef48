//! A VM's memory as it goes through time.

use serde_json::{Value, json};
use trace::Event;

use super::COLUMNS;
use crate::space::{PAGES, REGION, Space};

/// Most rows of a picture.
const ROWS: usize = 128;

/// What the picture was at each step of time.
#[derive(Default)]
pub(super) struct Film {
    space: Space,
    /// For each step a letter for each row (see [`Film::picture`]).
    columns: Vec<String>,
    /// For each step KiB that pages map, and that blocks map.
    mapped: Vec<(u64, u64)>,
    /// Regions that were changed since the last picture.
    busy: Vec<bool>,
}

impl Film {
    /// Takes an event of this step of time; those before it are over.
    pub(super) fn apply(&mut self, column: usize, event: &Event) {
        self.until(column);
        let concerned = self.space.apply(event);
        self.busy.resize(self.space.regions.len(), false);
        let works = matches!(event, Event::Collapse { .. } | Event::Split { .. });
        if works {
            self.busy[concerned].fill(true);
        }
    }

    /// Pictures up to before this step of time.
    fn until(&mut self, column: usize) {
        while self.columns.len() < column {
            let (pages, blocks) = self.space.mapped();
            self.columns.push(self.picture());
            self.mapped.push((pages >> 10, blocks >> 10));
            for (busy, region) in self.busy.iter_mut().zip(&self.space.regions) {
                *busy = region.busy;
            }
        }
    }

    fn regions_per_row(&self) -> usize {
        self.space.regions.len().div_ceil(ROWS).max(1)
    }

    /// `.` is empty, `0` to `9` how full of pages, `B` blocks, `!` being worked on.
    fn picture(&self) -> String {
        let group = self.regions_per_row();
        let rows = self.space.regions.chunks(group);
        let busy = self.busy.chunks(group);
        rows.zip(busy)
            .map(|(regions, busy)| {
                let pages: u32 = regions.iter().map(|region| region.pages()).sum();
                let blocks = regions.iter().filter(|region| region.block).count();
                if busy.contains(&true) {
                    '!'
                } else if blocks * 2 >= regions.len() {
                    'B'
                } else {
                    fullness(pages + PAGES * blocks as u32, PAGES * regions.len() as u32)
                }
            })
            .collect()
    }

    /// The whole film for the page; `None` for a VM whose memory no event tells of.
    pub(super) fn finish(mut self, vm: u8) -> Option<Value> {
        if self.space.regions.is_empty() {
            return None;
        }
        self.until(COLUMNS);
        let regions = self.space.regions.len();
        let (pages, blocks): (Vec<u64>, Vec<u64>) = self.mapped.iter().copied().unzip();
        Some(json!({
            "name": format!("vm{vm}"),
            "start": self.space.start(),
            "bytes": regions as u64 * REGION,
            "rowBytes": self.regions_per_row() as u64 * REGION,
            "rows": regions.div_ceil(self.regions_per_row()),
            "columns": self.columns,
            "pages": pages,
            "blocks": blocks,
        }))
    }
}

fn fullness(pages: u32, most: u32) -> char {
    if pages == 0 {
        return '.';
    }
    char::from_digit((pages * 9).div_ceil(most).min(9), 10).unwrap_or('9')
}
