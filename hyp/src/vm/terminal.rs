//! A virtual machine's UART, and its way to the console and from there.
//!
//! What a guest sends is gathered into lines, or passed on as it comes if the boot arguments say so. The
//! start of a line, such as a prompt, is shown after a short while: a thread sees to that. What is typed
//! goes to one machine.
//!
//! Lock order: a terminal, then the machine's interrupt controller or the console. No threads switch
//! while one is held.

use core::sync::atomic::{AtomicBool, Ordering};

use hyp::bootargs::ConsoleMode;
use hyp::vm::lines::Lines;
use hyp::vm::machine::UART_INTERRUPT;
use hyp::vm::pl011::Pl011;
use platform::timer;
use spin::{Mutex, Once};

use super::Vm;
use crate::console;
use crate::sched::{self, SpawnError, ThreadId};
use crate::vcpu::{self, Vcpu};

/// How many times a second starts of lines are looked for: none is held back for longer than twice that.
const LOOKS_PER_SECOND: u64 = 50;
/// The machine that gets what is typed.
const LISTENER: usize = 0;

/// Whether bytes are passed on as they come.
static RAW: AtomicBool = AtomicBool::new(false);
/// The thread that shows starts of lines.
static FLUSHER: Once<ThreadId> = Once::new();

/// A machine's UART and the line it is at.
pub(super) struct Terminal(Mutex<State>);

struct State {
    uart: Pl011,
    lines: Lines,
    /// The level of the interrupt line that the interrupt controller knows of.
    raised: bool,
}

/// Starts what terminals need.
///
/// # Errors
///
/// There is no thread that shows the starts of lines; they are shown when they end.
pub(crate) fn start(mode: ConsoleMode) -> Result<(), SpawnError> {
    RAW.store(mode == ConsoleMode::Raw, Ordering::Relaxed);
    let thread = sched::spawn("console", flush, 0, None)?;
    FLUSHER.call_once(|| thread);
    console::listen();
    Ok(())
}

/// Hands on what was typed.
pub(crate) fn receive() {
    let vm = super::get(LISTENER);
    while let Some(byte) = console::read_byte() {
        vm.terminal.receive(vm, byte);
    }
}

extern "C" fn flush(_: usize) {
    loop {
        let oldest = super::all()
            .filter_map(|vm| vm.terminal.show_start(vm))
            .min();
        match oldest {
            Some(_) => sched::sleep_until(timer::now() + period()),
            None => sched::park(),
        }
    }
}

fn period() -> u64 {
    timer::frequency() / LOOKS_PER_SECOND
}

impl Terminal {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            uart: Pl011::new(),
            lines: Lines::new(),
            raised: false,
        }))
    }

    /// What `vcpu` loads from the register at `offset`.
    pub(super) fn read(&self, vm: &Vm, vcpu: &Vcpu, offset: u64) -> u32 {
        let mut state = self.0.lock();
        let value = state.uart.read(offset);
        state.update_line(vm, Some(vcpu));
        value
    }

    /// `vcpu` stores `value` to the register at `offset`.
    pub(super) fn write(&self, vm: &Vm, vcpu: &Vcpu, offset: u64, value: u32) {
        let mut state = self.0.lock();
        let sent = state.uart.write(offset, value);
        state.update_line(vm, Some(vcpu));
        let Some(byte) = sent else { return };
        if RAW.load(Ordering::Relaxed) {
            return console::guest_byte(vm.index, byte);
        }
        let waited = state.lines.waiting_since().is_some();
        let now = timer::now();
        let lines = &mut state.lines;
        lines.push(byte, now, |piece| console::guest_piece(vm.index, piece));
        let waits = state.lines.waiting_since().is_some();
        drop(state);
        if waits && !waited {
            wake_flusher();
        }
    }

    /// Resets the UART; the start of a line is shown first.
    pub(super) fn reset(&self, vm: &Vm) {
        let mut state = self.0.lock();
        state
            .lines
            .flush(|piece| console::guest_piece(vm.index, piece));
        state.uart = Pl011::new();
        state.raised = false;
    }

    fn receive(&self, vm: &Vm, byte: u8) {
        let mut state = self.0.lock();
        state.uart.receive(byte);
        state.update_line(vm, None);
    }

    /// Shows the start of a line if it has waited long enough. Returns since when one waits that has not.
    fn show_start(&self, vm: &Vm) -> Option<u64> {
        let mut state = self.0.lock();
        let since = state.lines.waiting_since()?;
        if timer::now() < since + period() {
            return Some(since);
        }
        state
            .lines
            .flush(|piece| console::guest_piece(vm.index, piece));
        None
    }
}

impl State {
    /// Tells the interrupt controller if the UART's line has changed.
    fn update_line(&mut self, vm: &Vm, own: Option<&Vcpu>) {
        let raised = self.uart.interrupt();
        if raised != self.raised {
            self.raised = raised;
            let concerned = vm.vgic.lock().set_line(UART_INTERRUPT, raised);
            vcpu::notify(vm, concerned, own);
        }
    }
}

fn wake_flusher() {
    if let Some(&thread) = FLUSHER.get() {
        sched::wake(thread);
    }
}
