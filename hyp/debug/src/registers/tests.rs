//! Debug registers: what a guest reads back, and what the hardware gets.

use super::*;

const SHOWN: Counts = Counts {
    breakpoints: 4,
    context_aware: 1,
    watchpoints: 2,
};
/// A CPU that has more than is shown.
const LARGER: Counts = Counts {
    breakpoints: 6,
    context_aware: 2,
    watchpoints: 4,
};

fn value(n: u32) -> Encoding {
    Encoding::new(2, 0, 0, n, 4)
}
fn control(n: u32) -> Encoding {
    Encoding::new(2, 0, 0, n, 5)
}
fn watched(n: u32) -> Encoding {
    Encoding::new(2, 0, 0, n, 6)
}
fn watching(n: u32) -> Encoding {
    Encoding::new(2, 0, 0, n, 7)
}

/// Registers of a guest, which come from EL1.
struct Guest(DebugRegisters);

impl Guest {
    fn unlocked() -> Self {
        let mut guest = Self(DebugRegisters::RESET);
        guest.write(register::OSLAR_EL1, 0);
        guest
    }

    fn read(&self, register: Encoding) -> u64 {
        self.0.read(register, false, SHOWN).unwrap()
    }

    fn write(&mut self, register: Encoding, value: u64) -> Change {
        self.0.write(register, value, false, SHOWN).unwrap()
    }

    /// What a CPU has that has more breakpoints than are shown, and its number there.
    fn breakpoint(&self, n: usize) -> (usize, u64) {
        let (place, pair) = self.0.breakpoint(n, SHOWN, LARGER);
        (place, pair.control)
    }

    fn watchpoint(&self, n: usize) -> u64 {
        self.0.watchpoint(n, SHOWN, LARGER).1.control
    }
}

#[test]
fn counts_are_those_of_the_id_register() {
    assert_eq!(Counts::decode(0x1030_5106), LARGER);
}

#[test]
fn a_vcpu_starts_locked_and_quiet() {
    let mut guest = Guest(DebugRegisters::RESET);
    assert_eq!(guest.read(register::OSLSR_EL1), 0b1010);
    assert_eq!(guest.write(register::MDSCR_EL1, u64::MAX), Change::Control);
    assert_eq!(guest.read(register::MDSCR_EL1), 0xb001);
    assert!(!guest.0.is_active() && guest.0.control() == 0);
}

#[test]
fn the_lock_keeps_everything_from_the_hardware() {
    let mut guest = Guest::unlocked();
    let wanted = mdscr::MDE | mdscr::KDE | mdscr::SS;
    assert_eq!(guest.write(register::MDSCR_EL1, wanted), Change::Everything);
    assert_eq!(guest.0.control(), wanted);
    assert_eq!(guest.write(register::OSLAR_EL1, 1), Change::Everything);
    assert_eq!(guest.read(register::OSLSR_EL1), 0b1010);
    assert_eq!((guest.0.control(), guest.0.uses_pairs()), (0, false));
    assert_eq!(guest.read(register::MDSCR_EL1), wanted);
    assert_eq!(guest.write(register::OSLAR_EL1, 0), Change::Everything);
    assert_eq!(guest.0.control(), wanted);
}

#[test]
fn the_hardware_gets_what_has_an_effect_and_no_more() {
    let mut guest = Guest::unlocked();
    assert_eq!(guest.write(control(3), 1), Change::Nothing);
    assert_eq!(
        guest.write(register::MDSCR_EL1, mdscr::TDCC | mdscr::KDE),
        Change::Control
    );
    assert_eq!(guest.0.control(), 0, "neither steps nor hits");
    guest.write(register::MDSCR_EL1, mdscr::SS | mdscr::TDCC);
    assert_eq!(guest.0.control(), mdscr::SS | mdscr::TDCC);
    assert_eq!(guest.write(watching(1), 1), Change::Nothing);
    let change = guest.write(register::MDSCR_EL1, mdscr::MDE);
    assert_eq!(
        change,
        Change::Everything,
        "what was written before counts now"
    );
    assert_eq!(guest.write(value(3), 8), Change::Breakpoint(3));
    assert_eq!(guest.write(watched(1), 8), Change::Watchpoint(1));
    let change = guest.write(register::MDSCR_EL1, mdscr::MDE | mdscr::SS);
    assert_eq!(change, Change::Control, "a step more or less");
    assert_eq!(
        guest.write(register::MDSCR_EL1, 0),
        Change::Everything,
        "off"
    );
    assert_eq!(guest.write(control(3), 0), Change::Nothing);
}

