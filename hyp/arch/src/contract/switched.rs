//! What is saved and loaded when vCPUs take turns on a CPU, in the order of the table.

use super::{Guest, Home, Machine, ROWS, Row};
use crate::encoding::Encoding;
use crate::id::{Ids, Needs};

/// When a register is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// With all others.
    Plain,
    /// A timer: last when its vCPU comes, and it is switched off when it goes.
    Timer,
}

/// A register that is switched.
#[derive(Clone, Copy, Debug)]
pub struct Switched {
    /// As Arm calls it.
    pub name: &'static str,
    /// What EL2 calls it in instructions.
    pub encoding: Encoding,
    /// When it is switched.
    pub group: Group,
    /// Its value when a vCPU starts.
    pub reset: u64,
    needs: Needs,
    reach: Reach,
}

/// Where guests can reach it.
#[derive(Clone, Copy, Debug)]
enum Reach {
    /// Wherever it is shown.
    Shown,
    /// Where the CPU has it and none of these controls.
    Untrapped(&'static [super::Control]),
}

/// The registers that are switched, in the order of the table.
pub const SWITCHED: [Switched; count()] = list();

/// Whether the register at this place of [`SWITCHED`] is switched on a CPU that has `cpu`, in this
/// machine.
pub fn is_switched(place: usize, cpu: &Ids, machine: &Machine) -> bool {
    let Switched { needs, reach, .. } = &SWITCHED[place];
    needs.met(cpu)
        && match reach {
            Reach::Shown => needs.met(&machine.guest),
            Reach::Untrapped(controls) => {
                let traps = |control: &super::Control| control.register.needs().met(cpu);
                !controls.iter().any(traps)
            }
        }
}

impl Switched {
    /// Whether it is switched on every CPU of every machine.
    pub const fn is_everywhere(&self) -> bool {
        matches!(self.reach, Reach::Shown) && self.needs.is_nothing()
    }
}

/// The registers that hold what the guest finds at this row.
const fn held_in(row: &Row) -> (&'static [(&'static str, Encoding)], bool, Group, Reach) {
    let (home, reach) = match row.guest {
        Guest::Own(home) => (home, Reach::Shown),
        Guest::HiddenOrOwn(controls, home) => (home, Reach::Untrapped(controls)),
        _ => return (&[], false, Group::Plain, Reach::Shown),
    };
    match home {
        Home::Switched => (&[], true, Group::Plain, reach),
        Home::Timer => (&[], true, Group::Timer, reach),
        Home::SwitchedAs(registers) => (registers, false, Group::Plain, reach),
        Home::Pstate | Home::Vectors | Home::Interface | Home::View => {
            (&[], false, Group::Plain, reach)
        }
    }
}

const fn count() -> usize {
    let (mut count, mut table) = (0, 0);
    while table < ROWS.len() {
        let mut i = 0;
        while i < ROWS[table].len() {
            let (others, itself, ..) = held_in(&ROWS[table][i]);
            count += others.len() + itself as usize;
            i += 1;
        }
        table += 1;
    }
    count
}

const fn list() -> [Switched; count()] {
    let nothing = Switched {
        name: "",
        encoding: Encoding::from_bits(0),
        group: Group::Plain,
        reset: 0,
        needs: Needs::NOTHING,
        reach: Reach::Shown,
    };
    let mut list = [nothing; count()];
    let (mut place, mut table) = (0, 0);
    while table < ROWS.len() {
        let mut i = 0;
        while i < ROWS[table].len() {
            let row = &ROWS[table][i];
            let (others, itself, group, reach) = held_in(row);
            let template = Switched {
                name: row.name,
                encoding: nothing.encoding,
                group,
                reset: row.reset,
                needs: row.needs,
                reach,
            };
            if itself {
                let encoding = row.at.single().expect("a block cannot be switched");
                list[place] = Switched {
                    encoding,
                    ..template
                };
                place += 1;
            }
            let mut j = 0;
            while j < others.len() {
                let (name, encoding) = others[j];
                list[place] = Switched {
                    name,
                    encoding,
                    ..template
                };
                (place, j) = (place + 1, j + 1);
            }
            i += 1;
        }
        table += 1;
    }
    list
}
