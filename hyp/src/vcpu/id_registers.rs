//! The ID registers as a guest sees them: what the hypervisor does not carry for it is hidden.
//!
//! Guests read them in the space Op0 3, Op1 0, CRn 0, CRm 1 to 7, where all reads are trapped
//! (`HCR_EL2.TID3`). A field is passed on if the guest can use the feature as it is, or if the feature
//! has no state of its own; every field that is not named here reads as zero, those that the
//! architecture has yet to define among them. Arm ARM D19.2 has the fields.

/// How many registers the space has: CRm 0 to 7 and Op2 0 to 7, CRm 0 unused.
pub const COUNT: usize = 64;

/// The place of a register in a table of the space.
pub const fn index(crm: u32, op2: u32) -> usize {
    (crm << 3 | op2) as usize
}

/// A 4-bit field, by the number of its lowest bit, passed on as the hardware has it.
const fn pass(fields: &[u32]) -> u64 {
    let mut mask = 0;
    let mut i = 0;
    while i < fields.len() {
        mask |= 0xf << fields[i];
        i += 1;
    }
    mask
}

/// The smaller of the hardware's field and `most`.
const fn at_most(raw: u64, field: u32, most: u64) -> u64 {
    let value = raw >> field & 0xf;
    (if value < most { value } else { most }) << field
}

/// What a guest reads from the register at `index`, of which the hardware says `raw`.
pub const fn guest_value(index: usize, raw: u64) -> u64 {
    let crm = index >> 3;
    let op2 = index & 7;
    match (crm, op2) {
        // ID_DFR0 and ID_DFR1: no AArch32 debugging, no PMU.
        (1, 2) | (3, 5) => 0,
        // ID_PFR0: without RAS and AMU.
        (1, 0) => raw & pass(&[0, 4, 8, 12, 16, 24]),
        // ID_PFR1: without EL2 and EL3; a GIC's registers as of GICv3.
        (1, 1) => raw & pass(&[0, 16]) | at_most(raw, 28, 1),
        // ID_MMFR4: nothing of EL2 (EVT).
        (2, 6) => raw & !pass(&[28]),
        // ID_PFR2: CSV3, SSBS. ID_MMFR5: ETS, nTLBPA. The other two are yet to be defined.
        (3, 4 | 6) => raw & pass(&[0, 4]),
        (3, 3 | 7) => 0,
        // The other AArch32 registers only describe instructions and EL1's own translation.
        (1..=3, _) => raw,
        (4, 0) => pfr0(raw),
        // ID_AA64PFR1: BT, SSBS. No MTE, SME.
        (4, 1) => raw & pass(&[0, 4]),
        // ID_AA64DFR0: no more than the least that is allowed; CTX_CMPs 0, WRPs 1, BRPs 1,
        // DebugVer Armv8.0. DoubleLock is not implemented.
        (5, 0) => 0xf << 36 | 1 << 20 | 1 << 12 | 6,
        // ID_AA64ISAR0: all but TME.
        (6, 0) => raw & !pass(&[0, 24]),
        // ID_AA64ISAR1: all but LS64, which `HCRX_EL2` gates.
        (6, 1) => raw & !pass(&[60]),
        // ID_AA64ISAR2: WFxT, RPRES, GPA3, APA3, BC, PAC_frac.
        (6, 2) => raw & pass(&[0, 4, 8, 12, 20, 24]),
        // ID_AA64MMFR0: PARange, ASIDBits, BigEnd, BigEndEL0, TGran16, TGran64, TGran4, ExS.
        (7, 0) => raw & pass(&[0, 4, 8, 16, 20, 24, 28, 44]),
        // ID_AA64MMFR1: HAFDBS, HPDS, PAN, ETS, AFP, nTLBPA. Nothing of EL2 or stage 2. HAFDBS beyond 2
        // has its switch in `TCR2_EL1`, which is hidden.
        (7, 1) => raw & pass(&[12, 20, 36, 44, 48]) | at_most(raw, 0, 2),
        // ID_AA64MMFR2: CnP, UAO, LSM, VARange, CCIDX, ST, AT, IDS, TTL, BBM, E0PD.
        (7, 2) => raw & pass(&[0, 4, 8, 16, 20, 28, 32, 36, 48, 52, 60]),
        _ => 0,
    }
}

/// ID_AA64PFR0: AArch64 only at EL1; a GIC's registers as of GICv3; no EL2, EL3, RAS, SVE, MPAM, AMU.
const fn pfr0(raw: u64) -> u64 {
    // CSV2 beyond 1 has registers (`SCXTNUM_ELx`) that are not switched.
    let (el0, el1, gic, csv2) = (0, 4, 24, 56);
    // FP, AdvSIMD, DIT, CSV3.
    let same = pass(&[el0, 16, 20, 48, 60]);
    raw & same | at_most(raw, el1, 1) | at_most(raw, gic, 1) | at_most(raw, csv2, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(value: u64, shift: u32) -> u64 {
        value >> shift & 0xf
    }

    #[test]
    fn what_is_not_carried_is_hidden() {
        let ones = u64::MAX;
        let pfr0 = guest_value(index(4, 0), ones);
        for hidden in [8, 12, 28, 32, 36, 40, 44, 52] {
            assert_eq!(field(pfr0, hidden), 0, "ID_AA64PFR0 bit {hidden}");
        }
        for least in [4, 24, 56] {
            assert_eq!(field(pfr0, least), 1, "ID_AA64PFR0 bit {least}");
        }
        assert_eq!(guest_value(index(4, 1), ones), 0xff);
        assert_eq!(field(guest_value(index(5, 0), ones), 8), 0, "PMUVer");
        assert_eq!(guest_value(index(4, 4), ones), 0, "ID_AA64ZFR0");
        assert_eq!(guest_value(index(5, 1), ones), 0, "ID_AA64DFR1");
        assert_eq!(field(guest_value(index(7, 1), ones), 8), 0, "VH");
        assert_eq!(field(guest_value(index(7, 1), ones), 0), 2, "HAFDBS");
        assert_eq!(field(guest_value(index(3, 4), ones), 8), 0, "RAS_frac");
        assert_eq!(field(guest_value(index(2, 6), ones), 28), 0, "EVT");
        assert_eq!(field(guest_value(index(7, 2), ones), 40), 0, "FWB");
    }

    #[test]
    fn floating_point_that_is_missing_stays_missing() {
        let without = 0xf << 20 | 0xf << 16 | 0x11;
        assert_eq!(guest_value(index(4, 0), without), without);
    }

    #[test]
    fn reserved_registers_read_as_zero() {
        for reserved in [
            index(3, 3),
            index(3, 7),
            index(4, 3),
            index(4, 7),
            index(6, 7),
            index(7, 7),
            index(5, 7),
        ] {
            assert_eq!(guest_value(reserved, u64::MAX), 0);
        }
    }
}
