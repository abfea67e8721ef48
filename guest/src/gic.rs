//! The registers of a GICv3: frames in memory, and the CPU interface's system registers.

use core::arch::asm;

use crate::{machine::Machine, span::Span};

/// Size of a redistributor's two frames in bytes.
const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// The second frame of a redistributor.
const SGI_FRAME: u64 = 0x1_0000;
const GICD_CTLR: u64 = 0x0;
const GICR_TYPER: u64 = 0x8;
const GICR_WAKER: u64 = 0x14;
const IPRIORITYR: u64 = 0x400;
const ICFGR: u64 = 0xc00;
const GICD_IROUTER: u64 = 0x6000;
/// `GICD_CTLR`: both groups enabled, affinity routing.
const CONTROL: u32 = 0b1_0011;
/// `GICD_CTLR.RWP`: a write has not yet taken effect.
const BUSY: u32 = 1 << 31;
/// `GICR_WAKER`: ProcessorSleep and ChildrenAsleep.
const ASLEEP: u32 = 0b110;

/// What IAR reads when nothing is pending.
pub const NOTHING: u32 = 1023;

/// Registers with a bit for each interrupt, by the offset of the first.
#[derive(Clone, Copy)]
pub enum Bits {
    /// `IGROUPR`.
    Group = 0x80,
    /// `ISENABLER`.
    SetEnable = 0x100,
    /// `ICENABLER`.
    ClearEnable = 0x180,
    /// `ISPENDR`.
    SetPending = 0x200,
    /// `ICPENDR`.
    ClearPending = 0x280,
    /// `ISACTIVER`.
    SetActive = 0x300,
    /// `ICACTIVER`.
    ClearActive = 0x380,
}

/// The distributor and one vCPU's redistributor.
#[derive(Clone, Copy)]
pub struct Gic {
    distributor: u64,
    redistributor: u64,
}

impl Gic {
    /// The registers as vCPU number `vcpu` needs them.
    pub fn of(machine: &Machine<'static>, vcpu: usize) -> Self {
        let Some([distributor, redistributors]) = machine.interrupt_controller() else {
            panic!("no arm,gic-v3 node with registers in the device tree");
        };
        let mpidr = machine.mpidrs()[vcpu];
        Self {
            distributor: distributor.start,
            redistributor: redistributor_of(redistributors, mpidr),
        }
    }

    /// Wakes the redistributor, and lets this vCPU take private interrupts of Group 1 with the
    /// priority 0xa0.
    pub fn init_vcpu(self) {
        write(
            self.redistributor + GICR_WAKER,
            read(self.redistributor + GICR_WAKER) & !ASLEEP,
        );
        while read(self.redistributor + GICR_WAKER) & ASLEEP != 0 {}
        self.write_private(Bits::ClearEnable, u32::MAX);
        self.write_private(Bits::ClearPending, u32::MAX);
        self.write_private(Bits::ClearActive, u32::MAX);
        self.write_private(Bits::Group, u32::MAX);
        for intid in 0..32 {
            self.set_priority(intid, 0xa0);
        }
        self.write_private(Bits::SetEnable, u32::MAX);
        interface::open();
    }

    /// Lets the distributor forward interrupts of both groups.
    pub fn init_distributor(self) {
        write(self.distributor + GICD_CTLR, CONTROL);
        self.wait();
    }

    /// Waits until writes have taken effect.
    pub fn wait(self) {
        while !self.is_settled() {}
    }

    /// Whether writes have taken effect: `RWP` is clear in `GICD_CTLR` and in `GICR_CTLR`.
    pub fn is_settled(self) -> bool {
        read(self.distributor + GICD_CTLR) & BUSY == 0 && read(self.redistributor) & 1 << 3 == 0
    }

    /// Makes shared interrupt `intid` edge-triggered.
    pub fn set_edge(self, intid: u32) {
        let at = self.distributor + ICFGR + u64::from(intid / 16 * 4);
        write(at, read(at) | 0b10 << (intid % 16 * 2));
    }

    /// The bits of the SGIs and PPIs.
    pub fn private(self, register: Bits) -> u32 {
        read(self.redistributor + SGI_FRAME + register as u64)
    }

    /// Writes the bits of the SGIs and PPIs.
    pub fn write_private(self, register: Bits, value: u32) {
        write(self.redistributor + SGI_FRAME + register as u64, value);
    }

    /// The bit of shared interrupt `intid`.
    pub fn shared(self, register: Bits, intid: u32) -> bool {
        let at = self.distributor + register as u64 + u64::from(intid / 32 * 4);
        read(at) >> (intid % 32) & 1 == 1
    }

    /// Writes a one for shared interrupt `intid`, and zeros for others.
    pub fn write_shared(self, register: Bits, intid: u32) {
        let at = self.distributor + register as u64 + u64::from(intid / 32 * 4);
        write(at, 1 << (intid % 32));
    }

    /// Sets the priority of any interrupt.
    pub fn set_priority(self, intid: u32, priority: u8) {
        let frame = match intid {
            0..32 => self.redistributor + SGI_FRAME,
            _ => self.distributor,
        };
        let at = frame + IPRIORITYR + u64::from(intid);
        // SAFETY: a register of the interrupt controller, mapped as device memory; it has byte
        // access.
        unsafe {
            asm!("strb {:w}, [{}]", in(reg) priority, in(reg) at, options(nostack, preserves_flags));
        }
    }

    /// Routes shared interrupt `intid` to the vCPU with this affinity.
    pub fn route(self, intid: u32, mpidr: u64) {
        let at = self.distributor + GICD_IROUTER + 8 * u64::from(intid);
        let affinity = mpidr & 0xff_00ff_ffff;
        // SAFETY: as above; the register has 64 bits.
        unsafe {
            asm!("str {}, [{}]", in(reg) affinity, in(reg) at, options(nostack, preserves_flags))
        };
    }
}

