//! What the operations that change a guest's frames need done with the contents.

use crate::frame::GuestPage;
use crate::unmap::Unmapped;

/// The memory of a page could not be read: the hardware refused the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory of a page cannot be read")]
pub struct Unreadable;

/// Copies guest memory, page by page.
///
/// Pages may be written by the guest while they are copied; such copies are thrown away or made
/// again.
pub trait CopyPages {
    /// Copies a page to another, which no guest can reach. `from` may have been unmapped a moment
    /// ago, and be its next owner's; such a copy is thrown away.
    ///
    /// # Errors
    ///
    /// `from` cannot be read. The page stays where it is, and `to` may hold anything.
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable>;

    /// Fills a page with zeros: what the guest finds in memory that it never touched.
    fn zero(&mut self, to: GuestPage<'_>);

    /// All pages are copied, and none of them is mapped yet: the time to make instruction fetches
    /// see them, where the hardware needs that.
    fn complete(&mut self) {}

    /// A store to the region was, or would have been, held up for so long at most, by a lock or by
    /// the marker; in units of [`Observer::clock`](crate::Observer::clock). Told more than once.
    fn held_up(&mut self, _ticks: u64) {}

    /// A frame lost its mapping, and no translation of it is left: it is the caller's again.
    fn release(&mut self, leaf: Unmapped);
}
