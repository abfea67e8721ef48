//! Loads and stores of A64, taken apart from the instruction.
//!
//! The syndrome of an abort describes loads and stores of one general-purpose register that leave
//! the base register alone. For all others, and most of what compilers make of a loop over
//! registers is among them, `ESR_EL2.ISV` is zero, and the instruction itself says what it would
//! have done. Arm ARM, "A64 instruction set encoding", group *Loads and Stores*.
//!
//! Not here are those that no compiler has reason to use on a device: of several vectors at once
//! (LD1 to LD4), of SVE and SME, of memory tags, of 64 bytes at once, with a pointer's
//! authentication, and relative to the PC. Prefetches do not abort.

/// A load, a store, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadStore {
    /// What is done.
    pub operation: Operation,
    /// Bytes in memory of each register: 1, 2, 4, 8 or 16.
    pub size: u32,
    /// The number of the general-purpose register that the address is made from; 31 is the stack
    /// pointer.
    pub base: usize,
    /// How it is made.
    pub address: Address,
}

/// What a load or store does with its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Loads.
    Load {
        /// The registers that are loaded.
        into: Registers,
        /// Into general-purpose registers: how what is loaded becomes as wide as they are.
        extend: Extend,
    },
    /// Stores.
    Store {
        /// The registers that are stored.
        from: Registers,
        /// Store-exclusive: the number of the register that is zero if it has been stored, and one
        /// if not.
        status: Option<usize>,
    },
    /// Loads, and stores what comes of it.
    Modify {
        /// What is stored.
        how: Modify,
        /// The other operand's register.
        operand: usize,
        /// The register that is loaded.
        into: usize,
    },
    /// Loads, and stores if what is loaded is what was expected.
    CompareAndSwap {
        /// The registers with what is expected, which are loaded.
        expected: Registers,
        /// What is stored.
        new: Registers,
    },
}

/// One register, or two that are side by side in memory; 31 is the zero register, or the last
/// vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Which registers the numbers mean.
    pub file: File,
    /// The number of that at the lower address.
    pub first: usize,
    /// The number of the other.
    pub second: Option<usize>,
}

/// The kinds of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// X or W.
    General,
    /// V.
    Vector,
}

/// How a loaded value fills a general-purpose register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// With zeros.
    Zero,
    /// With its sign up to bit 31, and zeros above.
    SignTo32,
    /// With its sign.
    SignTo64,
}

/// How the address of a load or store is made from the base register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// It is that far from the base, in bytes.
    Offset(i64),
    /// The same, and it becomes the base.
    PreIndex(i64),
    /// It is the base, which then moves by so many bytes.
    PostIndex(i64),
    /// Base and this register, extended and shifted to the left.
    Register {
        /// The register's number; 31 is the zero register.
        number: usize,
        /// Of which bits it is made: the lower 32 or all of them.
        is_word: bool,
        /// The sign of the lower 32 is extended.
        is_signed: bool,
        /// By how many bits it is shifted.
        shift: u32,
    },
}

/// What an atomic instruction of FEAT_LSE stores, of what is in memory and its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modify {
    /// The sum.
    Add,
    /// Memory, without the bits of the operand.
    Clear,
    /// The exclusive or.
    ExclusiveOr,
    /// Memory, with the bits of the operand.
    Set,
    /// The larger one, as signed numbers.
    SignedMax,
    /// The smaller one, as signed numbers.
    SignedMin,
    /// The larger one.
    UnsignedMax,
    /// The smaller one.
    UnsignedMin,
    /// The operand.
    Swap,
}

/// The bits of an instruction from `low` on.
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    const fn bits(self, low: u32, count: u32) -> u32 {
        self.0 >> low & ((1 << count) - 1)
    }

    const fn bit(self, at: u32) -> bool {
        self.0 >> at & 1 == 1
    }

    const fn register(self, low: u32) -> usize {
        self.bits(low, 5) as usize
    }

    /// A signed number.
    const fn signed(self, low: u32, count: u32) -> i64 {
        let unused = 64 - count;
        ((self.bits(low, count) as i64) << unused) >> unused
    }

    /// V: which registers are loaded or stored.
    const fn file(self) -> File {
        if self.bit(26) {
            File::Vector
        } else {
            File::General
        }
    }

    /// Rt.
    const fn one(self) -> Registers {
        Registers {
            file: self.file(),
            first: self.register(0),
            second: None,
        }
    }

    /// Rt and Rt2.
    const fn two(self) -> Registers {
        Registers {
            file: self.file(),
            first: self.register(0),
            second: Some(self.register(10)),
        }
    }
}

