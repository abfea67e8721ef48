//! The system registers that a guest owns, as the contract lists them, and how they are saved and
//! loaded.
//!
//! They stay in the CPU while EL2 runs, which does not use them. They are saved when their vCPU's
//! thread leaves the CPU, and loaded when it comes to a CPU that does not hold them (any more).

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::contract::{Group, Machine, SWITCHED, Switched, is_switched};
use arch::id::Ids;
use platform::board::MAX_CPUS;

use crate::percpu;

/// Which registers each CPU switches: a bit for each place of [`SWITCHED`].
static PRESENT: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Fixes which registers this CPU, which has `ids`, switches from now on.
pub(super) fn init_cpu(ids: &Ids, machine: &Machine) {
    let bit = |place| u64::from(is_switched(place, ids, machine)) << place;
    let present = (0..SWITCHED.len()).map(bit).sum();
    PRESENT[percpu::this().index()].store(present, Ordering::Relaxed);
}

/// What this CPU switches.
fn present() -> u64 {
    PRESENT[percpu::this().index()].load(Ordering::Relaxed)
}

/// A vCPU's registers, in the order of [`SWITCHED`].
pub(super) struct Registers([u64; SWITCHED.len()]);

/// Does something for each register of a group that this CPU switches. Its place is a constant, so
/// that there are only the instructions that access it, and for those that not all CPUs have one
/// that looks whether it is there.
macro_rules! for_each {
    ($group:pat, |$place:ident| $do:expr) => {
        let present = present();
        for_each!(@ $group, present, $place, $do,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
            32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47
            48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63)
    };
    (@ $group:pat, $present:ident, $place:ident, $do:expr, $($number:literal)*) => {
        $({
            const $place: usize = if $number < SWITCHED.len() { $number } else { 0 };
            const REGISTER: Switched = SWITCHED[$place];
            if $number < SWITCHED.len()
                && const { matches!(REGISTER.group, $group) }
                && (REGISTER.is_everywhere() || $present & 1 << $place != 0)
            {
                $do
            }
        })*
    };
}

const _: () = assert!(SWITCHED.len() <= 64);

impl Registers {
    /// As they are when a vCPU starts.
    pub(super) const RESET: Self = {
        let mut values = [0; SWITCHED.len()];
        let mut place = 0;
        while place < values.len() {
            values[place] = SWITCHED[place].reset;
            place += 1;
        }
        Self(values)
    };

    /// Copies this CPU's registers here, timers included.
    pub(super) fn save(&mut self) {
        for_each!(Group::Plain | Group::Timer, |PLACE| self.0[PLACE] =
            read::<PLACE>());
    }

    /// Copies these values to this CPU's registers, but for the timers. They take effect when a
    /// guest is entered.
    pub(super) fn load(&self) {
        for_each!(Group::Plain, |PLACE| write::<PLACE>(self.0[PLACE]));
    }

    /// Copies the timers' values to this CPU's. One that is loaded interrupts also while EL2 runs.
    pub(super) fn load_timers(&self) {
        for_each!(Group::Timer, |PLACE| write::<PLACE>(self.0[PLACE]));
    }
}

/// Takes the timers' interrupts away from this CPU.
pub(super) fn disable_timers() {
    for_each!(Group::Timer, |PLACE| write::<PLACE>(0));
}

/// Reads the register at this place of [`SWITCHED`], which this CPU must have.
#[inline(always)]
fn read<const PLACE: usize>() -> u64 {
    let value;
    // SAFETY: Reading a register of the list changes nothing.
    unsafe {
        asm!(
            "mrs {value}, S{op0}_{op1}_C{crn}_C{crm}_{op2}",
            value = out(reg) value,
            op0 = const SWITCHED[PLACE].encoding.op0(),
            op1 = const SWITCHED[PLACE].encoding.op1(),
            crn = const SWITCHED[PLACE].encoding.crn(),
            crm = const SWITCHED[PLACE].encoding.crm(),
            op2 = const SWITCHED[PLACE].encoding.op2(),
            options(nomem, nostack, preserves_flags),
        );
    }
    value
}

/// Writes the register at this place of [`SWITCHED`], which this CPU must have.
#[inline(always)]
fn write<const PLACE: usize>(value: u64) {
    // SAFETY: The registers of the list are guests' own and have no effect at EL2 (E2H is clear),
    // so Rust's view of memory does not change.
    unsafe {
        asm!(
            "msr S{op0}_{op1}_C{crn}_C{crm}_{op2}, {value}",
            value = in(reg) value,
            op0 = const SWITCHED[PLACE].encoding.op0(),
            op1 = const SWITCHED[PLACE].encoding.op1(),
            crn = const SWITCHED[PLACE].encoding.crn(),
            crm = const SWITCHED[PLACE].encoding.crm(),
            op2 = const SWITCHED[PLACE].encoding.op2(),
            options(nomem, nostack, preserves_flags),
        );
    }
}
