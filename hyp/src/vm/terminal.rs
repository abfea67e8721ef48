//! A virtual machine's UART, and its way to the console and from there.
//!
//! What a guest sends is gathered into lines, or passed on as it comes if the operator wants it so.
//!
//! Lock order: a terminal, then the machine's interrupt controller or the console. No threads switch
//! while one is held.

use hyp::vm::lines::{Lines, Piece};
use hyp::vm::machine::UART_INTERRUPT;
use hyp::vm::pl011::Pl011;
use platform::timer;
use spin::Mutex;

use super::Vm;
use crate::vcpu::{self, Vcpu};
use crate::{console, operator};

/// A machine's UART and the line it is at.
pub(super) struct Terminal(Mutex<State>);

struct State {
    uart: Pl011,
    lines: Lines,
    /// The level of the interrupt line that the interrupt controller knows of.
    raised: bool,
}

impl Vm {
    /// A byte for the guest was typed.
    pub(crate) fn type_in(&self, byte: u8) {
        let mut state = self.terminal.0.lock();
        state.uart.receive(byte);
        state.update_line(self, None);
    }

    /// Shows the start of a line if it has been there long enough. Returns whether there is one that has
    /// not.
    pub(crate) fn show_start_of_line(&self) -> bool {
        let mut state = self.terminal.0.lock();
        let Some(since) = state.lines.waiting_since() else {
            return false;
        };
        if timer::now() < since + operator::patience() {
            return true;
        }
        let print = |piece: Piece<'_>| console::guest_piece(self.index, piece);
        state.lines.flush(print);
        false
    }
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
    #[inline(never)]
    pub(super) fn read(&self, vm: &Vm, vcpu: &Vcpu, offset: u64) -> u32 {
        let mut state = self.0.lock();
        let value = state.uart.read(offset);
        state.update_line(vm, Some(vcpu));
        value
    }

    /// `vcpu` stores `value` to the register at `offset`.
    #[inline(never)]
    pub(super) fn write(&self, vm: &Vm, vcpu: &Vcpu, offset: u64, value: u32) {
        let mut state = self.0.lock();
        let sent = state.uart.write(offset, value);
        state.update_line(vm, Some(vcpu));
        let Some(byte) = sent else { return };
        if operator::is_raw(vm.index) {
            return console::guest_byte(vm.index, byte);
        }
        let waited = state.lines.waiting_since().is_some();
        let print = |piece: Piece<'_>| console::guest_piece(vm.index, piece);
        state.lines.push(byte, timer::now(), print);
        let waits = state.lines.waiting_since().is_some();
        drop(state);
        if waits && !waited {
            operator::wake();
        }
    }

    /// Resets the UART; the start of a line is shown first.
    pub(super) fn reset(&self, vm: &Vm) {
        let mut state = self.0.lock();
        let print = |piece: Piece<'_>| console::guest_piece(vm.index, piece);
        state.lines.flush(print);
        state.uart = Pl011::new();
        state.raised = false;
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
