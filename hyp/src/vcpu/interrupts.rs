//! A vCPU's interrupts: between the VM's interrupt controller ([`vgic`]) and the CPU.
//!
//! An agent that changes something that may concern a vCPU (a device, another vCPU, the hardware's
//! timer) calls for its [attention](notify), from wherever. The vCPU takes note before it enters
//! the guest again ([`Vcpu::present_interrupts`]), which is soon: if it has entered the guest its
//! CPU is interrupted, if not its thread is woken. Why no call is lost: a caller sets `attention`
//! and then looks at `entered`, the vCPU changes `entered` and then looks at `attention` (before it
//! goes to the guest or to sleep), so one sees the other; and an interrupt that is sent to a CPU at
//! EL2 stays pending there until the guest is entered.
//!
//! The list registers are left alone as long as nobody calls. They are read back when something has
//! to be known or changed, and when the thread leaves the CPU.
//!
//! The timers' interrupts are the CPU's own: EL2 takes them, leaves them active, and lists them
//! such that the guest ends both at once. What the guest does to a timer EL2 does not see. So while
//! a timer's interrupt is listed and not taken, each exit looks at the timer, and takes the
//! interrupt back if its line has fallen.
//!
//! Lock: that of the VM's [`Vgic`]. Nothing else is locked while it is held, and no threads switch.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, Readable};
use platform::board::FIRST_PPI;
use platform::gic::{self, IntId};
use vgic::{
    Listing, MAX_LIST_REGISTERS, PHYSICAL_TIMER, SgiRegister, VIRTUAL_TIMER, VcpuSet, Vgic,
    pending_hardware,
};

use super::{NOWHERE, Vcpu, interface};
use crate::board::ipi::kick;
use crate::board::wiring;
use crate::percpu;
use crate::sched;
use crate::vm::Vm;

/// `CNTx_CTL_EL0`: ENABLE, IMASK and ISTATUS.
const TIMER_FIELDS: u64 = 0b111;
/// `CNTx_CTL_EL0`: enabled, not masked, the time not yet reached.
const TIMER_RUNS: u64 = 0b001;
/// `CNTx_CTL_EL0`: enabled, not masked, the time reached: the line is high.
const TIMER_FIRES: u64 = 0b101;

/// What is known of a vCPU's interrupts without the controller's lock.
#[derive(Debug)]
pub(super) struct Interrupts {
    /// What is listed may have to change.
    attention: AtomicBool,
    /// The CPU on which the thread entered the guest and which it has not left since, or
    /// [`NOWHERE`].
    entered: AtomicUsize,
    /// How often the list registers were read back.
    read_back: AtomicU64,
    /// How many list registers are used. For the own thread.
    used: AtomicUsize,
    /// Some are used, or the CPU's own controller has interrupts that are active for this vCPU. For
    /// the own thread.
    held: AtomicBool,
    /// The list registers, a bit for each, that held a timer's interrupt which was not taken when
    /// that was last looked at. For the own thread.
    timers: AtomicU32,
    /// The guest was seen to choose how it ends interrupts (`ICC_CTLR_EL1.EOImode`). For the own
    /// thread.
    end_mode_known: AtomicBool,
}

impl Interrupts {
    pub(super) const fn new() -> Self {
        Self {
            attention: AtomicBool::new(false),
            entered: AtomicUsize::new(NOWHERE),
            read_back: AtomicU64::new(0),
            used: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            timers: AtomicU32::new(0),
            end_mode_known: AtomicBool::new(false),
        }
    }
}

/// Has the vCPUs in `set`, of one VM, look at their interrupts. `own` is the vCPU whose thread
/// calls, if it is one of this VM's.
pub(crate) fn notify(vm: &Vm, set: VcpuSet, own: Option<&Vcpu>) {
    for vcpu in set.iter().filter_map(|index| vm.vcpu(index)) {
        match own {
            Some(own) if own.index == vcpu.index => own.want_attention(),
            _ => vcpu.call_attention(),
        }
    }
}

/// What others do to a vCPU.
impl Vcpu {
    fn call_attention(&self) {
        self.interrupts.attention.store(true, Ordering::SeqCst);
        let cpu = self.interrupts.entered.load(Ordering::SeqCst);
        if cpu == NOWHERE {
            if let Some(thread) = self.thread() {
                sched::wake(thread);
            }
        } else if cpu != percpu::this().index() {
            // On this CPU it is interrupted already: that is how this code got here.
            kick(cpu);
        }
    }
}

/// What a vCPU's own thread does.
impl Vcpu {
    /// Has itself look at its interrupts before it enters the guest again.
    fn want_attention(&self) {
        self.interrupts.attention.store(true, Ordering::SeqCst);
        self.require_entry_check();
    }

