//! Virtual CPUs: a guest's registers, and when they are in which CPU.
//!
//! A vCPU runs on a thread of its own (`crate::sched`). The general-purpose registers are on that
//! thread's stack whenever EL2 runs ([`Frame`]). All others stay in the CPU: they are
//! saved when the thread leaves the CPU, so that it may go on on any other, and loaded when it is
//! on a CPU again, unless that still holds them because nothing but EL2 ran there since.
//!
//! `VTTBR_EL2` names a guest's tables only while a thread of that guest is on the CPU and has
//! entered the guest ([`Vcpu::use_tables`]), so that tables can be destroyed once all have left it.
//!
//! Invariant: a vCPU's saved registers are touched by its own thread only.
//!
//! Which registers are switched is said by the contract ([`arch::contract`]).
//! What guests see of the debug registers is in the crate [`debug`], when a vCPU wakes in
//! [`threads`].

mod control;
mod counters;
mod debugging;
mod errors;
mod fp;
mod frame;
pub(crate) mod interface;
mod interrupts;
pub(crate) mod physical;
mod registers;

pub(crate) use control::{init_cpu, pstate_features};
pub(crate) use counters::{Counters, Exit};
pub(crate) use fp::{set_vector, vector};
pub(crate) use frame::{Frame, guest_enter};
pub(crate) use interrupts::notify;

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{ELR_EL2, SPSR_EL2, VMPIDR_EL2, Writeable};
use arch::Encoding;
use arch::syndrome::CoprocessorAccess;
use debug::registers::{DebugRegisters, Refusal};
use platform::board::MAX_CPUS;
use psci::halt::Watch;
use psci::power::Entry;
use spin::Mutex;
use trace::Category;
use vgic::Listing;

use crate::mm::{self, Memory};
use crate::percpu;
use crate::sched::{Context, ThreadId};
use crate::vm::{self, Vm};
use crate::{tlb, tracing};
use errors::VirtualError;
use fp::FpRegisters;
use interface::InterfaceState;
use interrupts::Interrupts;
use registers::Registers;

/// `VMPIDR_EL2`: bit 31 is RES1.
const MPIDR_RES1: u64 = 1 << 31;
/// `SPSR_EL2` of a vCPU that starts: EL1 with its own stack pointer, everything masked.
const SPSR_START: u64 = 0x3c5;
/// The number of no CPU.
const NOWHERE: usize = usize::MAX;

