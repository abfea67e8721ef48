//! The smallest embedding of the table manager: two threads are CPUs and fault on a page at the
//! same time.
//!
//!     cargo run -p stage2 --example host

use stage2::grace::{CpuSlot, Grace};
use stage2::vmid::{Vmid, VmidAllocator};
use stage2::{
    Access, Attributes, Config, Cpus, DirtyGranule, DirtyState, Environment, Format, Frames,
    Geometry, GuestFrame, Ipa, IpaRange, Level, Loaded, MapError, OutOfFrames, Owner, Pa,
    Published, Resolution, Scope, Stage2, Table, TableFrame, TableMeta, TableWindow, Tlb,
};
use std::cell::{Cell, UnsafeCell};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Frame {
    memory: UnsafeCell<Table>,
    meta: TableMeta,
    taken: AtomicBool,
}

struct Host {
    frames: [Frame; 8],
    slots: [CpuSlot; 2],
    grace: Grace,
    /// One for all VMs, as the slots and the grace periods are.
    vmids: VmidAllocator,
    /// What was invalidated.
    invalidated: Mutex<Vec<(Vmid, IpaRange)>>,
    /// Memory for guests.
    data: Mutex<Vec<GuestFrame>>,
    /// VTTBR_EL2 of each CPU.
    vttbr: [AtomicU64; 2],
}

const RAM: u64 = 0x4000_0000;

thread_local! {
    /// On hardware: read from TPIDR_EL2, for instance.
    static CPU: Cell<usize> = const { Cell::new(0) };
}

impl Host {
    fn frame(&self, pa: Pa) -> Option<&Frame> {
        self.frames.get((pa.get().checked_sub(RAM)? >> 12) as usize)
    }
}

// SAFETY: a frame's memory is replaced only by the thread that has just taken the frame.
unsafe impl Sync for Host {}

// SAFETY: a frame is taken by one caller only; its metadata stays where it is.
unsafe impl Frames for Host {
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
        assert_eq!(order, 0, "one table at the root is enough here");
        let take = |frame: &Frame| !frame.taken.swap(true, Ordering::Acquire);
        let index = self.frames.iter().position(take).ok_or(OutOfFrames)?;
        // SAFETY: the frame was free, so nobody else can reach its memory.
        unsafe { *self.frames[index].memory.get() = Table::EMPTY };
        Ok(Pa::new(RAM + index as u64 * 4096))
    }

    fn free_tables(&self, table: TableFrame, _order: u32) {
        let frame = self.frame(table.pa()).expect("it was allocated here");
        frame.taken.store(false, Ordering::Release);
    }

    fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        self.frame(pa).map(|frame| &frame.meta)
    }
}

// SAFETY: the reference leads to the memory of the table's frame.
unsafe impl TableWindow for Host {
    type Ref<'a> = &'a Table;

    fn table(&self, table: TableFrame) -> &Table {
        // SAFETY: an allocated table is changed only through its atomic entries.
        unsafe {
            &*self
                .frame(table.pa())
                .expect("a table's frame")
                .memory
                .get()
        }
    }
}

// SAFETY: no CPU walks these tables, so none has a translation. On hardware the sequences are
// executed that the trait asks for.
unsafe impl Tlb for Host {
    fn load(&self, tables: Option<Loaded>) {
        // On hardware none are tables that translate nothing.
        let vttbr = |Loaded { root, vmid }| u64::from(vmid.get()) << 48 | root.get();
        self.vttbr[CPU.get()].store(tables.map_or(0, vttbr), Ordering::Relaxed);
    }
    fn publish(&self) {}
    fn finish_walks(&self) {}
    fn invalidate(&self, _: Published, vmid: Vmid, range: IpaRange, _scope: Scope) {
        self.invalidated.lock().unwrap().push((vmid, range));
    }
    fn invalidate_local(&self, _vmid: Vmid, _range: IpaRange, _scope: Scope) {}
    fn invalidate_all(&self) {}
}

// SAFETY: each CPU is one thread, which has set its index and is not moved to another.
unsafe impl Cpus for Host {
    type Pinned<'c> = ();
    fn pin(&self) {}
    fn slots(&self) -> &[CpuSlot] {
        &self.slots
    }
    fn grace(&self) -> &Grace {
        &self.grace
    }
    fn vmids(&self) -> &VmidAllocator {
        &self.vmids
    }
    fn current(&self) -> usize {
        CPU.get()
    }
    fn yield_now(&self) {
        std::thread::yield_now();
    }
}

