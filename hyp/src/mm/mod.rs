//! Guests' memory at EL2, and what it is built on.
//!
//! Owns the one [`Machine`] of the hypervisor: frames, caches and CPUs, as the table manager's
//! environment.
//! - `linear`: RAM appears at its own address;
//! - `cpus`: the CPUs, with the scheduler behind [`stage2::Cpus::yield_now`];
//! - `breach`: rules that are broken on purpose;
//! - `statistics`: what happened, for a person.

mod breach;
mod cpus;
mod linear;
mod statistics;

use core::ops::Range;

use bootargs::{BootArgs, HugePolicy};
use devices::board::RAM_BASE;
use frames::{Fill, FrameAllocator, Holding, InitError, LinearMap, OutOfFrames, Setup, Use, VmId};
use memory::guest::{GuestMemory, Settings};
use memory::{Machine, Parts};
use platform::{Board, Region};
use spin::Once;
use stage2::{Geometry, Ipa, IpaRange, Pa};
use trace::event::Holder;

use crate::cpu::features;
use crate::el2::layout;
use crate::{percpu, tlb, tracing};
use linear::Identity;
pub(crate) use statistics::{show_statistics, show_usage};

/// What EL2's machine is made of.
pub(crate) struct El2;

impl Parts for El2 {
    type Map = Identity;
    type Hardware = tlb::Hardware;
    type Cpus = cpus::Cpus;
    type Tracer = tracing::Sink;
}

/// Memory of a guest on this machine.
pub(crate) type Memory = GuestMemory<'static, El2>;

/// The machine, with what is decided once for all guests.
struct Host {
    machine: Machine<El2>,
    huge: HugePolicy,
    table_calls: bool,
}

/// Why there is no memory for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryError {
    /// No frames for its tables are left.
    OutOfFrames,
    /// The RAM does not fit guests' addresses.
    TooWide {
        /// How many bytes do.
        most: u64,
    },
}

static HOST: Once<Host> = Once::new();

/// Widest guest address: 40 bits take two root tables at level 1 and no level 0.
const MAX_IPA_BITS: u32 = 40;

/// More ranges of RAM, or of reserved memory, than a board has.
const MAX_RANGES: usize = 16;

/// Takes over the board's RAM, but for the hypervisor's image and what the board reserves, as far
/// as the boot arguments allow. To be called once, after the CPUs' features are known.
///
/// # Errors
///
/// The RAM cannot be managed; the reason says what to do.
pub(crate) fn init(board: &Board<'_>, arguments: &BootArgs<'_>) -> Result<(), InitError> {
    let (mut ram, mut reserved) = (ranges(), ranges());
    let image = layout::image();
    let image = Region {
        base: image.start as u64,
        size: (image.end - image.start) as u64,
    };
    let kept = board
        .reserved
        .iter()
        .copied()
        .chain(board.initrd)
        .chain([image]);
    let setup = Setup {
        ram: gather(&mut ram, board.memory.iter().copied())?,
        reserved: gather(&mut reserved, kept)?,
        cpus: board.cpus.len(),
        limit: arguments.frames,
    };
    let features = features();
    // Whatever was executed from this RAM before.
    tlb::Hardware::new(features).invalidate_instruction_caches();
    // SAFETY: the ranges are the board's RAM, of which EL2's tables map all that has an address
    // there. What is in use, the image, the device tree and the initrd, is reserved; nothing else
    // has taken RAM before.
    let frames = unsafe { FrameAllocator::new(Identity::new(features), &setup) }?;
    breach::start(arguments.breach);
    // As many as that all CPUs can have one while another is looked for.
    let least = (board.cpus.len() + 2).next_power_of_two().ilog2();
    let all = u32::from(features.stage2.vmid_bits);
    let vmid_bits = arguments
        .vmid_bits
        .map_or(all, |few| few.max(least).min(all));
    HOST.call_once(|| Host {
        machine: Machine::new(
            frames,
            tlb::Hardware::new(features),
            cpus::Cpus::new(board.cpus.len(), vmid_bits),
        ),
        huge: arguments.huge,
        table_calls: arguments.table_calls,
    });
    Ok(())
}

