//! The ID registers, field by field (Arm ARM, "AArch64 System register descriptions").
//!
//! Guests read them in the space Op0 3, Op1 0, CRn 0, CRm 1 to 7, where all reads are trapped
//! (`HCR_EL2.TID3`). For every field the table says what they find: a feature is shown if a guest
//! can use it as it is, which is so if it has no state of its own, or if the
//! [contract](crate::contract) says where its state is switched. A field that is not in the table
//! reads as zero, those that the architecture has yet to define among them.
//!
//! The CPUs of a machine may differ, and a vCPU runs on all of them. So what is shown is what [all
//! have](Ids::common), and that too is said field by field.

mod aarch32;
mod aarch64;
mod cache;

use crate::encoding::Encoding;
use Among::{Exact, Lower, SignedLower};
use Show::{All, Fixed, Hidden, UpTo};

/// How many registers the space has: CRm 0 to 7 and Op2 0 to 7, CRm 0 unused.
pub const COUNT: usize = 64;

/// The place of a register in the space.
pub const fn index(crm: u32, op2: u32) -> usize {
    (crm << 3 | op2) as usize
}

/// Whether a register is in the space.
pub const fn contains(encoding: Encoding) -> bool {
    encoding.op0() == 3
        && encoding.op1() == 0
        && encoding.crn() == 0
        && matches!(encoding.crm(), 1..=7)
}

/// An ID register: its place in the space, and its fields. Bits that no field has are reserved.
#[derive(Clone, Copy, Debug)]
pub struct IdRegister {
    /// As Arm calls it.
    pub name: &'static str,
    /// Its place in the space.
    pub index: usize,
    /// What it says.
    pub fields: &'static [Field],
}

/// A field of an ID register, of four bits.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As Arm calls it.
    pub name: &'static str,
    /// The number of its lowest bit.
    pub lsb: u32,
    /// What guests read.
    pub show: Show,
    /// What CPUs that differ have in common.
    pub among: Among,
}

/// What guests read in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// What the CPUs have.
    All,
    /// What the CPUs have, but no more than this.
    UpTo(u64),
    /// This, whatever the CPUs have: the least that is allowed.
    Fixed(u64),
    /// That there is nothing.
    Hidden,
}

/// What CPUs whose fields differ have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// The smaller value: a larger one says that there is more.
    Lower,
    /// The smaller value as a signed number: -1 says that there is nothing.
    SignedLower,
    /// Nothing, which is zero, unless all have the same: values name alternatives.
    Exact,
}

/// A field by its name, its lowest bit and what guests read.
const fn f(name: &'static str, lsb: u32, show: Show) -> Field {
    Field {
        name,
        lsb,
        show,
        among: Lower,
    }
}

const fn register(name: &'static str, index: usize, fields: &'static [Field]) -> IdRegister {
    IdRegister {
        name,
        index,
        fields,
    }
}

impl Field {
    const fn signed(self) -> Self {
        Self {
            among: SignedLower,
            ..self
        }
    }

    const fn exact(self) -> Self {
        Self {
            among: Exact,
            ..self
        }
    }

    /// The field in a register's value.
    pub const fn of(&self, value: u64) -> u64 {
        value >> self.lsb & 0xf
    }

    const fn guest(&self, value: u64) -> u64 {
        let value = self.of(value);
        let shown = match self.show {
            All => value,
            UpTo(most) if value < most => value,
            UpTo(most) => most,
            Fixed(value) => value,
            Hidden => 0,
        };
        shown << self.lsb
    }

    const fn common(&self, one: u64, other: u64) -> u64 {
        /// Has the order of signed numbers of four bits.
        const SIGN: u64 = 0b1000;
        let (one, other) = (self.of(one), self.of(other));
        let first = match self.among {
            Lower => one < other,
            SignedLower => one ^ SIGN < other ^ SIGN,
            Exact if one != other => return 0,
            Exact => true,
        };
        (if first { one } else { other }) << self.lsb
    }
}

