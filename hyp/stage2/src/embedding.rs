//! How to build this crate into a hypervisor: what to implement, what to promise, what to call
//! when.
//!
//! There is no code in this module.
//!
//! The crate needs Rust 1.93, neither `std` nor `alloc` (on Unix and Windows, for tests, `std`),
//! and no feature; `fake` is for tests on a host. Of memory it wants 40 bytes for each frame that
//! may become a table (a pool of them will do), 256 bytes a CPU, and 8 KiB for the VMIDs.
//!
//! # What to implement
//!
//! Four traits, bundled by [`Environment`](crate::Environment). Their documentation says what
//! exactly each call owes; all five are `unsafe` to implement, because memory safety of all guests,
//! and of the hypervisor, rests on it.
//!
//! | trait | on hardware | its promise, in short |
//! |---|---|---|
//! | [`Frames`](crate::Frames) | the physical frame allocator | frames are zeroed, aligned to their number and given to nobody else; each has one [`TableMeta`](crate::TableMeta), made once and never made anew |
//! | [`TableWindow`](crate::TableWindow) | the linear map, or a temporary mapping | leads to the frame asked for and to nothing else |
//! | [`Tlb`](crate::Tlb) | TLBI and barriers, VTTBR_EL2 | when `publish` returns, walks find what was stored before it; when `invalidate` returns, no CPU uses what was replaced before it; VTTBR_EL2 is written by `load` alone |
//! | [`Cpus`](crate::Cpus) | per-CPU data and the scheduler | a thread that is in a read section, or holds a lock, is neither preempted nor moved; all VMs share one set of slots, one [`Grace`](crate::grace::Grace) and one [`VmidAllocator`](crate::vmid::VmidAllocator) |
//!
//! [`CopyPages`](crate::CopyPages) comes with each call that copies guest memory: it copies, clears
//! and takes back pages. A page that it copies may have been unmapped a moment ago; what is read
//! then is thrown away, so the read must be harmless, not meaningful.
//!
//! # What may be mapped
//!
//! A [`GuestFrame`](crate::GuestFrame), and making one is `unsafe`: it is the promise that guests
//! may do with the memory what they like. Best your allocator of frames for guests makes them,
//! where it hands memory out, and nobody else. What is mapped is the tables'; it comes back as a
//! value when no translation of it is left, from [`unmap`](crate::Stage2::unmap),
//! `CopyPages::release` and `destroy`, and out of the error when it could not be mapped. Scrub it
//! before another guest gets it. A frame that is a table is refused, whatever code has made it.
//!
//! Everything else is safe to call with whatever arguments: that what the traits and the makers of
//! frames promise is all that this crate relies on.
//!
//! # What to promise beyond the traits
//!
//! - **Registers.** VTCR_EL2 has the fields of [`Geometry::vtcr`](crate::Geometry::vtcr), inner
//!   shareable write-back walks, the 4 KiB granule, PS as wide as the widest address that is
//!   mapped, and VS set exactly if the [`VmidAllocator`](crate::vmid::VmidAllocator) has 16 bits;
//!   bit 31 is set, and all other fields, HWU59 among them, are clear. HCR_EL2.FWB and
//!   VTCR_EL2.{HA, HD} agree with the [`Format`](crate::Format). VTTBR_EL2 is written by
//!   [`Tlb::load`](crate::Tlb::load), and by nothing else.
//! - **Loading.** Before a CPU enters a guest it calls [`Stage2::load`](crate::Stage2::load), which
//!   gives the VM a VMID and has VTTBR_EL2 written, and when it may be long without that guest,
//!   [`unload`](crate::unload): a VM is not destroyed while a CPU has it loaded. Until a VM was
//!   loaded for the first time it has no VMID, no CPU can have a translation of it, and so *no
//!   invalidation is called for it*, whatever is mapped, unmapped or collapsed. From then on all of
//!   them are, on whatever CPU it runs. Both are called at EL2, on the CPU in question: there a
//!   guest's tables are not walked but by walks that were under way already, and those they wait
//!   for.
//! - **Reset.** After a CPU's reset its TLBs hold anything, also under numbers that VMs will be
//!   given: empty them (`tlbi alle1; dsb nsh; isb`) on each CPU, whenever it comes up, before it
//!   loads a VM.
//! - **Instruction caches.** Where they do not follow data (`CTR_EL0.DIC`), empty them in
//!   [`Tlb::invalidate`](crate::Tlb::invalidate) and
//!   [`Tlb::invalidate_all`](crate::Tlb::invalidate_all) as well.
//! - **One VM, one owner.** No two VMs that live at one time have the same [`Owner`](crate::Owner):
//!   by it a broken entry that names another VM's table is told from a good one.
//! - **Stage 1 is the hypervisor's.** Where two vCPUs of one VM take turns on a CPU, their stage-1
//!   translations share a VMID: the second one's arrival needs a local invalidation (`tlbi
//!   vmalle1`).
//! - **Caches.** A guest whose caches are off, as at its start, reads and writes memory behind
//!   them. Without FEAT_S2FWB a frame is therefore cleaned to the point of coherency after it was
//!   zeroed or copied to, before it is mapped, and cleaned and invalidated before what the guest
//!   has stored is read: also in [`CopyPages`](crate::CopyPages), at each page.
//! - **TLB conflict aborts.** With
//!   [`Config::direct_size_change`](crate::Config::direct_size_change) they can be taken, and are
//!   answered by an invalidation of the VMID.
//! - **The end.** [`Stage2::destroy`](crate::Stage2::destroy) gives the tables back as long as a
//!   CPU has them loaded. Dropping a `Stage2` without it frees nothing.
//!
//! # What to call when
//!
//! | the guest takes | call | and then |
//! |---|---|---|
//! | any stage-2 fault in its memory | [`resolve_fault`](crate::Stage2::resolve_fault) | the answer tells |
//! | ... `Resolved` | | run it again |
//! | ... `Unmapped` | [`map_page`](crate::Stage2::map_page) or [`map_block`](crate::Stage2::map_block) with a frame | `Occupied`: another CPU was faster; give the frame back and run it again |
//! | ... `MustSplit` | [`split_for_store`](crate::Stage2::split_for_store) | run it again |
//! | ... `Busy`, or `Busy` from any of these | yield the CPU, holding nothing | run it again |
//! | ... `Denied` | | inject an abort, or emulate |
//! | ... `OutOfRange` | | inject an abort: no memory can be there |
//!
//! A hypervisor that keeps a ring or a list of written pages calls
//! [`resolve_fault_with`](crate::Stage2::resolve_fault_with), which tells of the first store to
//! each, and adds the page itself after a `split_for_store`.
//!
//! Which addresses are memory at all the hypervisor knows: a fault elsewhere is a device's, or an
//! abort. Memory that is wanted before the guest touches it is mapped by
//! [`map_pages`](crate::Stage2::map_pages), many pages a call; memory whose owner may revoke it by
//! [`map_page_with`](crate::Stage2::map_page_with), which looks it up under the table's lock.
//!
//! | a thread wants | call |
//! |---|---|
//! | to find regions of small pages | [`find_filled`](crate::Stage2::find_filled), [`walk`](crate::Stage2::walk) |
//! | a block in their place | [`collapse_in_place`](crate::Stage2::collapse_in_place), [`collapse_by_copying`](crate::Stage2::collapse_by_copying) |
//! | a frame back that a page is in | [`migrate_page`](crate::Stage2::migrate_page), [`unmap`](crate::Stage2::unmap), [`unmap_page_if`](crate::Stage2::unmap_page_if) |
//! | the frames of empty tables | [`free_empty_tables`](crate::Stage2::free_empty_tables) |
//! | to know what is used | [`age`](crate::Stage2::age) |
//! | to know what is written | [`write_protect`](crate::Stage2::write_protect), then [`collect_dirty`](crate::Stage2::collect_dirty) again and again |
//! | other rights | [`protect`](crate::Stage2::protect) |
//!
//! All calls are made outside read sections, and so with no lock held, except those that only look
//! ([`read`](crate::Stage2::read), [`query`](crate::Stage2::query), [`walk`](crate::Stage2::walk)):
//! in a section they panic, before anything has changed. Those that only look may also be made by
//! an interrupt handler, whatever it has interrupted. Those of the table above never wait. Those
//! that change a range, move a page, or collapse wait for the operation that works there
//! ([`Cpus::yield_now`](crate::Cpus::yield_now)), and those that free tables may wait for a grace
//! period as well: make them from a thread, where other threads may run meanwhile.
//!
//! # What callbacks may do
//!
//! | callback | runs | must not |
//! |---|---|---|
//! | `Frames::allocate_tables`, `allocate_filled_table`, `free_tables`; `Cpus::yield_now`, `cond_resched` | with no lock of this crate, outside read sections, unpinned by it | |
//! | `Frames::table_meta`, `holds_tables`; `TableWindow`; `Tlb`; `Cpus::current`, `slot` | in read sections and under table locks | wait, allocate, call this crate |
//! | `Observer` | anywhere | acquire a lock, wait, call this crate |
//! | `CopyPages::copy`, `zero`, `complete` | with no lock; a marker keeps other operations away | wait for what a guest controls |
//! | `CopyPages::release`, the sinks of `unmap` and `destroy` | with no lock | |
//! | closures of `age`, `collect_dirty`, `map_pages`, `map_page_with`, `resolve_fault_with` | under the lock of one table | wait, allocate, call this crate |
//!
//! What calls this crate against these rules, and would change tables, panics before anything has
//! changed.
//!
//! # Testing an environment
//!
//! - **With `Checked`**, which the feature `alloc` adds: wrap your environment and run your own
//!   tests. It panics with the name of the promise that is broken: a frame that is not zero or is
//!   given twice, metadata that two frames share or that moves, a window that leads elsewhere,
//!   parts that are not the same at all times, a pinned thread that moves, two threads on one CPU,
//!   an observer that calls this crate or numbers twice, and a call that may wait in a read
//!   section.
//! - **Under Miri.** Tables are ordinary memory to this crate. If your `Frames` and `TableWindow`
//!   can be compiled for a host, `cargo miri test` finds a reference to a table that is still used
//!   when its frame is given to another owner, and memory that is reached through the wrong
//!   pointer. Take a small geometry: a start at level 2 has two levels.
//! - **In races.** Run threads that map, unmap and look up on two CPUs of yours, with `Checked`
//!   round the environment and `-Zmiri-many-seeds`, or natively under ThreadSanitizer. The crate's
//!   own protocol is explored with loom and shuttle, by `--cfg loom` and `--cfg shuttle`, which
//!   replace its atomics and locks; `Checked` is not built then. An environment of yours needs them
//!   only if it has lock-free algorithms itself: put those into a crate with tests of its own.
//! - **With `fake`** in the place of the hardware, your policy of faults and compaction is tested:
//!   it panics where hardware would go on with a stale translation.
//!
//! # A whole environment
//!
//! The smallest there can be: two CPUs, which are threads, and eight frames for tables. No guest
//! runs; the comments say where one would be entered, and what the hardware would be told. `cargo
//! run -p stage2 --example host` runs it.
//!
//! ```
#![doc = include_str!("../examples/host.rs")]
//! ```
