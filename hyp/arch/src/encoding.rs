//! How instructions name system registers.

use core::fmt;

/// A system register as MSR and MRS name it: Op0, Op1, CRn, CRm and Op2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding(u16);

impl Encoding {
    /// The register of these numbers, each within its field.
    ///
    /// # Panics
    ///
    /// If one is too large for its field.
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        assert!(op0 < 4 && op1 < 8 && crn < 16 && crm < 16 && op2 < 8);
        Self((op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2) as u16)
    }

    /// The register whose [`bits`](Self::bits) these are.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// All five numbers, Op0 in the highest bits and Op2 in the lowest; so is the order of
    /// encodings.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Op0: 2 for debug and trace registers, 3 for all others.
    pub const fn op0(self) -> u32 {
        self.0 as u32 >> 14
    }

    /// Op1: by and large the lowest exception level that may use it.
    pub const fn op1(self) -> u32 {
        self.0 as u32 >> 11 & 7
    }

    /// CRn.
    pub const fn crn(self) -> u32 {
        self.0 as u32 >> 7 & 15
    }

    /// CRm.
    pub const fn crm(self) -> u32 {
        self.0 as u32 >> 3 & 15
    }

    /// Op2.
    pub const fn op2(self) -> u32 {
        self.0 as u32 & 7
    }

    /// The instruction that reads it to Xt: MRS.
    pub const fn mrs(self, t: u32) -> u32 {
        assert!(t < 32);
        0xd520_0000 | self.in_instruction() | t
    }

    /// The instruction that writes it from Xt: MSR (register).
    pub const fn msr(self, t: u32) -> u32 {
        assert!(t < 32);
        0xd500_0000 | self.in_instruction() | t
    }

    const fn in_instruction(self) -> u32 {
        (self.0 as u32) << 5
    }
}

/// As assemblers write it, such as `S3_0_C1_C0_0`.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op0, op1, op2) = (self.op0(), self.op1(), self.op2());
        write!(f, "S{op0}_{op1}_C{}_C{}_{op2}", self.crn(), self.crm())
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_the_numbers_where_they_belong() {
        let sctlr_el1 = Encoding::new(3, 0, 1, 0, 0);
        assert_eq!(sctlr_el1.mrs(0), 0xd538_1000, "mrs x0, sctlr_el1");
        assert_eq!(sctlr_el1.msr(1), 0xd518_1001, "msr sctlr_el1, x1");
        let oslar_el1 = Encoding::new(2, 0, 1, 0, 4);
        assert_eq!(oslar_el1.msr(31), 0xd510_109f, "msr oslar_el1, xzr");
        let tpidr2_el0 = Encoding::new(3, 3, 13, 0, 5);
        assert_eq!(tpidr2_el0.to_string(), "S3_3_C13_C0_5");
        assert_eq!(Encoding::from_bits(tpidr2_el0.bits()), tpidr2_el0);
    }
}
