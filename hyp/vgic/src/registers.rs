//! The frames of registers that a guest reaches by loads and stores.
//!
//! Arm IHI 0069, 12.9 (distributor) and 12.10 (redistributors). What is not there, and what is
//! accessed with a size or at an address that the register does not have, reads as zero and ignores
//! writes.

use super::block::{Block, Register};
use speculation::masked::{Masked, mask};

use super::{
    BLOCK, ENABLE_GROUPS, FIRST_SHARED, INTERRUPTS, NOBODY, SHARED_BLOCKS, VcpuSet, Vgic, bits,
};

/// Size of the registers of one redistributor in bytes: two frames of 64 KiB.
pub const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// The second frame of a redistributor: its SGIs and PPIs.
const SGI_FRAME: u64 = 0x1_0000;

/// Which frame an access is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The distributor's.
    Distributor,
    /// That of the redistributor of this vCPU.
    Redistributor(usize),
}

const GICD_CTLR: u64 = 0x0000;
const GICD_TYPER: u64 = 0x0004;
const GICD_IIDR: u64 = 0x0008;
const GICD_IROUTER: u64 = 0x6000;
const GICR_CTLR: u64 = 0x0000;
const GICR_IIDR: u64 = 0x0004;
const GICR_TYPER: u64 = 0x0008;
const GICR_TYPER_HIGH: u64 = 0x000c;
const GICR_WAKER: u64 = 0x0014;
/// Peripheral identification, at the end of each frame of 64 KiB.
const IDENTIFICATION: u64 = 0xffd0;
const IDENTIFICATION_END: u64 = 0x1_0000;

/// `GICD_CTLR.DS`: one Security state; `GICD_CTLR.ARE`: affinity routing. Both fixed.
const CONTROL_FIXED: u32 = 1 << 6 | 1 << 4;
/// `GICD_CTLR.RWP` and `GICR_CTLR.RWP`: an interrupt that was disabled may still be taken.
const DISTRIBUTOR_BUSY: u32 = 1 << 31;
const REDISTRIBUTOR_BUSY: u64 = 1 << 3;
/// `GICD_TYPER`: no 1 of N routing, Aff3 can be set, 10 bits of INTID, no LPIs, one Security state.
const DISTRIBUTOR_TYPE: u32 = 1 << 25 | 1 << 24 | 9 << 19 | (INTERRUPTS / BLOCK - 1);
/// `GICD_IIDR` and `GICR_IIDR`: product `T`, implementer Arm, whose architecture it is.
const IMPLEMENTER: u32 = 0x5400_043b;
/// `GICR_TYPER.Last`: no redistributor follows.
const LAST: u64 = 1 << 4;
/// `GICR_WAKER`: ProcessorSleep, and ChildrenAsleep, which follows it.
const SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;
/// The affinity fields of `GICD_IROUTER`.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// `PIDR4` to `PIDR7`, `PIDR0` to `PIDR3`, `CIDR0` to `CIDR3`: a GICv3. Nothing is in the place
/// behind them, which makes their number one that an offset can be cut to.
const IDENTIFIERS: [u8; 16] = [
    0x44, 0, 0, 0, 0x92, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1, 0, 0, 0, 0,
];

/// What the guest loads at `offset` of a frame, if that is the same at all times.
#[inline]
pub const fn constant(frame: Frame, offset: u64, size: u32) -> Option<u64> {
    if size != 4 {
        return None;
    }
    Some(match (frame, offset) {
        (Frame::Distributor, GICD_TYPER) => DISTRIBUTOR_TYPE as u64,
        (Frame::Distributor, GICD_IIDR) | (Frame::Redistributor(_), GICR_IIDR) => {
            IMPLEMENTER as u64
        }
        (_, IDENTIFICATION..IDENTIFICATION_END) => identifier(offset - IDENTIFICATION),
        _ => return None,
    })
}

/// The register at `offset` of the distributor or of a redistributor's second frame, and its block,
/// if it is one that has fields for a block's interrupts.
fn block_register(offset: u64, size: u32) -> Option<(Register, usize)> {
    let word = size == 4 && offset.is_multiple_of(4);
    let block = (offset as usize & 0x7f) / 4;
    let register = match offset {
        0x080..0x100 if word => Register::Group,
        0x100..0x180 if word => Register::SetEnable,
        0x180..0x200 if word => Register::ClearEnable,
        0x200..0x280 if word => Register::SetPending,
        0x280..0x300 if word => Register::ClearPending,
        0x300..0x380 if word => Register::SetActive,
        0x380..0x400 if word => Register::ClearActive,
        0x400..0x800 if word || size == 1 => {
            let interrupt = offset as usize - 0x400;
            let (first, count) = (interrupt % BLOCK as usize, size as usize);
            let register = Register::Priority { first, count };
            return Some((register, interrupt / BLOCK as usize));
        }
        0xc00..0xd00 if word => {
            let interrupt = (offset as u32 - 0xc00) * 4;
            let shift = interrupt % BLOCK;
            let register = Register::Configuration { shift };
            return Some((register, (interrupt / BLOCK) as usize));
        }
        _ => return None,
    };
    Some((register, block))
}

