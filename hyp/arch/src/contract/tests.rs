use super::*;
use crate::id::{COUNT, index};

fn all_rows() -> impl Iterator<Item = &'static Row> {
    ROWS.into_iter().flatten()
}

fn everything() -> Ids {
    Ids::new([u64::MAX; COUNT])
}

fn nothing() -> Ids {
    Ids::new([0; COUNT])
}

fn only(index: usize, value: u64) -> Ids {
    let mut values = [0; COUNT];
    values[index] = value;
    Ids::new(values)
}

fn value(register: El2, ids: &Ids) -> u64 {
    control_value(register, ids, &Machine::new(*ids))
}

fn switched(ids: &Ids) -> Vec<&'static str> {
    let machine = Machine::new(*ids);
    let places = (0..SWITCHED.len()).filter(|&place| is_switched(place, ids, &machine));
    places.map(|place| SWITCHED[place].name).collect()
}

#[test]
fn what_is_shown_has_its_state_and_what_is_hidden_is_out_of_reach() {
    for row in all_rows() {
        let shown = row.needs.is_shown();
        match row.guest {
            Guest::Own(Home::Pstate) => {}
            Guest::Own(_) => assert!(shown || row.name == "CCSIDR2_EL1", "{} is hidden", row.name),
            Guest::Hidden(controls) => {
                let free = row.needs.is_nothing() || !shown;
                assert!(free, "{} goes with a feature that is shown", row.name);
                assert!(!controls.is_empty(), "{} is in reach", row.name);
            }
            Guest::HiddenOrOwn(..) => assert!(!shown, "{} is shown", row.name),
            Guest::Constant | Guest::Moving | Guest::Command => {}
            Guest::Emulated(controls) | Guest::Modelled(controls) => {
                assert!(!controls.is_empty(), "{} is in reach", row.name);
            }
        }
    }
}

#[test]
fn each_register_has_one_row() {
    let singles: Vec<_> = all_rows().filter_map(|row| row.at.single()).collect();
    for (i, encoding) in singles.iter().enumerate() {
        assert!(!singles[..i].contains(encoding), "{encoding}");
    }
    for row in all_rows() {
        let first = find(row.at.first).expect("its row");
        let before = first.at.single().is_some() || first.name == row.name;
        assert!(before, "{} is behind {}", row.name, first.name);
        assert!(
            row.at.first.op1() <= 3,
            "{}: EL1 names none of EL2's",
            row.name
        );
    }
}

#[test]
fn controls_do_not_contradict_each_other() {
    for one in control::all() {
        assert_eq!(one.set & one.register.base(), 0, "{}", one.name);
        for other in control::all().filter(|other| other.register == one.register) {
            assert_eq!(one.set & other.clear, 0, "{} and {}", one.name, other.name);
        }
    }
}

#[test]
fn an_armv8_0_cpu_is_controlled_as_it_always_was() {
    let cpu = only(index(4, 0), 0x100_0222);
    // VM, SWIO, FMO, IMO, AMO; FB, BSU; TWI, TWE, TID3, TSC, TIDCP, TACR; RW.
    assert_eq!(value(El2::Hcr, &cpu), 0x803c_663b);
    assert_eq!(value(El2::Cptr, &cpu), 1 << 30 | 1 << 20 | 0x33ff);
    assert_eq!(value(El2::Mdcr, &cpu), 0b1110_0110_0000);
    assert_eq!(value(El2::Cnthctl, &cpu), 0b11);
    for other in [El2::Hstr, El2::Cntvoff, El2::Mdscr] {
        assert_eq!(value(other, &cpu), 0, "{}", other.name());
    }
}

