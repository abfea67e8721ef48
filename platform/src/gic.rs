//! The GICv3: distributor, one redistributor a CPU, and the CPU interface that EL2 acknowledges
//! with.
//!
//! Interrupts are Non-secure Group 1. A CPU changes only its own redistributor, except for the
//! defaults that the first CPU sets. The locks of the distributor and of each redistributor are
//! leaves, held over a few register accesses.
//!
//! An interrupt is ended in two steps, so that one that belongs to a guest can stay active, and
//! does not come again, until the guest has dealt with it (EOImode 1).

use core::arch::asm;
use core::ptr::NonNull;

use aarch64_cpu::asm::barrier;
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{
    GicCpuInterface, GicDistributor, GicError, GicRedistributor, GicRedistributorIterator,
    HIGHEST_NS_PRIORITY, SgiTarget, SgiTargetGroup,
};
use arm_gic::{InterruptGroup, UniqueMmioPointer};
use arrayvec::ArrayVec;
use spin::Mutex;
use thiserror::Error;

use crate::board::{self, MAX_CPUS, Mpidr};

pub use arm_gic::IntId;

/// Lets interrupts of every priority through.
const PRIORITY_MASK_OPEN: u8 = 0xff;
/// `ICC_CTLR_EL1.EOImode`: the end of an interrupt's handling does not deactivate it.
const EOI_MODE: u64 = 1 << 1;
/// `ISR_EL1.I`.
const IRQ_PENDING: u64 = 1 << 7;

/// Why the interrupt controller cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// The device tree gives the address zero.
    #[error("the device tree places the interrupt controller at address 0")]
    NoAddress,
    /// The driver refused.
    #[error("the interrupt controller: {0}")]
    Driver(#[from] GicError),
    /// There are two redistributors for one CPU.
    #[error("the GIC has more redistributors for the CPUs than there are CPUs")]
    TooManyRedistributors,
    /// No redistributor says that it belongs to the CPU.
    #[error("no GIC redistributor belongs to the CPU with affinity {:#x}", .0.raw())]
    NoRedistributor(Mpidr),
}

/// A CPU's redistributor.
struct Redistributor {
    cpu: Mpidr,
    driver: Mutex<GicRedistributor<'static>>,
}

/// The interrupt controller, shared by all CPUs.
pub struct Gic {
    distributor: Mutex<GicDistributor<'static>>,
    redistributors: ArrayVec<Redistributor, MAX_CPUS>,
}

impl Gic {
    /// Finds every CPU's redistributor, disables all interrupts, makes them Group 1 and
    /// level-sensitive, and lets the distributor forward what gets enabled later.
    ///
    /// # Errors
    ///
    /// What does not fit the device tree. No interrupt is enabled then.
    ///
    /// # Safety
    ///
    /// The registers must be mapped as device memory at their physical addresses, and stay so. This
    /// may be called once only.
    pub unsafe fn new(board: &board::Gic, cpus: &[Mpidr]) -> Result<Self, Error> {
        let mut redistributors = ArrayVec::<Redistributor, MAX_CPUS>::new();
        for region in &board.redistributors {
            let base = NonNull::new(region.base as *mut GicrSgi).ok_or(Error::NoAddress)?;
            // SAFETY: The caller vouches that the region is mapped and has no other user. The walk
            // ends at the redistributor that says it is the region's last.
            for mut driver in unsafe { GicRedistributorIterator::new(base)? } {
                let cpu = Mpidr::from_raw(driver.typer().core_mpidr());
                if cpus.contains(&cpu) {
                    driver.configure_default_settings();
                    let driver = Mutex::new(driver);
                    redistributors
                        .try_push(Redistributor { cpu, driver })
                        .map_err(|_| Error::TooManyRedistributors)?;
                }
            }
        }
        let base = NonNull::new(board.distributor.base as *mut Gicd).ok_or(Error::NoAddress)?;
        // SAFETY: The caller vouches that the distributor is mapped and has no other user.
        let mut distributor = GicDistributor::new(unsafe { UniqueMmioPointer::new(base) });
        distributor.enable_all_interrupts(false);
        // Turns on affinity routing and Group 1 as well.
        distributor.configure_default_settings();
        let gic = Self {
            distributor: Mutex::new(distributor),
            redistributors,
        };
        for &cpu in cpus {
            gic.of(cpu)?;
        }
        Ok(gic)
    }

