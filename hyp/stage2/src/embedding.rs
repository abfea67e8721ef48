//! How to build this crate into a hypervisor: what to implement, what to promise, what to call when.
//!
//! There is no code in this module.
//!
//! # What to implement
//!
//! Four traits, bundled by [`Environment`](crate::Environment). Their documentation says what exactly
//! each call owes; three of them are `unsafe` to implement, because memory safety of all guests rests on it.
//!
//! | trait | on hardware | its promise, in short |
//! |---|---|---|
//! | [`Frames`](crate::Frames) | the physical frame allocator | frames are zeroed, aligned to their number and given to nobody else; each has one [`TableMeta`](crate::TableMeta), made once and never made anew |
//! | [`Window`](crate::Window) | the linear map, or a temporary mapping | leads to the frame asked for and to nothing else |
//! | [`Tlb`](crate::Tlb) | TLBI and barriers | when `invalidate` returns, no CPU uses what was replaced before it |
//! | [`Cpus`](crate::Cpus) | per-CPU data and the scheduler | a thread that is in a read section, or holds a lock, is neither preempted nor moved |
//!
//! [`Contents`](crate::Contents) comes with each call that copies guest memory: it copies, clears and
//! takes back pages. A page that it copies may have been unmapped a moment ago; what is read then is thrown
//! away, so the read must be harmless, not meaningful.
//!
//! # What to promise beyond the traits
//!
//! - **Registers.** VTCR_EL2 has the fields of [`Geometry::vtcr`](crate::Geometry::vtcr), inner
//!   shareable write-back walks, and HWU59 clear. HCR_EL2.FWB and VTCR_EL2.{HA, HD} agree with the
//!   [`Format`](crate::Format). VTTBR_EL2 has [`Stage2::root`](crate::Stage2::root) and the VMID that
//!   [`VmidAllocator::activate`](crate::vmid::VmidAllocator::activate) gave for this CPU just before.
//! - **One VM, one owner.** No two VMs that live at one time have the same
//!   [`Owner`](crate::Owner), and all VMs share one set of slots, one
//!   [`Grace`](crate::grace::Grace) and one VMID allocator.
//! - **Stage 1 is the hypervisor's.** Where two vCPUs of one VM take turns on a CPU, their stage-1
//!   translations share a VMID: the second one's arrival needs a local invalidation (`tlbi vmalle1`).
//! - **TLB conflict aborts.** With [`Config::direct_size_change`](crate::Config::direct_size_change) they can be taken, and
//!   are answered by an invalidation of the VMID.
//! - **The end.** Before [`Stage2::destroy`](crate::Stage2::destroy) no CPU has the root in VTTBR_EL2
//!   any more. Dropping a `Stage2` without it frees nothing.
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
//!
//! Memory that is wanted before the guest touches it is mapped by
//! [`map_pages`](crate::Stage2::map_pages), many pages a call.
//!
//! Frames come back through [`unmap`](crate::Stage2::unmap), `Contents::release` and `destroy`, when no
//! translation leads to them any more; scrub them before another guest gets them. Calls that free
//! tables or collapse wait for a grace period: make them from a thread, not from an exit handler,
//! with no lock held.
//!
//! # A whole environment
//!
//! The smallest there can be: one CPU, eight frames, no guest that runs.
//!
//! ```
//! use stage2::grace::{CpuSlot, Grace};
//! use stage2::vmid::Vmid;
//! use stage2::{
//!     Attributes, Config, Cpus, Environment, Format, Frames, Geometry, Ipa, IpaRange, OutOfFrames,
//!     Owner, Pa, Scope, Stage2, Table, TableMeta, Tlb, Window,
//! };
//! use std::cell::UnsafeCell;
//! use std::sync::atomic::{AtomicBool, Ordering};
//!
//! struct Frame {
//!     memory: UnsafeCell<Table>,
//!     meta: TableMeta,
//!     taken: AtomicBool,
//! }
//!
//! struct Host {
//!     frames: [Frame; 8],
//!     slots: [CpuSlot; 1],
//!     grace: Grace,
//! }
//!
//! const RAM: u64 = 0x4000_0000;
//!
//! impl Host {
//!     fn frame(&self, pa: Pa) -> Option<&Frame> {
//!         self.frames.get((pa.get().checked_sub(RAM)? >> 12) as usize)
//!     }
//! }
//!
//! // SAFETY: a frame's memory is replaced only by whoever has just taken the frame.
//! unsafe impl Sync for Host {}
//!
//! // SAFETY: a frame is taken by one caller only; its metadata stays where it is.
//! unsafe impl Frames for Host {
//!     fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
//!         assert_eq!(order, 0, "one table at the root is enough here");
//!         let take = |frame: &Frame| !frame.taken.swap(true, Ordering::Acquire);
//!         let index = self.frames.iter().position(take).ok_or(OutOfFrames)?;
//!         // SAFETY: the frame was free, so nobody else can reach its memory.
//!         unsafe { *self.frames[index].memory.get() = Table::empty() };
//!         Ok(Pa::new(RAM + index as u64 * 4096))
//!     }
//!
//!     fn free_tables(&self, pa: Pa, _order: u32) {
//!         self.frame(pa).expect("it was allocated here").taken.store(false, Ordering::Release);
//!     }
//!
//!     fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
//!         self.frame(pa).map(|frame| &frame.meta)
//!     }
//! }
//!
//! // SAFETY: the reference leads to the memory of the frame at `pa`.
//! unsafe impl Window for Host {
//!     type Ref<'a> = &'a Table;
//!
//!     fn table(&self, pa: Pa) -> &Table {
//!         // SAFETY: an allocated table is changed only through its atomic entries.
//!         unsafe { &*self.frame(pa).expect("a table's frame").memory.get() }
//!     }
//! }
//!
//! // SAFETY: no CPU walks these tables, so none has a translation.
//! unsafe impl Tlb for Host {
//!     fn invalidate(&self, _vmid: Vmid, _range: IpaRange, _scope: Scope) {}
//!     fn invalidate_local(&self, _vmid: Vmid, _range: IpaRange, _scope: Scope) {}
//!     fn publish(&self) {}
//! }
//!
//! // SAFETY: there is one thread, and it is CPU 0.
//! unsafe impl Cpus for Host {
//!     fn slots(&self) -> &[CpuSlot] {
//!         &self.slots
//!     }
//!     fn grace(&self) -> &Grace {
//!         &self.grace
//!     }
//!     fn current(&self) -> usize {
//!         0
//!     }
//!     fn relax(&self) {}
//! }
//!
//! impl Environment for Host {
//!     type Frames = Host;
//!     type Window = Host;
//!     type Tlb = Host;
//!     type Cpus = Host;
//!     fn frames(&self) -> &Host {
//!         self
//!     }
//!     fn window(&self) -> &Host {
//!         self
//!     }
//!     fn tlb(&self) -> &Host {
//!         self
//!     }
//!     fn cpus(&self) -> &Host {
//!         self
//!     }
//! }
//!
//! let host = Host {
//!     frames: std::array::from_fn(|_| Frame {
//!         memory: UnsafeCell::new(Table::empty()),
//!         meta: TableMeta::new(),
//!         taken: AtomicBool::new(false),
//!     }),
//!     slots: [CpuSlot::new()],
//!     grace: Grace::new(),
//! };
//! let config = Config {
//!     geometry: Geometry::new(39, 40).unwrap(),
//!     format: Format::default(),
//!     owner: Owner::new(1).unwrap(),
//!     direct_size_change: false,
//! };
//! let vm = Stage2::new(&host, config).unwrap();
//! let (ipa, page) = (Ipa::new(0x8000_0000), Pa::new(0x5000_0000));
//! vm.map_page(ipa, page, Attributes::RAM, true).unwrap();
//! assert_eq!(vm.query(ipa).unwrap().descriptor.output(), page);
//! let mut left = Vec::new();
//! vm.destroy(|leaf| left.push(leaf.descriptor.output()));
//! assert_eq!(left, [page]);
//! assert!(host.frames.iter().all(|frame| !frame.taken.load(Ordering::Relaxed)));
//! ```
