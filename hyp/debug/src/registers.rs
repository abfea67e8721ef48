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
mod tests;