    /// Makes the CPU that calls this, which must be `cpu`, able to take interrupts: wakes its
    /// redistributor and opens its CPU interface to Group 1.
    ///
    /// # Errors
    ///
    /// [`Error::NoRedistributor`]; the CPU takes no interrupts then.
    pub fn init_cpu(&self, cpu: Mpidr) -> Result<(), Error> {
        // EL1 is not let in: what it reads of this register is made up for it.
        GicCpuInterface::enable_system_register_el2(false);
        barrier::isb(barrier::SY);
        GicCpuInterface::enable_system_register_el1();
        barrier::isb(barrier::SY);
        match self.of(cpu)?.driver.lock().mark_core_awake() {
            Ok(()) | Err(GicError::AlreadyAwake) => {}
            Err(error) => return Err(error.into()),
        }
        // SAFETY: Sets EOImode and clears the fields that share pre-emption points; no memory is
        // concerned.
        unsafe { asm!("msr icc_ctlr_el1, {}", in(reg) EOI_MODE, options(nomem, nostack)) };
        GicCpuInterface::set_priority_mask(PRIORITY_MASK_OPEN);
        GicCpuInterface::enable_group1(true);
        barrier::isb(barrier::SY);
        Ok(())
    }

    /// Enables or disables a private interrupt (SGI or PPI) of one CPU.
    ///
    /// # Errors
    ///
    /// [`Error::NoRedistributor`], or [`Error::Driver`] for an interrupt that is not private.
    pub fn enable_private(&self, cpu: Mpidr, interrupt: IntId, on: bool) -> Result<(), Error> {
        let mut driver = self.of(cpu)?.driver.lock();
        driver.set_interrupt_priority(interrupt, HIGHEST_NS_PRIORITY)?;
        driver.enable_interrupt(interrupt, on)?;
        Ok(())
    }

    /// Enables a shared interrupt (SPI) and routes it to one CPU.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] for an interrupt that is not shared.
    pub fn enable_shared(&self, cpu: Mpidr, interrupt: IntId) -> Result<(), Error> {
        let mut driver = self.distributor.lock();
        driver.set_routing(interrupt, Some(cpu.raw()))?;
        driver.set_interrupt_priority(interrupt, HIGHEST_NS_PRIORITY)?;
        driver.enable_interrupt(interrupt, true)?;
        Ok(())
    }

    fn of(&self, cpu: Mpidr) -> Result<&Redistributor, Error> {
        self.redistributors
            .iter()
            .find(|redistributor| redistributor.cpu == cpu)
            .ok_or(Error::NoRedistributor(cpu))
    }
}

/// Sends software-generated interrupt `number` (0 to 15, modulo 16) to one CPU.
///
/// What the caller stored before is visible to the receiver when it takes the interrupt.
pub fn send_sgi(cpu: Mpidr, number: u32) {
    let affinity0 = cpu.affinity(0);
    // The target list has 16 bits; CPUs with a larger Aff0 would need the range selector, which
    // `GICD_TYPER.RSS` announces and this board does not have.
    let target = SgiTarget::List {
        affinity3: cpu.affinity(3),
        affinity2: cpu.affinity(2),
        affinity1: cpu.affinity(1),
        target_list: 1 << (affinity0 % 16),
    };
    barrier::dsb(barrier::ISHST);
    // The only error is a number that is no SGI, which the masking excludes.
    let _ = GicCpuInterface::send_sgi(
        IntId::sgi(number % IntId::SGI_COUNT),
        target,
        SgiTargetGroup::CurrentGroup1,
    );
    barrier::isb(barrier::SY);
}

/// Whether an interrupt waits for this CPU, which [`acknowledge`] would return.
pub fn is_pending() -> bool {
    let pending: u64;
    // SAFETY: A register that is only read. It tells of masked interrupts, too (Arm ARM,
    // `ISR_EL1`).
    unsafe { asm!("mrs {}, isr_el1", out(reg) pending, options(nomem, nostack, preserves_flags)) };
    pending & IRQ_PENDING != 0
}

/// Acknowledges the most urgent pending interrupt of this CPU; `None` if there is none.
///
/// It is active then, and blocks others of the same CPU until [`drop_priority`] or [`end`] is
/// called with it.
pub fn acknowledge() -> Option<IntId> {
    GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1)
}

/// Lets other interrupts come after one that [`acknowledge`] returned on this CPU. That one stays
/// active: it does not come again before [`deactivate`].
pub fn drop_priority(interrupt: IntId) {
    GicCpuInterface::end_interrupt(interrupt, InterruptGroup::Group1);
}

/// Lets an active interrupt come again, after [`drop_priority`].
pub fn deactivate(interrupt: IntId) {
    let intid = u64::from(interrupt.raw_value());
    // SAFETY: The interrupt is active on behalf of the caller alone; no memory is concerned.
    unsafe { asm!("msr icc_dir_el1, {}", in(reg) intid, options(nomem, nostack)) };
}

/// Ends an interrupt that [`acknowledge`] returned on this CPU.
pub fn end(interrupt: IntId) {
    drop_priority(interrupt);
    deactivate(interrupt);
}
