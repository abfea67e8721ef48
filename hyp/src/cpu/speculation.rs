//! What each CPU needs against attacks by speculation, and how all stand: each CPU decides when it
//! comes up.
//!
//! [`speculation`] has the decision. Here are the registers and the firmware's answers that it goes
//! by, and what follows from it: the vectors, whether loads of EL2 bypass stores, and what guests
//! are told.

use core::arch::asm;

use aarch64_cpu::registers::{MIDR_EL1, Readable, SCTLR_EL2, Writeable};
use arch::id::index;
use bootargs::Mitigations;
use log::{debug, info};
use platform::board::Conduit;
use speculation::{ARCH_WORKAROUND_2, Answers, Attacks, Firmware, Identity, Protection, Sequence};
use spin::{Mutex, Once};

use super::{id_registers, ids_of_this_cpu};
use crate::board;

/// What was asked for.
static MITIGATIONS: Once<Mitigations> = Once::new();

/// How the CPUs that are up so far stand.
static COMMON: Mutex<Option<Attacks>> = Mutex::new(None);

/// What guests are told.
static ANSWERS: Once<Answers> = Once::new();

/// `SCTLR_EL2.DSSBS`: the value that PSTATE.SSBS gets with an exception to EL2.
const DSSBS: u64 = 1 << 44;
/// `SPSR_EL2.SSBS`.
const SPSR_SSBS: u64 = 1 << 12;
/// `SPSR_EL2`: EL2 with its own stack pointer, everything masked.
const SPSR_EL2H: u64 = 0x3c9;

/// Says what was asked for, before any CPU decides.
pub(crate) fn start(mitigations: Mitigations) {
    MITIGATIONS.call_once(|| mitigations);
}

/// Protects the CPU that calls this, but for what its vectors have to do: that is returned.
#[must_use = "the vectors have a part in it"]
pub(crate) fn protect_this_cpu() -> Sequence {
    let identity = Identity::new(MIDR_EL1.get(), &ids_of_this_cpu());
    let conduit = board::conduit();
    let firmware = match conduit {
        // SAFETY: Questions change nothing.
        Conduit::Smc => Firmware::ask(|function, about| unsafe { conduit.call32(function, about) }),
        // The vectors reach the firmware by SMC only.
        Conduit::Hvc => Firmware::default(),
    };
    let mitigations = *MITIGATIONS.get().unwrap_or(&Mitigations::On);
    let protection = Protection::decide(identity, firmware, mitigations);
    debug!("{identity:x?}, {firmware:?}");
    info!("on leaving a guest: {}", protection.sequence);
    if protection.firmware_stops_bypass {
        // SAFETY: The CPU computes the same without bypassing stores.
        unsafe { conduit.call32(ARCH_WORKAROUND_2, 1) };
    }
    if identity.has_ssbs() {
        set_ssbs(protection.bypass_at_el2);
    }
    let mut common = COMMON.lock();
    *common = Some(common.map_or(protection.attacks, |others| {
        others.common(protection.attacks)
    }));
    protection.sequence
}

/// Fixes how the machine stands, now that every CPU has decided, shows it, and fixes what guests
/// are told.
pub(crate) fn fix() {
    let Some(attacks) = *COMMON.lock() else {
        return;
    };
    for (attack, arm_name, status) in attacks.rows() {
        info!(target: "features", "{attack:<26} {arm_name:<15} {status}");
    }
    // ID_AA64PFR1_EL1.SSBS, as guests see it.
    let ssbs = id_registers().guest.get(index(4, 1)) >> 4 & 0xf != 0;
    ANSWERS.call_once(|| attacks.answers(ssbs));
}

/// What guests are told of the workarounds.
///
/// # Panics
///
/// Before all CPUs are up, which is before there are guests.
pub(crate) fn answers() -> &'static Answers {
    ANSWERS
        .get()
        .expect("how CPUs speculate is known once all are up")
}

/// Lets loads of EL2 bypass older stores, or not: from now on, and after each exception. Only where
/// there is FEAT_SSBS.
fn set_ssbs(bypass: bool) {
    let (dssbs, ssbs) = if bypass { (DSSBS, SPSR_SSBS) } else { (0, 0) };
    SCTLR_EL2.set(SCTLR_EL2.get() & !DSSBS | dssbs);
    // PSTATE.SSBS has no instruction of its own on all CPUs that have it, but an ERET sets it on
    // all. SAFETY: It goes to the next line at the same level, with interrupts masked as they are.
    // ELR_EL2 and SPSR_EL2 are in use only while a thread has a guest to return to, which is later.
    unsafe {
        asm!(
            "adr {address}, 2f",
            "msr elr_el2, {address}",
            "msr spsr_el2, {spsr}",
            "eret",
            "dsb nsh",
            "isb",
            "2:",
            address = out(reg) _,
            spsr = in(reg) SPSR_EL2H | ssbs,
            options(nostack),
        );
    }
}
