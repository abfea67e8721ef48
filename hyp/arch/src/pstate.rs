//! How a guest's PSTATE changes when an exception is taken to its EL1, or an instruction is
//! emulated.
//!
//! The hardware does this for what it does itself; the hypervisor has to do the same for what it
//! makes up. Arm ARM, pseudocode `AArch64.TakeException`, for a target of EL1 and the features that
//! a guest can have, and `AArch32.ITAdvance`.

/// SPSR: the exception came from AArch32.
const AARCH32: u64 = 1 << 4;
/// SPSR.M: exception level and stack pointer, for AArch64.
const MODE: u64 = 0xf;
/// EL1 with its own stack pointer.
const EL1H: u64 = 0x5;
/// EL1 with SP_EL0.
const EL1T: u64 = 0x4;
/// SPSR.M\[0\], for AArch64: the exception level's own stack pointer.
const SP: u64 = 1 << 0;
/// `CPACR_EL1.FPEN`: who may use vectors.
const CPACR_FPEN: u32 = 20;

/// `VBAR_EL1`: what of it counts, whatever the guest has written to the rest.
const VBAR_BASE: u64 = !0x7ff;

/// D, A, I and F: everything masked.
const DAIF: u64 = 0xf << 6;
const SSBS: u64 = 1 << 12;
const PAN: u64 = 1 << 22;
const DIT: u64 = 1 << 24;
const NZCV: u64 = 0xf << 28;

/// `SCTLR_EL1.E0E` and `EE`: loads and stores of EL0 and of EL1 are big-endian.
const SCTLR_E0E: u64 = 1 << 24;
const SCTLR_EE: u64 = 1 << 25;
/// `SCTLR_EL1.SPAN`: PAN is left alone.
const SCTLR_SPAN: u64 = 1 << 23;
/// `SCTLR_EL1.DSSBS`: the value that SSBS gets.
const SCTLR_DSSBS: u64 = 1 << 44;

/// AArch64: the kind of the branch that led here (FEAT_BTI).
const BTYPE: u64 = 0b11 << 10;
/// A software step is pending; after a step it no longer is.
const SS: u64 = 1 << 21;
/// AArch32: loads and stores are big-endian.
const AARCH32_E: u64 = 1 << 9;
/// AArch32: IT\[7:2\].
const IT_HIGH: u64 = 0x3f << 10;
/// AArch32: IT\[1:0\].
const IT_LOW: u64 = 0b11 << 25;

/// Whether PSTATE has fields that older CPUs lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// FEAT_PAN.
    pub pan: bool,
    /// FEAT_SSBS.
    pub ssbs: bool,
}

/// Whether the guest was at EL0 with this SPSR.
pub const fn is_el0(spsr: u64) -> bool {
    spsr & AARCH32 != 0 || spsr & MODE == 0
}

/// Whether the guest was at EL1 with all exceptions masked that come from outside: interrupts,
/// errors, and debug exceptions.
pub const fn is_el1_masked(spsr: u64) -> bool {
    spsr & AARCH32 == 0 && matches!(spsr & MODE, EL1H | EL1T) && spsr & DAIF == DAIF
}

/// Whether the guest was in AArch32 with this SPSR.
pub const fn is_aarch32(spsr: u64) -> bool {
    spsr & AARCH32 != 0
}

/// Whether an AArch32 instruction is executed under the flags that this SPSR has, and does not fail
/// its condition: `condition` is that which the instruction has itself; else an IT block's counts.
pub const fn meets_condition(spsr: u64, condition: Option<u64>) -> bool {
    let it = if_then(spsr);
    let condition = match condition {
        Some(condition) => condition,
        None if it & 0xf == 0 => return true,
        None => it >> 4,
    };
    let [n, z, c, v] = [
        spsr >> 31 & 1,
        spsr >> 30 & 1,
        spsr >> 29 & 1,
        spsr >> 28 & 1,
    ];
    let met = match condition >> 1 & 7 {
        0 => z == 1,
        1 => c == 1,
        2 => n == 1,
        3 => v == 1,
        4 => c == 1 && z == 0,
        5 => n == v,
        6 => n == v && z == 0,
        _ => return true,
    };
    met == (condition & 1 == 0)
}

/// PSTATE with N, Z, C and V from the upper bits of `flags`.
pub const fn with_flags(spsr: u64, flags: u32) -> u64 {
    spsr & !NZCV | flags as u64 & NZCV
}

