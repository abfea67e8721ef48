//! The events and their stamps, and how one becomes four words and back.
//!
//! An event is a kind, at most four codes, and at most two words, so that writing one is a handful
//! of stores; an event of the category `replay` has up to four words. Addresses are IPAs or PAs as
//! each field says, times are ticks of the counter (`CNTFRQ_EL0` a second), levels those of the
//! translation tables (0 to 3). Codes and levels are below 16.

use crate::category::{Category, Stream};
pub use crate::fields::{
    Access, Barrier, Cause, Exit, Holder, Operation, Outcome, Reach, Reason, Register, Step, Store,
    Taking, Tlbi,
};
use crate::packed::{Code, Packed, Shape};
pub use crate::packed::{EVENT_WORDS, REPLAY_WORDS, WORDS};

/// The number of no VM, or no vCPU.
pub const NOBODY: u8 = 0xff;

/// When an event happened, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The counter, in ticks.
    pub time: u64,
    /// The CPU that wrote it.
    pub cpu: u8,
    /// The VM, or [`NOBODY`].
    pub vm: u8,
    /// The vCPU on whose thread it happened, or [`NOBODY`].
    pub vcpu: u8,
}

/// An event with its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, and to whom.
    pub stamp: Stamp,
    /// What.
    pub event: Event,
}

/// Declares the events: the codes of each, and the words behind the semicolon.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $kind:literal in $category:ident {
        $($(#[$bdoc:meta])* $byte:ident: $type:ty,)* ; $($(#[$wdoc:meta])* $word:ident,)*
    })*) => {
        /// Something that happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $name { $($(#[$bdoc])* $byte: $type,)* $($(#[$wdoc])* $word: u64,)* },)*
        }

        impl Event {
            /// The names of all events.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// What switches it on.
            #[inline(always)]
            pub const fn category(&self) -> Category {
                match self { $(Event::$name { .. } => Category::$category,)* }
            }

            /// Its name, as a person reads it.
            pub const fn name(&self) -> &'static str {
                match self { $(Event::$name { .. } => stringify!($name),)* }
            }

            /// The event without its types.
            #[inline(always)]
            pub(crate) const fn pack(&self) -> Packed {
                match *self {
                    $(Event::$name { $($byte,)* $($word,)* } => {
                        Packed::new($kind, &[$($byte as u8),*], &[$($word),*])
                    })*
                }
            }

            /// The event; `None` if there is no such one.
            // By events without codes or words.
            #[allow(unused_assignments, unused_mut, unused_variables)]
            pub(crate) fn unpack(packed: &Packed) -> Option<Self> {
                let mut bytes = packed.codes.iter().copied();
                let mut words = packed.words.iter().copied();
                Some(match packed.kind {
                    $($kind => Event::$name {
                        $($byte: <$type as Code>::read(bytes.next()?)?,)*
                        $($word: words.next()?,)*
                    },)*
                    _ => return None,
                })
            }
        }

        /// The highest number of a kind.
        pub(crate) const HIGHEST_KIND: u8 = highest(&[$($kind),*]);

        /// How many codes and words an event of this kind has; `None` if there is no such kind.
        pub(crate) const fn shape(kind: u8) -> Option<Shape> {
            match kind {
                $($kind => Some(Shape {
                    codes: <[&str]>::len(&[$(stringify!($byte)),*]),
                    words: <[&str]>::len(&[$(stringify!($word)),*]),
                }),)*
                _ => None,
            }
        }
    };
}

const fn highest(kinds: &[u8]) -> u8 {
    let (mut highest, mut index) = (0, 0);
    while index < kinds.len() {
        if kinds[index] > highest {
            highest = kinds[index];
        }
        index += 1;
    }
    highest
}

