//! VMs.
//!
//! A [`Vm`] is an entry of a fixed table: its vCPUs with their threads, its memory, its devices.
//! [`create`] sets one up and starts it; [`life`] has what happens from there to the end: restart
//! and power-off; [`reaper`] frees its entry when its threads have ended. Two kinds of callers use
//! a VM's memory: its vCPUs, while they are on, which costs them nothing ([`Vm::memory`]); and
//! others, who come through a gate ([`Vm::visit`]).
//!
//! Invariant: the memory is put in place and taken away only while no vCPU is on and the gate is
//! closed.
//!
//! Lock order: `power`, `lines`, `terminal` and `setup` are not nested in one another; under the
//! terminal's, those of the interrupt controller and of the console are taken. None is held across
//! a thread switch.

pub(crate) mod input;
mod life;
mod load;
mod mmio;
pub(crate) mod reaper;
mod terminal;

pub(crate) use life::{all_made, create};

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use bootargs::MAX_VCPUS;
use devices::chips::Chips;
use devices::fw_cfg::FwCfg;
use devices::pl031::Pl031;
use loader::setup::Setup;
use memory::gate::Gate;
use mux::ratelimit::{Leave, RateLimit};
use platform::board::MAX_CPUS;
use platform::timer;
use psci::power::Power;
use speculation::masked::Masked;
use spin::Mutex;
use stage2::Ipa;
use vgic::Vgic;

use crate::mm::Memory;
use crate::vcpu::Vcpu;
use crate::{console, sched};
use terminal::Terminal;

/// How many VMs there can be.
pub(crate) const MAX_VMS: usize = bootargs::MAX_VMS;
/// The number of no vCPU.
const NO_VCPU: usize = usize::MAX;

/// A VM.
pub(crate) struct Vm {
    index: usize,
    vcpus: [Vcpu; MAX_VCPUS],
    /// How many of them the VM has.
    vcpu_count: AtomicUsize,
    setup: Mutex<Option<Setup<'static>>>,
    power: Mutex<Power>,
    /// The vCPUs must leave the guest; as in `power`, to be looked at without the lock.
    stopping: AtomicBool,
    /// The threads must end.
    over: AtomicBool,
    /// The vCPUs' threads that have not ended.
    threads: AtomicUsize,
    resets: AtomicU32,
    /// The lines of the hypervisor that the VM causes; if it is made anew they go with it.
    lines: Mutex<RateLimit>,
    /// It was said that the guest accesses a device in a way that is not emulated.
    unknown_access: AtomicBool,
    memory: UnsafeCell<Option<Memory>>,
    gate: Gate,
    terminal: Terminal,
    chips: Chips,
    clock: Mutex<Pl031>,
    fw_cfg: Mutex<FwCfg>,
    vgic: Mutex<Vgic>,
    /// The vCPU of this VM that each CPU entered last.
    last_vcpu: [AtomicUsize; MAX_CPUS],
}

// SAFETY: All but `memory` has locks of its own or is atomic; the module's invariant is about
// `memory`, which can be shared between threads itself.
unsafe impl Sync for Vm {}

static VMS: [Vm; MAX_VMS] = [
    Vm::new(0),
    Vm::new(1),
    Vm::new(2),
    Vm::new(3),
    Vm::new(4),
    Vm::new(5),
    Vm::new(6),
    Vm::new(7),
];

/// VM number `index`, which is that of some vCPU.
pub(crate) fn get(index: usize) -> &'static Vm {
    &VMS[index]
}

/// All places for VMs, set up or not.
pub(crate) fn all() -> impl Iterator<Item = &'static Vm> {
    VMS.iter()
}

