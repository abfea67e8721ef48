//! A machine for tests of guests' memory, of this crate and of those above it (feature `testing`):
//! RAM that is borrowed from the host, and a CPU without a TLB. A store is what the tables let
//! through, and else a fault.

use crate::guest::Settings;
use crate::{Fault, FaultKind, GuestMemory, Hardware, Machine, Outcome, Parts};
use bootargs::HugePolicy;
use frames::testing::Arena;
use frames::{FrameAllocator, LinearMap, Setup, VmId};
use stage2::grace::{CpuSlot, Grace};
use stage2::vmid::VmidAllocator;
use stage2::{Access, Cpus, EntryKind, Format, Geometry, Ipa, IpaRange, Level, PAGE_SIZE, Pa};

/// Makes hardware of a type that caches no translation.
macro_rules! without_tlb {
    ($hardware:ty) => {
        // SAFETY: nothing is cached, so there is nothing to invalidate.
        unsafe impl stage2::Tlb for $hardware {
            fn load(&self, _: Option<stage2::Loaded>) {}
            fn publish(&self) {}
            fn finish_walks(&self) {}
            fn invalidate(
                &self,
                _: stage2::Published,
                _: stage2::vmid::Vmid,
                _: stage2::IpaRange,
                _: stage2::Scope,
            ) {
            }
            fn invalidate_local(
                &self,
                _: stage2::vmid::Vmid,
                _: stage2::IpaRange,
                _: stage2::Scope,
            ) {
            }
            fn invalidate_all(&self) {}
        }
    };
}
#[cfg(test)]
pub(crate) use without_tlb;

/// Where RAM begins, the machine's and the guest's alike.
pub const RAM: u64 = 64 << 20;
/// How much of it the machine has.
const FRAMES: u64 = if cfg!(miri) { 2 << 20 } else { 16 << 20 };
/// How much of it the guest has.
pub const GUEST: u64 = 8 << 20;

/// Parts of a machine with one CPU.
pub struct Host;

impl Parts for Host {
    type Map = Arena;
    type Hardware = NoTlb;
    type Cpus = OneCpu;
    type Tracer = ();
}

/// Translations are never cached.
pub struct NoTlb;

without_tlb!(NoTlb);

impl Hardware for NoTlb {
    fn before_reading(&self, _: Pa) {}
    fn after_writing(&self, _: Pa) {}
}

/// The test's thread.
pub struct OneCpu([CpuSlot; 1], Grace, VmidAllocator);

impl OneCpu {
    /// A CPU that is in no read section.
    #[allow(clippy::new_without_default)] // each is another machine's
    pub fn new() -> Self {
        Self([CpuSlot::new()], Grace::new(), VmidAllocator::new(8))
    }
}

// SAFETY: the slots are a field; there is one thread, and one CPU.
unsafe impl Cpus for OneCpu {
    type Pinned<'c> = ();

    fn pin(&self) {}

    fn slots(&self) -> &[CpuSlot] {
        &self.0
    }
    fn grace(&self) -> &Grace {
        &self.1
    }
    fn vmids(&self) -> &VmidAllocator {
        &self.2
    }
    fn current(&self) -> usize {
        0
    }
    fn yield_now(&self) {}
}

/// A machine with its memory free.
pub fn machine() -> Machine<Host> {
    Machine::new(frames(1), NoTlb, OneCpu::new())
}

/// Its memory, free, for so many CPUs.
pub(crate) fn frames(cpus: usize) -> FrameAllocator<Arena> {
    let ram = [Pa::new(RAM)..Pa::new(RAM + FRAMES)];
    let setup = Setup {
        ram: &ram,
        reserved: &[],
        cpus,
        limit: None,
    };
    // SAFETY: the arena was made of this very range, and nothing else knows of it.
    let frames = unsafe { FrameAllocator::new(Arena::new(&ram), &setup) };
    frames.expect("a range that is long enough")
}

/// Memory of a guest that may have its own tables worked on.
pub fn guest(machine: &Machine<Host>, huge: HugePolicy) -> GuestMemory<'_, Host> {
    guest_at(machine, huge, RAM)
}

/// The same for a guest whose RAM begins at `start`.
pub fn guest_at<P: Parts>(
    machine: &Machine<P>,
    huge: HugePolicy,
    start: u64,
) -> GuestMemory<'_, P> {
    let ram = IpaRange::new(Ipa::new(start), Ipa::new(start + GUEST)).expect("whole pages");
    let settings = Settings {
        vm: VmId(0),
        ram,
        huge,
        geometry: Geometry::new(36, 36).expect("a shape that can be"),
        format: Format::default(),
        direct_size_change: false,
        table_calls: true,
    };
    GuestMemory::new(machine, settings).expect("frames for the root")
}

/// The address of a page of the guest's RAM.
pub fn page(number: u64) -> Ipa {
    Ipa::new(RAM + number * PAGE_SIZE)
}

/// Stores a word at the start of a page, as the guest.
pub fn store(memory: &GuestMemory<'_, Host>, page: u64, value: u64) {
    let ipa = self::page(page);
    for _ in 0..8 {
        let entry = memory.stage2().query(ipa).expect("RAM");
        let kind = match entry.kind() {
            EntryKind::Leaf(pa) if entry.descriptor.lets_stores_through() => {
                let within = ipa.get() & (entry.level.size() - 1);
                return write(memory, pa.offset(within), value);
            }
            EntryKind::Leaf(_) => FaultKind::Mapped(entry.level),
            _ => FaultKind::Translation(entry.level),
        };
        let access = Access::Write;
        let outcome = memory.fault(Fault { ipa, access, kind });
        assert_eq!(outcome, Outcome::Resume);
    }
    panic!("the store to page {page} never goes through");
}

fn write(memory: &GuestMemory<'_, Host>, pa: Pa, value: u64) {
    let word = memory.machine().allocator().map().pointer(pa).cast::<u64>();
    // SAFETY: a word at the start of a page that is mapped for the guest, which is this thread.
    unsafe { word.write(value) };
}

/// The size of what maps a page.
pub fn level_at(memory: &GuestMemory<'_, Host>, page: u64) -> Level {
    memory.stage2().query(self::page(page)).expect("RAM").level
}
