//! What all CPUs can do: each CPU adds its own when it comes up.
//!
//! Stage-2 tables and TLB operations are shared by all CPUs, so only what every one of them has counts.

use aarch64_cpu::registers::{
    ID_AA64ISAR0_EL1, ID_AA64ISAR1_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, MIDR_EL1, Readable,
};
use hyp::features::{Features, IdRegisters};
use log::{debug, info};
use spin::{Mutex, Once};

use crate::machine;

/// What the CPUs that are up so far have in common.
static COMMON: Mutex<Option<Features>> = Mutex::new(None);

/// What all CPUs have in common.
static FEATURES: Once<Features> = Once::new();

/// What all CPUs can do.
///
/// # Panics
///
/// Before all CPUs are up, which is before the scheduler starts on any.
pub(crate) fn features() -> &'static Features {
    FEATURES
        .get()
        .expect("the features are known once all CPUs are up")
}

/// Adds what the CPU that calls this can do.
pub(super) fn add_this_cpu() {
    let registers = IdRegisters {
        mmfr0: ID_AA64MMFR0_EL1.get(),
        mmfr1: ID_AA64MMFR1_EL1.get(),
        mmfr2: ID_AA64MMFR2_EL1.get(),
        isar0: ID_AA64ISAR0_EL1.get(),
        isar1: ID_AA64ISAR1_EL1.get(),
        pfr0: ID_AA64PFR0_EL1.get(),
        pfr1: ID_AA64PFR1_EL1.get(),
        ctr: machine::cache_type(),
    };
    debug!("MIDR {:#010x}, {registers:x?}", MIDR_EL1.get());
    let own = Features::decode(&registers);
    let mut common = COMMON.lock();
    *common = Some(common.map_or(own, |others| others.common(own)));
}

/// Fixes the features, now that every CPU has added its own, and shows them.
pub(super) fn settle() {
    if let Some(common) = *COMMON.lock() {
        for row in FEATURES.call_once(|| common).rows() {
            info!(target: "features", "{row}");
        }
    }
}
