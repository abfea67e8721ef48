//! The decision for CPUs that there are, with the registers that they have.

use bootargs::Mitigations;

use super::*;
use crate::identity::Model;

/// The registers as QEMU gives them at EL2; those of Arm's models are as on the hardware.
const A57: Identity = Identity {
    midr: 0x411f_d070,
    pfr0: 0x100_0222,
    pfr1: 0,
    mmfr1: 0,
    isar2: 0,
};
const A72: Identity = Identity {
    midr: 0x410f_d083,
    ..A57
};
/// From r1p0 on it has FEAT_CSV2.
const A72_R1P0: Identity = Identity {
    midr: 0x411f_d080,
    pfr0: 1 << 56 | A57.pfr0,
    ..A57
};
const A76: Identity = Identity {
    midr: 0x414f_d0b1,
    pfr0: 0x1100_0000_1111_0112,
    pfr1: 0x10,
    mmfr1: 0x1021_2122,
    isar2: 0,
};
const N1: Identity = Identity {
    midr: 0x414f_d0c1,
    pfr1: 0x20,
    ..A76
};
const MAX: Identity = Identity {
    midr: 0xf_0510,
    pfr0: 0x1201_0011_2111_0222,
    pfr1: 0x100_0021,
    mmfr1: 0x110_1021_1122,
    isar2: 0,
};
/// The same in newer versions: FEAT_CSV2_3, FEAT_ECBHB.
const NEWER_MAX: Identity = Identity {
    pfr0: 0x1301_0011_2111_0222,
    mmfr1: 1 << 60 | MAX.mmfr1,
    ..MAX
};

/// A firmware that knows of no workaround, as QEMU's.
const NONE: Firmware = Firmware {
    workaround_1: Offer::Missing,
    workaround_2: Offer::Missing,
    workaround_3: Offer::Missing,
};

const NO_FIRMWARE: Status = Status::Vulnerable(Cause::NoFirmware);
const BY_FIRMWARE: Status = Status::Mitigated(Means::Firmware);

fn decide(cpu: Identity, firmware: Firmware) -> Protection {
    Protection::decide(cpu, firmware, Mitigations::On)
}

/// Targets, history, bypass, loads; and what is executed.
fn decided(protection: Protection) -> ([Status; 4], Sequence) {
    let attacks = protection.attacks.rows().map(|(_, _, status)| status);
    (attacks, protection.sequence)
}

#[test]
fn the_oldest_models_need_the_firmware() {
    for cpu in [A57, A72] {
        let expected = [NO_FIRMWARE, NO_FIRMWARE, NO_FIRMWARE, Status::Unaffected];
        assert_eq!(decided(decide(cpu, NONE)), (expected, Sequence::None));

        let expected = [BY_FIRMWARE, BY_FIRMWARE, BY_FIRMWARE, Status::Unaffected];
        let protection = decide(cpu, Firmware::HELPFUL);
        assert_eq!(decided(protection), (expected, Sequence::Workaround3));
        assert!(protection.firmware_stops_bypass);

        let older = Firmware {
            workaround_3: Offer::Missing,
            ..Firmware::HELPFUL
        };
        let protection = decide(cpu, older);
        assert_eq!(decided(protection), (expected, Sequence::Workaround1));
    }
}

#[test]
fn models_that_keep_targets_apart_overwrite_the_history() {
    let branches = Status::Mitigated(Means::Branches);
    let ssbs = Status::Mitigated(Means::StoreBypassOff);
    let unaffected = Status::Unaffected;
    for (cpu, loops, bypass) in [(A72_R1P0, 8, NO_FIRMWARE), (A76, 24, ssbs), (N1, 24, ssbs)] {
        let expected = [unaffected, branches, bypass, unaffected];
        assert_eq!(
            decided(decide(cpu, NONE)),
            (expected, Sequence::Branches(loops))
        );
        // Arm's loop is preferred to a firmware's call, which takes longer.
        let sequence = decide(cpu, Firmware::HELPFUL).sequence;
        assert_eq!(sequence, Sequence::Branches(loops));
    }
}

