//! The machine at EL2: what guests' memory and the table manager are built on.
//!
//! Owns the one [`Machine`] of the hypervisor, with EL2's implementations of its parts:
//! - `linear`: RAM appears at its own address;
//! - `tlb`: TLB invalidation;
//! - `caches`: cache maintenance;
//! - `cpus`: the CPUs, with the scheduler behind [`stage2::Cpus::relax`].

mod caches;
mod cpus;
mod linear;
mod tlb;

use core::ops::Range;

use hyp::frames::{FrameAllocator, InitError, Setup};
use hyp::memory::guest::{GuestMemory, Settings};
use hyp::memory::{Machine, Parts};
use platform::{Board, Region};
use spin::Once;
use stage2::vmid::{Vmid, VmidAllocator};
use stage2::{Format, Geometry, Pa, Stage2};

use crate::boot::features::features;
use crate::el2::layout;
use linear::Identity;
pub(crate) use tlb::Hardware;

/// What EL2's machine is made of.
pub(crate) struct El2;

impl Parts for El2 {
    type Map = Identity;
    type Hardware = Hardware;
    type Cpus = cpus::Cpus;
}

/// Memory of a guest on this machine.
pub(crate) type Memory = GuestMemory<'static, El2>;

static MACHINE: Once<Machine<El2>> = Once::new();

/// The VMIDs; how many there are is known once the CPUs are.
static VMIDS: Once<VmidAllocator> = Once::new();

/// Widest guest address: 40 bits take two root tables at level 1 and no level 0.
const MAX_IPA_BITS: u32 = 40;

/// Takes over the board's RAM, but for the hypervisor's image and what the board reserves, and at most
/// `limit` bytes of it. To be called once, after the CPUs' features are known.
///
/// # Errors
///
/// The RAM cannot be managed; the reason says what to do.
pub(crate) fn init(board: &Board<'_>, limit: Option<u64>) -> Result<(), InitError> {
    let mut ram = [const { Pa::new(0)..Pa::new(0) }; MAX_RAM_RANGES];
    let mut reserved = [const { Pa::new(0)..Pa::new(0) }; MAX_RAM_RANGES];
    let ram = gather(&mut ram, board.memory.iter().copied())?;
    let image = layout::image();
    let image = Region { base: image.start as u64, size: (image.end - image.start) as u64 };
    let kept = board.reserved.iter().copied().chain(board.initrd).chain([image]);
    let reserved = gather(&mut reserved, kept)?;
    let setup = Setup { ram, reserved, cpus: board.cpus.len(), limit };
    // SAFETY: the ranges are the board's RAM, of which EL2's tables map all that has an address
    // there. What is in use, the image, the device tree and the initrd, is reserved; nothing else
    // has taken RAM before.
    let frames = unsafe { FrameAllocator::new(Identity, &setup) }?;
    let hardware = Hardware::new(features(), &frames)?;
    VMIDS.call_once(|| VmidAllocator::new(u32::from(features().vmid_bits)));
    MACHINE.call_once(|| Machine::new(frames, hardware, cpus::Cpus::new(board.cpus.len())));
    Ok(())
}

const MAX_RAM_RANGES: usize = 16;

fn gather(
    room: &mut [Range<Pa>; MAX_RAM_RANGES],
    regions: impl Iterator<Item = Region>,
) -> Result<&[Range<Pa>], InitError> {
    let mut count = 0;
    for region in regions {
        let place = room.get_mut(count).ok_or(InitError::TooManyRanges)?;
        *place = Pa::new(region.base)..Pa::new(region.end());
        count += 1;
    }
    Ok(&room[..count])
}

/// The machine.
///
/// # Panics
///
/// Before [`init`], which is before any thread runs.
pub(crate) fn machine() -> &'static Machine<El2> {
    MACHINE.get().expect("the machine is set up before threads run")
}

/// The shape of guests' tables on this machine.
pub(crate) fn geometry() -> Geometry {
    let bits = u32::from(features().table_pa_bits()).min(MAX_IPA_BITS);
    // Every width of physical addresses that the architecture knows, cut to 40 bits, has a shape.
    Geometry::new(bits, bits).expect("32 to 40 bits can be translated")
}

/// The format of stage-2 descriptors on this machine.
pub(crate) fn format() -> Format {
    Format {
        force_write_back: features().forced_write_back,
        execute_never_by_level: features().xnx,
        hardware_dirty: features().hardware_dirty_state,
    }
}

/// The parts of a VM's memory settings that the machine decides.
pub(crate) fn settings(settings: Settings) -> Settings {
    Settings {
        geometry: geometry(),
        format: format(),
        direct_size_change: features().bbm_level >= 2,
        ..settings
    }
}

/// VTTBR_EL2 for running a VM on this CPU from now on: its root and a VMID of the current generation.
pub(crate) fn vttbr(stage2: &Stage2<&'static Machine<El2>>) -> u64 {
    let machine = machine();
    let vmids = VMIDS.get().expect("as the machine");
    let slots = stage2::Cpus::slots(stage2::Environment::cpus(machine));
    let vmid = vmids.activate(slots, machine.cpu(), stage2.vmid(), tlb::invalidate_everything);
    tlb::vttbr(stage2.root(), vmid)
}

/// VTTBR_EL2 for a CPU that runs no VM: tables that map nothing, and no guest's VMID.
pub(crate) fn vttbr_of_nothing() -> u64 {
    machine().hardware().vttbr_of_nothing()
}

/// VTCR_EL2 for all guests of this machine.
pub(crate) fn vtcr() -> u64 {
    tlb::vtcr(geometry(), features())
}

/// This CPU's counters of table events, and everybody else's.
pub(crate) fn cpu_slots() -> &'static [stage2::grace::CpuSlot] {
    stage2::Cpus::slots(stage2::Environment::cpus(machine()))
}

/// The VMID as VTTBR_EL2 has it.
pub(crate) fn vmid_field(vmid: Vmid) -> u64 {
    u64::from(vmid.get()) << 48
}
