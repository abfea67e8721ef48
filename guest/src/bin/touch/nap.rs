//! Leaving the CPU idle until the timer's interrupt is pending.
//!
//! It stays masked here, so that no exception comes of it: WFI ends all the same, and then it is
//! acknowledged as a handler would. Where interrupts are late (`late`) there is a handler.

use core::arch::asm;

use aarch64_cpu::{
    asm::{barrier, wfi},
    registers::{CNTV_CTL_EL0, CNTV_CVAL_EL0, Writeable},
};
use guest::{machine::Machine, span::Span, time};

/// GICD_CTLR: affinity routing, and interrupts of group 1.
const AFFINITY_AND_GROUP_1: u32 = 1 << 4 | 1 << 1;
/// The redistributor's second frame, for SGIs and PPIs.
const SGI_FRAME: u64 = 0x1_0000;
const GICR_IGROUPR0: u64 = SGI_FRAME + 0x80;
const GICR_ISENABLER0: u64 = SGI_FRAME + 0x100;
/// The virtual timer's interrupt, PPI 11.
const TIMER_INTERRUPT: u32 = 1 << 27;
/// How long a nap takes, as a part of a second: an idle CPU gets a batch of frames zeroed in it.
const NAPS_PER_SECOND: u64 = 1000;
/// INTIDs from here on are no interrupts.
const SPECIAL: u64 = 1020;

/// The virtual timer, whose interrupt ends WFI.
pub(crate) struct Timer;

impl Timer {
    /// Lets the timer's interrupt through on this vCPU, the first; none if there is no GICv3.
    pub(crate) fn new(machine: &Machine<'_>) -> Option<Self> {
        let [distributor, redistributors] = machine.interrupt_controller()?;
        store(distributor, 0, AFFINITY_AND_GROUP_1);
        store(redistributors, GICR_IGROUPR0, TIMER_INTERRUPT);
        store(redistributors, GICR_ISENABLER0, TIMER_INTERRUPT);
        // SAFETY: interrupts are masked but where a handler is there for this one.
        unsafe {
            asm!(
                "msr S3_0_C4_C6_0, {priorities}", // ICC_PMR_EL1: all priorities
                "msr S3_0_C12_C12_7, {enable}",   // ICC_IGRPEN1_EL1
                "isb",
                priorities = in(reg) 0xff_u64,
                enable = in(reg) 1_u64,
                options(nostack, nomem),
            );
        }
        Some(Self)
    }

    /// Leaves the CPU for a while.
    pub(crate) fn nap(&self) {
        self.set(time::now() + time::frequency() / NAPS_PER_SECOND);
        wfi();
        Self::end();
    }

    /// Has the interrupt come at `deadline` ticks.
    pub(crate) fn set(&self, deadline: u64) {
        CNTV_CVAL_EL0.set(deadline);
        CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
        barrier::isb(barrier::SY);
    }

    /// Stops the timer, and handles its interrupt, if that has come.
    pub(crate) fn end() {
        CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR);
        barrier::isb(barrier::SY);
        acknowledge();
    }
}

fn store(registers: Span, offset: u64, value: u32) {
    let register = registers.start + offset;
    // SAFETY: the device tree says that the GIC's registers are there, which the stage-1 table maps
    // as a device; the registers are those of this file, and no Rust value lies there. In assembly,
    // since a store that also writes the address back cannot be emulated.
    unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) register, options(nostack)) };
}

/// Takes the pending interrupt and ends it.
fn acknowledge() {
    let interrupt: u64;
    // SAFETY: reading ICC_IAR1_EL1 makes the interrupt active; nobody else handles interrupts here.
    unsafe { asm!("mrs {}, S3_0_C12_C12_0", out(reg) interrupt, options(nostack)) };
    if interrupt < SPECIAL {
        // SAFETY: writing ICC_EOIR1_EL1 ends the interrupt that was just taken.
        unsafe { asm!("msr S3_0_C12_C12_1, {}", in(reg) interrupt, options(nostack)) };
    }
}
