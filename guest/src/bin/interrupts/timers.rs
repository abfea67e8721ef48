//! The two timers of EL1, whose interrupts are levels.

use core::arch::asm;

use aarch64_cpu::registers::{ID_AA64PFR0_EL1, Readable};
use guest::{psci, time};

use guest::gic::{Bits, Gic, NOTHING, interface};

/// `CNTx_CTL_EL0`: ENABLE; IMASK.
const ENABLE: u64 = 1;
const MASK: u64 = 1 << 1;
/// How long a timer is set for, as a part of a second.
const SHORT: u64 = 200;
/// How much later an interrupt may come, as a part of a second: the host may be busy.
const LATE: u64 = 1;
/// Ticks in a row.
const TICKS: u64 = 50;

/// One of the timers.
struct Timer {
    name: &'static str,
    intid: u32,
    /// Sets compare value and control, without an interrupt for what was set before.
    set: fn(u64, u64),
}

/// Tries both timers.
pub(crate) fn run(gic: Gic) {
    for timer in [
        Timer {
            name: "virtual timer",
            intid: 27,
            set: set_virtual,
        },
        Timer {
            name: "physical timer",
            intid: 30,
            set: set_physical,
        },
    ] {
        timer.is_a_level(gic);
        timer.masks(gic);
        timer.falls(gic);
        timer.ends_a_wait();
        timer.ticks();
        (timer.set)(0, 0);
        assert!(
            interface::acknowledge() == NOTHING,
            "{}: an interrupt is left over",
            timer.name
        );
    }
}

fn set_virtual(at: u64, control: u64) {
    // SAFETY: interrupts are masked: the timer can only raise its interrupt.
    unsafe {
        asm!(
            "msr cntv_ctl_el0, xzr",
            "msr cntv_cval_el0, {}",
            "msr cntv_ctl_el0, {}",
            "isb",
            in(reg) at,
            in(reg) control,
        );
    }
}

fn set_physical(at: u64, control: u64) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "msr cntp_ctl_el0, xzr",
            "msr cntp_cval_el0, {}",
            "msr cntp_ctl_el0, {}",
            "isb",
            in(reg) at,
            in(reg) control,
        );
    }
}

/// Has the timer with this interrupt, 27 or 30, fire after `delay` ticks. Returns what switches it
/// off.
pub(crate) fn fire_after(intid: u32, delay: u64) -> fn() {
    let at = time::now() + delay;
    if intid == 27 {
        set_virtual(at, ENABLE);
        || set_virtual(0, 0)
    } else {
        set_physical(at, ENABLE);
        || set_physical(0, 0)
    }
}

/// A way out of the guest, and its name.
type Exit = (&'static str, fn(Gic));

/// A hypercall.
fn call() {
    core::hint::black_box(psci::version().is_ok());
}

/// A trapped load of a register.
fn read_id_register() {
    core::hint::black_box(ID_AA64PFR0_EL1.get());
}

impl Timer {
    fn is_pending(&self, gic: Gic) -> bool {
        gic.private(Bits::SetPending) >> self.intid & 1 == 1
    }

    fn expect(&self, what: &str, found: u32, expected: u32) {
        assert!(
            found == expected,
            "{}: {what}: {found} instead of {expected}",
            self.name
        );
    }

    /// Waits, without a WFI, until the interrupt can be taken, and takes it.
    fn take(&self) {
        let deadline = time::now() + time::frequency() / LATE;
        loop {
            let found = interface::acknowledge();
            if found != NOTHING {
                return self.expect("taken", found, self.intid);
            }
            assert!(
                time::now() < deadline,
                "{}: its interrupt does not come",
                self.name
            );
        }
    }

    /// It is pending as long as the time is past, however often it is taken.
    fn is_a_level(&self, gic: Gic) {
        assert!(!self.is_pending(gic), "{} is pending too early", self.name);
        (self.set)(time::now() + time::frequency() / SHORT, ENABLE);
        for _ in 0..3 {
            self.take();
            assert!(self.is_pending(gic), "{} is not pending", self.name);
            let active = gic.private(Bits::SetActive);
            self.expect("active", active, 1 << self.intid);
            self.expect("taken once", interface::acknowledge(), NOTHING);
            interface::end(self.intid.into());
        }
        self.take();
        (self.set)(u64::MAX, ENABLE);
        assert!(!self.is_pending(gic), "{} is still pending", self.name);
        interface::end(self.intid.into());
        self.expect("set anew", interface::acknowledge(), NOTHING);
    }

    /// Disabled or masked at its source it is not taken.
    fn masks(&self, gic: Gic) {
        let past = time::now();
        (self.set)(past, ENABLE | MASK);
        assert!(
            !self.is_pending(gic),
            "{} is pending though masked",
            self.name
        );
        gic.write_private(Bits::ClearEnable, 1 << self.intid);
        gic.wait();
        (self.set)(past, ENABLE);
        assert!(self.is_pending(gic), "{} is not pending", self.name);
        self.expect("disabled", interface::acknowledge(), NOTHING);
        (self.set)(past, 0);
        assert!(!self.is_pending(gic), "{} is pending though off", self.name);
        (self.set)(past, ENABLE);
        gic.write_private(Bits::SetEnable, 1 << self.intid);
        self.take();
        (self.set)(past, 0);
        interface::end(self.intid.into());
    }

    /// Once it is pending its line falls again, in any way, and after any call or trap it is
    /// pending no longer.
    fn falls(&self, gic: Gic) {
        let (past, future) = (time::now(), u64::MAX);
        let away: [(&str, u64, u64); 3] = [
            ("switched off", past, 0),
            ("masked", past, ENABLE | MASK),
            ("set anew", future, ENABLE),
        ];
        let exits: [Exit; 4] = [
            ("HVC", |_| call()),
            ("MRS", |_| read_id_register()),
            ("load of GICD_CTLR", |gic| gic.wait()),
            ("SGI", |_| interface::send(0)),
        ];
        for (how, at, control) in away {
            for (exit, leave) in exits {
                (self.set)(past, ENABLE);
                let deadline = time::now() + time::frequency() / LATE;
                while interface::most_urgent() != self.intid {
                    assert!(
                        time::now() < deadline,
                        "{} does not become pending",
                        self.name
                    );
                }
                (self.set)(at, control);
                leave(gic);
                let found = interface::most_urgent();
                assert!(
                    found == NOTHING,
                    "{} is {how} and {found} still pending after {exit}",
                    self.name
                );
            }
        }
        // And it comes again.
        (self.set)(past, ENABLE);
        self.take();
        (self.set)(past, 0);
        interface::end(self.intid.into());
    }

    /// It ends a WFI, and not much later than it should.
    fn ends_a_wait(&self) {
        let at = time::now() + time::frequency() / SHORT;
        (self.set)(at, ENABLE);
        // A WFI may end for no reason.
        while time::now() < at {
            interface::wait();
        }
        let late = time::now() - at;
        assert!(
            late < time::frequency() / LATE,
            "{}: a WFI ended {late} ticks late",
            self.name
        );
        self.take();
        (self.set)(0, 0);
        interface::end(self.intid.into());
    }

    /// One interrupt for every time it is set.
    fn ticks(&self) {
        for _ in 0..TICKS {
            let at = time::now() + time::frequency() / 1000;
            (self.set)(at, ENABLE);
            self.take();
            assert!(time::now() >= at, "{} came too early", self.name);
            (self.set)(u64::MAX, ENABLE);
            interface::end(self.intid.into());
        }
    }
}