#[test]
fn an_unknown_model_is_protected_by_what_its_registers_say_it_has() {
    let ssbs = Status::Mitigated(Means::StoreBypassOff);
    let with = |history| [Status::Unaffected, history, ssbs, Status::Unaffected];

    let unknown = Status::Vulnerable(Cause::UnknownModel);
    assert_eq!(decided(decide(MAX, NONE)), (with(unknown), Sequence::None));
    let expected = (with(Status::Unaffected), Sequence::None);
    assert_eq!(decided(decide(NEWER_MAX, NONE)), expected);

    let ecbhb = Identity {
        pfr0: MAX.pfr0,
        ..NEWER_MAX
    };
    let expected = with(Status::Mitigated(Means::Exception));
    assert_eq!(decided(decide(ecbhb, NONE)), (expected, Sequence::None));
    let clrbhb = Identity {
        isar2: 1 << 28,
        ..MAX
    };
    let expected = (
        with(Status::Mitigated(Means::Instruction)),
        Sequence::ClearHistory,
    );
    assert_eq!(decided(decide(clrbhb, NONE)), expected);

    let expected = (with(BY_FIRMWARE), Sequence::Workaround3);
    assert_eq!(decided(decide(MAX, Firmware::HELPFUL)), expected);
    let firmware = Firmware {
        workaround_3: Offer::NotNeeded,
        ..NONE
    };
    let expected = (with(Status::Unaffected), Sequence::None);
    assert_eq!(decided(decide(MAX, firmware)), expected);
}

#[test]
fn simple_models_are_not_affected_whatever_their_registers_say() {
    let a53 = Identity {
        midr: 0x410f_d034,
        ..A57
    };
    let expected = ([Status::Unaffected; 4], Sequence::None);
    assert_eq!(decided(decide(a53, NONE)), expected);
}

#[test]
fn the_revision_is_not_part_of_the_model() {
    let n1_r3p1 = Identity {
        midr: 0x413f_d0c1,
        ..N1
    };
    assert_eq!(decide(n1_r3p1, NONE), decide(N1, NONE));
    let other_vendor = Identity {
        midr: 0x514f_d0c1,
        ..N1
    };
    assert_eq!(decide(other_vendor, NONE).sequence, Sequence::None);
}

#[test]
fn meltdown_does_not_reach_what_is_not_in_the_tables() {
    let a75 = Identity {
        midr: 0x412f_d0a1,
        ..A57
    };
    let status = decide(a75, NONE).attacks.privileged_loads;
    assert_eq!(status, Status::Mitigated(Means::OwnTables));
}

#[test]
fn switched_off_nothing_is_done_and_what_costs_nothing_stays() {
    let off = |cpu| Protection::decide(cpu, Firmware::HELPFUL, Mitigations::Off);
    let switched_off = Status::Vulnerable(Cause::SwitchedOff);
    for cpu in [A57, A72, A72_R1P0, A76, N1, MAX, NEWER_MAX] {
        let protection = off(cpu);
        assert_eq!(protection.sequence, Sequence::None);
        assert!(protection.bypass_at_el2 && !protection.firmware_stops_bypass);
        assert_eq!(protection.attacks.store_bypass, switched_off);
    }
    assert_eq!(off(A57).attacks.branch_targets, switched_off);
    assert_eq!(off(N1).attacks.branch_targets, Status::Unaffected);
    assert_eq!(off(N1).attacks.branch_history, switched_off);
    let ecbhb = Identity {
        pfr0: MAX.pfr0,
        ..NEWER_MAX
    };
    let status = off(ecbhb).attacks.branch_history;
    assert_eq!(status, Status::Mitigated(Means::Exception));
}

#[test]
fn a_test_can_have_what_the_machine_lacks() {
    let as_with = |cpu, mitigations| Protection::decide(cpu, NONE, mitigations).sequence;
    assert_eq!(
        as_with(A57, Mitigations::AsWithFirmware),
        Sequence::Workaround3
    );
    assert_eq!(
        as_with(N1, Mitigations::AsWithClrbhb),
        Sequence::ClearHistory
    );
}

