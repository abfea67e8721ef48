//! Words of A64 code (Arm ARM, "A64 Instruction Set Encoding"), made of random fields.

use guest::random::Random;

/// Ends a step: its immediate is met nowhere else.
pub(crate) const END: u32 = 0xd420_0000 | 0x7e5 << 5;
pub(crate) const ISB: u32 = 0xd503_3fdf;
pub(crate) const DSB_SY: u32 = 0xd503_3f9f;
pub(crate) const HVC: u32 = 0xd400_0002;
pub(crate) const SMC: u32 = 0xd400_0003;
pub(crate) const WFE: u32 = 0xd503_205f;
pub(crate) const WFI: u32 = 0xd503_207f;
pub(crate) const ERET: u32 = 0xd69f_03e0;

/// A system register or system instruction: Op0, Op1, CRn, CRm, Op2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct System(pub u32, pub u32, pub u32, pub u32, pub u32);

pub(crate) const SCTLR_EL1: System = System(3, 0, 1, 0, 0);
pub(crate) const TTBR0_EL1: System = System(3, 0, 2, 0, 0);
pub(crate) const TTBR1_EL1: System = System(3, 0, 2, 0, 1);
pub(crate) const TCR_EL1: System = System(3, 0, 2, 0, 2);
pub(crate) const SPSR_EL1: System = System(3, 0, 4, 0, 0);
pub(crate) const ELR_EL1: System = System(3, 0, 4, 0, 1);
pub(crate) const MAIR_EL1: System = System(3, 0, 10, 2, 0);
pub(crate) const VBAR_EL1: System = System(3, 0, 12, 0, 0);

impl System {
    const fn fields(self) -> u32 {
        let Self(op0, op1, crn, crm, op2) = self;
        op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
    }

    /// MSR, or SYS: from register `from`.
    pub(crate) const fn write(self, from: u32) -> u32 {
        0xd500_0000 | self.fields() | from
    }

    /// MRS, or SYSL: to register `to`.
    pub(crate) const fn read(self, to: u32) -> u32 {
        0xd520_0000 | self.fields() | to
    }
}

/// Branches to the address in register `to`.
pub(crate) const fn branch(to: u32) -> u32 {
    0xd61f_0000 | to << 5
}

/// Stores 8 bytes of register `from` at the address in register `to`.
pub(crate) const fn store(to: u32, from: u32) -> u32 {
    0xf900_0000 | to << 5 | from
}

/// The registers of a load or store: the one with the address, and three for data.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    pub(crate) base: u32,
    pub(crate) data: [u32; 3],
}

/// A load or store of any kind and size: with and without write-back, of one register or a pair, of
/// SIMD registers, exclusive, ordered, atomic. Some are not allocated.
pub(crate) fn access(random: &mut Random, registers: Registers) -> u32 {
    let Registers { base, data } = registers;
    let bits = random.next() as u32;
    let size = bits >> 30 << 30;
    let simd = u32::from(bits & 7 == 0) << 26;
    let opc = (bits >> 3 & 3) << 22;
    let common = base << 5 | data[0];
    match random.below(10) {
        // Unsigned offset: none, so that the address is just the one that was chosen.
        0..4 => size | 0x3900_0000 | simd | opc | common,
        // Unscaled, post-index, unprivileged, pre-index.
        4 => size | 0x3800_0000 | simd | opc | (bits & 0x3f) << 12 | (bits >> 8 & 3) << 10 | common,
        // Pairs: no allocate, post-index, offset, pre-index.
        5 | 6 => {
            let kind = (bits & 3) << 23;
            let load = (bits >> 3 & 1) << 22;
            size | 0x2800_0000 | simd | kind | load | (bits >> 8 & 3) << 15 | data[1] << 10 | common
        }
        // Exclusive, load-acquire, store-release, compare and swap.
        7 => {
            let order = (bits & 0b1111) << 20 & 0x00e0_0000 | (bits & 1) << 15;
            size | 0x0800_0000 | order | data[2] << 16 | data[1] << 10 | common
        }
        // Atomic: add, clear, set, swap and so on.
        8 => {
            let operation = (bits >> 8 & 0xf) << 12 & 0xf000;
            size | 0x3820_0000 | (bits & 3) << 22 | data[2] << 16 | operation | common
        }
        // One to four SIMD registers.
        _ => 0x0c00_0000 | (bits & 1) << 30 | (bits >> 1 & 1) << 22 | structure(bits) | common,
    }
}

/// The opcode and size fields of LD1 and ST1 of several registers.
const fn structure(bits: u32) -> u32 {
    let opcode = [0b0111, 0b1010, 0b0110, 0b0010][(bits >> 2 & 3) as usize];
    opcode << 12 | (bits >> 4 & 3) << 10
}

/// A plain load (`load`) or store of 1, 2, 4 or 8 bytes.
pub(crate) fn plain(random: &mut Random, load: bool, registers: Registers) -> u32 {
    let size = (random.next() as u32) << 30;
    size | 0x3900_0000 | u32::from(load) << 22 | registers.base << 5 | registers.data[0]
}