impl LoadStore {
    /// The load or store that `instruction` is, if it is one of those that are known here.
    pub fn decode(instruction: u32) -> Option<Self> {
        let word = Word(instruction);
        // Bits 29:27 name the class, and bit 25 is another group's.
        match (word.bits(27, 3), word.bit(25)) {
            (0b111, false) => single(word),
            (0b101, false) => pair(word),
            (0b001, false) if !word.bit(26) && !word.bit(24) => exclusive_or_ordered(word),
            (0b011, false) if !word.bit(26) && word.bit(24) => ordered_unscaled(word),
            _ => None,
        }
    }

    /// The number of bytes in memory.
    pub const fn length(&self) -> u32 {
        match self.operation {
            Operation::Load { into: all, .. }
            | Operation::Store { from: all, .. }
            | Operation::CompareAndSwap { expected: all, .. } => match all.second {
                Some(_) => 2 * self.size,
                None => self.size,
            },
            Operation::Modify { .. } => self.size,
        }
    }

    /// Whether it loads, and whether it stores.
    pub const fn accesses(&self) -> (bool, bool) {
        match self.operation {
            Operation::Load { .. } => (true, false),
            Operation::Store { .. } => (false, true),
            Operation::Modify { .. } | Operation::CompareAndSwap { .. } => (true, true),
        }
    }

    /// Whether it uses vectors.
    pub const fn uses_vectors(&self) -> bool {
        match self.operation {
            Operation::Load { into: all, .. } | Operation::Store { from: all, .. } => {
                matches!(all.file, File::Vector)
            }
            Operation::Modify { .. } | Operation::CompareAndSwap { .. } => false,
        }
    }
}

/// Loads and stores of one register, and atomic instructions.
fn single(word: Word) -> Option<LoadStore> {
    if !word.bit(24) && word.bit(21) && word.bits(10, 2) == 0 {
        return modify(word);
    }
    let (operation, scale) = of_one(word)?;
    let address = if word.bit(24) {
        Address::Offset((word.bits(10, 12) as i64) << scale)
    } else if word.bit(21) {
        register_offset(word, scale)?
    } else {
        let by = word.signed(12, 9);
        match word.bits(10, 2) {
            0b01 => Address::PostIndex(by),
            0b11 => Address::PreIndex(by),
            // Unprivileged ones, of which vectors have none.
            0b10 if word.bit(26) => return None,
            _ => Address::Offset(by),
        }
    };
    Some(LoadStore {
        operation,
        size: 1 << scale,
        base: word.register(5),
        address,
    })
}

/// What `size`, V and `opc` say of a load or store of one register: what it does, and log2 of its
/// bytes.
fn of_one(word: Word) -> Option<(Operation, u32)> {
    let (size, opc, registers) = (word.bits(30, 2), word.bits(22, 2), word.one());
    let load = |extend| Operation::Load {
        into: registers,
        extend,
    };
    let store = Operation::Store {
        from: registers,
        status: None,
    };
    let (operation, scale) = match (registers.file, opc, size) {
        (_, 0b00, _) => (store, size),
        (_, 0b01, _) => (load(Extend::Zero), size),
        (File::General, 0b10, 0..=2) => (load(Extend::SignTo64), size),
        (File::General, 0b11, 0..=1) => (load(Extend::SignTo32), size),
        (File::Vector, 0b10, 0) => (store, 4),
        (File::Vector, 0b11, 0) => (load(Extend::Zero), 4),
        _ => return None,
    };
    Some((operation, scale))
}

/// A register as offset: UXTW, LSL, SXTW or SXTX.
fn register_offset(word: Word, scale: u32) -> Option<Address> {
    if word.bits(10, 2) != 0b10 || !word.bit(14) {
        return None;
    }
    Some(Address::Register {
        number: word.register(16),
        is_word: !word.bit(13),
        is_signed: word.bit(15),
        shift: if word.bit(12) { scale } else { 0 },
    })
}

