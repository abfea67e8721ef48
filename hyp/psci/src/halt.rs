//! Guests that have come to where nothing can get them going again.
//!
//! Kernels that cannot go on (they panicked, or they find that the CPU is not what they need) mask
//! their interrupts and go round a few instructions for ever: WFI, WFE and a branch, most often.
//! And a kernel without exception vectors that meets an exception takes the next one when the CPU
//! fetches the vector, and so on. Both look from outside like a guest that is busy, or asleep. A
//! loop counts only if no instruction in it could lead out, whatever memory and registers hold.
//! Another vCPU may write over it, though: it is certain, not likely, when all vCPUs have come to
//! such a place, each has looked again since the last one came, and so none is left that could
//! write.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::pstate::{is_el1_masked, vector};

/// The longest loop that is looked for, in instructions.
const LONGEST: usize = 8;
/// How far apart two places of a loop can be, in bytes.
const NEAR: u64 = 4 * LONGEST as u64;
/// No place in a guest's code.
const NOWHERE: u64 = u64::MAX;

/// A vCPU that nothing gets going again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Its number in the machine.
    pub vcpu: usize,
    /// Where it is: the guest's virtual address.
    pub pc: u64,
    /// What keeps it there.
    pub cause: Cause,
}

/// What keeps a vCPU where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A loop with interrupts masked.
    Loop {
        /// The vCPU's MMU is on, so its kernel has come some way.
        has_mmu: bool,
    },
    /// An exception whose vector cannot be executed.
    NoVectors,
    /// The same, and the exception came from this instruction, which EL1 does not have.
    Privileged {
        /// Where it is: an IPA.
        at: u64,
        /// The instruction.
        instruction: u32,
    },
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vcpu, pc, cause } = self;
        match cause {
            Cause::Loop { has_mmu: true } => write!(
                f,
                "vcpu{vcpu} is in a loop at {pc:#x} that nothing ends, with interrupts masked, and no other \
                 vCPU runs; a guest that is done is to switch itself off (PSCI SYSTEM_OFF)"
            ),
            Cause::Loop { has_mmu: false } => write!(
                f,
                "vcpu{vcpu} gave up at {pc:#x}, before its MMU was on: what it needs is not there. If it needs \
                 EL2, as a hypervisor such as Xen does, it cannot be a guest, since guests start at EL1; a kernel may \
                 need pages of a size, or a feature, that the CPU does not have (see --cpu)"
            ),
            Cause::NoVectors => write!(
                f,
                "vcpu{vcpu} took an exception before it had exception vectors (the one at {pc:#x} cannot be \
                 executed)"
            ),
            Cause::Privileged { at, instruction } => write!(
                f,
                "it needs EL2 or EL3, and guests start at EL1: vcpu{vcpu} tried to execute {instruction:#010x} \
                 at {at:#x}, and had no exception vectors yet"
            ),
        }
    }
}

/// Whether a vCPU with this PSTATE that is at `pc` stays in a loop for ever. `fetch` reads the
/// instruction at a virtual address of the guest's.
pub fn is_endless(spsr: u64, pc: u64, fetch: impl Fn(u64) -> Option<u32>) -> bool {
    if !is_el1_masked(spsr) {
        return false;
    }
    let mut at = pc;
    for _ in 0..LONGEST {
        let Some(next) = fetch(at).and_then(|instruction| successor(at, instruction)) else {
            return false;
        };
        at = next;
        if at == pc {
            return true;
        }
    }
    false
}

/// Whether a vCPU with this PSTATE and `VBAR_EL1` that cannot execute what is at `pc` takes the
/// same exception again there, and again.
pub fn is_at_own_vector(spsr: u64, pc: u64, vbar: u64) -> bool {
    is_el1_masked(spsr) && pc == vector(vbar, spsr)
}

/// What comes after an instruction that neither depends on anything nor changes what could end a
/// loop: hints, barriers, the masking of interrupts, and branches (Arm ARM, "Branches, Exception
/// Generating and System instructions").
fn successor(at: u64, instruction: u32) -> Option<u64> {
    let (hint, barrier, mask, branch) = (0xd503_201f, 0xd503_301f, 0xd503_40df, 0x1400_0000);
    // NOP, YIELD, WFE, WFI, SEV, SEVL.
    let is_hint = instruction & !0xfe0 == hint && instruction >> 5 & 0x7f <= 5;
    let is_barrier = instruction & !0xfe0 == barrier;
    let is_mask = instruction & !0xf00 == mask;
    if is_hint || is_barrier || is_mask {
        return at.checked_add(4);
    }
    // 26 bits, signed, in instructions.
    let offset = i64::from((instruction << 6) as i32 >> 6) * 4;
    (instruction & 0xfc00_0000 == branch).then(|| at.wrapping_add_signed(offset))
}

