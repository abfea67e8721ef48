//! What the table manager and the fault path say of themselves, as trace events.

use super::guest::{Fault, FaultKind, Outcome};
use stage2::{
    Access, CollapseError, CollapseStep, IpaRange, Level, MapError, Observation, Owner, Scope,
    Topic, Work,
};
use trace::event::{self, NOBODY, Reason, Step};
use trace::{Categories, Category, Event};

/// Where events go.
pub trait Tracer {
    /// What is wanted. Asked at every event.
    fn wanted() -> Categories {
        Categories::NONE
    }

    /// Takes an event of VM `vm`, or of nobody's ([`NOBODY`]). Takes no lock.
    fn emit(_vm: u8, _event: Event) {}

    /// The time, in ticks of the counter.
    fn now() -> u64 {
        0
    }
}

/// For machines that nobody watches: tests.
impl Tracer for () {}

/// What switches observations of `topic` on.
#[inline(always)]
pub const fn category(topic: Topic) -> Category {
    match topic {
        Topic::Maps => Category::Map,
        Topic::Changes => Category::Change,
        Topic::Races => Category::Race,
        Topic::Frees => Category::Free,
        Topic::Invalidations => Category::Tlb,
    }
}

/// The VM whose tables these are, by its number in the reverse map.
pub fn vm(owner: Owner) -> u8 {
    u8::try_from(owner.number() - 1).unwrap_or(NOBODY)
}

/// A fault on `fault.ipa` that took `ticks`.
pub fn fault(fault: Fault, outcome: Outcome, ticks: u64) -> Event {
    Event::Fault {
        access: match fault.access {
            Access::Read => event::Access::Read,
            Access::Write => event::Access::Write,
            Access::Execute => event::Access::Execute,
        },
        cause: match fault.kind {
            FaultKind::Translation(_) => event::Cause::Translation,
            FaultKind::Mapped => event::Cause::Permission,
        },
        outcome: match outcome {
            Outcome::Resume => event::Outcome::Resume,
            Outcome::Busy => event::Outcome::Busy,
            Outcome::Outside => event::Outcome::Outside,
            Outcome::OutOfMemory => event::Outcome::OutOfMemory,
        },
        ipa: fault.ipa.get(),
        ticks,
    }
}

/// The event for an observation.
pub fn event(what: Observation) -> Event {
    match what {
        Observation::Mapped { ipa, pa, level } => Event::Map {
            level: number(level),
            ipa: ipa.get(),
            pa: pa.get(),
        },
        Observation::NotMapped { ipa, level, error } => Event::Refused {
            reason: refusal(error),
            level: number(level),
            ipa: ipa.get(),
        },
        Observation::Unmapped { range, level } => Event::Unmap {
            level: number(level),
            ipa: range.start().get(),
            end: range.end().get(),
        },
        Observation::Split { ipa, level } => Event::Split {
            level: number(level),
            ipa: ipa.get(),
        },
        Observation::Collapse { ipa, level, step } => {
            let (step, reason) = collapse(step);
            Event::Collapse {
                step,
                reason,
                level: number(level),
                ipa: ipa.get(),
            }
        }
        Observation::Moved { ipa, to } => Event::Move {
            ipa: ipa.get(),
            to: to.get(),
        },
        Observation::MarkerMet { ipa, level, marker } => Event::Marker {
            work: work(marker.work()),
            level: number(level),
            ipa: ipa.align_down(level).get(),
        },
        Observation::Retried { ipa, level } => Event::Retry {
            level: number(level),
            ipa: ipa.get(),
        },
        Observation::LockAwaited { ipa, level, ticks } => Event::LockWait {
            level: number(level),
            ipa: ipa.get(),
            ticks,
        },
        Observation::Detached { ipa, level } => Event::Detached {
            level: number(level),
            ipa: ipa.get(),
        },
        Observation::GraceAwaited { ticks } => Event::Grace { ticks },
        Observation::TableFreed { pa } => Event::Freed { pa: pa.get() },
        Observation::Invalidated { range, scope } => invalidation(range, scope),
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::L0 => 0,
        Level::L1 => 1,
        Level::L2 => 2,
        Level::L3 => 3,
    }
}