/// A firmware of PSCI 1.0 or later with this version of the convention, that answers like this for
/// workarounds.
fn firmware(version: i32, answer: impl Fn(u32) -> i32) -> Firmware {
    Firmware::ask(|function, about| match (function, about) {
        (0x8400_000a, 0x8000_0000) => 0,
        (0x8000_0000, _) => version,
        (0x8000_0001, about) if version >= 0x1_0001 => answer(about),
        _ => panic!("{function:#x} is not there"),
    })
}

#[test]
fn the_firmware_is_asked_for_each_workaround() {
    let answered = firmware(0x1_0002, |function| match function {
        ARCH_WORKAROUND_1 => 1,
        ARCH_WORKAROUND_2 => -2,
        ARCH_WORKAROUND_3 => 0,
        _ => panic!("{function:#x}"),
    });
    let expected = Firmware {
        workaround_1: Offer::NotNeeded,
        workaround_2: Offer::NotNeeded,
        workaround_3: Offer::Needed,
    };
    assert_eq!(answered, expected);
    assert_eq!(firmware(0x1_0001, |_| -1), NONE);
    // That no CPU needs it is no answer for the others.
    assert_eq!(firmware(0x1_0001, |_| -2).workaround_1, Offer::Missing);
}

#[test]
fn firmware_of_old_is_not_asked_what_it_may_not_know() {
    assert_eq!(firmware(0x1_0000, |_| 0), NONE);
    let older = Firmware::ask(|function, _| match function {
        0x8400_000a => -1,
        _ => panic!("{function:#x} is not there"),
    });
    assert_eq!(older, NONE);
}

#[test]
fn guests_are_told_of_the_worst_cpu() {
    let [n1, a57] = [N1, A57].map(|cpu| decide(cpu, Firmware::HELPFUL).attacks);
    let told_with = |attacks: Attacks, ssbs| {
        let answers = attacks.answers(ssbs);
        [ARCH_WORKAROUND_1, ARCH_WORKAROUND_2, ARCH_WORKAROUND_3]
            .map(|function| answers.features(function).unwrap())
    };
    let told = |attacks| told_with(attacks, false);
    assert_eq!(told_with(n1, true), [1, -1, 0]);
    assert_eq!(told(a57), [0, -2, 0]);
    assert_eq!(told(n1.common(a57)), [0, -2, 0]);
    assert_eq!(told(a57.common(n1)), [0, -2, 0]);
    let a57 = decide(A57, NONE).attacks;
    assert_eq!(told(a57), [-1, -1, -1]);
    assert_eq!(told(n1.common(a57)), [-1, -1, -1]);
    assert_eq!(told_with(decide(NEWER_MAX, NONE).attacks, true), [1, -1, 1]);
    let off = Protection::decide(A57, Firmware::HELPFUL, Mitigations::Off);
    assert_eq!(told(off.attacks), [-1, -1, -1]);
}

#[test]
fn what_guests_are_told_of_they_can_call() {
    for firmware in [NONE, Firmware::HELPFUL] {
        for cpu in [A57, A72_R1P0, N1, MAX] {
            let answers = decide(cpu, firmware).attacks.answers(true);
            for function in [ARCH_WORKAROUND_1, ARCH_WORKAROUND_2, ARCH_WORKAROUND_3] {
                let is_there = answers.features(function) != Some(-1);
                let expected = if is_there { 0 } else { -1 };
                assert_eq!(answers.call(function), Some(expected));
            }
            assert_eq!(answers.features(0x8000_0002), None);
            assert_eq!(answers.call(0x8000_0002), None);
        }
    }
}

#[test]
fn every_count_of_loops_has_its_branches() {
    for part in 0..0x1000 {
        for implementer in [0x41, 0xc0] {
            if let Some(loops) = (Model { implementer, part }).loops() {
                assert!(LOOPS.contains(&loops), "part {part:#x}");
            }
        }
    }
    assert_eq!([8, 24].map(taken_branches), [15, 47]);
    assert!(LOOPS.is_sorted());
}