/// Every register of the space that is defined.
pub const REGISTERS: [&[IdRegister]; 2] = [aarch32::REGISTERS, aarch64::REGISTERS];

/// The value of every register of the space: what one CPU has, what all have, or what guests read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    values: [u64; COUNT],
    cache_type: u64,
}

impl Ids {
    /// These values, in the order of [`index`].
    pub const fn new(values: [u64; COUNT]) -> Self {
        Self {
            values,
            cache_type: 0,
        }
    }

    /// The same on CPUs with this `CTR_EL0`, which is no register of the space and is kept beside
    /// it.
    #[must_use]
    pub const fn with_cache_type(self, cache_type: u64) -> Self {
        Self { cache_type, ..self }
    }

    /// `CTR_EL0`.
    pub const fn cache_type(&self) -> u64 {
        self.cache_type
    }

    /// The value of the register at `index`, of which the bits beyond [`COUNT`] do not count: a
    /// guest may have chosen it.
    pub const fn get(&self, index: usize) -> u64 {
        self.values[index % COUNT]
    }

    /// What the CPUs with these values and with those have in common. Of bits that are in no field,
    /// nothing.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let merge = |field: &Field, index| field.common(self.get(index), other.get(index));
        Self::by_field(merge).with_cache_type(cache::common(self.cache_type, other.cache_type))
    }

    /// What a guest reads on CPUs that have these values in common.
    #[must_use]
    pub fn guest(&self) -> Self {
        Self::by_field(|field, index| field.guest(self.get(index))).with_cache_type(self.cache_type)
    }

    fn by_field(value: impl Fn(&Field, usize) -> u64) -> Self {
        let mut values = [0; COUNT];
        for register in REGISTERS.into_iter().flatten() {
            let fields = register.fields.iter();
            values[register.index] = fields.map(|field| value(field, register.index)).sum();
        }
        Self::new(values)
    }
}

/// What a register, or a control, takes for granted: one of these fields has at least such a value.
#[derive(Clone, Copy, Debug)]
pub struct Needs(&'static [AtLeast]);

/// A value of a field, as an unsigned number.
#[derive(Clone, Copy, Debug)]
pub struct AtLeast {
    index: usize,
    field: &'static Field,
    least: u64,
}

impl Needs {
    /// What every CPU has.
    pub const NOTHING: Self = Self(&[]);

    /// One of these.
    pub const fn any(fields: &'static [AtLeast]) -> Self {
        Self(fields)
    }

    /// Whether every CPU has it.
    pub const fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is so with these values.
    pub const fn met(&self, ids: &Ids) -> bool {
        let mut i = 0;
        while i < self.0.len() {
            let AtLeast {
                index,
                field,
                least,
            } = &self.0[i];
            if field.of(ids.get(*index)) >= *least {
                return true;
            }
            i += 1;
        }
        self.0.is_empty()
    }

    /// Whether guests are shown that it is so, on CPUs that have everything.
    pub fn is_shown(&self) -> bool {
        self.met(&Ids::new([u64::MAX; COUNT]).guest())
    }
}

/// The field of a register by their names, with `least` in it or more. To be evaluated at compile
/// time.
///
/// # Panics
///
/// If the table has no such field.
pub const fn at_least(register: &str, field: &str, least: u64) -> AtLeast {
    let mut i = 0;
    while i < aarch64::REGISTERS.len() {
        let candidate = &aarch64::REGISTERS[i];
        if same(candidate.name, register) {
            let mut j = 0;
            while j < candidate.fields.len() {
                if same(candidate.fields[j].name, field) {
                    return AtLeast {
                        index: candidate.index,
                        field: &candidate.fields[j],
                        least,
                    };
                }
                j += 1;
            }
        }
        i += 1;
    }
    panic!("no ID register has such a field");
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut i = 0;
    while i < one.len() && i < other.len() && one[i] == other[i] {
        i += 1;
    }
    i == one.len() && i == other.len()
}

#[cfg(test)]
mod tests;