/// Finds a vCPU's redistributor by its affinity.
fn redistributor_of(region: Span, mpidr: u64) -> u64 {
    let affinity = (mpidr >> 32 & 0xff) << 24 | mpidr & 0xff_ffff;
    let mut at = region.start;
    loop {
        let kind: u64;
        // SAFETY: a register of a redistributor, mapped as device memory.
        unsafe {
            let at = at + GICR_TYPER;
            asm!("ldr {}, [{}]", out(reg) kind, in(reg) at, options(nostack, preserves_flags));
        }
        if kind >> 32 == affinity {
            return at;
        }
        let last = kind & 1 << 4 != 0;
        at += REDISTRIBUTOR_SIZE;
        assert!(
            !last && region.contains(at),
            "no redistributor for MPIDR {mpidr:#x}"
        );
    }
}

/// Loads a register. By an instruction of its own: a compiler may choose one of which a hypervisor
/// is not told what it loads (with writeback), and where such are decoded the test would be
/// another.
fn read(at: u64) -> u32 {
    let value: u32;
    // SAFETY: a register of the interrupt controller, mapped as device memory.
    unsafe {
        asm!("ldr {:w}, [{}]", out(reg) value, in(reg) at, options(nostack, preserves_flags))
    };
    value
}

/// Stores to a register.
fn write(at: u64, value: u32) {
    // SAFETY: as above; interrupts are masked, so nothing else happens.
    unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) at, options(nostack, preserves_flags)) };
}

/// The CPU interface, by system registers.
pub mod interface {
    use super::asm;

    macro_rules! register {
        ($(#[$doc:meta])* $name:ident reads $register:literal) => {
            $(#[$doc])*
            pub fn $name() -> u32 {
                let value: u64;
                // SAFETY: interrupts are masked: reading changes the controller's state at most.
                unsafe {
                    asm!(
                        concat!("mrs {}, ", $register),
                        "dsb sy",
                        out(reg) value,
                        options(nostack, preserves_flags),
                    );
                }
                value as u32
            }
        };
        ($(#[$doc:meta])* $name:ident writes $register:literal) => {
            $(#[$doc])*
            pub fn $name(value: u64) {
                // SAFETY: interrupts are masked: only the controller's state changes.
                unsafe {
                    asm!(
                        "dsb sy",
                        concat!("msr ", $register, ", {}"),
                        "isb",
                        in(reg) value,
                        options(nostack, preserves_flags),
                    );
                }
            }
        };
    }

    register!(
        /// Takes the most urgent interrupt of Group 1.
        acknowledge reads "icc_iar1_el1");
    register!(
        /// Takes the most urgent interrupt of Group 0.
        acknowledge0 reads "icc_iar0_el1");
    register!(
        /// What [`acknowledge`] would take.
        most_urgent reads "icc_hppir1_el1");
    register!(
        /// The priority of the most urgent interrupt that is active.
        running_priority reads "icc_rpr_el1");
    register!(
        /// Ends an interrupt of Group 1.
        end writes "icc_eoir1_el1");
    register!(
        /// Ends an interrupt of Group 0.
        end0 writes "icc_eoir0_el1");
    register!(
        /// Deactivates an interrupt, in EOImode 1.
        deactivate writes "icc_dir_el1");
    register!(
        /// Sends an SGI of Group 1.
        send writes "icc_sgi1r_el1");
    register!(
        /// What [`set_mask`] has set.
        mask reads "icc_pmr_el1");
    register!(
        /// How the interface works.
        control reads "icc_ctlr_el1");
    register!(
        /// Lets interrupts through that are more urgent.
        set_mask writes "icc_pmr_el1");
    register!(
        /// How the interface works from now on.
        set_control writes "icc_ctlr_el1");
    register!(
        /// Lets interrupts of Group 0 through, or not.
        set_group0 writes "icc_igrpen0_el1");
    register!(
        /// Lets interrupts of Group 1 through, or not.
        set_group1 writes "icc_igrpen1_el1");
    register!(
        /// From which bit on priorities do not pre-empt.
        set_point writes "icc_bpr1_el1");
    register!(
        /// Whether the interface is used by system registers (bit 0).
        system_registers reads "icc_sre_el1");

    /// Makes a write of `end` leave the interrupt active, or not.
    pub fn split_ends(split: bool) {
        set_control(u64::from(split) << 1);
    }

    /// Lets everything through, every priority pre-empting all less urgent.
    pub fn open() {
        assert!(
            system_registers() & 1 == 1,
            "the interrupt controller has no system registers"
        );
        split_ends(false);
        set_point(0);
        set_mask(0xff);
        set_group0(1);
        set_group1(1);
    }

    /// Waits for an interrupt.
    pub fn wait() {
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
        aarch64_cpu::asm::wfi();
    }
}

/// The value that sends SGI `number` to the vCPU with this affinity.
pub fn sgi_to(mpidr: u64, number: u32) -> u64 {
    let affinity = |level: u32| mpidr >> (if level == 3 { 32 } else { 8 * level }) & 0xff;
    assert!(
        affinity(0) < 16,
        "MPIDR {mpidr:#x} needs the range selector"
    );
    affinity(3) << 48
        | affinity(2) << 32
        | affinity(1) << 16
        | u64::from(number) << 24
        | 1 << affinity(0)
}

/// The value that sends SGI `number` to all other vCPUs.
pub fn sgi_to_others(number: u32) -> u64 {
    1 << 40 | u64::from(number) << 24
}
