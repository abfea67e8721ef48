//! Compaction: making blocks of pages, and free blocks of scattered frames.
//!
//! What the compaction thread does at each step, apart from the thread itself:
//! - [`collapse`]: finds regions of guest memory worth a block, and collapses them;
//! - [`defragment`]: moves pages out of a physical 2 MiB block, when none is free;
//! - [`stress`]: does all of this, and its contrary, at random, so that races are frequent.
//!
//! A step is bounded, and gives way to other threads of its CPU every few pages. No lock is held
//! between the calls into the table manager, and nothing that was learnt before such a call is
//! relied on after it: regions and frames may have changed, and the calls then say so.

pub mod collapse;
pub mod defragment;
pub mod requests;
pub mod stress;

pub use collapse::{Compactor, Policy};
pub use stress::Stress;
