//! The self-hosted debug registers that a vCPU has: breakpoints, watchpoints, software step, the OS
//! lock.
//!
//! A guest's accesses to them are always trapped (`MDCR_EL2.TDA`, `TDOSA` and `TDRA`), and answered
//! from here. The hardware gets what has an effect, and only while that vCPU is on the CPU:
//! [`DebugRegisters::control`] for `MDSCR_EL1`, which is zero for a vCPU that uses none of it, and
//! the breakpoints and watchpoints once [`DebugRegisters::uses_pairs`]. Nothing is ever read back,
//! so there is nothing to save.
//!
//! Why traps are never lifted: `TDA` is one switch for all of them. Without it a guest reaches the
//! channel to an external debugger, the claim tags, and the breakpoints that it is not shown, which
//! other guests reach as well, and it can compare with VMIDs. Linux pays four traps for a step of a
//! program, of which each costs what any trapped register does, and some for each switch to or from
//! a process that has a breakpoint.
//!
//! EL2 itself is neither stepped nor hit: debug exceptions go to EL1 (`MDCR_EL2.TDE` and
//! `HCR_EL2.TGE` are clear), and none is generated from a level above that (Arm ARM, pseudocode
//! `AArch64.GenerateDebugExceptionsFrom`).
//!
//! There is no external debugger to a guest: what belongs to one reads as zero and ignores writes,
//! and its channel (`DBGDTR_EL0`) is always empty. Arm ARM, "AArch64 Self-hosted Debug", and each
//! register's page.

use arch::Encoding;

/// How many breakpoints, and watchpoints, the architecture has room for.
pub const MAX_PAIRS: usize = 16;

/// Bits of `MDSCR_EL1`, as far as a guest has them: the others are an external debugger's.
mod mdscr {
    /// Software step is on.
    pub(super) const SS: u64 = 1 << 0;
    /// EL0 may not access the channel to a debugger.
    pub(super) const TDCC: u64 = 1 << 12;
    /// Debug exceptions are enabled within EL1.
    pub(super) const KDE: u64 = 1 << 13;
    /// Breakpoints and watchpoints are on.
    pub(super) const MDE: u64 = 1 << 15;
    /// All of these.
    pub(super) const ALL: u64 = SS | TDCC | KDE | MDE;
}

/// Bits of `DBGBCR<n>_EL1` and `DBGWCR<n>_EL1`, which share their places.
mod control {
    /// E: it is enabled.
    pub(super) const ENABLE: u64 = 1 << 0;
    /// LBN: the breakpoint that it is linked to.
    pub(super) const LINKED: u32 = 16;
    /// Of a breakpoint: BT\[0\], it is linked. Of a watchpoint: WT.
    pub(super) const IS_LINKED: u64 = 1 << 20;
    /// Of a breakpoint: BT\[1\], it compares a context, not an address.
    pub(super) const CONTEXT: u64 = 1 << 21;
    /// Of a breakpoint: BT\[3\], it compares with what belongs to EL2, which guests do not have.
    pub(super) const OF_EL2: u64 = 1 << 23;
    /// What a breakpoint has: BT, LBN, SSC, HMC, BAS, PMC, E.
    pub(super) const BREAKPOINT: u64 = 0x00ff_e1e7;
    /// What a watchpoint has: MASK, WT, LBN, SSC, HMC, BAS, LSC, PAC, E.
    pub(super) const WATCHPOINT: u64 = 0x1f1f_ffff;
}

/// `OSLSR_EL1.OSLM`: there is an OS lock.
const LOCK_IMPLEMENTED: u64 = 1 << 3;
/// `OSLSR_EL1.OSLK`: it is locked.
const LOCK_LOCKED: u32 = 1;
/// `MDCCINT_EL1`: RX and TX.
const CHANNEL_INTERRUPTS: u64 = 0b11 << 29;
/// The claim tags there are.
const CLAIM_TAGS: u64 = 0xff;
/// `DBGAUTHSTATUS_EL1`, NSNID and NSID: external debugging is implemented and disabled.
const NO_EXTERNAL_DEBUG: u64 = 0b1010;