fn refusal(error: MapError) -> Reason {
    match error {
        MapError::Occupied(_) => Reason::Occupied,
        MapError::Busy => Reason::Busy,
        MapError::OutOfFrames => Reason::OutOfFrames,
        MapError::OutOfRange | MapError::Misaligned | MapError::Unsupported => Reason::Invalid,
    }
}

fn collapse(step: CollapseStep) -> (Step, Reason) {
    let error = match step {
        CollapseStep::Begun => return (Step::Begin, Reason::Invalid),
        CollapseStep::Copied => return (Step::Copy, Reason::Invalid),
        CollapseStep::Done => return (Step::Commit, Reason::Invalid),
        CollapseStep::GivenUp(error) => error,
    };
    let reason = match error {
        CollapseError::OutOfRange => Reason::Invalid,
        CollapseError::NoTable(_) => Reason::NoTable,
        CollapseError::Claimed => Reason::Claimed,
        CollapseError::TooEmpty => Reason::TooEmpty,
        CollapseError::Busy => Reason::Busy,
        CollapseError::Mixed => Reason::Mixed,
        CollapseError::Pinned => Reason::Pinned,
        CollapseError::Scattered => Reason::Scattered,
        CollapseError::Hot => Reason::Hot,
    };
    (Step::Abort, reason)
}

fn work(work: Work) -> event::Work {
    match work {
        Work::Collapse => event::Work::Collapse,
        Work::Split => event::Work::Split,
        Work::Move => event::Work::Move,
        Work::FreeTable => event::Work::FreeTable,
    }
}

fn invalidation(range: IpaRange, scope: Scope) -> Event {
    let (reach, level) = match scope {
        Scope::Leaf(level) => (event::Reach::Leaf, number(level)),
        Scope::Leaves => (event::Reach::Leaves, 0),
        Scope::Tables => (event::Reach::Tables, 0),
    };
    Event::Tlbi {
        reach,
        level,
        ipa: range.start().get(),
        end: range.end().get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stage2::{Ipa, Pa};

    #[test]
    fn observations_keep_their_addresses() {
        let (ipa, pa) = (Ipa::new(0x4020_0000), Pa::new(0x8000_0000));
        let mapped = event(Observation::Mapped {
            ipa,
            pa,
            level: Level::L2,
        });
        let expected = Event::Map {
            level: 2,
            ipa: 0x4020_0000,
            pa: 0x8000_0000,
        };
        assert_eq!(mapped, expected);
        let range = IpaRange::entry(ipa, Level::L2);
        let scope = Scope::Leaf(Level::L3);
        let invalidated = event(Observation::Invalidated { range, scope });
        let expected = Event::Tlbi {
            reach: event::Reach::Leaf,
            level: 3,
            ipa: 0x4020_0000,
            end: 0x4040_0000,
        };
        assert_eq!(invalidated, expected);
    }

    #[test]
    fn an_event_belongs_to_the_category_that_switches_it_on() {
        let ipa = Ipa::new(0);
        let level = Level::L3;
        for (topic, what) in [
            (
                Topic::Maps,
                Observation::NotMapped {
                    ipa,
                    level,
                    error: MapError::Busy,
                },
            ),
            (Topic::Changes, Observation::Split { ipa, level }),
            (Topic::Races, Observation::Retried { ipa, level }),
            (Topic::Frees, Observation::GraceAwaited { ticks: 1 }),
            (
                Topic::Invalidations,
                Observation::Invalidated {
                    range: IpaRange::entry(ipa, level),
                    scope: Scope::Tables,
                },
            ),
        ] {
            assert_eq!(event(what).category(), category(topic));
        }
    }

    #[test]
    fn an_owner_is_the_vm_it_was_made_for() {
        assert_eq!(Owner::new(3).map(vm), Some(2));
        assert_eq!(Owner::new(1000).map(vm), Some(NOBODY));
    }
}
