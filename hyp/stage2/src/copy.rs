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

    /// A frame lost its mapping, and no translation of it is left: it may be freed.
    fn release(&mut self, ipa: Ipa, old: Descriptor);
}