/// The interrupt, by its number among the shared ones, whose `GICD_IROUTER` is at `offset`, and how
/// many bits up in the register.
fn router(offset: u64, size: u32) -> Option<(usize, u32)> {
    let aligned = offset.is_multiple_of(size.into()) && matches!(size, 4 | 8);
    let router = |intid: u32| GICD_IROUTER + 8 * u64::from(intid);
    if !aligned || !(router(FIRST_SHARED)..router(INTERRUPTS)).contains(&offset) {
        return None;
    }
    let at = offset - router(FIRST_SHARED);
    Some((at as usize / 8, (at % 8) as u32 * 8))
}

impl Vgic {
    /// Whether the machine has this frame.
    pub const fn has(&self, frame: Frame) -> bool {
        match frame {
            Frame::Distributor => true,
            Frame::Redistributor(vcpu) => vcpu < self.vcpus,
        }
    }

    /// Whether the value of the register at `offset` depends on what list registers hold: those of
    /// the vCPUs that are returned must be taken back before it is read, and may then be listed
    /// again.
    pub fn shown_by(&self, frame: Frame, offset: u64, size: u32) -> VcpuSet {
        let Some((register, index)) = self.find(frame, offset, size) else {
            return VcpuSet::EMPTY;
        };
        if !register.shows_listed() {
            return VcpuSet::EMPTY;
        }
        match frame {
            Frame::Redistributor(vcpu) => VcpuSet::EMPTY.with(Some(vcpu)),
            Frame::Distributor => {
                let shared = &self.shared[index - 1];
                bits(shared.block.listed).fold(VcpuSet::EMPTY, |set, bit| {
                    set.with(Some(shared.holder[bit].into()))
                })
            }
        }
    }

    /// The guest loads `size` bytes at `offset` of a frame.
    pub fn read(&self, frame: Frame, offset: u64, size: u32) -> u64 {
        if let Some(value) = constant(frame, offset, size) {
            return value;
        }
        if let Some((register, index)) = self.find(frame, offset, size) {
            let block = match frame {
                Frame::Redistributor(vcpu) => &self.private[vcpu].block,
                Frame::Distributor => &self.shared[index - 1].block,
            };
            return block.read(register).into();
        }
        match frame {
            Frame::Distributor => self.read_distributor(offset, size),
            Frame::Redistributor(vcpu) => self.read_redistributor(vcpu, offset, size),
        }
    }

    /// The guest stores `size` bytes at `offset` of a frame. Returns the vCPUs that are concerned.
    pub fn write(&mut self, frame: Frame, offset: u64, size: u32, value: u64) -> VcpuSet {
        if let Some((register, index)) = self.find(frame, offset, size) {
            return match frame {
                Frame::Redistributor(vcpu) => self.write_private(vcpu, register, value as u32),
                Frame::Distributor => self.write_shared(index, register, value as u32),
            };
        }
        match frame {
            Frame::Distributor => self.write_distributor(offset, size, value),
            Frame::Redistributor(vcpu) => {
                if let (Some(private), GICR_WAKER, 4) = (self.private.get_mut(vcpu), offset, size) {
                    private.asleep = value as u32 & SLEEP != 0;
                }
                VcpuSet::EMPTY
            }
        }
    }

    /// The block's register at `offset` of a frame, if there is one, and the number of its block: 0
    /// in redistributors, more in the distributor.
    fn find(&self, frame: Frame, offset: u64, size: u32) -> Option<(Register, usize)> {
        let (offset, blocks) = match frame {
            Frame::Distributor => (offset, 1..=self.shared.len()),
            Frame::Redistributor(_) if self.has(frame) => (offset.checked_sub(SGI_FRAME)?, 0..=0),
            Frame::Redistributor(_) => return None,
        };
        let (register, block) = block_register(offset, size)?;
        let masked = mask(block, blocks.end() + 1);
        blocks.contains(&block).then_some((register, masked))
    }

    fn read_distributor(&self, offset: u64, size: u32) -> u64 {
        if let Some((interrupt, shift)) = router(offset, size) {
            let route = |shared: &super::Shared| shared.route[interrupt % BLOCK as usize];
            let shared = self.shared.get_masked(interrupt / BLOCK as usize);
            return shared.map_or(0, route) >> shift & (u64::MAX >> (64 - 8 * size));
        }
        if (offset, size) != (GICD_CTLR, 4) {
            return 0;
        }
        let blocks = || self.shared.iter().map(|shared| &shared.block);
        let private = self.private.iter().map(|private| &private.block);
        let busy = blocks().any(Block::is_busy)
            || blocks()
                .chain(private)
                .any(|block| block.is_busy_in(self.control));
        let busy = if busy { DISTRIBUTOR_BUSY } else { 0 };
        (self.control | CONTROL_FIXED | busy).into()
    }