/// Whether it is an access to a register of EL2 or EL3, or another instruction for the system that
/// EL1 does not have: MSR, MRS and SYS with Op1 4 to 7.
pub const fn is_privileged(instruction: u32) -> bool {
    let is_system = instruction & 0xffc0_0000 == 0xd500_0000;
    let (op0, op1) = (instruction >> 19 & 3, instruction >> 16 & 7);
    is_system && op0 != 0 && op1 >= 4
}

/// Whether it is undefined whatever the CPU: UDF, and memory that was never written.
pub const fn is_undefined(instruction: u32) -> bool {
    instruction >> 16 == 0
}

/// Remembers where a vCPU was, so that one that gets on is seldom looked at.
#[derive(Debug)]
pub struct Watch {
    /// Where it last was interrupted with its own interrupts masked.
    masked: AtomicU64,
    /// The WFI or WFE, last looked at, that the code goes on behind.
    wait: AtomicU64,
}

impl Watch {
    /// Of a vCPU that has not run.
    pub const fn new() -> Self {
        Self {
            masked: AtomicU64::new(NOWHERE),
            wait: AtomicU64::new(NOWHERE),
        }
    }

    /// Forgets everything: the vCPU starts anew. Only for its own thread.
    pub fn reset(&self) {
        self.masked.store(NOWHERE, Ordering::Relaxed);
        self.wait.store(NOWHERE, Ordering::Relaxed);
    }

    /// Whether a vCPU that is interrupted at `pc` is worth a look: it is where it was last time.
    /// Only for its own thread.
    pub fn interrupted(&self, spsr: u64, pc: u64) -> bool {
        if !is_el1_masked(spsr) {
            return false;
        }
        let last = self.masked.load(Ordering::Relaxed);
        self.masked.store(pc, Ordering::Relaxed);
        last.abs_diff(pc) < NEAR
    }

    /// Whether a vCPU that waits at `pc` is worth a look: it may wait there for ever. Only for its
    /// own thread.
    pub fn waits(&self, spsr: u64, pc: u64) -> bool {
        is_el1_masked(spsr) && self.wait.load(Ordering::Relaxed) != pc
    }

