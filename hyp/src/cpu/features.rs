//! What the CPUs have: read on each of them, put together, and shown.

use core::arch::asm;

use aarch64_cpu::registers::{MIDR_EL1, Readable};
use arch::contract::Machine;
use arch::features::Features;
use arch::id::{COUNT, Ids, index};
use log::{debug, info};
use spin::{Mutex, Once};

/// What the CPUs that are up so far have in common.
static COMMON: Mutex<Option<Ids>> = Mutex::new(None);

/// What all CPUs have in common.
static FEATURES: Once<Features> = Once::new();

/// What guests are shown of it.
static MACHINE: Once<Machine> = Once::new();

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

/// The ID registers that all CPUs have in common, and those that guests read.
///
/// # Panics
///
/// As [`features`].
pub(crate) fn id_registers() -> &'static Machine {
    MACHINE
        .get()
        .expect("the ID registers are known once all CPUs are up")
}

/// Adds what the CPU that calls this can do.
pub(crate) fn add_this_cpu() {
    let ids = ids_of_this_cpu();
    debug!("MIDR {:#010x}, {ids:x?}", MIDR_EL1.get());
    let mut common = COMMON.lock();
    *common = Some(match &*common {
        Some(others) => others.common(&ids),
        None => ids,
    });
}

/// Fixes the features, now that every CPU has added its own, and shows them.
pub(crate) fn fix() {
    if let Some(ids) = *COMMON.lock() {
        MACHINE.call_once(|| Machine::new(ids));
        for row in FEATURES.call_once(|| Features::decode(&ids)).rows() {
            info!(target: "features", "{row}");
        }
    }
}

/// The ID registers of the CPU that calls this.
pub(crate) fn ids_of_this_cpu() -> Ids {
    /// Reads registers by CRm and Op2 into the table.
    macro_rules! read {
        ($values:ident: $($crm:literal)*) => {
            $(read!($values, $crm: 0 1 2 3 4 5 6 7);)*
        };
        ($values:ident, $crm:literal: $($op2:literal)*) => {
            $({
                let value: u64;
                // SAFETY: The whole space can be read at EL2 and is zero where nothing is defined.
                unsafe {
                    asm!(
                        concat!("mrs {}, s3_0_c0_c", $crm, "_", $op2),
                        out(reg) value,
                        options(nomem, nostack, preserves_flags),
                    );
                }
                $values[index($crm, $op2)] = value;
            })*
        };
    }
    let mut values = [0; COUNT];
    read!(values: 1 2 3 4 5 6 7);
    Ids::new(values).with_cache_type(cache_type())
}

/// CTR_EL0: how the caches of this CPU are made (Arm ARM, `CTR_EL0`).
pub(crate) fn cache_type() -> u64 {
    let value;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