#[test]
fn registers_keep_the_bits_that_they_have() {
    let mut guest = Guest::unlocked();
    for n in 0..4 {
        guest.write(value(n), u64::MAX - u64::from(n));
        guest.write(control(n), u64::MAX);
        assert_eq!(guest.read(value(n)), u64::MAX - u64::from(n));
        assert_eq!(guest.read(control(n)), 0xff_e1e7);
    }
    for n in 0..2 {
        guest.write(watched(n), u64::MAX - u64::from(n));
        guest.write(watching(n), u64::MAX);
        assert_eq!(guest.read(watched(n)), u64::MAX - u64::from(n));
        assert_eq!(guest.read(watching(n)), 0x1f1f_ffff);
    }
    guest.write(register::MDCCINT_EL1, u64::MAX);
    assert_eq!(guest.read(register::MDCCINT_EL1), 3 << 29);
    guest.write(register::DBGCLAIMSET_EL1, 0x1f5);
    guest.write(register::DBGCLAIMCLR_EL1, 0x11);
    assert_eq!(guest.read(register::DBGCLAIMCLR_EL1), 0xe4);
    assert_eq!(guest.read(register::DBGCLAIMSET_EL1), 0xff);
}

#[test]
fn what_is_not_there_is_undefined() {
    let mut registers = DebugRegisters::RESET;
    let read_only = [register::OSLSR_EL1, register::MDRAR_EL1];
    // Breakpoints and watchpoints that only the CPU has, and registers of later extensions:
    // MDSELR_EL1, MDSTEPOP_EL1, TRCTRACEIDR.
    let unknown = [
        value(4),
        control(15),
        watched(2),
        watching(3),
        Encoding::new(2, 0, 0, 4, 2),
        Encoding::new(2, 0, 0, 5, 2),
        Encoding::new(2, 1, 0, 0, 1),
    ];
    for register in read_only.into_iter().chain(unknown) {
        let answer = registers.write(register, 1, false, SHOWN);
        assert_eq!(answer, Err(Refusal::Undefined), "{register}");
    }
    for register in unknown.into_iter().chain([register::OSLAR_EL1]) {
        let answer = registers.read(register, false, SHOWN);
        assert_eq!(answer, Err(Refusal::Undefined), "{register}");
    }
}

#[test]
fn nothing_ever_comes_from_a_debugger() {
    let mut guest = Guest::unlocked();
    for register in [
        register::OSDTRRX_EL1,
        register::OSDTRTX_EL1,
        register::OSECCR_EL1,
        register::OSDLR_EL1,
        register::DBGPRCR_EL1,
        register::DBGDTR_EL0,
        register::DBGDTRRX_EL0,
    ] {
        assert_eq!(guest.write(register, u64::MAX), Change::Nothing);
        assert_eq!(guest.read(register), 0, "{register}");
    }
    assert_eq!(guest.read(register::MDCCSR_EL0), 0);
    assert!(!guest.0.is_active());
}

#[test]
fn el1_may_trap_the_channel_from_el0() {
    let mut guest = Guest::unlocked();
    let channel = [register::MDCCSR_EL0, register::DBGDTR_EL0];
    let read = |guest: &Guest, register| guest.0.read(register, true, SHOWN);
    for register in channel {
        assert_eq!(read(&guest, register), Ok(0));
    }
    guest.write(register::MDSCR_EL1, mdscr::TDCC);
    for register in channel {
        assert_eq!(read(&guest, register), Err(Refusal::TrappedByEl1));
        assert_eq!(guest.read(register), 0, "from EL1");
        let write = guest.0.write(register, 0, true, SHOWN);
        assert_eq!(write, Err(Refusal::TrappedByEl1));
    }
}

#[test]
fn breakpoints_are_the_last_ones_that_the_cpu_has() {
    let mut guest = Guest::unlocked();
    guest.write(value(3), 0x1234);
    guest.write(control(3), 0x1e5 | 0b0011 << 20);
    let (place, pair) = guest.0.breakpoint(3, SHOWN, LARGER);
    assert_eq!((place, pair.value), (5, 0x1234), "context-aware on either");
    assert_eq!(guest.breakpoint(0).0, 2);
    assert_eq!(guest.0.breakpoint(3, SHOWN, SHOWN).0, 3);
    assert_eq!(guest.0.watchpoint(1, SHOWN, LARGER).0, 1);
}

#[test]
fn a_link_leads_to_the_same_breakpoint() {
    let mut guest = Guest::unlocked();
    let linked = |to: u64| 0x1e5 | to << 16 | 1 << 20;
    guest.write(control(0), linked(3));
    guest.write(watching(0), linked(3));
    assert_eq!(guest.breakpoint(0), (2, linked(5)));
    assert_eq!(guest.watchpoint(0), linked(5));
    // Only the CPU has such a breakpoint.
    guest.write(control(0), linked(4));
    guest.write(watching(0), linked(4));
    assert_eq!(guest.breakpoint(0), (2, linked(4) & !1));
    assert_eq!(guest.watchpoint(0), linked(4) & !1);
    // No link: whatever is there instead of a number.
    let unlinked = linked(9) & !(1 << 20);
    guest.write(control(0), unlinked);
    guest.write(watching(0), unlinked);
    assert_eq!(guest.breakpoint(0), (2, unlinked));
    assert_eq!(guest.watchpoint(0), unlinked);
}

#[test]
fn nothing_is_compared_with_what_belongs_to_el2() {
    let mut guest = Guest::unlocked();
    for of_el2 in 8..16 {
        let wanted = 0x1e5 | of_el2 << 20;
        guest.write(control(3), wanted);
        assert_eq!(guest.read(control(3)), wanted);
        assert_eq!(guest.breakpoint(3).1 & 1, 0);
    }
}
