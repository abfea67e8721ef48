//! A machine's flash: its chips' commands, and what they hold, together.
//!
//! While the chips show their contents, pages that the guest looks at are mapped read-only, since firmware
//! reads flash with instructions that cannot be emulated. A command takes the right to read away, so that
//! loads trap and find the answer. Between the command and that nothing is locked, so a vCPU may read
//! contents for a moment where an answer was to be expected. Not for longer: whoever gives the right to
//! read looks at the chips again when it is given, and what was taken away in vain traps and is given anew.
//!
//! Lock: the chips, a leaf.

use hyp::memory::Outcome;
use hyp::memory::bank::Bank;
use hyp::vm::flash::{BLOCK, Change, Flash, SIZE};
use hyp::vm::machine::FLASH;
use spin::Mutex;
use stage2::{Execute, Ipa, IpaRange, Rights};

use super::Vm;
use crate::machine;

const _: () = assert!(SIZE == Bank::SIZE);

/// What erased flash reads as, and the bank behind its end.
const ERASED: u64 = u64::MAX;

/// No access: loads are to be answered.
const HIDDEN: Rights = Rights {
    read: false,
    write: false,
    execute: Execute::Never,
};

/// A machine's chips.
pub(super) struct Chips {
    commands: Mutex<Flash>,
    contents: Bank,
}

impl Chips {
    pub(super) const fn new() -> Self {
        Self {
            commands: Mutex::new(Flash::new()),
            contents: Bank::new(),
        }
    }

    /// The chips show their contents again, which stay.
    pub(super) fn reset(&self) {
        *self.commands.lock() = Flash::new();
    }

    /// Gives the memory of the contents back. The machine is over.
    pub(super) fn free(&self) {
        self.contents.free(machine::machine());
    }
}

impl Vm {
    /// Maps the flash at `ipa`, if it is there and shows its contents.
    pub(crate) fn show_flash(&self, ipa: u64) -> Option<Outcome> {
        let offset = ipa.checked_sub(FLASH).filter(|&offset| offset < SIZE)?;
        if !self.chips.commands.lock().shows_contents() {
            return None;
        }
        let Ok(page) = self.chips.contents.page(machine::machine(), offset) else {
            return Some(Outcome::OutOfMemory);
        };
        let rights = Rights::READ_EXECUTE;
        let shown = self.memory().show(Ipa::new(ipa), page, rights);
        self.hide_answers();
        Some(shown)
    }

    /// Takes the right to read away, which was just given, if another vCPU's command asks for an answer by now.
    fn hide_answers(&self) {
        if !self.chips.commands.lock().shows_contents() {
            self.allow_in_flash(HIDDEN);
        }
    }

    fn allow_in_flash(&self, rights: Rights) {
        let bank = IpaRange::new(Ipa::new(FLASH), Ipa::new(FLASH + SIZE));
        bank.map(|bank| self.memory().allow(bank, rights));
    }

    /// What a load that trapped finds at `offset` bytes into the flash.
    pub(super) fn flash_read(&self, offset: u64) -> u64 {
        if offset >= SIZE {
            return ERASED;
        }
        // It trapped for an answer, and another vCPU has ended that meanwhile: anything will do.
        self.chips.commands.lock().read(offset).unwrap_or(ERASED)
    }

    /// The guest stores `size` bytes at `offset` into the flash.
    pub(super) fn flash_write(&self, offset: u64, size: u32, value: u64) {
        // The bank is 32 bits wide.
        if size == 8 {
            self.flash_write(offset, 4, value);
            return self.flash_write(offset + 4, 4, value >> 32);
        }
        if offset >= SIZE {
            return;
        }
        let (before, change, after) = {
            let mut commands = self.chips.commands.lock();
            let before = commands.shows_contents();
            let change = commands.write(offset, size, value as u32);
            (before, change, commands.shows_contents())
        };
        self.carry_out(change);
        if before != after {
            self.allow_in_flash(if after { Rights::READ_EXECUTE } else { HIDDEN });
        }
        if after {
            self.hide_answers();
        }
    }

    fn carry_out(&self, change: Change) {
        let (contents, machine) = (&self.chips.contents, machine::machine());
        match change {
            Change::None => {}
            Change::Erase { offset } => contents.erase(machine, offset, BLOCK),
            Change::Program {
                offset,
                size,
                value,
            } => {
                if contents.program(machine, offset, size, value).is_err() {
                    self.chips.commands.lock().fail();
                }
            }
        }
    }
}
