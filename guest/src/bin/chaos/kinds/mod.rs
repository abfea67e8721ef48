//! The kinds of steps.
//!
//! - `accesses` and `privileged`: what each is made of.

mod accesses;
mod privileged;

use guest::random::Random;

use crate::step::{Step, Taker};

/// Makes the instructions of a step.
type Make = fn(&mut Step, &mut Random, Taker<'_>);

/// A kind of step.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// How often it is chosen, beside the others.
    weight: usize,
    /// A vCPU that takes such a step surely comes back.
    returns: bool,
    make: Make,
}

const fn kind(name: &'static str, weight: usize, make: Make) -> Kind {
    Kind {
        name,
        weight,
        returns: true,
        make,
    }
}

const fn risky(name: &'static str, weight: usize, make: Make) -> Kind {
    Kind {
        name,
        weight,
        returns: false,
        make,
    }
}

pub(crate) const KINDS: [Kind; 19] = [
    kind("device", 16, accesses::device),
    kind("nothing", 8, accesses::nothing),
    kind("edge", 8, accesses::edge),
    kind("read-only", 4, accesses::read_only),
    kind("register", 16, privileged::register),
    kind("interface", 8, privileged::interface),
    kind("call", 12, privileged::call),
    kind("release", 4, privileged::release),
    kind("fetch", 6, accesses::fetch),
    kind("tables", 8, accesses::tables),
    kind("control", 6, accesses::control),
    kind("timer", 4, privileged::timer),
    kind("sgi", 6, privileged::sgi),
    kind("cache", 6, accesses::cache),
    kind("tlb", 6, privileged::tlb),
    risky("power", 12, privileged::power),
    risky("wait", 4, privileged::wait),
    risky("return", 1, privileged::exception_return),
    risky("lost", 1, privileged::lost),
];

/// The steps after which one may lose itself are rarer by this.
const RISK: usize = 4;

impl Kind {
    /// Chooses one, by its place in [`KINDS`]; `returns` is whether it must surely come back.
    pub(crate) fn choose(random: &mut Random, returns: bool) -> usize {
        let weight = |kind: &Kind| match kind.returns {
            true => kind.weight * RISK,
            false if returns => 0,
            false => kind.weight,
        };
        let mut left = random.below(KINDS.iter().map(weight).sum());
        let chosen = KINDS.iter().position(|kind| {
            let found = left < weight(kind);
            left = left.wrapping_sub(weight(kind));
            found
        });
        chosen.unwrap_or(0)
    }

    /// Makes a step of this kind.
    pub(crate) fn step(&self, random: &mut Random, taker: Taker<'_>) -> Step {
        let mut step = Step::new(random, taker.places);
        (self.make)(&mut step, random, taker);
        step
    }
}