/// The registers by their encodings, of which each name is the Arm ARM's.
mod register {
    use super::Encoding;

    pub(super) const OSDTRRX_EL1: Encoding = Encoding::new(2, 0, 0, 0, 2);
    pub(super) const MDCCINT_EL1: Encoding = Encoding::new(2, 0, 0, 2, 0);
    pub(super) const MDSCR_EL1: Encoding = Encoding::new(2, 0, 0, 2, 2);
    pub(super) const OSDTRTX_EL1: Encoding = Encoding::new(2, 0, 0, 3, 2);
    pub(super) const OSECCR_EL1: Encoding = Encoding::new(2, 0, 0, 6, 2);
    pub(super) const MDRAR_EL1: Encoding = Encoding::new(2, 0, 1, 0, 0);
    pub(super) const OSLAR_EL1: Encoding = Encoding::new(2, 0, 1, 0, 4);
    pub(super) const OSLSR_EL1: Encoding = Encoding::new(2, 0, 1, 1, 4);
    pub(super) const OSDLR_EL1: Encoding = Encoding::new(2, 0, 1, 3, 4);
    pub(super) const DBGPRCR_EL1: Encoding = Encoding::new(2, 0, 1, 4, 4);
    pub(super) const DBGCLAIMSET_EL1: Encoding = Encoding::new(2, 0, 7, 8, 6);
    pub(super) const DBGCLAIMCLR_EL1: Encoding = Encoding::new(2, 0, 7, 9, 6);
    pub(super) const DBGAUTHSTATUS_EL1: Encoding = Encoding::new(2, 0, 7, 14, 6);
    pub(super) const MDCCSR_EL0: Encoding = Encoding::new(2, 3, 0, 1, 0);
    pub(super) const DBGDTR_EL0: Encoding = Encoding::new(2, 3, 0, 4, 0);
    /// `DBGDTRRX_EL0` and `DBGDTRTX_EL0`.
    pub(super) const DBGDTRRX_EL0: Encoding = Encoding::new(2, 3, 0, 5, 0);
}

/// How many breakpoints and watchpoints there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Breakpoints.
    pub breakpoints: u8,
    /// Those of them that can compare contexts: the last ones.
    pub context_aware: u8,
    /// Watchpoints.
    pub watchpoints: u8,
}

impl Counts {
    /// What `ID_AA64DFR0_EL1` says: BRPs 15:12, WRPs 23:20, CTX_CMPs 31:28, each one less.
    pub const fn decode(dfr0: u64) -> Self {
        Self {
            breakpoints: (dfr0 >> 12 & 0xf) as u8 + 1,
            context_aware: (dfr0 >> 28 & 0xf) as u8 + 1,
            watchpoints: (dfr0 >> 20 & 0xf) as u8 + 1,
        }
    }
}

/// `DBGBVR<n>_EL1` and `DBGBCR<n>_EL1`, or `DBGWVR<n>_EL1` and `DBGWCR<n>_EL1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// What is compared with.
    pub value: u64,
    /// What is compared, and when.
    pub control: u64,
}

impl Pair {
    const ZERO: Self = Self {
        value: 0,
        control: 0,
    };
}

/// Why an access is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such register.
    Undefined,
    /// The guest's EL1 traps what its EL0 does.
    TrappedByEl1,
}

/// What of the hardware has to follow a write, if the vCPU is on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// `MDSCR_EL1`.
    Control,
    /// That and all breakpoints and watchpoints, which are on now, or off.
    Everything,
    /// This breakpoint.
    Breakpoint(usize),
    /// This watchpoint.
    Watchpoint(usize),
}

/// A vCPU's debug registers, as its guest sees them.
#[derive(Clone, Debug)]
pub struct DebugRegisters {
    mdscr: u64,
    mdccint: u64,
    claimed: u64,
    is_locked: bool,
    breakpoints: [Pair; MAX_PAIRS],
    watchpoints: [Pair; MAX_PAIRS],
}

impl DebugRegisters {
    /// After reset: locked, and everything off.
    pub const RESET: Self = Self {
        mdscr: 0,
        mdccint: 0,
        claimed: 0,
        is_locked: true,
        breakpoints: [Pair::ZERO; MAX_PAIRS],
        watchpoints: [Pair::ZERO; MAX_PAIRS],
    };

