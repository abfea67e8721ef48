//! A VM's life: start, restart, power-off.
//!
//! Each vCPU has a thread for as long as its VM exists. While the vCPU is off the thread waits in
//! [`Vm::wait_for_power`]; while it is on, it runs the guest, or deals with one of its exits.
//!
//! Stopping, for whatever reason: [`Vm::stop`] notes it and interrupts all CPUs. Before any vCPU
//! enters the guest again it passes [`Vm::admit`], sees that, gives up the guest's tables and goes
//! off. The last one to do so is alone with the VM: it takes the memory away and then restarts the
//! VM or ends it.
//!
//! Why nobody slips through: a vCPU that enters the guest looked at `stopping` after its thread got
//! on the CPU it is on, with interrupts masked. If it saw nothing, the note came later, and so does
//! the interrupt, which is then pending on that very CPU and takes it out of the guest at once.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use bootargs::MAX_VCPUS;
use devices::fw_cfg::FwCfg;
use devices::pl031::Pl031;
use loader::setup::Setup;
use log::{error, info};
use memory::Outcome;
use memory::shortage::{Shortage, Verdict};
use mux::ratelimit::RateLimit;
use platform::timer;
use plural::count;
use psci::halt::Halt;
use psci::power::{Entry, Power, StopReason};
use vgic::Vgic;

use super::load::{LoadError, load};
use super::{VMS, Vm, input, reaper};
use crate::board::{ipi, wiring};
use crate::sched::{self, SpawnError};
use crate::vcpu::{Counters, Frame, Vcpu, guest_enter};
use crate::{console, mm};

/// How often a vCPU that has halted looks whether another has got it going, in a second.
const LOOKS_PER_SECOND: u64 = 4;

/// How many VMs are not over yet, and one more while VMs are being made at the start.
static ALIVE: AtomicUsize = AtomicUsize::new(1);

/// Who is stopped when no memory is left.
static SHORTAGE: Shortage = Shortage::new();

/// Why a VM could not be made. Nothing is left of it.
#[derive(Clone, Debug)]
pub(crate) enum CreateError {
    /// The table of VMs is full.
    TooManyVms,
    /// Its memory could not be filled.
    Load(LoadError),
    /// There is no thread for a vCPU.
    Spawn(SpawnError),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyVms => write!(f, "this build has room for {} VMs", VMS.len()),
            Self::Load(reason) => reason.fmt(f),
            Self::Spawn(reason) => reason.fmt(f),
        }
    }
}

