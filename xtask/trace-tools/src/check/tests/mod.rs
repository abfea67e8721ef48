//! Made-up streams for the checker: an event at a time, or what a VM does.

mod cpus;
mod isolation;
mod rules;
mod sections;

use trace::event::{Barrier, Holder, NOBODY, Register, Store, Taking, Tlbi};
use trace::{Event, Record, Stamp};

use super::changes::Counts;
use super::rules::*;
use super::{Recording, check, run};

const ROOT: u64 = 0x8000_0000;
const L2: u64 = 0x8000_2000;
const L3: u64 = 0x8000_3000;
const OTHER_ROOT: u64 = 0x8001_0000;
const OTHER_L2: u64 = 0x8001_1000;
const OTHER_L3: u64 = 0x8001_2000;
const PAGE: u64 = 0x9000_0000;
const BLOCK: u64 = 0xa000_0000;
const NORMAL: u64 = 0b1111 << 2 | 0b11 << 8 | 0b11 << 6 | 1 << 10;
const LEAF: u64 = NORMAL | 0b11;
/// What guests have, and what they see as their RAM.
const FRAMES: [u64; 2] = [0x8000_0000, 0xb000_0000];
const RAM: [u64; 2] = [0, 0x1000_0000];
const MARKER: u64 = 0x1_0004;
/// A root that was never told.
const NOTHING: u64 = 0x4000_0000;

/// The leaf of the n-th page.
const fn page(n: u64) -> u64 {
    (PAGE + n * 0x1000) | LEAF
}

/// A stream in the making.
#[derive(Clone, Default)]
struct Story {
    events: Vec<(u8, u8, Event, u8)>,
    /// In which sections locks are taken.
    section: u64,
    /// The vCPU that runs.
    vcpu: u8,
}

impl Story {
    fn tell(&mut self, cpu: u8, vm: u8, event: Event) -> &mut Self {
        self.events.push((cpu, vm, event, self.vcpu));
        self
    }

    fn lock(&mut self, cpu: u8, table: u64, level: u8) -> &mut Self {
        let taking = Taking::Waited;
        let event = Event::Locked {
            taking,
            level,
            claimed: 0,
            order: 0,
            table,
            section: self.section,
        };
        self.tell(cpu, 0, event)
    }

    fn unlock(&mut self, cpu: u8, table: u64) -> &mut Self {
        self.tell(cpu, 0, Event::Unlocked { order: 0, table })
    }

    fn write(&mut self, cpu: u8, entry: u64, old: u64, new: u64) -> &mut Self {
        let store = Store::Release;
        self.tell(
            cpu,
            0,
            Event::Written {
                store,
                order: 0,
                entry,
                old,
                new,
            },
        )
    }

    fn barrier(&mut self, cpu: u8, barrier: Barrier) -> &mut Self {
        self.tell(cpu, NOBODY, Event::Barrier { barrier, order: 0 })
    }

    fn publish(&mut self, cpu: u8) -> &mut Self {
        self.barrier(cpu, Barrier::DsbIshst)
    }

    fn tlbi(&mut self, cpu: u8, tlbi: Tlbi, operand: u64, vmid: u64) -> &mut Self {
        let vttbr = self.vttbr_of(cpu) & 0xffff_ffff_ffff | vmid << 48;
        self.tell(
            cpu,
            NOBODY,
            Event::TlbiDone {
                tlbi,
                order: 0,
                operand,
                vttbr,
            },
        )
    }

    fn vttbr_of(&self, cpu: u8) -> u64 {
        let set = |event: &Event| match *event {
            Event::RegisterSet { value, .. } => Some(value),
            _ => None,
        };
        let mine = self.events.iter().rev().filter(|(by, ..)| *by == cpu);
        mine.into_iter()
            .find_map(|(_, _, event, _)| set(event))
            .unwrap_or(0)
    }

    /// All that one invalidation is, by this TLBI of stage 2.
    fn flush(&mut self, cpu: u8, tlbi: Tlbi, operand: u64, vmid: u64) -> &mut Self {
        self.publish(cpu)
            .tlbi(cpu, tlbi, operand, vmid)
            .barrier(cpu, Barrier::DsbIsh)
            .tlbi(cpu, Tlbi::Vmalle1is, 0, vmid)
            .barrier(cpu, Barrier::DsbIsh)
            .barrier(cpu, Barrier::Isb)
    }

    fn load(&mut self, cpu: u8, root: u64, vmid: u64) -> &mut Self {
        let (register, value) = (Register::Vttbr, root | vmid << 48);
        self.tell(
            cpu,
            NOBODY,
            Event::RegisterSet {
                register,
                order: 0,
                value,
            },
        )
        .barrier(cpu, Barrier::Isb)
    }

    fn held(&mut self, holder: Holder, [start, end]: [u64; 2], vm: u8) -> &mut Self {
        let event = Event::Held {
            holder,
            order: 0,
            start,
            end,
        };
        self.tell(0, vm, event)
    }

    /// A VM with a root and RAM.
    fn root(&mut self, vm: u8, table: u64) -> &mut Self {
        let [ipa, end] = RAM;
        self.tell(0, vm, Event::RamMade { order: 0, ipa, end });
        let event = Event::RootMade {
            level: 1,
            order: 0,
            table,
            ipa: 0,
        };
        self.tell(0, vm, event).publish(0)
    }

    fn table(&mut self, cpu: u8, vm: u8, level: u8, table: u64) -> &mut Self {
        self.tell(
            cpu,
            vm,
            Event::TableMade {
                level,
                order: 0,
                table,
            },
        )
    }

    fn tree_ended(&mut self, vm: u8) -> &mut Self {
        self.tell(0, vm, Event::TreeEnded { order: 0 })
    }