/// IT, as one number.
const fn if_then(spsr: u64) -> u64 {
    (spsr & IT_HIGH) >> 8 | (spsr & IT_LOW) >> 25
}

/// Whether the guest's stack pointer is `SP_EL0`, with this SPSR of AArch64; else it is `SP_EL1`.
pub const fn uses_sp_el0(spsr: u64) -> bool {
    spsr & SP == 0
}

/// Whether the guest may use vector registers, given its PSTATE and its `CPACR_EL1`.
pub const fn has_vectors(spsr: u64, cpacr: u64) -> bool {
    match cpacr >> CPACR_FPEN & 0b11 {
        0b11 => true,
        0b01 => !is_el0(spsr),
        _ => false,
    }
}

/// Whether the guest's loads and stores are big-endian, given its PSTATE and its `SCTLR_EL1`.
#[inline]
pub const fn is_big_endian(spsr: u64, sctlr: u64) -> bool {
    // Hardly any guest uses it at all.
    if spsr & AARCH32 == 0 && sctlr & (SCTLR_E0E | SCTLR_EE) == 0 {
        return false;
    }
    let (register, bit) = if spsr & AARCH32 != 0 {
        (spsr, AARCH32_E)
    } else if spsr & MODE == 0 {
        (sctlr, SCTLR_E0E)
    } else {
        (sctlr, SCTLR_EE)
    };
    register & bit != 0
}

/// The address of the vector for a synchronous exception out of `spsr`, given the guest's
/// `VBAR_EL1`.
pub const fn vector(vbar: u64, spsr: u64) -> u64 {
    let offset = match spsr & MODE {
        _ if spsr & AARCH32 != 0 => 0x600,
        EL1H => 0x200,
        EL1T => 0,
        _ => 0x400,
    };
    vbar & VBAR_BASE | offset
}

/// PSTATE at the vector, given PSTATE at the exception and the guest's `SCTLR_EL1`.
pub const fn at_vector(spsr: u64, sctlr: u64, features: Features) -> u64 {
    // Also from AArch32, whose own SPSRs have DIT elsewhere.
    let mut pstate = EL1H | DAIF | spsr & (NZCV | DIT);
    if features.pan {
        pstate |= if sctlr & SCTLR_SPAN == 0 {
            PAN
        } else {
            spsr & PAN
        };
    }
    if features.ssbs && sctlr & SCTLR_DSSBS != 0 {
        pstate |= SSBS;
    }
    pstate
}

