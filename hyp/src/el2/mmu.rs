//! The registers of EL2's stage-1 translation, and the values every CPU loads into them.
//!
//! One set of tables serves all CPUs. Addresses have [`VA_BITS`] bits and lookups start at level 1.

use aarch64_cpu::registers::{ID_AA64MMFR0_EL1, MAIR_EL2, Readable, SCTLR_EL2, TCR_EL2};

/// The RES1 bits of `SCTLR_EL2` with E2H clear (Arm ARM, `SCTLR_EL2`).
pub(crate) const SCTLR_EL2_RES1: u64 = 0x30c5_0830;
/// Bits of an EL2 virtual address: one level-1 table's worth, 512 GiB.
pub(crate) const VA_BITS: u32 = 39;

/// RES1 bits of `TCR_EL2` with E2H clear (Arm ARM, `TCR_EL2`).
const TCR_EL2_RES1: u64 = 1 << 31 | 1 << 23;
/// The largest `TCR_EL2.PS` without FEAT_LPA2's descriptors: 48 bits.
const PS_48_BITS: u64 = 0b0101;

/// The values that the entry code loads with the MMU still off, in the order it expects.
///
/// Written once by the first CPU, before its MMU is on; never after.
#[repr(C)]
pub(crate) struct BootRegisters {
    mair: u64,
    tcr: u64,
    ttbr0: u64,
    sctlr: u64,
}

/// See [`BootRegisters`].
pub(crate) static mut BOOT_REGISTERS: BootRegisters = BootRegisters {
    mair: 0,
    tcr: 0,
    ttbr0: 0,
    sctlr: 0,
};

/// Whether this CPU's MMU is on. While it is off locks must not be touched.
pub(crate) fn mmu_is_on() -> bool {
    SCTLR_EL2.is_set(SCTLR_EL2::M)
}

/// Says what tables every CPU is to use from now on.
///
/// # Safety
///
/// Only for the first CPU, while it is alone and its MMU is off. `root` must be the physical
/// address of a level-1 table that maps the image, with attribute indices as in `tables`, and never
/// goes away.
pub(crate) unsafe fn describe(root: u64) {
    let mair = MAIR_EL2::Attr0_Device::nonGathering_nonReordering_EarlyWriteAck
        + MAIR_EL2::Attr1_Normal_Outer::WriteBack_NonTransient_ReadWriteAlloc
        + MAIR_EL2::Attr1_Normal_Inner::WriteBack_NonTransient_ReadWriteAlloc;
    let pa_range = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange);
    let tcr = TCR_EL2::T0SZ.val(u64::from(64 - VA_BITS))
        + TCR_EL2::TG0::KiB_4
        + TCR_EL2::SH0::Inner
        + TCR_EL2::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
        + TCR_EL2::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
        + TCR_EL2::PS.val(pa_range.min(PS_48_BITS));
    let sctlr = SCTLR_EL2::M::Enable
        + SCTLR_EL2::C::Cacheable
        + SCTLR_EL2::I::Cacheable
        + SCTLR_EL2::SA::Enable
        + SCTLR_EL2::WXN::Enable;
    let registers = BootRegisters {
        mair: mair.value,
        tcr: tcr.value | TCR_EL2_RES1,
        ttbr0: root,
        sctlr: sctlr.value | SCTLR_EL2_RES1,
    };
    // SAFETY: The caller is the only CPU that runs, and the entry code reads this later.
    unsafe { (&raw mut BOOT_REGISTERS).write(registers) };
}
