//! The events and their stamps, and how one becomes four words and back.
//!
//! An event is at most a kind, four small numbers and two words, so that writing one is a handful of
//! stores. Addresses are IPAs or PAs as each field says, times are ticks of the counter
//! (`CNTFRQ_EL0` a second), levels those of the translation tables (0 to 3).

use crate::category::Category;
use crate::code::codes;

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

codes! {
    /// What the guest was doing when it faulted.
    Access {
        /// A load, or a walk of the guest's own tables.
        Read = 0 => "read",
        /// A store.
        Write = 1 => "write",
        /// An instruction fetch.
        Execute = 2 => "execute",
    }
}

codes! {
    /// Why a stage-2 fault was taken.
    Cause {
        /// Nothing is mapped.
        Translation = 0 => "translation",
        /// A mark or a right is missing.
        Permission = 1 => "permission",
    }
}

codes! {
    /// What became of a fault.
    Outcome {
        /// The guest tries again.
        Resume = 0 => "resolved",
        /// Somebody works on the region; the guest tries again later.
        Busy = 1 => "busy",
        /// No memory is there.
        Outside = 2 => "outside memory",
        /// No frame was left.
        OutOfMemory = 3 => "out of memory",
    }
}

codes! {
    /// Why nothing was mapped, or a collapse was given up.
    Reason {
        /// Something is mapped there already.
        Occupied = 0 => "occupied",
        /// Somebody works on the region.
        Busy = 1 => "busy",
        /// No frame was left for a table.
        OutOfFrames = 2 => "out of frames",
        /// The request makes no sense: address, alignment or rights.
        Invalid = 3 => "invalid",
        /// There is no table to collapse.
        NoTable = 4 => "no table",
        /// Too many entries are empty.
        TooEmpty = 5 => "too empty",
        /// Entries differ in their attributes.
        Mixed = 6 => "mixed",
        /// The frames do not lie in order.
        Scattered = 7 => "scattered",
        /// The guest writes too much of it.
        Hot = 8 => "hot",
        /// Somebody else collapses it.
        Claimed = 9 => "claimed",
        /// A page must keep its frame.
        Pinned = 10 => "pinned",
    }
}

codes! {
    /// How far a collapse has come.
    Step {
        /// It was begun.
        Begin = 0 => "begin",
        /// Its pages were copied while the guest ran.
        Copy = 1 => "copy",
        /// The block is made.
        Commit = 2 => "commit",
        /// It was given up; the reason says why.
        Abort = 3 => "abort",
    }
}

codes! {
    /// What a marker stands for.
    Work {
        /// A collapse.
        Collapse = 0 => "collapse",
        /// A split.
        Split = 1 => "split",
        /// A move of one page.
        Move = 2 => "move",
        /// A table taken away.
        FreeTable = 3 => "free table",
        /// Something else.
        Other = 4 => "other",
    }
}

codes! {
    /// What an invalidation had to reach.
    Reach {
        /// Leaves of the level.
        Leaf = 0 => "leaf",
        /// Leaves of all levels.
        Leaves = 1 => "leaves",
        /// Leaves and tables.
        Tables = 2 => "tables",
    }
}

codes! {
    /// Why a vCPU left the guest.
    Exit {
        /// A hypercall or firmware call.
        Call = 0 => "call",
        /// A stage-2 abort.
        Abort = 1 => "abort",
        /// A trapped system register.
        Register = 2 => "register",
        /// A trapped wait for an interrupt or event.
        Wait = 3 => "wait",
        /// A physical interrupt.
        Interrupt = 4 => "interrupt",
        /// Something else.
        Other = 5 => "other",
    }
}

/// Declares the events. A field of the head is one byte; at most two words follow.
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
            /// What switches it on.
            pub const fn category(&self) -> Category {
                match self { $(Event::$name { .. } => Category::$category,)* }
            }

            /// Its name, as a person reads it.
            pub const fn name(&self) -> &'static str {
                match self { $(Event::$name { .. } => stringify!($name),)* }
            }

            #[inline]
            const fn pack(&self) -> Packed {
                match *self {
                    $(Event::$name { $($byte,)* $($word,)* } => {
                        let bytes = fill([$($byte as u8),*]);
                        let words = fill_words([$($word),*]);
                        Packed { kind: $kind, bytes, words }
                    })*
                }
            }

            #[allow(unused_assignments, unused_mut, unused_variables)] // by events without bytes or words
            fn unpack(packed: &Packed) -> Option<Self> {
                let mut bytes = packed.bytes.iter().copied();
                let mut words = packed.words.iter().copied();
                Some(match packed.kind {
                    $($kind => Event::$name {
                        $($byte: <$type as Byte>::read(bytes.next()?)?,)*
                        $($word: words.next()?,)*
                    },)*
                    _ => return None,
                })
            }
        }
    };
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
    /// Somebody else had a table's lock.
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
    Move = 9 in Change { ;
        /// The page's IPA.
        ipa,
        /// The new frame's PA.
        to,
    }
    /// A busy marker was met.
    Marker = 10 in Race {
        /// What it stands for.
        work: Work,
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
}

/// A byte of an event.
trait Byte: Sized {
    fn read(byte: u8) -> Option<Self>;
}

impl Byte for u8 {
    fn read(byte: u8) -> Option<Self> {
        Some(byte)
    }
}

macro_rules! bytes {
    ($($type:ty),*) => { $(impl Byte for $type {
        fn read(byte: u8) -> Option<Self> {
            Self::from_code(byte)
        }
    })* };
}
bytes!(Access, Cause, Outcome, Reason, Step, Work, Reach, Exit);

/// Bytes of an event's head.
const BYTES: usize = 4;

/// An event without its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) kind: u8,
    pub(crate) bytes: [u8; BYTES],
    pub(crate) words: [u64; 2],
}

const fn fill<const N: usize>(from: [u8; N]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut index = 0;
    while index < N {
        bytes[index] = from[index];
        index += 1;
    }
    bytes
}

const fn fill_words<const N: usize>(from: [u64; N]) -> [u64; 2] {
    let mut words = [0; 2];
    let mut index = 0;
    while index < N {
        words[index] = from[index];
        index += 1;
    }
    words
}

/// The words of a record in a ring.
pub const WORDS: usize = 4;

impl Record {
    /// The record as words: time; kind, CPU, VM, vCPU and the event's bytes; the event's words.
    #[inline]
    pub fn to_words(&self) -> [u64; WORDS] {
        let Packed { kind, bytes, words } = self.event.pack();
        let Stamp {
            time,
            cpu,
            vm,
            vcpu,
        } = self.stamp;
        let [b0, b1, b2, b3] = bytes;
        let head = u64::from_le_bytes([kind, cpu, vm, vcpu, b0, b1, b2, b3]);
        [time, head, words[0], words[1]]
    }

    /// The record of these words; `None` if there is no such event.
    pub fn from_words(words: [u64; WORDS]) -> Option<Self> {
        let [time, head, first, second] = words;
        let [kind, cpu, vm, vcpu, bytes @ ..] = head.to_le_bytes();
        let words = [first, second];
        Packed { kind, bytes, words }.record(time, cpu, vm, vcpu)
    }
}

impl Packed {
    /// The record, with its stamp; `None` if there is no such event.
    pub(crate) fn record(self, time: u64, cpu: u8, vm: u8, vcpu: u8) -> Option<Record> {
        let stamp = Stamp {
            time,
            cpu,
            vm,
            vcpu,
        };
        Event::unpack(&self).map(|event| Record { stamp, event })
    }
}