/// PSTATE behind an instruction that was emulated: as if it had been executed.
pub const fn after_instruction(spsr: u64) -> u64 {
    if spsr & AARCH32 == 0 {
        return spsr & !(BTYPE | SS);
    }
    let it = if_then(spsr);
    let next = if it & 0b111 == 0 {
        0
    } else {
        it & 0xe0 | it << 1 & 0x1f
    };
    spsr & !(IT_HIGH | IT_LOW | SS) | (next & !0b11) << 8 | (next & 0b11) << 25
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features {
        pan: true,
        ssbs: true,
    };
    const NONE: Features = Features {
        pan: false,
        ssbs: false,
    };
    const AARCH32_USER: u64 = 0x10;

    #[test]
    fn each_mode_has_its_vector() {
        let base = 0xffff_8000_0001_0800;
        assert_eq!(vector(base, 0x3c5), base + 0x200);
        assert_eq!(vector(base, 0x3c4), base);
        assert_eq!(vector(base, 0x000), base + 0x400);
        assert_eq!(vector(base, AARCH32_USER), base + 0x600);
    }

    #[test]
    fn no_vector_is_outside_of_its_table() {
        for (spsr, offset) in [(0x3c5, 0x200), (0x000, 0x400), (AARCH32_USER, 0x600)] {
            assert_eq!(vector(u64::MAX, spsr), !0x7ff | offset);
            assert_eq!(vector(0x7ff, spsr), offset);
        }
        assert!(is_el0(0) && is_el0(AARCH32_USER) && !is_el0(EL1H) && !is_el0(EL1T));
    }

    #[test]
    fn flags_stay_and_everything_is_masked() {
        assert_eq!(
            at_vector(NZCV | 1 << 21 | 1 << 20, 0, NONE),
            NZCV | DAIF | EL1H
        );
        assert_eq!(at_vector(DIT, 0, NONE), DIT | DAIF | EL1H);
        assert_eq!(at_vector(AARCH32_USER | DIT, 0, NONE), DIT | DAIF | EL1H);
        assert_eq!(at_vector(AARCH32_USER | SS, 0, NONE), DAIF | EL1H);
    }

    #[test]
    fn pan_and_ssbs_follow_sctlr() {
        assert_eq!(at_vector(0, 0, ALL), PAN | DAIF | EL1H);
        assert_eq!(at_vector(0, SCTLR_SPAN, ALL), DAIF | EL1H);
        assert_eq!(at_vector(PAN, SCTLR_SPAN, ALL), PAN | DAIF | EL1H);
        assert_eq!(at_vector(SSBS, SCTLR_SPAN, ALL), DAIF | EL1H);
        let sctlr = SCTLR_SPAN | SCTLR_DSSBS;
        assert_eq!(at_vector(0, sctlr, ALL), SSBS | DAIF | EL1H);
        assert_eq!(at_vector(0, sctlr, NONE), DAIF | EL1H);
    }

    #[test]
    fn each_exception_level_has_its_byte_order() {
        let (el0_big, el1_big) = (1 << 24, 1 << 25);
        assert!(is_big_endian(EL1H, el1_big) && is_big_endian(EL1T, el1_big));
        assert!(!is_big_endian(EL1H | 1 << 9, el0_big));
        assert!(is_big_endian(0, el0_big) && !is_big_endian(0, el1_big));
        assert!(is_big_endian(AARCH32_USER | 1 << 9, 0));
        assert!(!is_big_endian(AARCH32_USER, el0_big | el1_big));
    }

    #[test]
    fn each_exception_level_has_its_stack_pointer_and_vectors() {
        assert_eq!([EL1H, EL1T, 0].map(uses_sp_el0), [false, true, true]);
        for (fpen, el0, el1) in [
            (0b00, false, false),
            (0b01, false, true),
            (0b10, false, false),
            (0b11, true, true),
        ] {
            let cpacr = fpen << 20 | 0xf << 16;
            assert_eq!(
                (has_vectors(0, cpacr), has_vectors(EL1H, cpacr)),
                (el0, el1)
            );
        }
        assert!(is_aarch32(AARCH32_USER) && !is_aarch32(0));
    }

    #[test]
    fn an_emulated_instruction_is_over() {
        assert_eq!(after_instruction(NZCV | BTYPE | SS | EL1H), NZCV | EL1H);
        assert_eq!(after_instruction(AARCH32_USER | SS), AARCH32_USER);
    }

    #[test]
    fn a_condition_is_met_or_not() {
        let (n, z, c, v) = (1 << 31, 1 << 30, 1 << 29, 1 << 28);
        // Each condition, with flags that meet it and flags that do not; its opposite is the next
        // one.
        for (condition, meets, fails) in [
            (0, z, n | c | v),
            (2, c, n | z | v),
            (4, n, z | c | v),
            (6, v, n | z | c),
            (8, c, c | z),
            (10, n | v, n),
            (12, z & n, z),
        ] {
            for (flags, met) in [(meets, true), (fails, false)] {
                let spsr = AARCH32_USER | flags;
                assert_eq!(meets_condition(spsr, Some(condition)), met, "{condition}");
                assert_eq!(
                    meets_condition(spsr, Some(condition + 1)),
                    !met,
                    "{condition}"
                );
            }
        }
        assert!(meets_condition(AARCH32_USER, Some(14)) && meets_condition(AARCH32_USER, Some(15)));
        // Not in an IT block; in one of EQ; in one of NE.
        let it = |it: u64| AARCH32_USER | (it & 0xfc) << 8 | (it & 3) << 25;
        assert!(meets_condition(AARCH32_USER, None) && !meets_condition(it(0x08), None));
        assert!(meets_condition(it(0x08) | z, None) && meets_condition(it(0x18), None));
        assert_eq!(
            with_flags(AARCH32_USER | n, 0x6fff_ffff),
            AARCH32_USER | z | c
        );
    }

    #[test]
    fn an_if_then_block_goes_on() {
        let spsr = |it: u64| AARCH32_USER | (it & 0xfc) << 8 | (it & 3) << 25;
        // ITTET EQ: condition 0000, mask 0101; then four instructions.
        let steps = [0b0000_0101, 0b0000_1010, 0b0001_0100, 0b0000_1000, 0];
        for pair in steps.windows(2) {
            assert_eq!(after_instruction(spsr(pair[0])), spsr(pair[1]));
        }
        assert_eq!(after_instruction(spsr(0)), spsr(0));
    }
}