    /// Says that the guest is entered on this CPU, and lists what is to be listed if an agent
    /// called for it, or if what is listed is no longer true.
    pub(super) fn present_interrupts(&self) {
        let here = percpu::this().index();
        self.interrupts.entered.store(here, Ordering::SeqCst);
        let is_called = self.interrupts.attention.swap(false, Ordering::SeqCst);
        if is_called || self.has_pending_timer() && self.has_fallen_timer() {
            self.list_again();
        }
    }

    /// Whether a timer's interrupt is listed that was pending when that was last looked at.
    pub(super) fn has_pending_timer(&self) -> bool {
        self.interrupts.timers.load(Ordering::Relaxed) != 0
    }

    /// Whether a timer's interrupt is listed and pending although the timer's line has fallen.
    #[inline(never)]
    pub(super) fn has_fallen_timer(&self) -> bool {
        let timers = &self.interrupts.timers;
        let listed = timers.load(Ordering::Relaxed) & !interface::empty();
        let mut pending = listed;
        if listed != 0 {
            let lines = timer_lines();
            for index in (0..MAX_LIST_REGISTERS).filter(|index| listed >> index & 1 == 1) {
                match pending_hardware(interface::read_one(index)) {
                    // The guest has taken it.
                    0 => pending &= !(1 << index),
                    timer if lines & timer == 0 => return true,
                    _ => {}
                }
            }
        }
        timers.store(pending, Ordering::Relaxed);
        false
    }

    #[inline(never)]
    fn list_again(&self) {
        let mut registers = [0; MAX_LIST_REGISTERS];
        let mut vgic = self.vm().vgic().lock();
        let others = self.read_back(&mut vgic);
        let room = &mut registers[..interface::list_registers()];
        let (groups, _) = interface::filter();
        let listing = vgic.list(self.index, room, groups);
        drop(vgic);
        let registers = &registers[..listing.used];
        interface::write(registers);
        self.enable_interface(&listing);
        let timers = (0..).zip(registers).fold(0, |mask, (index, &register)| {
            mask | u32::from(pending_hardware(register) != 0) << index
        });
        self.interrupts.timers.store(timers, Ordering::Relaxed);
        self.interrupts.used.store(listing.used, Ordering::Relaxed);
        if listing.used > 0 {
            self.interrupts.held.store(true, Ordering::Relaxed);
        }
        notify(self.vm(), others, Some(self));
    }

    /// Brings the controller up to date with what the CPU has: list registers, and the timers'
    /// lines.
    pub(crate) fn show_interrupts(&self) {
        let mut vgic = self.vm().vgic().lock();
        let others = self.read_back(&mut vgic);
        let again = vgic.has_candidates(self.index);
        drop(vgic);
        if again {
            self.want_attention();
        }
        notify(self.vm(), others, Some(self));
    }

    /// Waits until the list registers of the vCPUs in `set` have been read back. May switch
    /// threads.
    pub(crate) fn await_interrupts_of(&self, set: VcpuSet) {
        for other in set.without(self.index).iter() {
            let Some(other) = self.vm().vcpu(other) else {
                continue;
            };
            let seen = other.interrupts.read_back.load(Ordering::SeqCst);
            other.call_attention();
            while other.interrupts.entered.load(Ordering::SeqCst) != NOWHERE
                && other.interrupts.read_back.load(Ordering::SeqCst) == seen
            {
                // The other may be waiting likewise for this one.
                if self.interrupts.attention.load(Ordering::SeqCst) {
                    self.show_interrupts();
                }
                sched::yield_now();
            }
        }
    }

    /// Writes `value` to a register that sends interrupts to vCPUs.
    pub(crate) fn send_sgi(&self, register: SgiRegister, value: u64) {
        let concerned = {
            let mut vgic = self.vm().vgic().lock();
            vgic.send_sgi(self.index, register, value)
        };
        notify(self.vm(), concerned, Some(self));
    }

    /// The guest ends interrupt `intid` by its number. In EOImode 0 that has no effect.
    pub(crate) fn deactivate(&self, intid: u32) {
        if !interface::ends_by_number() {
            return;
        }
        let concerned = self.vm().vgic().lock().deactivate(self.index, intid);
        // Also if no vCPU is to be told: the CPU may hold a timer's interrupt active for this one.
        self.want_attention();
        notify(self.vm(), concerned, Some(self));
    }

    /// The guest chooses how it ends interrupts: `ICC_CTLR_EL1` gets this value.
    pub(crate) fn set_control(&self, value: u64) {
        // What the guest has ended so far it ended in the mode that was.
        self.show_interrupts();
        interface::set_common(interface::common().with_control(value));
        self.interrupts
            .end_mode_known
            .store(true, Ordering::Relaxed);
        self.want_attention();
    }