/// Atomic instructions (FEAT_LSE), and LDAPR.
fn modify(word: Word) -> Option<LoadStore> {
    if word.bit(26) {
        return None;
    }
    let how = match (word.bit(15), word.bits(12, 3)) {
        (false, 0b000) => Modify::Add,
        (false, 0b001) => Modify::Clear,
        (false, 0b010) => Modify::ExclusiveOr,
        (false, 0b011) => Modify::Set,
        (false, 0b100) => Modify::SignedMax,
        (false, 0b101) => Modify::SignedMin,
        (false, 0b110) => Modify::UnsignedMax,
        (false, 0b111) => Modify::UnsignedMin,
        (true, 0b000) => Modify::Swap,
        (true, 0b100) if word.bits(22, 2) == 0b10 && word.register(16) == 31 => {
            return Some(at_base(word, load(word.one())));
        }
        _ => return None,
    };
    let operation = Operation::Modify {
        how,
        operand: word.register(16),
        into: word.register(0),
    };
    Some(at_base(word, operation))
}

fn load(into: Registers) -> Operation {
    Operation::Load {
        into,
        extend: Extend::Zero,
    }
}

/// An instruction whose address is the base, with its size in bits 31:30.
fn at_base(word: Word, operation: Operation) -> LoadStore {
    LoadStore {
        operation,
        size: 1 << word.bits(30, 2),
        base: word.register(5),
        address: Address::Offset(0),
    }
}

/// LDP, STP and their like.
fn pair(word: Word) -> Option<LoadStore> {
    let (index, is_load) = (word.bits(23, 2), word.bit(22));
    let (scale, extend) = match (word.file(), word.bits(30, 2)) {
        (File::General, 0b00) => (2, Extend::Zero),
        // LDPSW; there is none without allocation, and STGP is where the store would be.
        (File::General, 0b01) if is_load && index != 0b00 => (2, Extend::SignTo64),
        (File::General, 0b10) => (3, Extend::Zero),
        (File::Vector, opc @ 0..=2) => (2 + opc, Extend::Zero),
        _ => return None,
    };
    let by = word.signed(15, 7) << scale;
    let operation = if is_load {
        Operation::Load {
            into: word.two(),
            extend,
        }
    } else {
        Operation::Store {
            from: word.two(),
            status: None,
        }
    };
    Some(LoadStore {
        operation,
        size: 1 << scale,
        base: word.register(5),
        address: match index {
            0b01 => Address::PostIndex(by),
            0b11 => Address::PreIndex(by),
            _ => Address::Offset(by),
        },
    })
}

/// Exclusive loads and stores, those with acquire or release, and compare and swap.
fn exclusive_or_ordered(word: Word) -> Option<LoadStore> {
    let (is_load, is_pair) = (word.bit(22), word.bit(21));
    if word.bit(23) {
        let operation = match (is_pair, is_load) {
            (true, _) if word.register(10) == 31 => Operation::CompareAndSwap {
                expected: general(word.register(16)),
                new: word.one(),
            },
            (true, _) => return None,
            (false, true) => load(word.one()),
            (false, false) => Operation::Store {
                from: word.one(),
                status: None,
            },
        };
        return Some(at_base(word, operation));
    }
    if is_pair && !word.bit(31) {
        return compare_and_swap_pair(word);
    }
    let registers = if is_pair { word.two() } else { word.one() };
    let operation = if is_load {
        load(registers)
    } else {
        Operation::Store {
            from: registers,
            status: Some(word.register(16)),
        }
    };
    Some(at_base(word, operation))
}

/// CASP: two pairs, each of a register with an even number and the next.
fn compare_and_swap_pair(word: Word) -> Option<LoadStore> {
    let (expected, new) = (word.register(16), word.register(0));
    if word.register(10) != 31 || expected % 2 != 0 || new % 2 != 0 {
        return None;
    }
    let both = |first: usize| Registers {
        second: Some(first + 1),
        ..general(first)
    };
    Some(LoadStore {
        operation: Operation::CompareAndSwap {
            expected: both(expected),
            new: both(new),
        },
        size: 4 << word.bits(30, 1),
        base: word.register(5),
        address: Address::Offset(0),
    })
}

fn general(first: usize) -> Registers {
    Registers {
        file: File::General,
        first,
        second: None,
    }
}

/// LDAPUR and STLUR (FEAT_LRCPC2).
fn ordered_unscaled(word: Word) -> Option<LoadStore> {
    if word.bit(21) || word.bits(10, 2) != 0 {
        return None;
    }
    let (operation, scale) = of_one(word)?;
    Some(LoadStore {
        operation,
        size: 1 << scale,
        base: word.register(5),
        address: Address::Offset(word.signed(12, 9)),
    })
}

#[cfg(test)]
mod tests;