#[test]
fn features_that_are_there_are_trapped_unless_shown() {
    let mte2 = only(index(4, 1), 2 << 8);
    assert_eq!(value(El2::Hcr, &mte2) & 1 << 58, 1 << 58, "TID5");
    assert_eq!(value(El2::Hcr, &mte2) & 1 << 56, 0, "ATA");
    let sme = only(index(4, 1), 1 << 24);
    assert_eq!(value(El2::Hcr, &sme) & 1 << 16, 1 << 16, "TID1");
    for profiled in [only(index(5, 0), 1 << 32), everything()] {
        assert_eq!(value(El2::Mdcr, &profiled) & 1 << 14, 1 << 14, "TPMS");
    }
    // Fine-grained traps that are on while their bits are clear: nACCDATA to nAMAIR2.
    assert_eq!(value(El2::Hfgrtr, &everything()), 0);
    assert_eq!(value(El2::Hfgrtr2, &everything()), 0);
    assert_eq!(value(El2::Hcrx, &everything()), 1 << 6, "TALLINT");
}

#[test]
fn pointers_are_authenticated_by_whatever_algorithm_is_shown() {
    const BITS: u64 = 0b11 << 40;
    let keys = |ids| {
        let names = switched(&ids);
        let keys = names.iter().filter(|name| name.starts_with("AP")).count();
        assert_eq!(value(El2::Hcr, &ids) & BITS == BITS, keys == 10);
        keys
    };
    for field in [4, 8, 24, 28] {
        assert_eq!(keys(only(index(6, 1), 1 << field)), 10, "ISAR1, {field}");
    }
    for field in [8, 12] {
        assert_eq!(keys(only(index(6, 2), 1 << field)), 10, "ISAR2, {field}");
    }
    assert_eq!(keys(nothing()), 0);
}

#[test]
fn cpus_that_differ_have_what_only_one_has_trapped() {
    let has = only(index(6, 1), 1 << 4);
    let machine = Machine::new(has.common(&nothing()));
    assert_eq!(control_value(El2::Hcr, &has, &machine) & 0b11 << 40, 0);
    let keys = (0..SWITCHED.len()).filter(|&place| SWITCHED[place].name.starts_with("AP"));
    assert!(
        keys.into_iter()
            .all(|place| !is_switched(place, &has, &machine))
    );
}

#[test]
fn a_cpu_with_other_caches_than_all_have_in_common_has_that_trapped() {
    let [short, long] = [0x8443_c003, 0x8444_c004].map(|ctr| nothing().with_cache_type(ctr));
    let machine = Machine::new(short.common(&long));
    assert_eq!(machine.guest.cache_type(), short.cache_type());
    assert_eq!(control_value(El2::Hcr, &long, &machine) & 1 << 17, 1 << 17);
    assert_eq!(control_value(El2::Hcr, &short, &machine) & 1 << 17, 0);
}

#[test]
fn what_no_control_reaches_is_switched_where_it_is() {
    let ras = only(index(4, 0), 1 << 28);
    assert!(switched(&ras).contains(&"VDISR_EL2") && switched(&ras).contains(&"VSESR_EL2"));
    let sme = only(index(4, 1), 1 << 24);
    assert!(switched(&sme).contains(&"TPIDR2_EL0"));
    let with_fgt = only(index(7, 0), 1 << 56);
    let mut values = [0; COUNT];
    for (place, value) in values.iter_mut().enumerate() {
        *value = sme.get(place) | with_fgt.get(place);
    }
    assert!(!switched(&Ids::new(values)).contains(&"TPIDR2_EL0"));
    assert!(!switched(&nothing()).contains(&"VDISR_EL2"));
    assert!(switched(&nothing()).contains(&"SP_EL1"));
}

#[test]
fn blocks_hold_what_is_within_their_bounds() {
    let name = |op0, op1, crn, crm, op2| {
        let row = find(Encoding::new(op0, op1, crn, crm, op2));
        row.map_or("", |row| row.name)
    };
    assert_eq!(name(3, 3, 14, 9, 5), "PMEV*_EL0");
    assert_eq!(name(3, 3, 9, 12, 0), "PMCR_EL0");
    assert_eq!(name(3, 0, 15, 2, 0), "S3_0_C15_*");
    assert_eq!(name(3, 0, 0, 4, 0), "ID registers");
    assert_eq!(name(3, 4, 1, 1, 0), "", "HCR_EL2 is undefined at EL1");
}
