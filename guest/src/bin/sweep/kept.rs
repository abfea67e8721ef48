//! Registers that are not written, or of which only some bits are, since the guest could not go on
//! else.

use arch::Encoding;

/// One or several, by CRm.
struct Kept {
    op: (u32, u32),
    crn: u32,
    crm: (u32, u32),
    op2: (u32, u32),
    /// The bits that take patterns.
    free: u64,
}

/// A line each: the encoding, with bounds of CRm and Op2 for several, and the bits that take
/// patterns. The reason is beside it.
macro_rules! kept {
    ($(
        $op0:literal $op1:literal $crn:literal
        $crm:literal $(..=$last_crm:literal)? $op2:literal $(..=$last_op2:literal)?
        : $free:expr,
    )*) => {
        const KEPT: &[Kept] = &[$(Kept {
            op: ($op0, $op1),
            crn: $crn,
            crm: ($crm, kept!(@last $crm $($last_crm)?)),
            op2: ($op2, kept!(@last $op2 $($last_op2)?)),
            free: $free,
        },)*];
    };
    (@last $first:literal) => { $first };
    (@last $first:literal $last:literal) => { $last };
}

kept! {
    // SCTLR_EL1: the guest runs with its MMU on. What concerns EL0 alone is free: UMA, DZE, UCT,
    // nTWI, nTWE, UCI.
    3 0 1 0 0: 1 << 9 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26,
    // CPACR_EL1: FPCR could not be read with FPEN clear. ZEN and SMEN are free.
    3 0 1 0 2: 0b11 << 16 | 0b11 << 24,
    // TTBR0_EL1 translates the guest's own code; of TCR_EL1, T1SZ does not, nor in MAIR_EL1 do
    // attributes from 2 on.
    3 0 2 0 0: 0,
    3 0 2 0 2: 0x3f << 16,
    3 0 10 2 0: !0xffff,
    // VBAR_EL1: there are undefined instructions.
    3 0 12 0 0: 0,
    // SPSel and NZCV are compiled code's, and DAIF keeps interrupts away. Each vCPU has its own
    // since its code works.
    3 0 4 2 0: 0,
    3 3 4 2 0..=1: 0,
    // PAN and UAO: other bits are reserved, and belong to others where all are in SPSR_EL1.
    3 0 4 2 3: 1 << 22,
    3 0 4 2 4: 1 << 23,
    // CNTKCTL_EL1: no event stream, which would end each WFE.
    3 0 14 1 0: !(1 << 2),
    // CNTP_CTL_EL0, CNTV_CTL_EL0: a timer that fires would end each WFE. IMASK is free.
    3 3 14 2..=3 1: 0b10,
    // CNTP_TVAL_EL0, CNTV_TVAL_EL0: another way to write CVAL.
    3 3 14 2..=3 0: 0,
    // ICC_BPR0_EL1, ICC_BPR1_EL1: QEMU 7.2 ends by an assertion of its own when a reserved bit is
    // set.
    3 0 12 8 3: 0b111,
    3 0 12 12 3: 0b111,
    // ICC_AP0R<n>_EL1, ICC_AP1R<n>_EL1: writing anything but zero or what was read is
    // unpredictable.
    3 0 12 8 4..=7: 0,
    3 0 12 9 0..=3: 0,
    // MDSCR_EL1: MDE and TDCC are free, and KDE, without which nothing at EL1 is debugged, is not.
    2 0 0 2 2: 1 << 12 | 1 << 15,
    // DBGBCR<n>_EL1, DBGWCR<n>_EL1: E, without which nothing hits, is not free.
    2 0 0 0..=15 5: !1,
    2 0 0 0..=15 7: !1,
}

/// The bits of a register that take patterns.
pub(crate) fn free_bits(register: Encoding) -> u64 {
    let is = |kept: &&Kept| {
        let within = |(first, last): (u32, u32), number| first <= number && number <= last;
        kept.op == (register.op0(), register.op1())
            && kept.crn == register.crn()
            && within(kept.crm, register.crm())
            && within(kept.op2, register.op2())
    };
    KEPT.iter().find(is).map_or(u64::MAX, |kept| kept.free)
}

/// How many lines the list of exceptions has.
pub(crate) const LINES: usize = KEPT.len();
