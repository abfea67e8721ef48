//! A VM's UART, and its way to the console and from there.
//!
//! What a guest sends is gathered into lines, or passed on as it comes if the person at the console
//! wants it so.
//!
//! Lock order: a terminal, then the VM's interrupt controller or the console. No threads switch
//! while one is held.

use core::sync::atomic::{AtomicU32, Ordering};

use devices::board::UART_INTERRUPT;
use devices::pl011::{self, Pl011, Shown};
use mux::lines::{Lines, Piece};
use platform::timer;
use platform::uart::Received;
use spin::{Mutex, MutexGuard};

use super::{Vm, input};
use crate::vcpu::{self, Vcpu};
use crate::{console, sched};

/// A VM's UART and the line it is at.
pub(super) struct Terminal {
    /// [`Pl011::shown`], for threads that poll. Written with the state locked only; whenever that
    /// is not locked, it is the UART's own, and the interrupt controller knows of the level that
    /// follows from it.
    shown: AtomicU32,
    state: Mutex<State>,
}

struct State {
    uart: Pl011,
    lines: Lines,
}

impl Vm {
    /// Whether there is room for another byte that is typed.
    pub(crate) fn has_room_to_type(&self) -> bool {
        self.terminal.state.lock().uart.has_room()
    }

    /// A byte for the guest was typed, or lost on its way.
    pub(crate) fn type_in(&self, received: Received) {
        let mut state = self.terminal.state.lock();
        match received {
            Received::Byte(byte) => state.uart.receive(byte),
            Received::Lost => state.uart.lose(),
        }
        self.terminal.show(&state, self, None);
    }

    /// Drops what was typed and not read by the guest, which is over. Returns how many bytes that
    /// was.
    pub(super) fn drop_typed(&self) -> usize {
        let mut state = self.terminal.state.lock();
        let dropped = state.uart.drop_input();
        self.terminal.show(&state, self, None);
        drop(state);
        input::go_on();
        dropped
    }

    /// Shows the start of a line if it has been there long enough. Returns whether there is one
    /// that has not.
    pub(crate) fn show_start_of_line(&self) -> bool {
        let mut state = self.terminal.state.lock();
        let Some(since) = state.lines.waiting_since() else {
            return false;
        };
        if timer::now() < since + input::patience() || !console::has_room(self.index) {
            return true;
        }
        let print = |piece: Piece<'_>| console::guest_piece(self.index, piece);
        state.lines.flush(print);
        state.lines.waiting_since().is_some()
    }
}

impl Terminal {
    pub(super) const fn new() -> Self {
        let uart = Pl011::new();
        Self {
            shown: AtomicU32::new(uart.shown().bits()),
            state: Mutex::new(State {
                uart,
                lines: Lines::new(),
            }),
        }
    }

    /// What `vcpu` loads from the register at `offset`.
    #[inline]
    pub(super) fn read(&self, vm: &Vm, vcpu: &Vcpu, offset: u64) -> u32 {
        // Acquire: what the guest reads from DR next is no older.
        let shown = Shown::from_bits(self.shown.load(Ordering::Acquire));
        match shown.read(offset) {
            Some(value) => value,
            None => self.read_state(vm, vcpu, offset),
        }
    }

    #[inline(never)]
    fn read_state(&self, vm: &Vm, vcpu: &Vcpu, offset: u64) -> u32 {
        let mut state = self.state.lock();
        let value = state.uart.read(offset);
        self.show(&state, vm, Some(vcpu));
        let wants_more = offset == pl011::DR && state.uart.wants_more();
        drop(state);
        if wants_more {
            input::go_on();
        }
        value
    }

    /// `vcpu` stores `value` to the register at `offset`.
    #[inline(never)]
    pub(super) fn write(&self, vm: &Vm, vcpu: &Vcpu, offset: u64, value: u32) {
        let mut state = self.lock_to_write(vm, offset);
        let sent = state.uart.write(offset, value);
        self.show(&state, vm, Some(vcpu));
        if let Some(byte) = sent {
            send(state, vm, byte);
        }
    }

    /// Locks the state for a store to the register at `offset`. One that sends has what the VM has
    /// sent before go out first, with nothing locked: so a VM sends as fast as the line does, and
    /// holds up itself only.
    #[inline]
    fn lock_to_write(&self, vm: &Vm, offset: u64) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        if offset != pl011::DR || console::has_room(vm.index) {
            return state;
        }
        drop(state);
        self.lock_when_sent(vm)
    }

    #[cold]
    #[inline(never)]
    fn lock_when_sent(&self, vm: &Vm) -> MutexGuard<'_, State> {
        loop {
            sched::sleep_until(console::next_look());
            let state = self.state.lock();
            if console::has_room(vm.index) || vm.is_stopping() {
                return state;
            }
        }
    }

    /// Shows what the UART's registers are now, and tells the interrupt controller if its line has
    /// changed.
    #[inline]
    fn show(&self, state: &State, vm: &Vm, own: Option<&Vcpu>) {
        let before = Shown::from_bits(self.shown.load(Ordering::Relaxed));
        let now = state.uart.shown();
        if now != before {
            self.shown.store(now.bits(), Ordering::Release);
            if now.interrupt() != before.interrupt() {
                set_line(vm, own, now.interrupt());
            }
        }
    }

    /// Resets the UART; a line that the guest has not ended ends.
    pub(super) fn reset(&self, vm: &Vm) {
        let mut state = self.state.lock();
        let print = |piece: Piece<'_>| console::guest_piece(vm.index, piece);
        state.lines.finish(print);
        state.uart.reset();
        // The interrupt controller is reset, too.
        let shown = state.uart.shown().bits();
        self.shown.store(shown, Ordering::Release);
        drop(state);
        input::go_on();
    }
}

/// Tells the interrupt controller of the level of the UART's line.
#[inline(never)]
fn set_line(vm: &Vm, own: Option<&Vcpu>, raised: bool) {
    let concerned = vm.vgic.lock().set_line(UART_INTERRUPT, raised);
    vcpu::notify(vm, concerned, own);
}

/// Passes on what the guest sends.
#[inline(never)]
fn send(mut state: MutexGuard<'_, State>, vm: &Vm, byte: u8) {
    if input::is_raw(vm.index) {
        return console::guest_byte(vm.index, byte);
    }
    let waited = state.lines.waiting_since().is_some();
    let print = |piece: Piece<'_>| console::guest_piece(vm.index, piece);
    state.lines.push(byte, timer::now(), print);
    let waits = state.lines.waiting_since().is_some();
    drop(state);
    if waits && !waited {
        input::wake();
    }
}
