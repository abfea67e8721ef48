//! What a board has: plain data, filled in from the device tree.
//!
//! All addresses are physical, all sizes in bytes, all interrupts INTIDs of the GIC.

use arrayvec::ArrayVec;

/// How many CPUs this build has room for.
pub const MAX_CPUS: usize = 8;
/// How many separate ranges of RAM this build has room for.
pub const MAX_MEMORY_REGIONS: usize = 8;
/// How many reserved ranges this build has room for, the device tree and the initrd among them.
pub const MAX_RESERVED_REGIONS: usize = 16;
/// How many ranges of GIC redistributors this build has room for.
pub const MAX_REDISTRIBUTOR_REGIONS: usize = 4;

/// INTID of the first private peripheral interrupt (GICv3 specification, "INTIDs").
pub const FIRST_PPI: u32 = 16;
/// How many private peripheral interrupts there are.
pub const PPIS: u32 = 16;
/// INTID of the first shared peripheral interrupt.
pub const FIRST_SPI: u32 = 32;
/// How many shared peripheral interrupts there can be: INTIDs from 1020 on mean something else.
pub const SPIS: u32 = 988;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First physical address.
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
}

impl Region {
    /// The first physical address behind the region; the largest address if that would overflow.
    pub const fn end(self) -> u64 {
        self.base.saturating_add(self.size)
    }
}

/// An affinity value as in `MPIDR_EL1`: Aff3 in bits 39:32, Aff2..Aff0 in bits 23:0, all else zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mpidr(u64);

impl Mpidr {
    /// The affinity fields of a raw `MPIDR_EL1` value or a `/cpus/cpu` node's `reg`.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw & 0xff_00ff_ffff)
    }

    /// The value, as PSCI takes it for a target CPU.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Affinity field `level`, 0 to 3; zero for other levels.
    pub const fn affinity(self, level: u32) -> u8 {
        match level {
            0..=2 => (self.0 >> (8 * level)) as u8,
            3 => (self.0 >> 32) as u8,
            _ => 0,
        }
    }
}

/// The PL011 that is the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart {
    /// Its registers.
    pub registers: Region,
    /// Its interrupt's INTID, an SPI's.
    pub interrupt: u32,
}

/// The GICv3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gic {
    /// The distributor's registers.
    pub distributor: Region,
    /// The ranges that hold the CPUs' redistributors.
    pub redistributors: ArrayVec<Region, MAX_REDISTRIBUTOR_REGIONS>,
    /// The maintenance interrupt's INTID (of the virtual CPU interface), a PPI's.
    pub maintenance_interrupt: u32,
}

/// The generic timer's interrupts, as INTIDs of PPIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerInterrupts {
    /// The EL1 physical timer, CNTP.
    pub el1_physical: u32,
    /// The EL1 virtual timer, CNTV.
    pub el1_virtual: u32,
    /// The EL2 physical timer, CNTHP.
    pub el2_physical: u32,
}

/// Which instruction reaches the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// `SMC`, to EL3 (or to QEMU where there is no EL3).
    Smc,
    /// `HVC`, to EL2: not usable by a hypervisor, but a tree may say it.
    Hvc,
}

/// All that the hypervisor needs to know of the machine.
///
/// `'dt` is the device tree's life: the boot arguments are read in place, so the tree's memory
/// ([`Board::device_tree`]) stays reserved as long as the board is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board<'dt> {
    /// RAM, in the order of the tree.
    pub memory: ArrayVec<Region, MAX_MEMORY_REGIONS>,
    /// RAM that must not be handed out: the tree itself, the initrd, reservations of the firmware.
    pub reserved: ArrayVec<Region, MAX_RESERVED_REGIONS>,
    /// The device tree blob.
    pub device_tree: Region,
    /// The initrd: here, the guest's image.
    pub initrd: Option<Region>,
    /// `/chosen/bootargs`; empty if there are none.
    pub boot_arguments: &'dt str,
    /// The CPUs that are present, in the order of the tree.
    pub cpus: ArrayVec<Mpidr, MAX_CPUS>,
    /// The console.
    pub uart: Uart,
    /// The interrupt controller.
    pub gic: Gic,
    /// The timer's interrupts.
    pub timer: TimerInterrupts,
    /// The registers of the clock that knows the time of day, a PL031, if there is one.
    pub clock: Option<Region>,
    /// How to call the firmware.
    pub psci: Conduit,
}