fn ranges() -> [Range<Pa>; MAX_RANGES] {
    [const { Pa::new(0)..Pa::new(0) }; MAX_RANGES]
}

fn gather(
    room: &mut [Range<Pa>; MAX_RANGES],
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

/// # Panics
///
/// Before [`init`], which is before any thread runs.
fn host() -> &'static Host {
    HOST.get()
        .expect("the machine is set up before threads run")
}

/// The machine.
pub(crate) fn machine() -> &'static Machine<El2> {
    &host().machine
}

/// Zeroes a free frame that a guest will ask for on this CPU, unless enough are at hand; says
/// whether there was one. For a CPU that has nothing else to do.
pub(crate) fn prezero() -> bool {
    let machine = machine();
    machine.allocator().prezero(machine.cpu())
}

/// Starts tracing, if anything is wanted: makes the rings of memory of the hypervisor's own.
/// Returns whether events are kept from now on. To be called once, after [`init`] and before guests
/// are made.
pub(crate) fn start_tracing(arguments: &BootArgs<'_>) -> bool {
    let allocator = machine().allocator();
    let allocate = |order| {
        let cpu = percpu::this().index();
        let memory = allocator.alloc(cpu, order, Fill::Zeroed, Use::Hypervisor);
        memory.ok().map(|memory| allocator.map().pointer(memory))
    };
    let is_on = tracing::start(arguments.trace, arguments.console, allocate);
    if tracing::replays() {
        tracing::begin_replay(|held| {
            allocator.holdings(|range, holding| {
                let holder = match holding {
                    Holding::Guests => Holder::Guests,
                    Holding::Hypervisor => Holder::Hypervisor,
                    Holding::Kept => Holder::Kept,
                };
                held(range, holder);
            });
        });
    }
    is_on
}

/// Traces how much memory is left.
pub(crate) fn trace_frames() {
    let usage = machine().allocator().usage();
    tracing::frames((usage.free + usage.cached) as u64, usage.total as u64);
}

/// The shape of guests' tables on this machine.
fn geometry() -> Geometry {
    let bits = u32::from(features().stage2.table_pa_bits()).min(MAX_IPA_BITS);
    // Every width of physical addresses that the architecture knows, cut to 40 bits, has a shape.
    Geometry::new(bits, bits).expect("32 to 40 bits can be translated")
}

/// New memory for machine number `vm`: `size` bytes of RAM, a multiple of 4 KiB, of which nothing
/// is mapped yet.
///
/// # Errors
///
/// A [`MemoryError`]; nothing of it is left.
pub(crate) fn new_memory(vm: usize, size: u64) -> Result<Memory, MemoryError> {
    let features = features();
    let geometry = geometry();
    let (start, addresses) = (Ipa::new(RAM_BASE), geometry.range());
    let ram = IpaRange::new(start, start.offset(size))
        .filter(|ram| addresses.covers(ram))
        .ok_or(MemoryError::TooWide {
            most: addresses.end().get() - RAM_BASE,
        })?;
    tracing::ram(vm as u8, ram.start().get(), ram.end().get());
    let settings = Settings {
        // Machines are few.
        vm: VmId(vm as u16),
        ram,
        huge: host().huge,
        geometry,
        format: features.stage2.format(),
        direct_size_change: features.stage2.bbm_level >= 2,
        table_calls: host().table_calls,
    };
    let memory = GuestMemory::new(machine(), settings);
    let memory = memory.map_err(|OutOfFrames { .. }| MemoryError::OutOfFrames)?;
    breach::show_a_page(&memory);
    Ok(memory)
}

/// Has this CPU translate with the tables of a guest's memory from now on.
pub(crate) fn load_tables(memory: &Memory) {
    memory.stage2().load();
}

/// Has this CPU translate with no guest's tables.
pub(crate) fn unload_tables() {
    stage2::unload(machine());
}

/// Gives this CPU's registers of stage 2 the values for all guests of this machine, with no tables.
pub(crate) fn init_translation() {
    tlb::init_translation(features().stage2.vtcr(geometry()));
}