// SAFETY: all parts are the machine itself.
unsafe impl Environment for Host {
    type Frames = Host;
    type TableWindow = Host;
    type Tlb = Host;
    type Cpus = Host;
    type Observer = ();
    fn frames(&self) -> &Host {
        self
    }
    fn window(&self) -> &Host {
        self
    }
    fn tlb(&self) -> &Host {
        self
    }
    fn cpus(&self) -> &Host {
        self
    }
    fn observer(&self) -> &() {
        &()
    }
}

/// After a stage-2 fault. When it returns the guest is entered again.
fn fault(host: &Host, vm: &Stage2<&Host>, ipa: Ipa, access: Access) {
    match vm.resolve_fault(ipa, access, DirtyGranule::Leaf) {
        Resolution::Resolved => {}
        Resolution::Unmapped => {
            // Before any lock, and zeroed.
            let page = host.data.lock().unwrap().pop().expect("a frame");
            let mapped = vm.map_page(
                ipa.align_down(Level::L3),
                page,
                Attributes::RAM,
                DirtyState::Dirty,
            );
            if let Err(refused) = mapped {
                host.data.lock().unwrap().push(refused.frame);
                match refused.reason {
                    // The other CPU was faster.
                    MapError::Occupied(_) => {}
                    MapError::Busy => host.yield_now(),
                    error => panic!("stop the guest: {error}"),
                }
            }
        }
        Resolution::Busy => host.yield_now(),
        Resolution::MustSplit(_) => unreachable!("only where it is asked for"),
        Resolution::Denied | Resolution::OutOfRange => panic!("inject an abort"),
    }
}

fn page_for_guests(number: u64) -> GuestFrame {
    // SAFETY: nobody's memory is there, and no guest runs.
    unsafe { GuestFrame::new(Pa::new(0x5000_0000 + number * 4096), Level::L3) }
}

fn main() {
    let host = Host {
        frames: std::array::from_fn(|_| Frame {
            memory: UnsafeCell::new(Table::EMPTY),
            meta: TableMeta::new(),
            taken: AtomicBool::new(false),
        }),
        slots: [CpuSlot::new(), CpuSlot::new()],
        grace: Grace::new(),
        vmids: VmidAllocator::new(8),
        invalidated: Mutex::default(),
        data: Mutex::new((1..=8).map(page_for_guests).collect()),
        vttbr: [const { AtomicU64::new(0) }; 2],
    };
    let config = Config {
        geometry: Geometry::new(39, 40).unwrap(),
        format: Format::default(),
        owner: Owner::new(1).unwrap(),
        direct_size_change: false,
    };
    let vm = Stage2::new(&host, config).unwrap();
    let page = |number: u64| IpaRange::entry(Ipa::new(0x8000_0000 + number * 4096), Level::L3);

    // A loader's operation. No CPU has loaded the VM, so there is nothing to invalidate, and nobody
    // is asked to.
    fault(&host, &vm, page(0).start(), Access::Write);
    let take_back = |range| {
        vm.unmap(range, |leaf| host.data.lock().unwrap().push(leaf.frame))
            .unwrap();
    };
    take_back(page(0));
    assert!(host.invalidated.lock().unwrap().is_empty());

    // Two CPUs run it, and fault on one page at the same time, and on pages of their own.
    let vttbr = std::thread::scope(|scope| {
        let run = |cpu| {
            let (host, vm) = (&host, &vm);
            scope.spawn(move || {
                CPU.set(cpu);
                vm.load();
                let vttbr = host.vttbr[cpu].load(Ordering::Relaxed);
                for number in [0, 1 + cpu as u64] {
                    // Here the guest runs until it faults.
                    fault(host, vm, page(number).start(), Access::Write);
                }
                stage2::unload(host);
                vttbr
            })
        };
        [0, 1].map(run).map(|thread| thread.join().unwrap())
    });
    assert_eq!(vttbr[0], vttbr[1], "all CPUs run a VM under one VMID");
    assert_eq!(host.data.lock().unwrap().len(), 5, "three pages are mapped");

    // From now on what is taken away is invalidated, with the VMID under which the CPUs run.
    take_back(page(0));
    let invalidated = host.invalidated.lock().unwrap().clone();
    assert_eq!(invalidated.len(), 1);
    assert_eq!(
        (u64::from(invalidated[0].0.get()), invalidated[0].1),
        (vttbr[0] >> 48, page(0))
    );

    // No CPU has the tables loaded any more.
    vm.destroy(|leaf| host.data.lock().unwrap().push(leaf.frame))
        .unwrap();
    assert_eq!(host.data.lock().unwrap().len(), 8);
    assert!(
        host.frames
            .iter()
            .all(|frame| !frame.taken.load(Ordering::Relaxed))
    );
    println!(
        "Two CPUs mapped three pages under VMID {}; all frames are free again.",
        vttbr[0] >> 48
    );
}