    /// The register with this encoding, accessed from EL0 or EL1, on a machine that shows guests
    /// this many breakpoints and watchpoints.
    ///
    /// # Errors
    ///
    /// What becomes of the access instead.
    pub fn read(&self, register: Encoding, is_el0: bool, shown: Counts) -> Result<u64, Refusal> {
        self.check_channel(register, is_el0)?;
        Ok(match register {
            register::MDSCR_EL1 => self.mdscr,
            register::MDCCINT_EL1 => self.mdccint,
            register::OSLSR_EL1 => LOCK_IMPLEMENTED | u64::from(self.is_locked) << LOCK_LOCKED,
            register::DBGCLAIMSET_EL1 => CLAIM_TAGS,
            register::DBGCLAIMCLR_EL1 => self.claimed,
            register::DBGAUTHSTATUS_EL1 => NO_EXTERNAL_DEBUG,
            _ if is_external(register) || register == register::MDRAR_EL1 => 0,
            _ => match pair_of(register, shown).ok_or(Refusal::Undefined)? {
                Half::BreakpointValue(n) => self.breakpoints[n].value,
                Half::BreakpointControl(n) => self.breakpoints[n].control,
                Half::WatchpointValue(n) => self.watchpoints[n].value,
                Half::WatchpointControl(n) => self.watchpoints[n].control,
            },
        })
    }

    /// As [`read`](Self::read), for a write of `value`.
    ///
    /// # Errors
    ///
    /// What becomes of the access instead.
    pub fn write(
        &mut self,
        register: Encoding,
        value: u64,
        is_el0: bool,
        shown: Counts,
    ) -> Result<Change, Refusal> {
        self.check_channel(register, is_el0)?;
        let used_pairs = self.uses_pairs();
        match register {
            register::MDSCR_EL1 => self.mdscr = value & mdscr::ALL,
            register::OSLAR_EL1 => self.is_locked = value & 1 != 0,
            register::MDCCINT_EL1 => {
                self.mdccint = value & CHANNEL_INTERRUPTS;
                return Ok(Change::Nothing);
            }
            register::DBGCLAIMSET_EL1 => {
                self.claimed |= value & CLAIM_TAGS;
                return Ok(Change::Nothing);
            }
            register::DBGCLAIMCLR_EL1 => {
                self.claimed &= !value;
                return Ok(Change::Nothing);
            }
            _ if is_external(register) => return Ok(Change::Nothing),
            _ => return self.write_pair(register, value, shown),
        }
        Ok(if self.uses_pairs() != used_pairs {
            Change::Everything
        } else {
            Change::Control
        })
    }

    fn write_pair(
        &mut self,
        register: Encoding,
        value: u64,
        shown: Counts,
    ) -> Result<Change, Refusal> {
        let half = pair_of(register, shown).ok_or(Refusal::Undefined)?;
        let change = match half {
            Half::BreakpointValue(n) => {
                self.breakpoints[n].value = value;
                Change::Breakpoint(n)
            }
            Half::BreakpointControl(n) => {
                self.breakpoints[n].control = value & control::BREAKPOINT;
                Change::Breakpoint(n)
            }
            Half::WatchpointValue(n) => {
                self.watchpoints[n].value = value;
                Change::Watchpoint(n)
            }
            Half::WatchpointControl(n) => {
                self.watchpoints[n].control = value & control::WATCHPOINT;
                Change::Watchpoint(n)
            }
        };
        Ok(if self.uses_pairs() {
            change
        } else {
            Change::Nothing
        })
    }

    /// Refuses EL0 the channel to a debugger if the guest says so.
    fn check_channel(&self, register: Encoding, is_el0: bool) -> Result<(), Refusal> {
        let is_channel = matches!(
            register,
            register::MDCCSR_EL0 | register::DBGDTR_EL0 | register::DBGDTRRX_EL0
        );
        if is_el0 && is_channel && self.traps_channel() {
            return Err(Refusal::TrappedByEl1);
        }
        Ok(())
    }

