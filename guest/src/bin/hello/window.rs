//! A window of 1 GiB at the upper end of the virtual address space through which any IPA can be
//! reached, with any memory type: the identity map of stage 1 knows RAM and the low devices only.

use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::{
    asm::barrier,
    registers::{ReadWriteable, TCR_EL1, TTBR1_EL1},
};

const GIB: u64 = 1 << 30;
/// Virtual address of the window: the first that TTBR1_EL1 translates with T1SZ = 25.
const BASE: u64 = 0xffff_ff80_0000_0000;

/// What the window's only descriptor says of its memory.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A 1 GiB block of normal memory, all rights.
    Normal,
    /// A 1 GiB block of device-nGnRE memory, not executable.
    Device,
    /// A level-2 table at the address, so that the access makes the hardware walk there.
    Table,
}

impl Kind {
    /// VMSAv8-64 level-1 descriptor (Arm ARM D8.3) with this output address; attributes as `boot` uses.
    const fn descriptor(self, ipa: u64) -> u64 {
        match self {
            Self::Normal => ipa & !(GIB - 1) | 1 << 10 | 3 << 8 | 1 << 2 | 1,
            Self::Device => ipa & !(GIB - 1) | 1 << 54 | 1 << 53 | 1 << 10 | 1,
            Self::Table => ipa & !0xfff | 3,
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
    use_table();
    TABLE.0[0].store(kind.descriptor(ipa), Ordering::Relaxed);
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
    BASE + (ipa & (GIB - 1))
}

/// Points TTBR1_EL1 at the table, and drops what the TLBs hold.
fn use_table() {
    TTBR1_EL1.set_baddr(&raw const TABLE as u64);
    TCR_EL1.modify(
        TCR_EL1::T1SZ.val(25)
            + TCR_EL1::EPD1::EnableTTBR1Walks
            + TCR_EL1::TG1::KiB_4
            + TCR_EL1::SH1::Inner
            + TCR_EL1::ORGN1::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL1::IRGN1::WriteBack_ReadAlloc_WriteAlloc_Cacheable,
    );
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
    // SAFETY: dropping translations changes nothing for code that follows, since all tables are whole.
    unsafe { core::arch::asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
    barrier::dsb(barrier::ISH);
    barrier::isb(barrier::SY);
}