/// Makes a VM and starts it.
///
/// # Errors
///
/// What was not to be had. Threads that were made already have ended, or are about to.
pub(crate) fn create(setup: Setup<'static>) -> Result<&'static Vm, CreateError> {
    make(setup, RateLimit::new())
}

/// As [`create`]; `lines` are those that the VM has caused already.
fn make(setup: Setup<'static>, lines: RateLimit) -> Result<&'static Vm, CreateError> {
    let free = |vm: &&Vm| {
        let mut place = vm.setup.lock();
        let free = place.is_none();
        if free {
            *place = Some(setup);
        }
        free
    };
    let vm = VMS.iter().find(free).ok_or(CreateError::TooManyVms)?;
    let loaded = load(vm.index, &setup, 0);
    let (memory, entry) = loaded.map_err(|reason| {
        *vm.setup.lock() = None;
        CreateError::Load(reason)
    })?;
    *vm.power.lock() = Power::new(setup.vcpus);
    *vm.lines.lock() = lines;
    // Another VM may have been here, whose time and values are nobody else's.
    *vm.clock.lock() = Pl031::new();
    *vm.fw_cfg.lock() = FwCfg::new();
    vm.unknown_access.store(false, Ordering::Relaxed);
    *vm.vgic.lock() = Vgic::new(setup.vcpus).wired(wiring());
    vm.vcpu_count.store(setup.vcpus, Ordering::Relaxed);
    for vcpu in &vm.vcpus[..setup.vcpus] {
        let argument = vm.index * MAX_VCPUS + vcpu.index();
        vm.threads.fetch_add(1, Ordering::Relaxed);
        match sched::spawn("vcpu", run, argument, Some(vcpu)) {
            Ok(thread) => vcpu.set_thread(thread),
            Err(reason) => {
                vm.threads.fetch_sub(1, Ordering::Relaxed);
                *vm.setup.lock() = Some(Setup {
                    restarts: 0,
                    ..setup
                });
                vm.end_threads();
                memory.destroy();
                return Err(CreateError::Spawn(reason));
            }
        }
    }
    ALIVE.fetch_add(1, Ordering::Relaxed);
    if let Some(leave) = vm.may_log() {
        info!(
            "vm{} is {}: {}, {} MiB, starts at {:#x}{leave}",
            vm.index,
            setup.name,
            count(setup.vcpus, "vCPU", "vCPUs"),
            setup.memory_size >> 20,
            entry.address
        );
    }
    // SAFETY: No vCPU is on, and the gate has not been opened.
    unsafe { vm.begin(memory, entry) };
    Ok(vm)
}

/// Says that no more VMs are made at the start: from now on the hypervisor ends with the last one.
pub(crate) fn all_made() {
    one_less();
}

/// Ends the hypervisor if nothing is left.
fn one_less() {
    if ALIVE.fetch_sub(1, Ordering::AcqRel) == 1 {
        console::switch_off();
    }
}

/// What a vCPU's thread does: waits until it is on, then runs the guest for good.
extern "C" fn run(argument: usize) {
    let vcpu = &VMS[argument / MAX_VCPUS].vcpus[argument % MAX_VCPUS];
    let mut frame = Frame { x: [0; 32], vcpu };
    let vm = vcpu.vm();
    vm.wait_for_power(&mut frame);
    vm.admit(&mut frame);
    // SAFETY: The frame is on this thread's stack; `admit` says that the guest may be entered.
    unsafe { guest_enter(&raw const frame.x) }
}

impl Vm {
    /// No memory was left for what `vcpu`, the caller's own, needs; `try_again` is what found none.
    /// Stops the VM. But if memory comes free, because another VM is being stopped or has set some
    /// aside that it does not use, others run, and the guest can try again.
    pub(crate) fn out_of_memory(&self, vcpu: &Vcpu, try_again: impl FnOnce() -> Outcome) {
        let look_again =
            || try_again() != Outcome::OutOfMemory || super::all().any(Self::gives_up_reservations);
        match SHORTAGE.decide(self.index, look_again) {
            Verdict::Stop => self.stop(vcpu, StopReason::OutOfMemory),
            Verdict::TryAgain => sched::yield_now(),
        }
    }

    /// Whether memory has come free that the VM had set aside.
    fn gives_up_reservations(&self) -> bool {
        self.visit(|memory| memory.give_up_reservations()) > Some(0)
    }

    /// The vCPU, the caller's own, has come to where nothing but another vCPU gets it going again,
    /// by what that stores. Returns when `still` says, which is asked now and then, that one has,
    /// or when the VM stops, which it does when all its vCPUs have come to such a place.
    pub(crate) fn halt(&self, vcpu: &Vcpu, halt: Halt, still: impl Fn() -> bool) {
        self.power.lock().halt(halt);
        self.stop_if_halted(vcpu);
        while !self.is_stopping() {
            sched::sleep_until(timer::now() + timer::frequency() / LOOKS_PER_SECOND);
            let still = self.is_stopping() || still();
            self.power.lock().look_again(vcpu.index(), still);
            if !still {
                break;
            }
            self.stop_if_halted(vcpu);
        }
        vcpu.require_entry_check();
    }

    /// Stops the VM if none of its vCPUs gets on; `vcpu` is the caller's own.
    fn stop_if_halted(&self, vcpu: &Vcpu) {
        let halted = self.power.lock().halted();
        if let Some(halt) = halted {
            self.stop(vcpu, StopReason::Halted(halt));
        }
    }

    /// Asks all vCPUs to leave the guest, for `reason`; `vcpu` is the caller's own.
    pub(crate) fn stop(&self, vcpu: &Vcpu, reason: StopReason) {
        self.power.lock().request_stop(reason);
        SHORTAGE.leaves(self.index);
        self.stopping.store(true, Ordering::SeqCst);
        ipi::kick_others();
        // Those that wait for an interrupt.
        self.wake_all();
        vcpu.require_entry_check();
    }

    /// The vCPU has switched itself off. Returns when another vCPU has switched it on, with the
    /// frame as a vCPU starts.
    pub(crate) fn switch_off(&self, frame: &mut Frame) {
        self.leave(frame.vcpu);
        self.wait_for_power(frame);
    }

    /// Returns when the vCPU may enter the guest. The frame is then the guest's registers.
    pub(crate) fn admit(&self, frame: &mut Frame) {
        while self.is_stopping() {
            self.leave(frame.vcpu);
            self.wait_for_power(frame);
        }
        frame.vcpu.use_tables(self.memory());
    }

    /// Waits until the vCPU is switched on; ends the thread if the VM is over.
    fn wait_for_power(&self, frame: &mut Frame) {
        let vcpu = frame.vcpu;
        loop {
            if self.over.load(Ordering::Acquire) {
                sched::exit();
            }
            let entry = self.power.lock().take_entry(vcpu.index());
            if let Some(entry) = entry {
                frame.x = [0; 32];
                frame.x[0] = entry.context;
                vcpu.reset(entry);
                return;
            }
            sched::park();
        }
    }

    /// The vCPU leaves the guest for good. The last one winds the VM up.
    fn leave(&self, vcpu: &Vcpu) {
        vcpu.stop_timers();
        vcpu.leave_tables();
        let reason = self.power.lock().leave(vcpu.index());
        if reason.is_some() {
            // Also where nobody asked for it: the last vCPU switched itself off.
            SHORTAGE.leaves(self.index);
        }
        match reason {
            None => self.stop_if_halted(vcpu),
            Some(StopReason::Reset) => self.restart(),
            Some(reason) => self.end(reason),
        }
    }

    /// Starts the guest in new memory. Called when no vCPU is on.
    fn restart(&self) {
        // SAFETY: No vCPU is on: the last one, alone, has called this.
        unsafe { self.take_memory_away() };
        self.reset_devices();
        let resets = self.resets.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if let Some(leave) = self.may_log() {
            info!("vm{}: reset {resets}{leave}", self.index);
        }
        let setup = *self.setup.lock();
        let loaded = setup.map(|setup| load(self.index, &setup, resets));
        match loaded {
            // SAFETY: As above.
            Some(Ok((memory, entry))) => unsafe { self.begin(memory, entry) },
            Some(Err(reason)) => {
                error!("vm{} cannot be restarted: {reason}", self.index);
                self.end(StopReason::OutOfMemory);
            }
            None => self.end(StopReason::Fault),
        }
    }

    /// Puts the memory in place and switches vCPU 0 on.
    ///
    /// # Safety
    ///
    /// No vCPU is on, and the gate is closed.
    unsafe fn begin(&self, memory: mm::Memory, entry: Entry) {
        // SAFETY: The caller's promise is the module's invariant.
        unsafe { *self.memory.get() = Some(memory) };
        self.gate.open();
        self.stopping.store(false, Ordering::SeqCst);
        self.power.lock().boot(entry);
        self.wake(0);
    }

    /// Frees the VM's memory, once no visitor is in it.
    ///
    /// # Safety
    ///
    /// No vCPU is on.
    unsafe fn take_memory_away(&self) {
        self.gate.close(sched::yield_now);
        // SAFETY: No vCPU is on, and now nobody is inside the gate.
        let memory = unsafe { (*self.memory.get()).take() };
        if let Some(memory) = memory {
            memory.destroy();
        }
        SHORTAGE.came_free(self.index);
    }

    /// Ends the VM, and the hypervisor with the last one unless it is to be made anew. Called when
    /// no vCPU is on.
    fn end(&self, reason: StopReason) {
        let unread = self.drop_typed();
        if unread > 0
            && let Some(leave) = self.may_log()
        {
            info!(
                "vm{}: {unread} bytes that were typed are not read{leave}",
                self.index
            );
        }
        self.reset_devices();
        if reason == StopReason::Off && self.setup.lock().is_some_and(|setup| setup.restarts > 0) {
            // SAFETY: No vCPU is on.
            unsafe { self.take_memory_away() };
            self.chips.free(mm::machine());
            return self.end_threads();
        }
        // Made anew it would be stopped for the same reason again.
        if let Some(setup) = self.setup.lock().as_mut() {
            setup.restarts = 0;
        }
        match reason {
            StopReason::Off | StopReason::Reset => {}
            StopReason::AllVcpusOff => info!("vm{}: all its vCPUs are off", self.index),
            StopReason::OutOfMemory => error!(
                "vm{} stopped: no physical memory is left for it; give QEMU more with -m, raise the \
                 boot argument frames, or lower guest-memory",
                self.index
            ),
            StopReason::Fault => error!(
                "vm{} stopped: what it was to be made of is gone",
                self.index
            ),
            StopReason::Halted(halt) => error!("vm{} stopped: {halt}", self.index),
            StopReason::Mistake => error!(
                "vm{} stopped: the hypervisor has made a mistake with its memory, see above; please report it",
                self.index
            ),
        }
        let missed = self.lines.lock().take_missed();
        if missed > 0 {
            info!("vm{}: {missed} lines about it were not shown", self.index);
        }
        self.show_exits();
        mm::show_statistics();
        // SAFETY: No vCPU is on.
        unsafe { self.take_memory_away() };
        self.chips.free(mm::machine());
        mm::show_usage();
        // Before the line: who waits for it and then types is heard by another VM.
        self.end_threads();
        input::ended(self.index);
        console::line(format_args!("tessera: vm{} off", self.index));
        one_less();
    }

    /// Has the threads of all vCPUs end.
    fn end_threads(&self) {
        self.over.store(true, Ordering::Release);
        self.wake_all();
        reaper::wake();
    }

    /// A vCPU's thread has ended.
    pub(crate) fn thread_ended(&self) {
        self.threads.fetch_sub(1, Ordering::Release);
    }

    /// If the VM is over and all its threads have ended: frees its entry of the table, and makes
    /// the VM anew if that is to be. Returns whether there was nothing to wait for.
    pub(super) fn clear_away(&self) -> bool {
        if !self.over.load(Ordering::Acquire) {
            return true;
        }
        if self.threads.load(Ordering::Acquire) > 0 {
            return false;
        }
        self.resets.store(0, Ordering::Relaxed);
        self.over.store(false, Ordering::Release);
        let setup = self.setup.lock().take();
        let again = setup.and_then(|setup| {
            let restarts = setup.restarts.checked_sub(1)?;
            Some(Setup { restarts, ..setup })
        });
        if let Some(setup) = again {
            let lines = core::mem::take(&mut *self.lines.lock());
            match make(setup, lines) {
                Ok(vm) => input::moved(self.index, vm.index),
                Err(reason) => error!("{} cannot be started again: {reason}", setup.name),
            }
            // The entry in `ALIVE` of the VM that is over.
            one_less();
        }
        true
    }

    fn wake_all(&self) {
        for vcpu in 0..MAX_VCPUS {
            self.wake(vcpu);
        }
    }

    /// Shows how often its vCPUs left the guest, and why.
    pub(crate) fn show_exits(&self) {
        info!("vm{}, exits of its vCPUs:", self.index);
        for (name, count) in Counters::sums(self.vcpus.iter().map(|vcpu| &vcpu.counters)) {
            info!("  {count:>12} {name}");
        }
    }
}