impl Vm {
    const fn new(index: usize) -> Self {
        Self {
            index,
            vcpus: [
                Vcpu::new(index, 0),
                Vcpu::new(index, 1),
                Vcpu::new(index, 2),
                Vcpu::new(index, 3),
                Vcpu::new(index, 4),
                Vcpu::new(index, 5),
                Vcpu::new(index, 6),
                Vcpu::new(index, 7),
            ],
            vcpu_count: AtomicUsize::new(0),
            setup: Mutex::new(None),
            power: Mutex::new(Power::new(0)),
            stopping: AtomicBool::new(false),
            over: AtomicBool::new(false),
            threads: AtomicUsize::new(0),
            resets: AtomicU32::new(0),
            lines: Mutex::new(RateLimit::new()),
            unknown_access: AtomicBool::new(false),
            memory: UnsafeCell::new(None),
            gate: Gate::new(),
            terminal: Terminal::new(),
            chips: Chips::new(),
            clock: Mutex::new(Pl031::new()),
            fw_cfg: Mutex::new(FwCfg::new()),
            vgic: Mutex::new(Vgic::new(0)),
            last_vcpu: [const { AtomicUsize::new(NO_VCPU) }; MAX_CPUS],
        }
    }

    /// Whether the hypervisor may log a line that the guest caused; the line ends with the answer.
    pub(crate) fn may_log(&self) -> Option<Leave> {
        let has_room = !console::is_behind();
        let mut lines = self.lines.lock();
        lines.ask(timer::now(), timer::frequency(), has_room)
    }

    /// Notes that the guest accesses a device in a way that is not emulated; returns whether it was
    /// not noted before.
    pub(crate) fn is_first_unknown_access(&self) -> bool {
        !self.unknown_access.swap(true, Ordering::Relaxed)
    }

    /// Its number, by which the console names it.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The power states of its vCPUs.
    pub(crate) fn power(&self) -> &Mutex<Power> {
        &self.power
    }

    /// Its memory. Only for its vCPUs' threads, between [`Self::admit`] and leaving the guest.
    ///
    /// # Panics
    ///
    /// If called by anybody else while the VM has none.
    pub(crate) fn memory(&self) -> &Memory {
        // SAFETY: The caller's vCPU is on, so nobody writes (the module's invariant).
        let memory = unsafe { &*self.memory.get() };
        memory.as_ref().expect("a vCPU that is on has memory")
    }

    /// Calls `visit` with its memory, if it has any. The memory stays until `visit` returns, which
    /// may switch threads.
    pub(crate) fn visit<T>(&self, visit: impl FnOnce(&Memory) -> T) -> Option<T> {
        let _inside = self.gate.enter()?;
        // SAFETY: We are inside, so nobody writes (the module's invariant).
        let memory = unsafe { &*self.memory.get() };
        memory.as_ref().map(visit)
    }

    /// Whether `ipa` is RAM. For the same callers as [`Self::memory`].
    pub(crate) fn is_memory(&self, ipa: u64) -> bool {
        let (ipa, ram) = (Ipa::new(ipa), self.memory().ram());
        ram.start() <= ipa && ipa < ram.end()
    }

    /// Whether there is firmware at `offset` bytes into the flash for it.
    fn has_firmware_at(&self, offset: u64) -> bool {
        let setup = self.setup.lock();
        setup.is_some_and(|setup| setup.is_firmware && offset < setup.image.len() as u64)
    }

    /// Its interrupt controller.
    pub(crate) fn vgic(&self) -> &Mutex<Vgic> {
        &self.vgic
    }

    /// Place number `index` for a vCPU.
    pub(crate) fn vcpu(&self, index: usize) -> Option<&Vcpu> {
        self.vcpus.get(index)
    }

    /// Whether there is a VM in this place.
    pub(crate) fn is_there(&self) -> bool {
        self.setup.lock().is_some()
    }

    /// Whether there is a VM in this place that has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        self.is_there() && !self.over.load(Ordering::Acquire)
    }

    /// Whether its vCPUs are to leave the guest.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Notes that CPU `cpu` enters vCPU number `vcpu`; returns whether the one of this VM that it
    /// entered last was another.
    pub(crate) fn note_entry(&self, cpu: usize, vcpu: usize) -> bool {
        let Some(last) = self.last_vcpu.get(cpu) else {
            return true;
        };
        // Only the CPU itself touches its entry.
        let before = last.load(Ordering::Relaxed);
        last.store(vcpu, Ordering::Relaxed);
        before != vcpu && before != NO_VCPU
    }

    /// Wakes the thread of vCPU number `vcpu`, whose power state has changed.
    pub(crate) fn wake(&self, vcpu: usize) {
        if let Some(thread) = self.vcpus.get_masked(vcpu).and_then(Vcpu::thread) {
            sched::wake(thread);
        }
    }
}
