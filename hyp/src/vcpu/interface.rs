//! The registers of the virtual CPU interface, through which the hardware gives a guest its
//! interrupts.
//!
//! Arm IHI 0069, 12.4. What a guest owns of it (priorities that are active, `ICH_VMCR_EL2`) is
//! switched with its other registers; the list registers hold something only while their vCPU is on
//! the CPU.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{
    ICH_HCR_EL2, ICH_LR0_EL2, ICH_LR1_EL2, ICH_LR2_EL2, ICH_LR3_EL2, ICH_LR4_EL2, ICH_LR5_EL2,
    ICH_LR6_EL2, ICH_LR7_EL2, ICH_LR8_EL2, ICH_LR9_EL2, ICH_LR10_EL2, ICH_LR11_EL2, ICH_LR12_EL2,
    ICH_LR13_EL2, ICH_LR14_EL2, ICH_LR15_EL2, ICH_VMCR_EL2, ICH_VTR_EL2, Readable, Writeable,
};
use vgic::common::Interface;
use vgic::{Listing, MAX_LIST_REGISTERS};

/// `ICH_VMCR_EL2.VEOIM`: the guest ends interrupts by their numbers.
const EOI_MODE: u64 = 1 << 9;
/// `ICH_VTR_EL2.TDS`: `ICH_HCR_EL2.TDIR` traps.
const TRAPS_DIR: u64 = 1 << 19;
/// `ICH_HCR_EL2.TC`: accesses to registers that are common to both groups are trapped,
/// `ICC_DIR_EL1` among them.
const TRAP_COMMON: u64 = 1 << 10;

/// Guests' writes to `ICC_DIR_EL1` are trapped as on CPUs without `ICH_HCR_EL2.TDIR`.
static WITHOUT_TDIR: AtomicBool = AtomicBool::new(false);

/// Traps guests' writes to `ICC_DIR_EL1` as on CPUs without `ICH_HCR_EL2.TDIR` from now on.
pub(crate) fn forgo_tdir() {
    WITHOUT_TDIR.store(true, Ordering::Relaxed);
}

