//! A window of 1 GiB at the upper end of the virtual address space through which any IPA can be
//! reached, with any memory type: the identity map of stage 1 knows RAM and the low devices only.

use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::{
    asm::barrier,
    registers::{ID_AA64MMFR0_EL1, ReadWriteable, Readable, TCR_EL1, TTBR1_EL1},
};

const GIB: u64 = 1 << 30;
/// Bits of an address that the window's table translates.
const BITS: u64 = 39;

/// What the window's only descriptor says of its memory.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A 1 GiB block of normal memory, all rights.
    Normal,
    /// A 1 GiB block of device-nGnRE memory, not executable.
    Device,
}

/// The size of stage 1's pages and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granule {
    KiB4,
    KiB16,
    KiB64,
}

impl Granule {
    /// Whether the CPU has it (ID_AA64MMFR0_EL1).
    pub(crate) fn is_there(self) -> bool {
        match self {
            Self::KiB4 => ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::TGran4) != 0b1111,
            Self::KiB16 => ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::TGran16) != 0,
            Self::KiB64 => ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::TGran64) != 0b1111,
        }
    }
}

impl Kind {
    /// VMSAv8-64 level-1 descriptor with this output address; attributes as `boot` uses.
    const fn descriptor(self, ipa: u64) -> u64 {
        match self {
            Self::Normal => ipa & !(GIB - 1) | 1 << 10 | 3 << 8 | 1 << 2 | 1,
            Self::Device => ipa & !(GIB - 1) | 1 << 54 | 1 << 53 | 1 << 10 | 1,
        }
    }
}

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

static TABLE: Table = Table([const { AtomicU64::new(0) }; 512]);

/// Opens the window on `ipa`, and returns the virtual address at which that is seen.
pub(crate) fn open(ipa: u64, kind: Kind) -> u64 {
    // Break, invalidate, make: the descriptor may have been cached.
    TABLE.0[0].store(0, Ordering::Relaxed);
    let base = use_table(&raw const TABLE as u64, BITS, Granule::KiB4);
    TABLE.0[0].store(kind.descriptor(ipa), Ordering::Relaxed);
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
    base + (ipa & (GIB - 1))
}

/// Has the upper half of the addresses translated by the table at `root`, which has room for what
/// `bits` bits of an address need with this granule, and drops what the TLBs hold. Returns the
/// half's first address.
pub(crate) fn use_table(root: u64, bits: u64, granule: Granule) -> u64 {
    TTBR1_EL1.set_baddr(root);
    TCR_EL1.modify(
        TCR_EL1::T1SZ.val(64 - bits)
            + TCR_EL1::EPD1::EnableTTBR1Walks
            + match granule {
                Granule::KiB4 => TCR_EL1::TG1::KiB_4,
                Granule::KiB16 => TCR_EL1::TG1::KiB_16,
                Granule::KiB64 => TCR_EL1::TG1::KiB_64,
            }
            + TCR_EL1::SH1::Inner
            + TCR_EL1::ORGN1::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL1::IRGN1::WriteBack_ReadAlloc_WriteAlloc_Cacheable,
    );
    barrier::dsb(barrier::ISHST);
    forget();
    u64::MAX << bits
}

/// Drops what the TLBs hold.
pub(crate) fn forget() {
    barrier::isb(barrier::SY);
    // SAFETY: dropping translations changes nothing for code that follows, since all tables are
    // whole.
    unsafe { core::arch::asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
    barrier::dsb(barrier::ISH);
    barrier::isb(barrier::SY);
}