    fn read_redistributor(&self, vcpu: usize, offset: u64, size: u32) -> u64 {
        let last = if vcpu + 1 == self.vcpus { LAST } else { 0 };
        let affinity = vcpu as u64;
        let Some(private) = self.private.get(vcpu) else {
            return 0;
        };
        match (offset, size) {
            (GICR_CTLR, 4) if private.block.is_busy() => REDISTRIBUTOR_BUSY,
            (GICR_TYPER, 8) => affinity << 32 | affinity << 8 | last,
            (GICR_TYPER, 4) => affinity << 8 | last,
            (GICR_TYPER_HIGH, 4) => affinity,
            (GICR_WAKER, 4) if private.asleep => (SLEEP | CHILDREN_ASLEEP).into(),
            _ => 0,
        }
    }

    /// The guest writes `value` to a register for the interrupts of `vcpu`'s own. Returns the vCPUs
    /// that are concerned.
    pub(super) fn write_private(&mut self, vcpu: usize, register: Register, value: u32) -> VcpuSet {
        let private = &mut self.private[vcpu];
        if register == Register::ClearActive {
            for bit in bits(private.block.handled() & value) {
                private.outlive(Some(private.block.active_priority[bit]));
            }
        }
        let changed = private.block.write(register, value);
        VcpuSet::EMPTY.with((changed != 0).then_some(vcpu))
    }

    /// The same for the shared interrupts of block `index`. What is not there ignores it.
    pub(super) fn write_shared(&mut self, index: usize, register: Register, value: u32) -> VcpuSet {
        let Some(index) = index.checked_sub(1).filter(|&index| index < SHARED_BLOCKS) else {
            return VcpuSet::EMPTY;
        };
        let index = mask(index, SHARED_BLOCKS);
        let shared = &mut self.shared[index];
        if register == Register::ClearActive {
            let unlisted = value & !shared.block.listed;
            for bit in bits(unlisted) {
                let holder = core::mem::replace(&mut shared.holder[bit], NOBODY);
                if shared.block.handled() >> bit & 1 == 1
                    && let Some(holder) = self.private.get_mut(usize::from(holder))
                {
                    holder.outlive(Some(shared.block.active_priority[bit]));
                }
            }
        }
        let changed = shared.block.write(register, value);
        if register == Register::SetActive {
            self.hold(1 + index, changed);
        }
        self.concerned(1 + index, changed)
    }

    /// Interrupts that software made active are ended by the vCPU they are routed to, or else by
    /// any.
    fn hold(&mut self, index: usize, mask: u32) {
        for bit in bits(mask) {
            let shared = &self.shared[index - 1];
            if shared.holder[bit] == NOBODY {
                let target = self.target(shared, bit).unwrap_or(0);
                self.shared[index - 1].holder[bit] = target as u8;
            }
        }
    }

    fn write_distributor(&mut self, offset: u64, size: u32, value: u64) -> VcpuSet {
        if let Some((interrupt, shift)) = router(offset, size) {
            return self.write_route(interrupt, shift, size, value);
        }
        if (offset, size) != (GICD_CTLR, 4) {
            return VcpuSet::EMPTY;
        }
        let before = core::mem::replace(&mut self.control, value as u32 & ENABLE_GROUPS);
        if before == self.control {
            VcpuSet::EMPTY
        } else {
            self.everybody()
        }
    }

    fn write_route(&mut self, interrupt: usize, shift: u32, size: u32, value: u64) -> VcpuSet {
        let (index, bit) = (interrupt / BLOCK as usize, interrupt % BLOCK as usize);
        let before = self.concerned(1 + index, 1 << bit);
        let Some(shared) = self.shared.get_masked_mut(index) else {
            return VcpuSet::EMPTY;
        };
        let mask = u64::MAX >> (64 - 8 * size) << shift;
        let route = &mut shared.route[bit];
        *route = (*route & !mask | value << shift & mask) & AFFINITY;
        let relevant = (shared.block.pending() | shared.block.listed) >> bit & 1 == 1;
        if relevant {
            before.union(self.concerned(1 + index, 1 << bit))
        } else {
            VcpuSet::EMPTY
        }
    }
}

/// The identification register `offset` bytes behind the first; zero if there is none.
const fn identifier(offset: u64) -> u64 {
    if offset.is_multiple_of(4) {
        IDENTIFIERS[offset as usize / 4 % IDENTIFIERS.len()] as u64
    } else {
        0
    }
}
