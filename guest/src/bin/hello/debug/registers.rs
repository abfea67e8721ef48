//! The registers of self-hosted debugging.

use core::arch::asm;

use aarch64_cpu::asm::barrier;

/// Bits of `MDSCR_EL1`: software step, no channel for EL0, exceptions within EL1, breakpoints and
/// watchpoints.
pub(super) const SS: u64 = 1 << 0;
pub(super) const TDCC: u64 = 1 << 12;
pub(super) const KDE: u64 = 1 << 13;
pub(super) const MDE: u64 = 1 << 15;

/// Bits of `DBGBCR<n>_EL1` and `DBGWCR<n>_EL1`: enabled, for EL1, for EL0.
pub(super) const ENABLE: u64 = 1 << 0;
pub(super) const FOR_EL1: u64 = 1 << 1;
pub(super) const FOR_EL0: u64 = 1 << 2;
/// For both, while enabled.
pub(super) const ANYWHERE: u64 = ENABLE | FOR_EL1 | FOR_EL0;
/// Of a breakpoint: all bytes of the instruction; linked to a context; a context to be linked to.
pub(super) const INSTRUCTION: u64 = 0xf << 5;
pub(super) const LINKED: u64 = 0b0001 << 20;
pub(super) const CONTEXT: u64 = 0b0011 << 20;
/// Where the number of the breakpoint is that it is linked to.
pub(super) const LINK: u32 = 16;
/// Of a watchpoint: loads, stores; linked; where the bits of bytes are.
pub(super) const LOADS: u64 = 1 << 3;
pub(super) const STORES: u64 = 1 << 4;
pub(super) const WATCHPOINT_LINKED: u64 = 1 << 20;
pub(super) const BYTES: u32 = 5;

macro_rules! read {
    ($($register:tt)*) => {{
        let value: u64;
        // SAFETY: reading the register has no effect.
        unsafe {
            asm!(
                concat!("mrs {}, ", $($register)*),
                out(reg) value,
                options(nomem, nostack, preserves_flags),
            );
        }
        value
    }};
}

macro_rules! write {
    ($value:expr, $($register:tt)*) => {
        // SAFETY: Debug exceptions are masked in EL1, but where code is run to be debugged.
        unsafe {
            asm!(
                concat!("msr ", $($register)*, ", {}"),
                "isb",
                in(reg) $value,
                options(nostack, preserves_flags),
            );
        }
    };
}

/// Defines functions to read and write one of sixteen registers.
macro_rules! numbered {
    ($read:ident $write:ident $register:literal) => {
        numbered!($read $write $register: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    };
    ($read:ident $write:ident $register:literal: $($number:literal)*) => {
        pub(super) fn $read(number: usize) -> u64 {
            match number {
                $($number => read!($register, $number, "_el1"),)*
                _ => panic!("there is no register {number} of these"),
            }
        }

        pub(super) fn $write(number: usize, value: u64) {
            match number {
                $($number => write!(value, $register, $number, "_el1"),)*
                _ => panic!("there is no register {number} of these"),
            }
        }
    };
}

numbered!(breakpoint_value set_breakpoint_value "dbgbvr");
numbered!(breakpoint set_breakpoint "dbgbcr");
numbered!(watchpoint_value set_watchpoint_value "dbgwvr");
numbered!(watchpoint set_watchpoint "dbgwcr");

/// `MDSCR_EL1`.
pub(super) fn control() -> u64 {
    read!("mdscr_el1")
}

/// Sets `MDSCR_EL1`.
pub(super) fn set_control(value: u64) {
    write!(value, "mdscr_el1");
}

/// Whether the OS lock is locked.
pub(super) fn is_locked() -> bool {
    read!("oslsr_el1") & 0b10 != 0
}

/// Locks or unlocks the OS lock.
pub(super) fn lock(locked: bool) {
    write!(u64::from(locked), "oslar_el1");
}

/// Has `CONTEXTIDR_EL1` be this.
pub(super) fn set_context(value: u64) {
    write!(value, "contextidr_el1");
}

/// How many of each there are.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    pub(super) breakpoints: usize,
    /// The last of them that can compare contexts.
    pub(super) context_aware: usize,
    pub(super) watchpoints: usize,
}

impl Registers {
    /// What a vCPU starts with is locked; unlocks it, with everything off.
    pub(super) fn unlock() -> Self {
        assert!(is_locked(), "debug: the OS lock is not locked after reset");
        lock(false);
        assert!(!is_locked(), "debug: the OS lock does not open");
        let field = |lowest: u32| (read!("id_aa64dfr0_el1") >> lowest & 0xf) as usize + 1;
        let registers = Self {
            breakpoints: field(12),
            context_aware: field(28),
            watchpoints: field(20),
        };
        registers.clear();
        registers
    }

    /// Switches everything off.
    pub(super) fn clear(&self) {
        set_control(0);
        for n in 0..self.breakpoints {
            set_breakpoint(n, 0);
            set_breakpoint_value(n, 0);
        }
        for n in 0..self.watchpoints {
            set_watchpoint(n, 0);
            set_watchpoint_value(n, 0);
        }
        barrier::isb(barrier::SY);
    }
}
