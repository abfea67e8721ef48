//! Loads and stores that the hypervisor carries out for a guest by what the instruction says, since
//! the syndrome does not.
//!
//! Between the abort and the look at the instruction another vCPU may have changed it. So what is
//! carried out must be what the guest had the right to: an access to the very address that aborted,
//! in the direction that aborted, of registers that this exception level may use
//! ([`Aborted::allows`]). Beyond that it is the guest's own.
//!
//! An access to memory as a whole is one to the device for each register, or two for a vector of 16
//! bytes, as on QEMU's board. No register changes unless all of them were answered. Those that load
//! and store are not atomic to other vCPUs, and a guest's exclusive store after a load that was
//! carried out here fails, since returning to the guest clears its monitor: Arm leaves open whether
//! devices know either ("Atomicity in the Arm architecture").

use crate::LoadStore;
use crate::load_store::{Address, Extend, File, Modify, Operation, Registers};

use crate::syndrome::{Abort, Transfer};

/// Where an address' tag is, which takes no part in translation where the guest says so.
const UNTAGGED: u64 = u64::MAX >> 8;
/// Bytes in a page, the most that lie side by side both for the guest and for the device.
const PAGE: u64 = 4096;

/// The guest whose load or store it is.
pub trait Guest {
    /// The value of a general-purpose register; 31 is zero.
    fn general(&self, number: usize) -> u64;
    /// Changes a general-purpose register; 31 stays zero.
    fn set_general(&mut self, number: usize, value: u64);
    /// The stack pointer that it uses.
    fn stack_pointer(&self) -> u64;
    /// Changes the stack pointer that it uses.
    fn set_stack_pointer(&mut self, value: u64);
    /// The value of a vector register.
    fn vector(&self, number: usize) -> u128;
    /// Changes a vector register.
    fn set_vector(&mut self, number: usize, value: u128);
    /// Loads `size` bytes, at most eight, at `offset` bytes into the access; `None` if no device
    /// answers.
    fn load(&mut self, offset: u64, size: u32) -> Option<u64>;
    /// Stores them.
    fn store(&mut self, offset: u64, size: u32, value: u64) -> Option<()>;
}

/// What aborted.
#[derive(Clone, Copy, Debug)]
pub struct Aborted {
    /// The syndrome.
    pub abort: Abort,
    /// The virtual address, from `FAR_EL2`.
    pub far: u64,
    /// The guest was at EL0.
    pub is_el0: bool,
    /// The guest may use vectors there.
    pub has_vectors: bool,
}

impl Aborted {
    /// How many bytes before the address that aborted an access begins that is made at `address`;
    /// `None` if that access cannot be what aborted, or leaves the page.
    pub fn allows(&self, instruction: &LoadStore, address: u64) -> Option<u64> {
        let (loads, stores) = instruction.accesses();
        let direction = if self.abort.contains(Abort::WRITE) {
            stores
        } else {
            // What aborts as a load and stores as well had both rights only if the program says so,
            // and at EL0 it may say so too late.
            loads && !(stores && self.is_el0)
        };
        let length = instruction.length().into();
        let before = self.far.wrapping_sub(address) & UNTAGGED;
        let is_within = before < length && address % PAGE + length <= PAGE;
        let registers = self.has_vectors || !instruction.uses_vectors();
        (direction && is_within && registers).then_some(before)
    }
}

/// The address of the access.
pub fn address(instruction: &LoadStore, guest: &impl Guest) -> u64 {
    let base = base(instruction, guest);
    match instruction.address {
        Address::Offset(by) | Address::PreIndex(by) => base.wrapping_add_signed(by),
        Address::PostIndex(_) => base,
        Address::Register {
            number,
            is_word,
            is_signed,
            shift,
        } => {
            let value = guest.general(number);
            let offset = match (is_word, is_signed) {
                (true, true) => i64::from(value as i32) as u64,
                (true, false) => value & 0xffff_ffff,
                (false, _) => value,
            };
            base.wrapping_add(offset << shift)
        }
    }
}

fn base(instruction: &LoadStore, guest: &impl Guest) -> u64 {
    match instruction.base {
        31 => guest.stack_pointer(),
        number => guest.general(number),
    }
}

/// Carries the instruction out, with its write-back, but not that the PC moves on; `None` if no
/// device answers some part: no register has changed then.
pub fn carry_out(instruction: &LoadStore, guest: &mut impl Guest, big_endian: bool) -> Option<()> {
    let base = base(instruction, guest);
    let mut access = Access {
        guest,
        size: instruction.size,
        big_endian,
    };
    match instruction.operation {
        Operation::Load { into, extend } => {
            let values = access.load(into.second.is_some(), extend)?;
            access.set(into, values);
        }
        Operation::Store { from, status } => {
            access.store(from, access.get(from))?;
            if let Some(status) = status {
                access.guest.set_general(status, 0);
            }
        }
        Operation::Modify { how, operand, into } => access.modify(how, operand, into)?,
        Operation::CompareAndSwap { expected, new } => access.compare_and_swap(expected, new)?,
    }
    if let Address::PreIndex(by) | Address::PostIndex(by) = instruction.address {
        let moved = base.wrapping_add_signed(by);
        match instruction.base {
            31 => guest.set_stack_pointer(moved),
            number => guest.set_general(number, moved),
        }
    }
    Some(())
}

