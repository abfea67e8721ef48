//! The lower 4 GiB of addresses, half of them for EL0: the guest's own GiBs as ever, RAM once more
//! with EL0's rights, and a GiB that leads where a test wants it.

use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::{
    asm::barrier,
    registers::{Readable, TTBR0_EL1, Writeable},
};

use crate::window;

/// How far above the guest's own address EL0 finds a byte of RAM.
pub(crate) const USER: u64 = 0x4000_0000;
/// The first address of the GiB that leads anywhere.
pub(crate) const ANYWHERE: u64 = 0xc000_0000;

/// A level-1 block (Arm ARM, "Translation table descriptor formats"): inner shareable, accessed.
/// Attributes as `boot` uses.
const BLOCK: u64 = 1 << 10 | 3 << 8 | 1;
const NORMAL: u64 = BLOCK | 1 << 2;
const EXECUTE_NEVER: u64 = 1 << 54 | 1 << 53;
/// AP\[1\]: EL0 may load and store, and EL1 not execute.
const EL0: u64 = 1 << 6;
const TABLE: u64 = 3;
const RAM: u64 = 0x4000_0000;

/// Where the last GiB leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Nowhere, says the guest itself.
    Invalid,
    /// To a GiB of IPAs.
    Block(u64),
    /// To a level-2 table there.
    Table2(u64),
    /// To a level-3 table there.
    Table3(u64),
}

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

static ROOT: Table = Table([const { AtomicU64::new(0) }; 512]);
static LEVEL_2: Table = Table([const { AtomicU64::new(0) }; 512]);

/// Runs `body` with these tables, in which nothing but [`Target`] changes.
pub(crate) fn with_tables(body: impl FnOnce()) {
    let gibs = [BLOCK | EXECUTE_NEVER, NORMAL | RAM, NORMAL | RAM | EL0];
    for (entry, gib) in ROOT.0.iter().zip(gibs) {
        entry.store(gib, Ordering::Relaxed);
    }
    let kept = TTBR0_EL1.get();
    barrier::dsb(barrier::ISHST);
    // The GiBs that the guest uses itself are as they were.
    TTBR0_EL1.set(&raw const ROOT as u64);
    window::forget();
    body();
    TTBR0_EL1.set(kept);
    window::forget();
}

/// Has the last GiB lead to `target`, for EL0 or for EL1 only.
pub(crate) fn lead(target: Target, for_el0: bool) {
    let rights = if for_el0 { EL0 } else { 0 };
    let descriptor = match target {
        Target::Invalid => 0,
        Target::Block(ipa) => NORMAL | rights | ipa,
        Target::Table2(ipa) => TABLE | ipa,
        Target::Table3(ipa) => {
            LEVEL_2.0[0].store(TABLE | ipa, Ordering::Relaxed);
            TABLE | &raw const LEVEL_2 as u64
        }
    };
    // Break, invalidate, make.
    ROOT.0[3].store(0, Ordering::Relaxed);
    barrier::dsb(barrier::ISHST);
    window::forget();
    ROOT.0[3].store(descriptor, Ordering::Relaxed);
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
}