events! {
    /// A stage-2 fault was taken and dealt with.
    Fault = 1 in Fault {
        /// What the guest was doing.
        access: Access,
        /// What was in the way.
        cause: Cause,
        /// What came of it.
        outcome: Outcome, ;
        /// The IPA.
        ipa,
        /// How long it took, in ticks.
        ticks,
    }
    /// Nothing was mapped.
    Refused = 2 in Map {
        /// Why.
        reason: Reason,
        /// The level of the mapping.
        level: u8, ;
        /// The IPA.
        ipa,
    }
    /// A locked table had been detached: the lookup began again.
    Retry = 3 in Race {
        /// The table's level.
        level: u8, ;
        /// The first IPA that the table translates.
        ipa,
    }
    /// Another thread had a table's lock.
    LockWait = 4 in Race {
        /// The table's level.
        level: u8, ;
        /// The first IPA that the table translates.
        ipa,
        /// How long it took to get the lock, in ticks.
        ticks,
    }
    /// A leaf was made.
    Map = 5 in Map {
        /// Its level.
        level: u8, ;
        /// The IPA.
        ipa,
        /// The PA.
        pa,
    }
    /// Leaves were taken away.
    Unmap = 6 in Map {
        /// Their level.
        level: u8, ;
        /// The IPA of the first.
        ipa,
        /// The IPA behind the last.
        end,
    }
    /// A block was split.
    Split = 7 in Change {
        /// The block's level.
        level: u8, ;
        /// The block's IPA.
        ipa,
    }
    /// A collapse made a step.
    Collapse = 8 in Change {
        /// Which.
        step: Step,
        /// Why it was given up; of no meaning otherwise.
        reason: Reason,
        /// The block's level.
        level: u8, ;
        /// The block's IPA.
        ipa,
    }
    /// A page was moved to another frame.
    Migrate = 9 in Change { ;
        /// The page's IPA.
        ipa,
        /// The new frame's PA.
        to,
    }
    /// A busy marker was met.
    Marker = 10 in Race {
        /// What it stands for.
        operation: Operation,
        /// The level of the entry that holds it.
        level: u8, ;
        /// The first IPA that the entry covers.
        ipa,
    }
    /// A table was taken out of the tree.
    Detached = 11 in Free {
        /// The level of its entries.
        level: u8, ;
        /// The first IPA that it translated.
        ipa,
    }
    /// A grace period was awaited.
    Grace = 12 in Free { ;
        /// How long, in ticks.
        ticks,
    }
    /// A table's frame was given back.
    Freed = 13 in Free { ;
        /// Its PA.
        pa,
    }
    /// Translations were invalidated on all CPUs.
    Tlbi = 14 in Tlb {
        /// What of them.
        reach: Reach,
        /// Leaves of this level, where the reach is one level.
        level: u8, ;
        /// The first IPA.
        ipa,
        /// The IPA behind the last.
        end,
    }
    /// A vCPU left the guest.
    Exit = 15 in Vcpu {
        /// Why.
        exit: Exit, ;
        /// ESR_EL2, or 0 after an interrupt.
        esr,
        /// The guest's program counter, a virtual address.
        pc,
    }
    /// A vCPU entered the guest again.
    Enter = 16 in Vcpu { ; }
    /// One thread left the CPU, and another took it.
    Switch = 17 in Sched { ;
        /// The number of the thread that left.
        from,
        /// The number of the thread that runs now; those below 8 are idle threads.
        to,
    }
    /// A line was logged; the console has the whole of it.
    Log = 18 in Log {
        /// Its level: 1 is an error, 5 a trace message.
        level: u8, ;
        /// The first eight bytes of the module's name, the first in the lowest byte.
        module,
        /// The number of bytes of the line.
        length,
    }
    /// A VM's RAM was set up: nothing of it is mapped.
    Ram = 19 in Map { ;
        /// Its first IPA.
        ipa,
        /// The IPA behind it.
        end,
    }
    /// How many frames are used for what, now and then.
    Frames = 20 in Map { ;
        /// Free frames of 4 KiB.
        free,
        /// All frames.
        total,
    }
    /// An entry of a table was stored by software.
    Written = 21 in Replay {
        /// How.
        store: Store, ;
        /// Its place in the order (see [`replay`](crate::replay)).
        order,
        /// The entry's PA.
        entry,
        /// The value that was there.
        old,
        /// The value that is there now.
        new,
    }
    /// A barrier was executed.
    Barrier = 22 in Replay {
        /// Which.
        barrier: Barrier, ;
        /// Its place in the order.
        order,
    }
    /// A TLBI was executed.
    TlbiDone = 23 in Replay {
        /// Which.
        tlbi: Tlbi, ;
        /// Its place in the order.
        order,
        /// The operand, as in the register; 0 if it has none.
        operand,
        /// VTTBR_EL2 at that moment, which names the VMID.
        vttbr,
    }
    /// A register that decides over stage 2 was written.
    RegisterSet = 24 in Replay {
        /// Which.
        register: Register, ;
        /// Its place in the order.
        order,
        /// The value.
        value,
    }
    /// A table's lock was had.
    Locked = 25 in Replay {
        /// How.
        taking: Taking,
        /// The level of the table's entries.
        level: u8,
        /// 1 if the table is claimed: nobody but the claim's owner takes it out, or ends it while
        /// it is claimed.
        claimed: u8, ;
        /// Its place in the order.
        order,
        /// The table's PA.
        table,
        /// The number of the youngest grace period when the CPU's read section began (1 before the
        /// first one), 0 outside of sections: the section holds up those with a higher number.
        section,
    }
    /// A table's lock is about to be given back.
    Unlocked = 26 in Replay { ;
        /// Its place in the order.
        order,
        /// The table's PA.
        table,
    }
    /// A frame became a table of the VM. It is zeroed, or will be written as a whole.
    TableMade = 27 in Replay {
        /// The level of its entries.
        level: u8, ;
        /// Its place in the order.
        order,
        /// Its PA.
        table,
    }
    /// A frame became a root table of the VM, zeroed.
    RootMade = 28 in Replay {
        /// The level of its entries.
        level: u8, ;
        /// Its place in the order.
        order,
        /// Its PA.
        table,
        /// The first IPA that it translates.
        ipa,
    }
    /// A frame is no table any more.
    TableEnded = 29 in Replay { ;
        /// Its place in the order.
        order,
        /// Its PA.
        table,
    }
    /// What the CPUs allow: the first event of the order.
    Allowed = 30 in Replay {
        /// The level of FEAT_BBM, if a TLB conflict abort is answered by an invalidation; else 0.
        bbm: u8,
        /// CTR_EL0.DIC: 1 if instruction caches follow data caches by themselves.
        dic: u8, ;
        /// Its place in the order.
        order,
    }
    /// A grace period began: a thread that waits for it looks at the CPUs' read sections from here
    /// on.
    GraceBegun = 31 in Replay { ;
        /// Its place in the order.
        order,
        /// Its number: one more than that of the one before, on whatever CPU; the first has 2.
        number,
    }
    /// A grace period ended: every CPU was seen outside of read sections, or in one that is
    /// younger.
    GraceEnded = 32 in Replay { ;
        /// Its place in the order.
        order,
        /// Its number.
        number,
    }
    /// The instruction caches of all CPUs were emptied (`ic ialluis`).
    FetchesInvalidated = 33 in Replay { ;
        /// Its place in the order.
        order,
    }
    /// Whose physical addresses these are from here on.
    Held = 34 in Replay {
        /// The holder; [`Shown`](Holder::Shown) means to the VM in the stamp.
        holder: Holder, ;
        /// Its place in the order.
        order,
        /// The first PA.
        start,
        /// The PA behind the last.
        end,
    }
    /// The VM's RAM: the addresses at which it may store. Nothing of it is mapped.
    RamMade = 35 in Replay { ;
        /// Its place in the order.
        order,
        /// The first IPA.
        ipa,
        /// The IPA behind the last.
        end,
    }
    /// The VM's tables are about to be taken down. No CPU can walk them any more, nor has a TLB
    /// anything of them.
    TreeEnded = 36 in Replay { ;
        /// Its place in the order.
        order,
    }
}

impl Event {
    /// The place in the total order of those that have one: the category `replay`.
    pub const fn order(&self) -> Option<u64> {
        match self.category() {
            Category::Replay => Some(self.words()[0]),
            _ => None,
        }
    }

    /// With which others it travels.
    #[inline(always)]
    pub const fn stream(&self) -> Stream {
        match (self.category(), self) {
            (Category::Replay, _) => Stream::Replay,
            (Category::Change | Category::Free | Category::Log, _)
            | (_, Event::Ram { .. } | Event::Frames { .. }) => Stream::Rare,
            _ => Stream::Busy,
        }
    }
}
