//! Random operations on pages and 2 MiB blocks, compared with a reference model after each.
//!
//! The seed is fixed, so that a run can be had again; `PROPTEST_RNG_SEED` and `PROPTEST_CASES`
//! choose others.

use crate::support::model::{Op, Shape, Vm};
use crate::support::strategy::ops;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use stage2::Level;

const CASES: u32 = 48;
const MOST_OPS: usize = 40;

fn config(seed: u64) -> ProptestConfig {
    let default = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    };
    let chosen = |name| std::env::var_os(name).is_some();
    let from_environment = ProptestConfig::default();
    ProptestConfig {
        cases: if chosen("PROPTEST_CASES") {
            from_environment.cases
        } else {
            CASES
        },
        rng_seed: if chosen("PROPTEST_RNG_SEED") {
            from_environment.rng_seed
        } else {
            default.rng_seed
        },
        ..default
    }
}

/// One of the shapes that differ in start level and root, on a CPU with any extensions.
fn shape(ipa_bits: u32, start: Level) -> impl Strategy<Value = Shape> {
    any::<[bool; 4]>().prop_map(move |[dirty, direct, fwb, xnx]| Shape {
        ipa_bits,
        start,
        hardware_dirty: dirty,
        direct_size_change: direct,
        force_write_back: fwb,
        execute_never_by_level: xnx,
    })
}

/// Operations, some of them with an allocation that fails.
fn steps() -> impl Strategy<Value = Vec<(Op, u64)>> {
    let failing = prop_oneof![9 => Just(0), 1 => 1..4u64];
    ops(MOST_OPS).prop_flat_map(move |ops| {
        let count = ops.len();
        (Just(ops), prop::collection::vec(failing.clone(), count))
            .prop_map(|(ops, failing)| ops.into_iter().zip(failing).collect())
    })
}

fn run(shape: Shape, steps: &[(Op, u64)], unmap: bool) {
    let vm = Vm::new(shape);
    for (op, failing) in steps {
        vm.apply_failing(op, *failing);
        vm.check();
    }
    if unmap { vm.finish() } else { vm.destroy() }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes when interpreted")]
    fn four_levels(shape in shape(48, Level::L0), steps in steps(), unmap: bool) {
        run(shape, &steps, unmap);
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes when interpreted")]
    fn three_levels_and_two_root_tables(
        shape in shape(40, Level::L1),
        steps in steps(),
        unmap: bool,
    ) {
        run(shape, &steps, unmap);
    }
}

proptest! {
    #![proptest_config(config(34))]

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes when interpreted")]
    fn two_levels_and_sixteen_root_tables(
        shape in shape(34, Level::L2),
        steps in steps(),
        unmap: bool,
    ) {
        run(shape, &steps, unmap);
    }
}
