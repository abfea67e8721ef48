//! Stage-2 translation tables that many CPUs change at once.
#![cfg_attr(not(any(test, feature = "fake", loom)), no_std)]
#![deny(unsafe_code)]

mod addr;
mod collapse;
mod copy;
mod deposit;
mod descriptor;
mod destroy;
mod detached;
#[allow(unsafe_code)] // declares traits whose contracts the implementer vouches for
mod env;
#[cfg(feature = "fake")]
#[allow(unsafe_code)] // implements the traits of `env`
pub mod fake;
mod fault;
mod flush;
mod geometry;
pub mod grace;
pub mod lookup;
mod map;
mod meta;
mod observe;
mod protect;
mod prune;
mod query;
mod range;
mod relocate;
mod split;
mod stage2;
pub mod stats;
mod sync;
mod unmap;
pub mod vmid;

pub use addr::{ENTRIES, INDEX_BITS, Ipa, IpaRange, Level, PAGE_SHIFT, PAGE_SIZE, Pa};
pub use collapse::{CollapseError, CopyPlan};
pub use copy::Contents;
pub use descriptor::{Attributes, Descriptor, Execute, Format, Kind, Marker, Memory, Rights, Work};
pub use env::{Cpus, Environment, Frames, OutOfFrames, Scope, Table, Tlb, Window};
pub use fault::{Access, Resolution};
pub use geometry::{Geometry, GeometryError};
pub use map::MapError;
pub use meta::{Owner, TableMeta};
pub use observe::{CollapseStep, Observation, Topic};
pub use query::Entry;
pub use relocate::MoveError;
pub use split::SplitError;
pub use stage2::{Config, Stage2};
pub use unmap::Unmapped;
