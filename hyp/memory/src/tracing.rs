//! What the table manager and the fault path say of themselves, as trace events.

use super::fault::{Fault, FaultKind, Outcome};
use stage2::{
    Access, CollapseError, CollapseStep, Ipa, IpaRange, Level, MapError, Observation, Operation,
    Owner, Pa, Scope, Topic,
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
    #[inline(always)]
    fn emit(_vm: u8, _event: Event) {}

    /// The time, in ticks of the counter.
    fn now() -> u64 {
        0
    }

    /// The next number of the total order; see [`trace::replay`].
    fn next_order() -> u64 {
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
        Topic::Protocol => Category::Replay,
    }
}

/// What switches observations of one of `topics` on.
#[inline(always)]
pub const fn categories<const N: usize>(topics: [Topic; N]) -> Categories {
    let mut set = Categories::NONE;
    let mut index = 0;
    while index < N {
        set = set.with(category(topics[index]));
        index += 1;
    }
    set
}

/// The VM whose tables these are, by its number in the reverse map.
#[inline(always)]
pub fn vm(owner: Owner) -> u8 {
    u8::try_from(owner.number() - 1).unwrap_or(NOBODY)
}

/// A fault on `fault.ipa` that took `ticks`.
#[inline(always)]
pub fn fault(fault: Fault, outcome: Outcome, ticks: u64) -> Event {
    Event::Fault {
        access: match fault.access {
            Access::Read => event::Access::Read,
            Access::Write | Access::Update => event::Access::Write,
            Access::Execute(_) => event::Access::Execute,
        },
        cause: match fault.kind {
            FaultKind::Translation(_) => event::Cause::Translation,
            FaultKind::Mapped(_) => event::Cause::Permission,
        },
        outcome: match outcome {
            Outcome::Resume => event::Outcome::Resume,
            Outcome::Busy => event::Outcome::Busy,
            Outcome::Outside => event::Outcome::Outside,
            Outcome::OutOfMemory => event::Outcome::OutOfMemory,
            Outcome::Mistake => event::Outcome::Mistake,
        },
        ipa: fault.ipa.get(),
        ticks,
    }
}

/// The event for an observation. Inlined, as all that it calls, so that where the observation is
/// known, nothing is left of both but the event's words.
#[inline(always)]
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
        Observation::Migrated { ipa, to } => Event::Migrate {
            ipa: ipa.get(),
            to: to.get(),
        },
        Observation::MarkerMet { ipa, level, marker } => Event::Marker {
            operation: operation(marker.operation()),
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
        Observation::EntryWritten {
            order,
            entry,
            old,
            new,
            release,
        } => Event::Written {
            store: if release {
                event::Store::Release
            } else {
                event::Store::Plain
            },
            order,
            entry: entry.get(),
            old: old.bits(),
            new: new.bits(),
        },
        Observation::Published { order } => Event::Barrier {
            barrier: event::Barrier::DsbIshst,
            order,
        },
        Observation::TableLocked {
            order,
            table,
            level,
            tried,
            claimed,
            section,
        } => Event::Locked {
            taking: if tried {
                event::Taking::Tried
            } else {
                event::Taking::Waited
            },
            level: number(level),
            claimed: claimed.into(),
            order,
            table: table.get(),
            section,
        },
        Observation::TableUnlocked { order, table } => Event::Unlocked {
            order,
            table: table.get(),
        },
        Observation::TableMade {
            order,
            table,
            level,
            root,
        } => table_made(order, table, number(level), root),
        Observation::TreeEnded { order } => Event::TreeEnded { order },
        Observation::TableEnded { order, table } => Event::TableEnded {
            order,
            table: table.get(),
        },
        Observation::GraceBegun { order, number } => Event::GraceBegun { order, number },
        Observation::GraceEnded { order, number } => Event::GraceEnded { order, number },
    }
}

#[inline(always)]
fn table_made(order: u64, table: Pa, level: u8, root: Option<Ipa>) -> Event {
    let table = table.get();
    match root {
        Some(ipa) => Event::RootMade {
            level,
            order,
            table,
            ipa: ipa.get(),
        },
        None => Event::TableMade {
            level,
            order,
            table,
        },
    }
}

#[inline(always)]
fn number(level: Level) -> u8 {
    match level {
        Level::L0 => 0,
        Level::L1 => 1,
        Level::L2 => 2,
        Level::L3 => 3,
    }
}

#[inline(always)]
fn refusal(error: MapError) -> Reason {
    match error {
        MapError::Occupied(_) => Reason::Occupied,
        MapError::Busy => Reason::Busy,
        MapError::OutOfFrames => Reason::OutOfFrames,
        _ => Reason::Invalid,
    }
}

#[inline(always)]
fn collapse(step: CollapseStep) -> (Step, Reason) {
    let error = match step {
        CollapseStep::Begun => return (Step::Begin, Reason::Invalid),
        CollapseStep::Copied => return (Step::Copy, Reason::Invalid),
        CollapseStep::Done => return (Step::Commit, Reason::Invalid),
        CollapseStep::GivenUp(error) => error,
    };
    let reason = match error {
        CollapseError::NoTable(_) => Reason::NoTable,
        CollapseError::Claimed => Reason::Claimed,
        CollapseError::TooEmpty => Reason::TooEmpty,
        CollapseError::Busy | CollapseError::Changed => Reason::Busy,
        CollapseError::Mixed => Reason::Mixed,
        CollapseError::Pinned => Reason::Pinned,
        CollapseError::Scattered => Reason::Scattered,
        CollapseError::Hot => Reason::Hot,
        CollapseError::OutOfFrames => Reason::OutOfFrames,
        _ => Reason::Invalid,
    };
    (Step::Abort, reason)
}

#[inline(always)]
fn operation(operation: Operation) -> event::Operation {
    match operation {
        Operation::Collapse => event::Operation::Collapse,
        Operation::Split => event::Operation::Split,
        Operation::Migrate => event::Operation::Migrate,
        Operation::FreeTable => event::Operation::FreeTable,
    }
}

#[inline(always)]
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
    use stage2::Descriptor;

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
    fn a_checker_is_told_of_entries_as_they_are() {
        let written = event(Observation::EntryWritten {
            order: 7,
            entry: Pa::new(0x8000_0008),
            old: Descriptor::EMPTY,
            new: Descriptor::from_bits(0x9000_0003),
            release: true,
        });
        let expected = Event::Written {
            store: event::Store::Release,
            order: 7,
            entry: 0x8000_0008,
            old: 0,
            new: 0x9000_0003,
        };
        assert_eq!(written, expected);
        assert_eq!(written.order(), Some(7));
        assert_eq!(
            event(Observation::Split {
                ipa: Ipa::new(0),
                level: Level::L2
            })
            .order(),
            None
        );
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
            (Topic::Protocol, Observation::Published { order: 1 }),
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
