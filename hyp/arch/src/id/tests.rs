use super::*;

fn all() -> impl Iterator<Item = &'static IdRegister> {
    REGISTERS.into_iter().flatten()
}

fn only(register: usize, value: u64) -> Ids {
    let mut values = [0; COUNT];
    values[register] = value;
    Ids::new(values)
}

fn field(register: &str, name: &str) -> (usize, Field) {
    let register = all().find(|candidate| candidate.name == register);
    let register = register.expect("a register");
    let field = register.fields.iter().find(|field| field.name == name);
    (register.index, *field.expect("a field"))
}

/// Reserved in the registers whose other fields are shown, lowest bits: nothing is defined there
/// that could be hidden.
const RESERVED: [(&str, &[u32]); 6] = [
    ("ID_AA64PFR0_EL1", &[]),
    ("ID_AA64PFR1_EL1", &[20]),
    ("ID_AA64ISAR0_EL1", &[0]),
    ("ID_AA64ISAR1_EL1", &[]),
    ("ID_AA64MMFR1_EL1", &[]),
    ("ID_AA64MMFR2_EL1", &[44]),
];

#[test]
fn every_field_is_decided_once() {
    for register in all() {
        let mut decided = 0;
        for field in register.fields {
            let bits = 0xf << field.lsb;
            assert_eq!(field.lsb % 4, 0, "{}.{}", register.name, field.name);
            assert_eq!(decided & bits, 0, "{}.{}", register.name, field.name);
            decided |= bits;
        }
        if let Some((_, reserved)) = RESERVED.iter().find(|(name, _)| *name == register.name) {
            let reserved = reserved.iter().fold(0, |bits, lsb| bits | 0xf << lsb);
            assert_eq!(decided ^ reserved, u64::MAX, "{}", register.name);
        }
    }
    let mut places: Vec<_> = all().map(|register| register.index).collect();
    places.sort_unstable();
    assert!(places.windows(2).all(|pair| pair[0] != pair[1]));
}

/// What is left of all ones, in the registers where that is neither everything nor nothing.
const LEFT: [(&str, u64); 16] = [
    ("ID_PFR0_EL1", 0x0f01_ffff),
    ("ID_PFR1_EL1", 0x100f_000f),
    ("ID_MMFR4_EL1", 0x0fff_f0f0),
    ("ID_PFR2_EL1", 0xff),
    ("ID_MMFR5_EL1", 0xff),
    ("MVFR2_EL1", 0xff),
    ("ID_AA64PFR0_EL1", 0xf10f_0000_01ff_001f),
    ("ID_AA64PFR1_EL1", 0xff),
    ("ID_AA64DFR0_EL1", 0xf0_f0f0_f006),
    ("ID_AA64ISAR0_EL1", 0xffff_ffff_f0ff_fff0),
    ("ID_AA64ISAR1_EL1", 0x0fff_ffff_ffff_ffff),
    ("ID_AA64ISAR2_EL1", 0xfff0_ffff),
    ("ID_AA64MMFR0_EL1", 0x0000_f000_ffff_0fff),
    ("ID_AA64MMFR1_EL1", 0xf00f_f0f0_00f0_f002),
    ("ID_AA64MMFR2_EL1", 0xf0ff_00ff_f0ff_0fff),
    ("ID_ISAR0_EL1", 0x0fff_ffff),
];

#[test]
fn what_is_not_carried_is_hidden() {
    let left = Ids::new([u64::MAX; COUNT]).guest();
    for (name, value) in LEFT {
        let register = all().find(|register| register.name == name);
        let register = register.expect("a register");
        assert_eq!(left.get(register.index), value, "{name}");
    }
    let defined = |index| all().any(|register| register.index == index);
    for index in (0..COUNT).filter(|&index| !defined(index)) {
        assert_eq!(left.get(index), 0, "number {index}");
    }
}

#[test]
fn what_the_hardware_lacks_is_not_made_up() {
    let nothing = Ids::new([0; COUNT]);
    let guest = nothing.guest();
    for index in 0..COUNT {
        // There is no debugging that is older than Armv8, and DoubleLock says so when it is
        // missing.
        let is_dfr0 = index == field("ID_AA64DFR0_EL1", "DebugVer").0;
        let left = if is_dfr0 { 0xf0_0000_0006 } else { 0 };
        assert_eq!(guest.get(index), left, "number {index}");
    }
    let (pfr0, _) = field("ID_AA64PFR0_EL1", "FP");
    let without_fp = 0xf << 20 | 0xf << 16 | 0x11;
    assert_eq!(only(pfr0, without_fp).guest().get(pfr0), without_fp);
}

#[test]
fn cpus_that_differ_have_the_least_in_common() {
    let common = |register, name, one: u64, other: u64| {
        let (index, field) = field(register, name);
        let ids = |value| only(index, value << field.lsb);
        let merged = ids(one).common(&ids(other));
        assert_eq!(merged, ids(other).common(&ids(one)), "{name}");
        field.of(merged.get(index))
    };
    assert_eq!(common("ID_AA64ISAR0_EL1", "Atomic", 2, 0), 0);
    assert_eq!(common("ID_AA64MMFR0_EL1", "PARange", 5, 2), 2);
    // No floating point at all.
    assert_eq!(common("ID_AA64PFR0_EL1", "FP", 1, 0xf), 0xf);
    assert_eq!(common("ID_AA64MMFR0_EL1", "TGran4", 1, 0), 0);
    // FEAT_E2H0 is there, or is not.
    assert_eq!(common("ID_AA64MMFR4_EL1", "E2H0", 0, 0xf), 0xf);
    // Different algorithms: what one CPU signs, the other does not accept.
    assert_eq!(common("ID_AA64ISAR1_EL1", "API", 1, 2), 0);
    assert_eq!(common("ID_AA64ISAR2_EL1", "APA3", 5, 5), 5);
}

#[test]
fn needs_are_met_by_any_of_their_fields() {
    const EITHER: Needs = {
        const FIELDS: &[AtLeast] = &[
            at_least("ID_AA64PFR0_EL1", "CSV2", 2),
            at_least("ID_AA64PFR1_EL1", "CSV2_frac", 1),
        ];
        Needs::any(FIELDS)
    };
    let [pfr0, pfr1] = [index(4, 0), index(4, 1)];
    assert!(EITHER.met(&only(pfr0, 2 << 56)) && EITHER.met(&only(pfr1, 1 << 32)));
    assert!(!EITHER.met(&only(pfr0, 1 << 56)));
    assert!(Needs::NOTHING.met(&only(0, 0)) && Needs::NOTHING.is_nothing());
    assert!(!EITHER.is_shown() && Needs::NOTHING.is_shown());
}