    /// Makes the CPU's interface work for this vCPU, whose registers are loaded.
    pub(super) fn enable_interface(&self, listing: &Listing) {
        let mode_known = self.interrupts.end_mode_known.load(Ordering::Relaxed);
        interface::enable(listing, mode_known);
    }

    /// The registers of the vCPU's interface were reset.
    pub(super) fn reset_interface(&self) {
        self.interrupts
            .end_mode_known
            .store(false, Ordering::Relaxed);
        self.vm().vgic().lock().reset_interface(self.index);
    }

    /// The CPU took the interrupt of a timer that belongs to the guest, and left it active.
    pub(crate) fn forward(&self, intid: u32) {
        self.vm().vgic().lock().forward(self.index, intid);
        self.interrupts.held.store(true, Ordering::Relaxed);
        self.want_attention();
    }

    /// The CPU took a maintenance interrupt: the list registers want to be looked after.
    pub(crate) fn maintain(&self) {
        interface::silence();
        barrier::isb(barrier::SY);
        self.want_attention();
    }

    /// Says that the vCPU is about to wait for an interrupt: a CPU that has one wakes its thread.
    pub(crate) fn begin_wait(&self) {
        self.leave_guest();
        self.require_entry_check();
    }

    /// Whether there is an interrupt that ends a wait, or an error that the guest is to take. If
    /// not, the thread can be parked: none that comes from here on is missed.
    pub(crate) fn has_interrupt(&self) -> bool {
        self.interrupts.attention.swap(false, Ordering::SeqCst);
        self.show_interrupts();
        if self.has_error() {
            return true;
        }
        let (groups, mask) = interface::filter();
        let vgic = self.vm().vgic().lock();
        vgic.wakes(self.index, groups, mask, timer_lines())
    }

    /// When the next of its timers fires whose interrupt the guest lets through, in ticks.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        let runs = |control: u64| control & TIMER_FIELDS == TIMER_RUNS;
        let timers = [
            (VIRTUAL_TIMER, CNTV_CTL_EL0.get(), CNTV_CVAL_EL0.get()),
            (PHYSICAL_TIMER, CNTP_CTL_EL0.get(), CNTP_CVAL_EL0.get()),
        ];
        let vgic = self.vm().vgic().lock();
        let wanted = |&(intid, control, _): &(u32, u64, u64)| {
            runs(control) && vgic.is_enabled(self.index, intid)
        };
        let deadlines = timers.into_iter().filter(wanted).map(|(_, _, at)| at);
        deadlines.min()
    }

    /// Takes everything back from the CPU, which the thread is about to leave.
    pub(super) fn withdraw_interrupts(&self) {
        if self.interrupts.held.load(Ordering::Relaxed) {
            self.show_interrupts();
            let active = self.vm().vgic().lock().leave_cpu(self.index);
            deactivate(active);
            self.interrupts.held.store(false, Ordering::Relaxed);
        }
    }

    /// Says that the thread is about to leave the CPU, or not to enter the guest.
    pub(super) fn leave_guest(&self) {
        self.interrupts.entered.store(NOWHERE, Ordering::SeqCst);
    }

    /// Reads the list registers back into the controller, and empties them. Returns other vCPUs
    /// that are concerned.
    fn read_back(&self, vgic: &mut Vgic) -> VcpuSet {
        let mut registers = [0; MAX_LIST_REGISTERS];
        let used = self.interrupts.used.swap(0, Ordering::Relaxed);
        let registers = &mut registers[..used];
        interface::read(registers);
        let ended = interface::ended_unlisted();
        let unlisted = vgic.unlist(self.index, registers, ended, timer_lines());
        registers.fill(0);
        interface::write(registers);
        self.enable_interface(&Listing::EMPTY);
        deactivate(unlisted.release);
        self.interrupts
            .held
            .store(unlisted.forwarded, Ordering::Relaxed);
        self.interrupts.read_back.fetch_add(1, Ordering::SeqCst);
        unlisted.others
    }
}

/// The levels of this CPU's timers' lines, by INTID. Only while they are the vCPU's.
fn timer_lines() -> u32 {
    barrier::isb(barrier::SY);
    let line = |control: u64, intid: u32| match control & TIMER_FIELDS {
        TIMER_FIRES => 1 << intid,
        _ => 0,
    };
    line(CNTV_CTL_EL0.get(), VIRTUAL_TIMER) | line(CNTP_CTL_EL0.get(), PHYSICAL_TIMER)
}

/// Lets interrupts of this CPU's own controller, by INTID, come again.
fn deactivate(mask: u32) {
    for intid in [VIRTUAL_TIMER, PHYSICAL_TIMER] {
        if mask >> intid & 1 == 1 {
            gic::deactivate(IntId::ppi(wiring().to_physical(intid) - FIRST_PPI));
        }
    }
}