/// The values of one register or two.
type Values = (u128, Option<u128>);

/// An access that is being carried out.
struct Access<'g, G> {
    guest: &'g mut G,
    /// Bytes of each register.
    size: u32,
    big_endian: bool,
}

impl<G: Guest> Access<'_, G> {
    /// The bytes from the start, for one register or for two.
    fn load(&mut self, two: bool, extend: Extend) -> Option<Values> {
        let first = self.load_one(0, extend)?;
        let second = match two {
            true => Some(self.load_one(self.size.into(), extend)?),
            false => None,
        };
        Some((first, second))
    }

    fn load_one(&mut self, offset: u64, extend: Extend) -> Option<u128> {
        if let Some([low, high]) = self.halves(offset) {
            let transfer = transfer(8, extend);
            let low = transfer.loaded(self.guest.load(low, 8)?, self.big_endian);
            let high = transfer.loaded(self.guest.load(high, 8)?, self.big_endian);
            return Some(u128::from(high) << 64 | u128::from(low));
        }
        let value = self.guest.load(offset, self.size)?;
        let loaded = transfer(self.size, extend).loaded(value, self.big_endian);
        Some(loaded.into())
    }

    /// Where the lower and the upper half of 16 bytes are; none if they are fewer.
    fn halves(&self, offset: u64) -> Option<[u64; 2]> {
        let halves = match self.big_endian {
            true => [offset + 8, offset],
            false => [offset, offset + 8],
        };
        (self.size == 16).then_some(halves)
    }

    fn store(&mut self, registers: Registers, (first, second): Values) -> Option<()> {
        self.store_one(0, first)?;
        match (registers.second, second) {
            (Some(_), Some(value)) => self.store_one(self.size.into(), value),
            _ => Some(()),
        }
    }

    fn store_one(&mut self, offset: u64, value: u128) -> Option<()> {
        if let Some(halves) = self.halves(offset) {
            let mut halves = [(halves[0], value as u64), (halves[1], (value >> 64) as u64)];
            // From the lower address up.
            halves.sort_unstable();
            for (offset, half) in halves {
                let half = transfer(8, Extend::Zero).stored(half, self.big_endian);
                self.guest.store(offset, 8, half)?;
            }
            return Some(());
        }
        let stored = transfer(self.size, Extend::Zero).stored(value as u64, self.big_endian);
        self.guest.store(offset, self.size, stored)
    }

    fn get(&self, registers: Registers) -> Values {
        let value = |number| match registers.file {
            File::General => self.guest.general(number).into(),
            File::Vector => self.guest.vector(number),
        };
        (value(registers.first), registers.second.map(value))
    }

    fn set(&mut self, registers: Registers, (first, second): Values) {
        let mut set = |number, value: u128| match registers.file {
            File::General => self.guest.set_general(number, value as u64),
            File::Vector => self.guest.set_vector(number, value),
        };
        set(registers.first, first);
        if let (Some(number), Some(value)) = (registers.second, second) {
            set(number, value);
        }
    }

    fn modify(&mut self, how: Modify, operand: usize, into: usize) -> Option<()> {
        let loaded = self.load_one(0, Extend::Zero)? as u64;
        let result = modified(how, loaded, self.guest.general(operand), self.size);
        self.store_one(0, result.into())?;
        self.guest.set_general(into, loaded);
        Some(())
    }

    fn compare_and_swap(&mut self, expected: Registers, new: Registers) -> Option<()> {
        let loaded = self.load(expected.second.is_some(), Extend::Zero)?;
        let (first, second) = self.get(expected);
        let mask = u128::MAX >> (128 - 8 * self.size);
        if loaded == (first & mask, second.map(|value| value & mask)) {
            self.store(new, self.get(new))?;
        }
        self.set(expected, loaded);
        Some(())
    }
}

/// How `size` bytes go to a register, or come from it.
const fn transfer(size: u32, extend: Extend) -> Transfer {
    Transfer {
        register: 31,
        size,
        write: false,
        sign_extend: !matches!(extend, Extend::Zero),
        sixty_four: !matches!(extend, Extend::SignTo32),
    }
}

/// What is stored where `memory` was, both numbers of `size` bytes.
fn modified(how: Modify, memory: u64, operand: u64, size: u32) -> u64 {
    let unused = 64 - 8 * size;
    // Numbers in the upper bits compare as those of 64 bits do, signed or not.
    let (high, other) = (memory << unused, operand << unused);
    let choose = |first: bool| if first { memory } else { operand };
    match how {
        Modify::Add => memory.wrapping_add(operand),
        Modify::Clear => memory & !operand,
        Modify::ExclusiveOr => memory ^ operand,
        Modify::Set => memory | operand,
        Modify::SignedMax => choose(high as i64 >= other as i64),
        Modify::SignedMin => choose(high as i64 <= other as i64),
        Modify::UnsignedMax => choose(high >= other),
        Modify::UnsignedMin => choose(high <= other),
        Modify::Swap => operand,
    }
}

#[cfg(test)]
mod tests;
