//! Counters of what happened, one set per CPU.
//!
//! Each CPU writes its own set only, with a plain load and store: counting costs no atomic
//! read-modify-write and touches no cache line that another CPU writes.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// An event that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        impl Counter {
            /// All events, in the order in which they are shown.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            /// A few words for a person.
            pub const fn text(self) -> &'static str {
                match self { $(Counter::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// A locked table turned out to be detached: the lookup began again.
    LockRetries => "lock retries",
    /// A table was asked for and the entry was empty.
    AbsentEmpty => "no table: empty",
    /// A table was asked for and the entry was busy.
    AbsentBusy => "no table: busy",
    /// A table was asked for and the entry was a block.
    AbsentBlock => "no table: block",
    /// A table was asked for and the entry was bad.
    AbsentBad => "no table: bad",
    /// A bad entry was cleared.
    BadCleared => "bad entries cleared",
    /// A thread waited for a busy marker.
    BusyWaits => "waits for a marker",
    /// Pages mapped.
    PagesMapped => "pages mapped",
    /// Blocks mapped.
    BlocksMapped => "blocks mapped",
    /// Leaf entries removed.
    LeavesUnmapped => "leaves unmapped",
    /// Faults on an entry that another CPU had already mended.
    SpuriousFaults => "spurious faults",
    /// Faults that made a page writable again.
    WriteFaults => "write faults",
    /// Faults that set an access flag.
    AccessFaults => "access faults",
    /// Tables installed.
    TablesInstalled => "tables installed",
    /// A table was made for an entry that another thread filled first.
    InstallsLost => "table installs lost",
    /// Blocks split.
    Splits => "splits",
    /// Regions collapsed without copying.
    CollapsesInPlace => "collapses in place",
    /// Regions collapsed by copying.
    CollapsesCopied => "collapses by copying",
    /// Collapses given up.
    CollapsesAborted => "collapses aborted",
    /// Pages copied again while the guest was held up.
    PagesRecopied => "pages copied twice",
    /// Pages moved to another frame.
    Migrations => "migrations",
    /// Moves, and unmappings of a page for what it holds, that were not begun.
    MigrationsAborted => "migrations aborted",
    /// Tables taken out of the tree.
    TablesDetached => "tables detached",
    /// Table frames given back.
    TablesFreed => "tables freed",
    /// Grace periods awaited.
    GracePeriods => "grace periods",
    /// Invalidations of the TLB.
    Invalidations => "TLB invalidations",
}

/// The number of [`Counter`]s.
pub const COUNTERS: usize = Counter::ALL.len();

/// One CPU's counters.
pub struct Counters([AtomicU64; COUNTERS]);

impl Counters {
    /// All zero.
    #[allow(clippy::new_without_default)] // part of a CPU's slot, made in place
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; COUNTERS])
    }

    /// Counts one event. Called on the CPU that owns the set.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `n` events. Called on the CPU that owns the set.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        let cell = &self.0[counter as usize];
        cell.store(
            cell.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// How often an event was counted on this CPU.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
}