    fn ended(&mut self, table: u64) -> &mut Self {
        self.tell(0, 0, Event::TableEnded { order: 0, table })
    }

    /// Makes an entry under its table's lock.
    fn make(&mut self, cpu: u8, table: u64, level: u8, index: u64, new: u64) -> &mut Self {
        self.lock(cpu, table, level)
            .write(cpu, table + 8 * index, 0, new)
            .publish(cpu)
            .unlock(cpu, table)
    }

    /// A VM with tables, running on CPU 0, that has a page mapped at 0x3000.
    fn running() -> Self {
        let mut story = Self {
            section: 1,
            ..Self::default()
        };
        let allowed = Event::Allowed {
            bbm: 0,
            dic: 1,
            order: 0,
        };
        story
            .tell(0, NOBODY, allowed)
            .held(Holder::Guests, FRAMES, NOBODY)
            .load(0, NOTHING, 0)
            .root(0, ROOT)
            .table(0, 0, 2, L2)
            .make(0, ROOT, 1, 0, L2 | 3)
            .table(0, 0, 3, L3)
            .make(0, L2, 2, 0, L3 | 3)
            .load(0, ROOT, 1)
            .make(0, L3, 3, 3, page(0));
        story
    }

    /// A second VM beside the first, with a place for a page.
    fn another(&mut self, vmid: u64) -> &mut Self {
        self.root(1, OTHER_ROOT)
            .table(1, 1, 2, OTHER_L2)
            .make(1, OTHER_ROOT, 1, 0, OTHER_L2 | 3)
            .table(1, 1, 3, OTHER_L3)
            .make(1, OTHER_L2, 2, 0, OTHER_L3 | 3)
            .load(1, OTHER_ROOT, vmid)
    }

    /// The page of [`running`](Self::running) is unmapped.
    fn unmap(&mut self) -> &mut Self {
        self.lock(0, L3, 3)
            .write(0, L3 + 24, page(0), 0)
            .flush(0, Tlbi::Ipas2le1is, 3 | 0b0111 << 44, 1)
            .unlock(0, L3)
    }

    /// The level-3 table, emptied, makes way for a marker, by this TLBI and with its parent's lock
    /// held.
    fn take_out(&mut self, tlbi: Tlbi, operand: u64) -> &mut Self {
        self.unmap()
            .lock(0, L2, 2)
            .lock(0, L3, 3)
            .write(0, L2, L3 | 3, MARKER)
            .unlock(0, L3)
            .flush(0, tlbi, operand, 1)
    }

    /// The level-3 table becomes a block, by a marker.
    fn collapse(&mut self) -> &mut Self {
        self.lock(0, L2, 2)
            .lock(0, L3, 3)
            .write(0, L2, L3 | 3, MARKER)
            .unlock(0, L3)
            .unlock(0, L2)
            .flush(0, Tlbi::Vmalls12e1is, 0, 1)
            .lock(0, L2, 2)
            .write(0, L2, MARKER, BLOCK | NORMAL | 1)
            .publish(0)
            .unlock(0, L2)
            .grace(2)
            .ended(L3)
    }

    /// A grace period passes.
    fn grace(&mut self, number: u64) -> &mut Self {
        self.grace_begins(number).grace_ends(number)
    }

    fn grace_begins(&mut self, number: u64) -> &mut Self {
        self.tell(0, NOBODY, Event::GraceBegun { order: 0, number })
    }

    fn grace_ends(&mut self, number: u64) -> &mut Self {
        self.tell(0, NOBODY, Event::GraceEnded { order: 0, number })
    }

    fn without(mut self, leaves_out: impl Fn(&Event) -> bool) -> Self {
        let at = self
            .events
            .iter()
            .rposition(|(_, _, event, _)| leaves_out(event));
        self.events.remove(at.expect("something to leave out"));
        self
    }

    fn recording(&self) -> Recording {
        let records = self
            .events
            .iter()
            .enumerate()
            .map(|(index, (cpu, vm, event, vcpu))| {
                let mut event = *event;
                number(&mut event, index as u64 + 1);
                let stamp = Stamp {
                    time: index as u64,
                    cpu: *cpu,
                    vm: *vm,
                    vcpu: *vcpu,
                };
                Record { stamp, event }
            });
        Recording {
            records: records.collect(),
            ..Recording::default()
        }
    }

    fn changes(&self) -> Counts {
        check(&self.recording()).changes
    }

    /// The rules that are broken.
    fn broken(&self) -> Vec<&'static str> {
        let checked = check(&self.recording());
        let mut rules: Vec<_> = checked.violations.iter().map(|v| v.rule).collect();
        rules.dedup();
        rules
    }
}

fn number(event: &mut Event, number: u64) {
    match event {
        Event::Written { order, .. }
        | Event::Barrier { order, .. }
        | Event::TlbiDone { order, .. }
        | Event::RegisterSet { order, .. }
        | Event::Locked { order, .. }
        | Event::Unlocked { order, .. }
        | Event::TableMade { order, .. }
        | Event::RootMade { order, .. }
        | Event::TableEnded { order, .. }
        | Event::GraceBegun { order, .. }
        | Event::GraceEnded { order, .. }
        | Event::FetchesInvalidated { order }
        | Event::TreeEnded { order }
        | Event::Held { order, .. }
        | Event::RamMade { order, .. }
        | Event::Allowed { order, .. } => *order = number,
        _ => {}
    }
}

fn is_tlbi(event: &Event) -> bool {
    matches!(event, Event::TlbiDone { .. })
}

fn is_barrier(barrier: Barrier) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Barrier { barrier: b, .. } if *b == barrier)
}

fn is_tlbi_or_lock(event: &Event) -> bool {
    is_tlbi(event) || matches!(event, Event::Locked { .. })
}
