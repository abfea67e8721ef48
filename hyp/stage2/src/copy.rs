//! What the operations that change a guest's frames need done with the contents.

use crate::addr::{Ipa, Pa};
use crate::descriptor::Descriptor;

/// Copies guest memory. All addresses are of guest frames, all sizes one 4 KiB page.
///
/// Pages may be written by the guest while they are copied; such copies are thrown away or made again.
pub trait Contents {
    /// Copies the page at `from` to the page at `to`.
    fn copy(&mut self, from: Pa, to: Pa);

    /// Fills the page at `to` with zeros: what the guest finds in memory that it never touched.
    fn zero(&mut self, to: Pa);

    /// All pages are copied, and none of them is mapped yet: the time to make instruction fetches
    /// see them, where the hardware needs that.
    fn complete(&mut self) {}

    /// A store to the region was, or would have been, held up for so long at most, by a lock or by the
    /// marker; in units of [`Environment::clock`](crate::Environment::clock). Told more than once.
    fn held_up(&mut self, _ticks: u64) {}

    /// A frame lost its mapping, and no translation of it is left: it may be freed.
    fn release(&mut self, ipa: Ipa, old: Descriptor);
}