    /// Whether the guest's EL1 keeps EL0 from the channel to a debugger.
    pub(super) const fn traps_channel(&self) -> bool {
        self.mdscr & mdscr::TDCC != 0
    }

    /// Whether the hardware has to know anything of it: software step, breakpoints or watchpoints
    /// are on.
    #[inline]
    pub const fn is_active(&self) -> bool {
        !self.is_locked && self.mdscr & (mdscr::SS | mdscr::MDE) != 0
    }

    /// Whether breakpoints and watchpoints are on.
    pub const fn uses_pairs(&self) -> bool {
        !self.is_locked && self.mdscr & mdscr::MDE != 0
    }

    /// What `MDSCR_EL1` has to be while the vCPU is on a CPU.
    pub const fn control(&self) -> u64 {
        if self.is_active() { self.mdscr } else { 0 }
    }

    /// Breakpoint `n` of those that are shown: its number on a CPU that has so many, and what has
    /// to be there.
    pub fn breakpoint(&self, n: usize, shown: Counts, has: Counts) -> (usize, Pair) {
        let Pair { value, control } = self.breakpoints[n];
        let is_linked = control & control::IS_LINKED != 0 && control & control::CONTEXT == 0;
        let pair = Pair {
            value,
            control: if control & control::OF_EL2 != 0 {
                0
            } else {
                linked(control, is_linked, shown, has)
            },
        };
        (n + shift(shown, has), pair)
    }

    /// The same of watchpoint `n`.
    pub fn watchpoint(&self, n: usize, shown: Counts, has: Counts) -> (usize, Pair) {
        let Pair { value, control } = self.watchpoints[n];
        let is_linked = control & control::IS_LINKED != 0;
        let control = linked(control, is_linked, shown, has);
        (n, Pair { value, control })
    }
}

/// By how much a breakpoint's number on a CPU that has so many is higher than the one shown. Those
/// that are context-aware are the last ones, so it is the first ones that are not used.
fn shift(shown: Counts, has: Counts) -> usize {
    usize::from(has.breakpoints.saturating_sub(shown.breakpoints))
}

/// `control` with the number of the breakpoint that it is linked to, if it is, as the CPU has it.
/// What is linked to a breakpoint that is not there never hits.
fn linked(control: u64, is_linked: bool, shown: Counts, has: Counts) -> u64 {
    if !is_linked {
        return control;
    }
    let to = control >> control::LINKED & 0xf;
    if to >= shown.breakpoints.into() {
        return control & !control::ENABLE;
    }
    control & !(0xf << control::LINKED) | (to + shift(shown, has) as u64) << control::LINKED
}

/// One of the two registers of a breakpoint or watchpoint, with its number.
enum Half {
    BreakpointValue(usize),
    BreakpointControl(usize),
    WatchpointValue(usize),
    WatchpointControl(usize),
}

/// What `register` is of a breakpoint or watchpoint that is shown.
fn pair_of(register: Encoding, shown: Counts) -> Option<Half> {
    if (register.op0(), register.op1(), register.crn()) != (2, 0, 0) {
        return None;
    }
    let n = register.crm() as usize;
    let (is_breakpoint, is_watchpoint) =
        (n < shown.breakpoints.into(), n < shown.watchpoints.into());
    match register.op2() {
        4 if is_breakpoint => Some(Half::BreakpointValue(n)),
        5 if is_breakpoint => Some(Half::BreakpointControl(n)),
        6 if is_watchpoint => Some(Half::WatchpointValue(n)),
        7 if is_watchpoint => Some(Half::WatchpointControl(n)),
        _ => None,
    }
}

/// Whether `register` is for an external debugger, or locks debugging out as no guest can: zero,
/// whatever is written.
const fn is_external(register: Encoding) -> bool {
    matches!(
        register,
        register::OSDTRRX_EL1
            | register::OSDTRTX_EL1
            | register::OSECCR_EL1
            | register::OSDLR_EL1
            | register::DBGPRCR_EL1
            | register::MDCCSR_EL0
            | register::DBGDTR_EL0
            | register::DBGDTRRX_EL0
    )
}

#[cfg(test)]
mod tests {
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
}
