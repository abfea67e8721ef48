//! The interrupt that a list register holds.

/// What a list register holds, as it was when it was listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) intid: u32,
    /// It is pending because of its latch.
    pub(super) latched: bool,
    /// It was active when it was listed.
    pub(super) active: bool,
    /// The CPU's own interrupt ends with it.
    pub(super) hardware: bool,
}

impl Slot {
    /// If it holds hardware interrupt `intid`: the CPU's own no longer ends with it.
    pub(super) fn is_over(&mut self, intid: u32) {
        self.hardware &= self.intid != intid;
    }
}