/// The vCPU whose registers each CPU holds.
static LOADED: [AtomicPtr<Vcpu>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// What has to be looked at before the guest is entered again.
mod look {
    /// Nothing.
    pub(super) const AT_NOTHING: u8 = 0;
    /// Whether an interrupt that was listed for a timer is to go: the guest may have set the timer
    /// anew.
    pub(super) const AT_TIMERS: u8 = 1;
    /// Everything.
    pub(super) const AT_ALL: u8 = 2;
}

/// A virtual CPU.
#[repr(C, align(64))]
pub(crate) struct Vcpu {
    vm: usize,
    index: usize,
    thread: Mutex<Option<ThreadId>>,
    /// The CPU that holds the registers, if it is still that CPU's `LOADED`.
    cpu: AtomicUsize,
    /// Whether something happened since the guest was last entered that has to be looked at before
    /// it is entered again: one of [`look`].
    look: AtomicU8,
    interrupts: Interrupts,
    virtual_error: VirtualError,
    /// How often it left the guest, and why.
    pub(crate) counters: Counters,
    /// Whether it may have come to where nothing gets it going again.
    pub(crate) watch: Watch,
    saved: UnsafeCell<Saved>,
}

/// A vCPU's registers while they are in no CPU.
struct Saved {
    registers: Registers,
    interface: InterfaceState,
    fp: FpRegisters,
    /// These stay here; the CPU has what of them has an effect.
    debug: DebugRegisters,
}

impl Saved {
    const RESET: Self = Self {
        registers: Registers::RESET,
        interface: InterfaceState::RESET,
        fp: FpRegisters::ZERO,
        debug: DebugRegisters::RESET,
    };
}

// SAFETY: All but `saved` is atomic or constant; `saved` is private to this file, whose functions
// are called on the vCPU's own thread.
unsafe impl Sync for Vcpu {}

impl Vcpu {
    /// vCPU number `index` of VM number `vm`.
    pub(crate) const fn new(vm: usize, index: usize) -> Self {
        Self {
            vm,
            index,
            thread: Mutex::new(None),
            cpu: AtomicUsize::new(NOWHERE),
            look: AtomicU8::new(look::AT_ALL),
            interrupts: Interrupts::new(),
            virtual_error: VirtualError::new(),
            counters: Counters::new(),
            watch: Watch::new(),
            saved: UnsafeCell::new(Saved::RESET),
        }
    }

    /// The VM it belongs to.
    pub(crate) fn vm(&self) -> &'static Vm {
        vm::get(self.vm)
    }

    /// Its number in the VM, which is also its affinity.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The thread it runs on, once that is made.
    pub(crate) fn thread(&self) -> Option<ThreadId> {
        *self.thread.lock()
    }

    /// Says which thread it runs on from now on. Its counters begin at zero.
    pub(crate) fn set_thread(&self, thread: ThreadId) {
        self.counters.clear();
        *self.thread.lock() = Some(thread);
    }

    /// Whether the guest can be entered without a further look: the thread did not leave the CPU
    /// and was not interrupted since the last look. Only for the vCPU's own thread.
    pub(crate) fn is_entry_ready(&self) -> bool {
        self.look.load(Ordering::Relaxed) == look::AT_NOTHING
    }

    /// The same after a look at the timers, if nothing else has to be looked at. Only for the
    /// vCPU's own thread.
    pub(crate) fn recheck_timers(&self) -> bool {
        let look = self.look.load(Ordering::Relaxed);
        if look != look::AT_TIMERS || self.has_fallen_timer() {
            return look == look::AT_NOTHING;
        }
        self.look.store(self.timers_look(), Ordering::Relaxed);
        true
    }

    /// Asks for a look before the guest is entered again. Only for the vCPU's own thread.
    pub(crate) fn require_entry_check(&self) {
        self.look.store(look::AT_ALL, Ordering::Relaxed);
    }

    /// Resets the registers and has the next entry to the guest go to `entry`. Only for the vCPU's
    /// own thread.
    pub(crate) fn reset(&self, entry: Entry) {
        self.clear_error();
        self.watch.reset();
        self.reset_interface();
        let saved = self.saved.get();
        // SAFETY: We are on the vCPU's own thread, and no reference to `saved` is alive.
        debugging::quiet(unsafe { &(*saved).debug });
        // SAFETY: As above.
        unsafe { saved.write(Saved::RESET) };
        self.load();
        ELR_EL2.set(entry.address);
        SPSR_EL2.set(SPSR_START);
    }

    /// Lets this CPU translate with the tables of the guest's memory, and gives the guest its
    /// interrupts. Only for the vCPU's own thread, right before it enters the guest.
    pub(crate) fn use_tables(&self, memory: &Memory) {
        mm::load_tables(memory);
        // Another vCPU ran here, with other stage-1 tables under the same VMID and maybe the same
        // ASIDs.
        if self.vm().note_entry(percpu::this().index(), self.index) {
            tlb::invalidate_stage1();
        }
        self.look.store(look::AT_NOTHING, Ordering::Relaxed);
        self.present_interrupts();
        if tracing::wants(Category::Vcpu) {
            // A trace of vCPUs has each entry in it.
            self.require_entry_check();
        } else if self.is_entry_ready() {
            self.look.store(self.timers_look(), Ordering::Relaxed);
        }
        tracing::entering();
    }

    /// What has to be looked at, as far as the timers are concerned.
    fn timers_look(&self) -> u8 {
        if self.has_pending_timer() {
            look::AT_TIMERS
        } else {
            look::AT_NOTHING
        }
    }

    /// Stops the timers, which start anew when the vCPU is switched on again: what this CPU does
    /// until it runs another vCPU takes none of their interrupts. Only for the vCPU's own thread,
    /// before it leaves the guest for good.
    pub(crate) fn stop_timers(&self) {
        registers::disable_timers();
        // Their lines are low before what they have pending is withdrawn.
        barrier::isb(barrier::SY);
    }

    /// Makes this CPU forget the guest's tables and interrupts. The thread will not enter the guest
    /// until it has called [`Self::use_tables`]. Only for the vCPU's own thread.
    pub(crate) fn leave_tables(&self) {
        self.withdraw_interrupts();
        self.leave_guest();
        self.require_entry_check();
        mm::unload_tables();
    }

    /// Loads all registers, unless the CPU still holds them.
    fn load_if_lost(&self) {
        let cpu = percpu::this().index();
        let held = LOADED[cpu].load(Ordering::Relaxed).cast_const();
        if core::ptr::eq(held, self) && self.cpu.load(Ordering::Relaxed) == cpu {
            // SAFETY: We are on the vCPU's own thread.
            let saved = unsafe { &*self.saved.get() };
            saved.registers.load_timers();
            debugging::load(&saved.debug);
        } else {
            self.load();
        }
    }

    fn load(&self) {
        let cpu = percpu::this().index();
        LOADED[cpu].store(core::ptr::from_ref(self).cast_mut(), Ordering::Relaxed);
        self.cpu.store(cpu, Ordering::Relaxed);
        VMPIDR_EL2.set(MPIDR_RES1 | self.index as u64);
        // SAFETY: We are on the vCPU's own thread.
        let saved = unsafe { &*self.saved.get() };
        saved.registers.load();
        saved.fp.load();
        saved.interface.load();
        self.enable_interface(&Listing::EMPTY);
        saved.registers.load_timers();
        debugging::load(&saved.debug);
    }

    fn save(&self) {
        // SAFETY: We are on the vCPU's own thread, and no other reference to `saved` is alive.
        let saved = unsafe { &mut *self.saved.get() };
        saved.registers.save();
        saved.fp.save();
        saved.interface.save();
        registers::disable_timers();
        if saved.debug.is_active() {
            debugging::quiet(&saved.debug);
        }
    }

    /// What its guest reads from a debug register. Only for the vCPU's own thread.
    pub(crate) fn read_debug(&self, register: Encoding, is_el0: bool) -> Result<u64, Refusal> {
        // SAFETY: We are on the vCPU's own thread.
        let saved = unsafe { &*self.saved.get() };
        saved.debug.read(register, is_el0, debugging::shown())
    }

    /// The same from AArch32 at EL0, also for a write. Only for the vCPU's own thread.
    pub(crate) fn access_debug_aarch32(&self, access: CoprocessorAccess) -> Result<u32, Refusal> {
        // SAFETY: We are on the vCPU's own thread.
        let saved = unsafe { &*self.saved.get() };
        saved.debug.access_aarch32(access, debugging::shown())
    }

    /// Writes a debug register for its guest, which sees the effect when it is entered. Only for
    /// the vCPU's own thread.
    pub(crate) fn write_debug(
        &self,
        register: Encoding,
        value: u64,
        is_el0: bool,
    ) -> Result<(), Refusal> {
        // SAFETY: We are on the vCPU's own thread, and no other reference to `saved` is alive.
        let saved = unsafe { &mut *self.saved.get() };
        let change = saved
            .debug
            .write(register, value, is_el0, debugging::shown())?;
        debugging::follow(&saved.debug, change);
        Ok(())
    }
}

impl Context for Vcpu {
    fn switch_out(&self) {
        self.take_errors();
        self.withdraw_error();
        self.withdraw_interrupts();
        self.save();
        self.leave_tables();
    }

    fn switch_in(&self) {
        self.load_if_lost();
        self.present_error();
    }

    fn serve_interrupts(&self) {
        physical::serve(Some(self));
        // Behind it, so that what it has taken is looked at: it may have been the message that the
        // VM is to stop.
        self.require_entry_check();
    }

    fn next_timer(&self) -> Option<u64> {
        Vcpu::next_timer(self)
    }

    fn ended(&self) {
        self.vm().thread_ended();
    }

    fn name(&self) -> (u8, u8) {
        (self.vm as u8, self.index as u8)
    }
}
