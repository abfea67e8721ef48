//! The ID registers as a guest sees them: what the hypervisor does not carry for it is hidden.
//!
//! Guests read them in the space Op0 3, Op1 0, CRn 0, CRm 1 to 7, where all reads are trapped
//! (`HCR_EL2.TID3`). A field is passed on if the guest can use the feature as it is, or if the feature
//! has no state of its own; every field that is not named here reads as zero, those that the
//! architecture has yet to define among them. The Arm ARM has the fields with each register.

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
        // ID_AA64ISAR2: WFxT, RPRES, GPA3, APA3, BC, PAC_frac, CLRBHB.
        (6, 2) => raw & pass(&[0, 4, 8, 12, 20, 24, 28]),
        // ID_AA64MMFR0: PARange, ASIDBits, BigEnd, BigEndEL0, TGran16, TGran64, TGran4, ExS.
        (7, 0) => raw & pass(&[0, 4, 8, 16, 20, 24, 28, 44]),
        // ID_AA64MMFR1: HAFDBS, HPDS, PAN, ETS, AFP, nTLBPA, ECBHB. Nothing of EL2 or stage 2. HAFDBS beyond 2
        // has its switch in `TCR2_EL1`, which is hidden.
        (7, 1) => raw & pass(&[12, 20, 36, 44, 48, 60]) | at_most(raw, 0, 2),
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

    /// What is left of all ones, in the registers where that is neither everything nor nothing.
    const LEFT: [(&str, usize, u64); 16] = [
        ("ID_PFR0", index(1, 0), 0x0f0f_ffff),
        ("ID_PFR1", index(1, 1), 0x100f_000f),
        ("ID_MMFR4", index(2, 6), 0xffff_ffff_0fff_ffff),
        ("ID_PFR2", index(3, 4), 0xff),
        ("ID_MMFR5", index(3, 6), 0xff),
        ("ID_DFR0", index(1, 2), 0),
        ("ID_DFR1", index(3, 5), 0),
        ("ID_AA64PFR0", index(4, 0), 0xf10f_0000_01ff_001f),
        ("ID_AA64PFR1", index(4, 1), 0xff),
        ("ID_AA64DFR0", index(5, 0), DFR0),
        ("ID_AA64ISAR0", index(6, 0), 0xffff_ffff_f0ff_fff0),
        ("ID_AA64ISAR1", index(6, 1), 0x0fff_ffff_ffff_ffff),
        ("ID_AA64ISAR2", index(6, 2), 0xfff0_ffff),
        ("ID_AA64MMFR0", index(7, 0), 0x0000_f000_ffff_0fff),
        ("ID_AA64MMFR1", index(7, 1), 0xf00f_f0f0_00f0_f002),
        ("ID_AA64MMFR2", index(7, 2), 0xf0ff_00ff_f0ff_0fff),
    ];
    /// The only register that is the same whatever the hardware has.
    const DFR0: u64 = 0xf0_0010_1006;

    #[test]
    fn what_is_not_carried_is_hidden() {
        for (name, register, left) in LEFT {
            assert_eq!(guest_value(register, u64::MAX), left, "{name}");
        }
        for other in
            (0..COUNT).filter(|other| LEFT.iter().all(|(_, register, _)| other != register))
        {
            // The AArch32 registers, as far as they are defined.
            let is_whole = (index(1, 0)..index(3, 3)).contains(&other);
            let left = if is_whole { u64::MAX } else { 0 };
            assert_eq!(guest_value(other, u64::MAX), left, "number {other}");
        }
    }

    #[test]
    fn what_the_hardware_lacks_is_not_made_up() {
        for register in 0..COUNT {
            let left = if register == index(5, 0) { DFR0 } else { 0 };
            assert_eq!(guest_value(register, 0), left, "number {register}");
        }
    }

    #[test]
    fn floating_point_that_is_missing_stays_missing() {
        let without = 0xf << 20 | 0xf << 16 | 0x11;
        assert_eq!(guest_value(index(4, 0), without), without);
    }
}
