//! Table frames and the window to them, checked.

use super::{Checked, Known, KnownFrame, host};
use crate::addr::{PAGE_SHIFT, PAGE_SIZE, Pa};
use crate::env::{Environment, Frames, OutOfFrames, TableFrame, TableWindow};
use crate::frame::GuestFrame;
use crate::meta::TableMeta;
use crate::sync::Ordering;

impl<E: Environment> Checked<E> {
    /// Checks frames that were allocated, and notes them.
    fn check_allocated(&self, first: Pa, order: u32, call: &str, are_zero: bool) {
        let size = PAGE_SIZE << order;
        assert!(
            first.get().is_multiple_of(size),
            "{call}: {first:?} is not aligned to {size:#x}"
        );
        let mut known = self.known.lock();
        for index in 0..1 << order {
            let pa = first.offset(index * PAGE_SIZE);
            self.note(&mut known, pa, call);
            self.check_memory(&known, pa, call, are_zero);
        }
    }

    fn note(&self, known: &mut Known, pa: Pa, call: &str) {
        let Some(meta) = self.frames().table_meta(pa) else {
            panic!("Frames::table_meta: the table frame at {pa:?} has none");
        };
        let place = self.place(meta);
        let frame = KnownFrame {
            meta: place,
            is_allocated: true,
        };
        if let Some(before) = known.frames.insert(pa.get(), frame) {
            assert!(
                !before.is_allocated,
                "{call}: the frame at {pa:?} was given twice"
            );
            assert_unmoved(before.meta, place, pa);
        }
        let of = *known.metas.entry(place).or_insert(pa.get());
        assert_eq!(
            of,
            pa.get(),
            "Frames::table_meta: two frames have the same metadata"
        );
        assert!(!meta.is_table(), "{call}: the frame at {pa:?} is a table");
    }

    /// Looks whether the window of a fresh frame leads to it, and its entries are zero if they have
    /// to be.
    fn check_memory(&self, known: &Known, pa: Pa, call: &str, is_zero: bool) {
        let window = self.window();
        let first = |pa| window.table(TableFrame::at(pa)).entries[0].load(Ordering::Relaxed);
        let set_first = |bits| {
            window.table(TableFrame::at(pa)).entries[0].store(bits, Ordering::Relaxed);
        };
        if is_zero {
            let table = window.table(TableFrame::at(pa));
            let mut entries = table.entries.iter();
            assert!(
                entries.all(|entry| entry.load(Ordering::Relaxed) == 0),
                "{call}: the frame at {pa:?} is not zero"
            );
        }
        // No descriptor, and another one for each frame.
        let probe = pa.get() | 1 << 3;
        set_first(probe);
        let found = first(pa);
        assert_eq!(found, probe, "TableWindow::table: forgot a store");
        let mut before = known.frames.range(..pa.get()).rev();
        let mut after = known.frames.range(pa.get() + 1..);
        let neighbours = [
            before.find(|(_, frame)| frame.is_allocated),
            after.find(|(_, frame)| frame.is_allocated),
        ];
        for (&other, _) in neighbours.into_iter().flatten() {
            assert_ne!(
                first(Pa::new(other)),
                probe,
                "TableWindow::table: leads to one memory from two frames"
            );
        }
        set_first(0);
    }
}

fn assert_unmoved(before: usize, now: usize, pa: Pa) {
    assert_eq!(
        before, now,
        "Frames::table_meta: that of the frame at {pa:?} is not the same at all times"
    );
}

// SAFETY: every answer is that of the environment's own frames.
unsafe impl<E: Environment> Frames for Checked<E> {
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
        const CALL: &str = "Frames::allocate_tables";
        self.assert_unpinned(CALL);
        let first = self.frames().allocate_tables(order)?;
        self.check_allocated(first, order, CALL, true);
        Ok(first)
    }

    fn allocate_filled_table(&self) -> Result<Pa, OutOfFrames> {
        const CALL: &str = "Frames::allocate_filled_table";
        self.assert_unpinned(CALL);
        let table = self.frames().allocate_filled_table()?;
        self.check_allocated(table, 0, CALL, false);
        Ok(table)
    }

    fn free_tables(&self, first: TableFrame, order: u32) {
        const CALL: &str = "Frames::free_tables";
        // A breach was found, perhaps while a table was made: it is left where it is.
        if host::is_panicking() {
            return;
        }
        self.assert_unpinned(CALL);
        for index in 0..1 << order {
            let pa = first.pa().offset(index * PAGE_SIZE);
            let mut known = self.known.lock();
            let frame = known.frames.get_mut(&pa.get());
            let was_allocated =
                frame.is_some_and(|frame| core::mem::replace(&mut frame.is_allocated, false));
            assert!(was_allocated, "{CALL}: {pa:?} is not allocated");
        }
        self.frames().free_tables(first, order);
    }

    fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        let meta = self.frames().table_meta(pa);
        if let Some(frame) = self.known.lock().frames.get(&pa.get()) {
            assert_unmoved(frame.meta, meta.map_or(0, |meta| self.place(meta)), pa);
        }
        meta
    }

    fn holds_tables(&self, frame: &GuestFrame) -> bool {
        let (first, pages) = (frame.pa(), frame.level().size() >> PAGE_SHIFT);
        let answer = self.frames().holds_tables(frame);
        let known = self.known.lock();
        let within = first.get()..first.get() + pages * PAGE_SIZE;
        for (&pa, known) in known.frames.range(within) {
            let meta = self.frames().table_meta(Pa::new(pa));
            let is_table = known.is_allocated && meta.is_some_and(TableMeta::is_table);
            assert!(
                answer || !is_table,
                "Frames::holds_tables: overlooked the table at {pa:#x}"
            );
        }
        answer
    }
}

// SAFETY: every answer is that of the environment's own window.
unsafe impl<E: Environment> TableWindow for Checked<E> {
    type Ref<'a>
        = <E::TableWindow as TableWindow>::Ref<'a>
    where
        Self: 'a;

    fn table(&self, table: TableFrame) -> Self::Ref<'_> {
        self.window().table(table)
    }

    fn fill(&self, table: TableFrame, first: u64, step: u64) {
        self.window().fill(table, first, step);
        let mut value = first;
        for entry in &self.window().table(table).entries {
            let stored = entry.load(Ordering::Relaxed);
            assert_eq!(stored, value, "TableWindow::fill: stored something else");
            value = value.wrapping_add(step);
        }
    }
}
