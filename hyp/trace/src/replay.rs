//! What a checker of the protocol is told: the category `replay`.
//!
//! There is no code in this module. The events are those of [`event`](crate::event) with a field
//! `order`; the frames are the ones of the stream *replay*.
//!
//! # The order
//!
//! Every event has a number of its own: 1, 2, 3 and so on without a gap, over all CPUs. A number
//! that is missing was lost (a frame that broke), or had not come when the recording ended. The
//! numbers of one CPU grow in the order in which it did things, and
//!
//! - **an entry** is written with its table's lock held, and gets its number before the lock is let
//!   go. An entry that was not valid before gets it *before* the store: whatever anybody did
//!   because of what he found there comes later. An entry that was valid gets it *after* the store:
//!   an invalidation with a higher number began when the old value was gone. The entries of a table
//!   that nobody can see yet need no lock; they come before the entry that names it;
//! - **a lock** is had before its number is taken, and let go after: two holds of one lock do not
//!   overlap;
//! - **a barrier** gets its number when it is complete, **a TLBI** before it is executed;
//! - **a register** gets its number before it is written;
//! - **a frame** that becomes a table gets its number before anybody can find it, and before its
//!   entries are written; one that ceases to be a table gets it when nobody can find it any more,
//!   before it is given away;
//! - **an address range** that gets another owner gets its number while it can't be mapped:
//!   after the hypervisor took it, before it gives it back;
//! - **a tree** ends when its TLB entries were flushed, before its first frame is given away;
//! - **a grace period** that begins gets its number before the first look at a CPU's read section,
//!   one that ends after the last; an **emptying of instruction caches** gets it before it is
//!   executed.
//!
//! So what happened before, in the sense of the memory model, has the lower number, and the order
//! of all writes to one table is the order in which they were done. What the numbers do not tell:
//! in which order CPUs *saw* entries of different tables that were written at the same time.
//!
//! Nothing is overwritten: a CPU whose ring is full sends what is in it before it goes on. Guests
//! run the slower for it.
//!
//! # What is told
//!
//! [`Allowed`](crate::Event::Allowed), once, before all others: with FEAT_BBM level 2 a block and a
//! table of the same addresses and attributes may replace each other without a break; where
//! CTR_EL0.DIC is 0, what was fetched through a translation has to be forgotten as well as the
//! translation.
//!
//! [`Held`](crate::Event::Held), at the start: for all physical addresses who has them: guests, the
//! hypervisor as image or frame, a device, or nobody. What is not told is nobody's. Later, when
//! frames of guests become the hypervisor's own and go back, and when one of these is shown to a
//! VM, which may load and fetch from it then. Frames that go from one guest to another, or become
//! tables, stay guests'.
//!
//! [`RamMade`](crate::Event::RamMade): a VM's RAM, before its root. Outside of that a VM has
//! nothing that it can store to.
//!
//! [`Written`](crate::Event::Written): the PA of an entry, its old and new value, and whether the
//! store had release semantics. The hardware, too, changes entries, where VTCR_EL2.HA and HD allow
//! it: the access flag (bit 10), and in an entry with DBM (bit 51) the right to store (bit 7). So
//! an old value may differ from the one last written in these.
//!
//! [`Barrier`](crate::Event::Barrier), [`TlbiDone`](crate::Event::TlbiDone),
//! [`FetchesInvalidated`](crate::Event::FetchesInvalidated): all TLBIs, with the operand as in the
//! register, and VTTBR_EL2, which names the VMID; the instruction caches' like; and the barriers
//! round them and behind entries. Those behind the cleaning of a page's data are not told.
//!
//! [`RegisterSet`](crate::Event::RegisterSet): VTTBR_EL2 and VTCR_EL2. A root that was never told
//! is that of tables which translate nothing. The stamp has the vCPU that is about to run, if one
//! is.
//!
//! [`Locked`](crate::Event::Locked), [`Unlocked`](crate::Event::Unlocked): a table's lock, by its
//! PA, also where the table is found detached and let go at once. A table is found in a read
//! section, which lasts longer than the lock, and the event says which grace periods that section
//! is too young to hold up. Outside of sections a table is locked by who has claimed it.
//!
//! [`GraceBegun`](crate::Event::GraceBegun), [`GraceEnded`](crate::Event::GraceEnded): a grace
//! period, by its number. It may end on another CPU than it began on, and several may be under way.
//! One does for all CPUs that need one at a time, and each of them tells that it has begun, and of
//! its end as far as it has seen that.
//!
//! [`RootMade`](crate::Event::RootMade), [`TableMade`](crate::Event::TableMade),
//! [`TableEnded`](crate::Event::TableEnded), [`TreeEnded`](crate::Event::TreeEnded): the life of a
//! table, and of all tables, of the VM in the stamp. After a tree's end its leaves' frames are free
//! to be given to others. A root of several tables gives an event for each. A new table is zeroed,
//! or every entry of it is written before it can be found.
//!
//! Of values that are not valid (bit 0 clear), zero is an empty entry, and any other a marker of
//! work under way.