    /// Takes note that the wait at `pc` is none that is for ever. Only for its own thread.
    pub fn goes_on(&self, pc: u64) {
        self.wait.store(pc, Ordering::Relaxed);
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOP: u32 = 0xd503_201f;
    const WFE: u32 = 0xd503_205f;
    const WFI: u32 = 0xd503_207f;
    const PACIASP: u32 = 0xd503_233f;
    const DSB_SY: u32 = 0xd503_3f9f;
    const ISB: u32 = 0xd503_3fdf;
    const MASK_ALL: u32 = 0xd503_4fdf;
    const UNMASK_IRQ: u32 = 0xd503_42ff;
    const LDR: u32 = 0xf940_0000;
    const RET: u32 = 0xd65f_03c0;
    const B_HERE: u32 = 0x1400_0000;
    const EL1H_MASKED: u64 = 0x3c5;
    const BASE: u64 = 0xffff_8000_0000_1000;

    /// A branch over so many instructions.
    fn b(instructions: i32) -> u32 {
        0x1400_0000 | instructions as u32 & 0x03ff_ffff
    }

    fn is_loop(spsr: u64, code: &[u32], start: u64) -> bool {
        let fetch = |address: u64| {
            let index = address.checked_sub(BASE)? / 4;
            code.get(index as usize).copied()
        };
        is_endless(spsr, BASE + 4 * start, fetch)
    }

    #[test]
    fn loops_without_a_way_out_are_endless_wherever_they_are_interrupted() {
        for code in [
            &[B_HERE][..],
            &[WFE, b(-1)],
            &[WFI, b(-1)],
            &[WFE, WFI, b(-2)],
            &[MASK_ALL, DSB_SY, WFI, ISB, NOP, b(-5)],
            &[b(2), b(-1), WFI, b(-2)],
        ] {
            for start in 0..code.len() as u64 {
                if matches!(code, [_, _, WFI, _]) && start == 0 {
                    // It leads into the loop and is no part of it: seen when the vCPU has got
                    // there.
                    continue;
                }
                assert!(is_loop(EL1H_MASKED, code, start), "{code:x?}, {start}");
            }
        }
    }

    #[test]
    fn what_could_get_on_is_not_endless() {
        for code in [
            &[WFI, RET][..],
            // A load may find something else the next time.
            &[WFE, LDR, b(-2)],
            &[WFI, UNMASK_IRQ, b(-2)],
            &[PACIASP, b(-1)],
            &[WFI],
            // CBZ and B.EQ.
            &[WFI, 0x34ff_ffe0],
            &[WFI, 0x54ff_ffe0],
            // BL, which returns.
            &[WFI, 0x97ff_ffff],
            &[NOP, NOP, NOP, NOP, NOP, NOP, NOP, NOP, b(-8)],
        ] {
            for start in 0..code.len() as u64 {
                assert!(!is_loop(EL1H_MASKED, code, start), "{code:x?}, {start}");
            }
        }
    }

    #[test]
    fn interrupts_that_are_not_masked_lead_out() {
        let fiq_only = EL1H_MASKED & !(1 << 7);
        let irq_only = EL1H_MASKED & !(1 << 6);
        let (el0, aarch32) = (0x3c0, 0x1d3);
        // So do errors, and debug exceptions, which a step of the guest's own may cause.
        let (no_errors, no_debug) = (EL1H_MASKED & !(1 << 8), EL1H_MASKED & !(1 << 9));
        for spsr in [fiq_only, irq_only, no_errors, no_debug, el0, aarch32] {
            assert!(!is_loop(spsr, &[WFI, b(-1)], 0), "{spsr:#x}");
        }
        assert!(is_loop(0x3c4, &[WFI, b(-1)], 0));
    }

    #[test]
    fn a_vector_that_cannot_be_executed_leads_to_itself() {
        assert!(is_at_own_vector(EL1H_MASKED, 0x200, 0));
        assert!(is_at_own_vector(EL1H_MASKED, 0x4000_0200, 0x4000_0000));
        // Low bits of VBAR_EL1 mean nothing.
        assert!(is_at_own_vector(EL1H_MASKED, 0x200, 0x7ff));
        for (spsr, pc) in [(EL1H_MASKED, 0x204), (EL1H_MASKED, 0), (0x3c0, 0x400)] {
            assert!(!is_at_own_vector(spsr, pc, 0), "{spsr:#x}, {pc:#x}");
        }
    }

    #[test]
    fn instructions_of_higher_exception_levels_are_known() {
        for instruction in [
            0xd51c_c000, // msr vbar_el2, x0
            0xd53c_1100, // mrs x0, hcr_el2
            0xd51e_1100, // msr scr_el3, x0
            0xd51d_1000, // msr sctlr_el12, x0
            0xd50c_871f, // tlbi alle2
        ] {
            assert!(is_privileged(instruction), "{instruction:#x}");
        }
        for instruction in [
            0xd518_c000, // msr vbar_el1, x0
            0xd538_4240, // mrs x0, CurrentEL
            0xd51b_4200, // msr nzcv, x0
            0xd508_871f, // tlbi vmalle1
            MASK_ALL,
            NOP,
            0xd69f_03e0, // eret
            0,
        ] {
            assert!(!is_privileged(instruction), "{instruction:#x}");
        }
        assert!(is_undefined(0) && is_undefined(0xffff) && !is_undefined(NOP));
    }

    #[test]
    fn a_vcpu_that_gets_on_is_not_looked_at() {
        let watch = Watch::new();
        assert!(!watch.interrupted(EL1H_MASKED, 0x1000));
        assert!(watch.interrupted(EL1H_MASKED, 0x1008));
        assert!(!watch.interrupted(EL1H_MASKED, 0x2000));
        assert!(!watch.interrupted(0x5, 0x2000));
        assert!(watch.interrupted(EL1H_MASKED, 0x1fe4));

        assert!(!watch.waits(0x5, 0x1000));
        assert!(watch.waits(EL1H_MASKED, 0x1000));
        watch.goes_on(0x1000);
        assert!(!watch.waits(EL1H_MASKED, 0x1000));
        assert!(watch.waits(EL1H_MASKED, 0x2000));
        watch.reset();
        assert!(watch.waits(EL1H_MASKED, 0x1000));
    }

    #[test]
    fn what_is_said_tells_what_to_do() {
        let text = |cause| {
            let halt = Halt {
                vcpu: 0,
                pc: 0x4008_0010,
                cause,
            };
            halt.to_string()
        };
        let early = text(Cause::Loop { has_mmu: false });
        assert!(early.contains("needs EL2") && early.contains("0x40080010"));
        assert!(text(Cause::Loop { has_mmu: true }).contains("SYSTEM_OFF"));
        let privileged = Cause::Privileged {
            at: 0x4008_0040,
            instruction: 0xd51c_c000,
        };
        assert!(text(privileged).contains("0xd51cc000 at 0x40080040"));
        assert!(text(Cause::NoVectors).contains("exception vectors"));
    }
}