/// Defines a structure of 64-bit registers with a save and a load function.
macro_rules! system_registers {
    ($(#[$meta:meta])* $structure:ident { $($field:ident: $register:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        struct $structure {
            $($field: u64,)*
        }

        impl $structure {
            /// All zero.
            const ZERO: Self = Self { $($field: 0,)* };

            /// Copies this CPU's registers here.
            fn save(&mut self) {
                $(
                    // SAFETY: Reading a register changes nothing.
                    unsafe {
                        core::arch::asm!(
                            concat!("mrs {}, ", $register),
                            out(reg) self.$field,
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                )*
            }

            /// Copies these values to this CPU's registers.
            ///
            /// They take effect when a guest is entered.
            fn load(&self) {
                $(
                    // SAFETY: The registers have no effect at EL2 (E2H is clear), so Rust's view of
                    // memory does not change.
                    unsafe {
                        core::arch::asm!(
                            concat!("msr ", $register, ", {}"),
                            in(reg) self.$field,
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                )*
            }
        }
    };
}

system_registers! {
    /// What every virtual CPU interface has.
    Basic {
        vmcr: "s3_4_c12_c11_7",
        active0_0: "s3_4_c12_c8_0",
        active1_0: "s3_4_c12_c9_0",
    }
}

system_registers! {
    /// What there is as well with six bits of pre-emption priority.
    Interface6 {
        active0_1: "s3_4_c12_c8_1",
        active1_1: "s3_4_c12_c9_1",
    }
}

system_registers! {
    /// What there is as well with seven bits of pre-emption priority.
    Interface7 {
        active0_2: "s3_4_c12_c8_2",
        active1_2: "s3_4_c12_c9_2",
        active0_3: "s3_4_c12_c8_3",
        active1_3: "s3_4_c12_c9_3",
    }
}

/// All that a guest owns of the interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct InterfaceState {
    basic: Basic,
    six: Interface6,
    seven: Interface7,
}

impl InterfaceState {
    /// After reset: no group enabled, every priority masked.
    pub(super) const RESET: Self = Self {
        basic: Basic::ZERO,
        six: Interface6::ZERO,
        seven: Interface7::ZERO,
    };

    /// Copies this CPU's registers here.
    pub(super) fn save(&mut self) {
        self.basic.save();
        let bits = preemption_bits();
        if bits >= 6 {
            self.six.save();
        }
        if bits >= 7 {
            self.seven.save();
        }
    }

    /// Copies these values to this CPU's registers. [`enable`] has to follow: what another guest
    /// ended here does not count.
    pub(super) fn load(&self) {
        self.basic.load();
        let bits = preemption_bits();
        if bits >= 6 {
            self.six.load();
        }
        if bits >= 7 {
            self.seven.load();
        }
    }
}

/// The groups that the guest lets through (bit 0 for Group 0, bit 1 for Group 1), and its priority
/// mask, from `ICH_VMCR_EL2`. Only while its registers are loaded.
pub(super) fn filter() -> (u32, u8) {
    let vmcr = ICH_VMCR_EL2.get();
    (vmcr as u32 & 0b11, (vmcr >> 24) as u8)
}

/// How many list registers the CPU has.
pub(super) fn list_registers() -> usize {
    (ICH_VTR_EL2.read(ICH_VTR_EL2::ListRegs) as usize + 1).min(MAX_LIST_REGISTERS)
}

/// How many bits of a priority decide about pre-emption.
fn preemption_bits() -> u64 {
    ICH_VTR_EL2.read(ICH_VTR_EL2::PREbits) + 1
}

/// Makes the interface work, with maintenance interrupts as the listing wants them, and nobody
/// having ended an interrupt that is not listed. Only while the guest's registers are loaded.
///
/// The guest's writes to `ICC_DIR_EL1` are trapped: what they end may be another vCPU's, or not
/// listed. In EOImode 0 they have no effect, so who makes none pays nothing. On CPUs that can trap
/// them only together with others that guests do make (`ICC_PMR_EL1`), that is done where they may
/// have an effect: `mode_known` says whether the guest has chosen how it ends interrupts, else it
/// may do so any time.
pub(super) fn enable(listing: &Listing, mode_known: bool) {
    let mut value = ICH_HCR_EL2::En::SET;
    if listing.more_pending {
        value += ICH_HCR_EL2::NPIE::SET;
        // If one group is let through no longer the other gets its places. QEMU (7.2 to 10 at
        // least) looks at Group 1 for both bits: it does not tell of Group 0, and with Group 1 not
        // let through it would tell all the time.
        if filter().0 == 0b11 {
            value += ICH_HCR_EL2::VGrp0DIE::SET + ICH_HCR_EL2::VGrp1DIE::SET;
        }
    }
    if listing.held_back & 1 != 0 {
        value += ICH_HCR_EL2::VGrp0EIE::SET;
    }
    if listing.held_back & 2 != 0 {
        value += ICH_HCR_EL2::VGrp1EIE::SET;
    }
    if listing.more_active {
        value += ICH_HCR_EL2::LRENPIE::SET;
    }
    let mut traps = 0;
    if has_tdir() {
        value += ICH_HCR_EL2::TDIR::SET;
    } else if listing.more_active || !mode_known || ends_by_number() {
        traps = TRAP_COMMON;
    }
    ICH_HCR_EL2.set(value.value | traps);
}

/// Silences the maintenance interrupt, and the guest's, until [`enable`] is called.
pub(super) fn silence() {
    // How many interrupts were ended is still to be read.
    let ended = ICH_HCR_EL2.read(ICH_HCR_EL2::EOIcount);
    ICH_HCR_EL2.write(ICH_HCR_EL2::EOIcount.val(ended));
}

/// Empties this CPU's list registers and makes its interface work.
pub(super) fn init_cpu() {
    write(&[0; MAX_LIST_REGISTERS][..list_registers()]);
    enable(&Listing::EMPTY, false);
}

/// How often the guest has ended an interrupt that is not listed, modulo 32; `None` if it ends them
/// by their numbers, which is trapped. Only while its registers are loaded.
pub(super) fn ended_unlisted() -> Option<u32> {
    // In EOImode 1 only `ICC_DIR_EL1` ends interrupts; but there are CPUs (QEMU's) that count
    // writes to `ICC_EOIR1_EL1` all the same.
    (!ends_by_number()).then(|| ICH_HCR_EL2.read(ICH_HCR_EL2::EOIcount) as u32)
}

/// Whether the guest ends interrupts by their numbers (EOImode 1). Only while its registers are
/// loaded.
pub(super) fn ends_by_number() -> bool {
    ICH_VMCR_EL2.get() & EOI_MODE != 0
}

/// Whether writes to `ICC_DIR_EL1` can be trapped without others.
fn has_tdir() -> bool {
    ICH_VTR_EL2.get() & TRAPS_DIR != 0 && !WITHOUT_TDIR.load(Ordering::Relaxed)
}

/// What the guest has set of its interface. Only while its registers are loaded.
pub(crate) fn common() -> Interface {
    Interface {
        vmcr: ICH_VMCR_EL2.get(),
        vtr: ICH_VTR_EL2.get(),
    }
}

/// Has the guest have set this, as [`Interface`] says. Only while its registers are loaded.
pub(crate) fn set_common(vmcr: u64) {
    ICH_VMCR_EL2.set(vmcr);
}

/// The priorities at which an interrupt of the guest is active, a bit for each. Only while its
/// registers are loaded.
pub(crate) fn active_priorities() -> [u32; 4] {
    let mut state = InterfaceState::RESET;
    state.save();
    let (basic, six, seven) = (&state.basic, &state.six, &state.seven);
    [
        basic.active0_0 | basic.active1_0,
        six.active0_1 | six.active1_1,
        seven.active0_2 | seven.active1_2,
        seven.active0_3 | seven.active1_3,
    ]
    .map(|bits| bits as u32)
}

/// Which list registers hold no interrupt any more, a bit for each: `ICH_ELRSR_EL2`.
pub(super) fn empty() -> u32 {
    let empty: u64;
    // SAFETY: Reading the register changes nothing.
    unsafe {
        asm!("mrs {}, s3_4_c12_c11_5", out(reg) empty, options(nomem, nostack, preserves_flags))
    };
    empty as u32
}

/// Reads the first list registers.
pub(super) fn read(values: &mut [u64]) {
    for (index, value) in values.iter_mut().enumerate() {
        *value = read_one(index);
    }
}

/// Writes the first list registers.
pub(super) fn write(values: &[u64]) {
    for (index, &value) in values.iter().enumerate() {
        write_one(index, value);
    }
}

/// Defines a function for list register `index`: nothing is done for one that cannot be there.
macro_rules! each_register {
    ($index:ident, $register:ident => $do:expr, $otherwise:expr) => {
        each_register!($index, $register => $do, $otherwise,
            0 ICH_LR0_EL2, 1 ICH_LR1_EL2, 2 ICH_LR2_EL2, 3 ICH_LR3_EL2, 4 ICH_LR4_EL2,
            5 ICH_LR5_EL2, 6 ICH_LR6_EL2, 7 ICH_LR7_EL2, 8 ICH_LR8_EL2, 9 ICH_LR9_EL2,
            10 ICH_LR10_EL2, 11 ICH_LR11_EL2, 12 ICH_LR12_EL2, 13 ICH_LR13_EL2,
            14 ICH_LR14_EL2, 15 ICH_LR15_EL2)
    };
    (
        $index:ident, $register:ident => $do:expr, $otherwise:expr,
        $($number:literal $name:ident),*
    ) => {
        match $index {
            $($number => { let $register = $name; $do })*
            _ => $otherwise,
        }
    };
}

/// The value of list register `index`.
pub(super) fn read_one(index: usize) -> u64 {
    each_register!(index, register => register.get(), 0)
}

fn write_one(index: usize, value: u64) {
    each_register!(index, register => register.set(value), {});
}
