//! What the events say the machine has done, and the rules that they keep.

mod entries;

use trace::event::{Barrier, Holder, Register, Store, Taking, Tlbi};
use trace::{Event, Record};

use super::caches::Caches;
use super::changes::{Changes, Counts};
use super::cpus::{Cpu, Lock};
use super::frames::Frames;
use super::grace::Graces;
use super::rules::{
    Broken, DETACHED, FREE, GRACE, GUESTS, LOCK, ORDER, PUBLISH, REUSE, SECTION, SHAPE, TIME, TRUE,
    VCPU, VMID, WALKS,
};
use super::tables::{Kind, PAGE, State, Table, Tables, kind, marked_by_hardware};
use super::vms::Vms;
use entries::Write;

const ROOT: u64 = 0x0000_ffff_ffff_f000;

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Model {
    tables: Tables,
    caches: Caches,
    vms: Vms,
    frames: Frames,
    graces: Graces,
    changes: Changes,
    /// FEAT_BBM level 2: a block and its parts may replace each other directly.
    direct: bool,
    broken: Vec<Broken>,
}

impl Model {
    /// Takes the next event of the order; returns the rules that it breaks.
    pub(super) fn apply(&mut self, record: &Record) -> Vec<Broken> {
        let (cpu, vm) = (record.stamp.cpu, record.stamp.vm);
        match record.event {
            Event::Allowed { bbm, dic, .. } => {
                self.direct = bbm >= 2;
                (self.caches.fetches, self.vms.fetches) = (dic == 0, dic == 0);
            }
            Event::Held {
                holder, start, end, ..
            } => self.held([start, end], holder, vm),
            Event::RamMade { ipa, end, .. } => self.frames.set_ram(vm, (ipa, end)),
            Event::RootMade {
                level, table, ipa, ..
            } => {
                self.vms.begin(vm);
                self.made(table, Table::new(vm, level, ipa, State::Attached(None)));
            }
            Event::TreeEnded { .. } => self.tree_ended(vm),
            Event::TableMade { level, table, .. } => {
                self.made(table, Table::new(vm, level, 0, State::Fresh(cpu)));
            }
            Event::TableEnded { table, .. } => self.ended(table),
            Event::Locked {
                taking,
                table,
                level,
                claimed,
                section,
                ..
            } => {
                let lock = Lock {
                    table,
                    level,
                    section,
                };
                self.locked(cpu, lock, taking);
                if section == 0 && claimed == 0 {
                    let what = format!("{table:#x} is locked outside of read sections");
                    self.breaks(SECTION, what);
                }
            }
            Event::Unlocked { table, .. } => self.unlocked(cpu, table),
            Event::Written {
                store,
                order,
                entry,
                old,
                new,
            } => {
                let release = store == Store::Release;
                self.written(cpu, entry, [old, new], release, order);
            }
            Event::Barrier { barrier, .. } => self.barrier(cpu, barrier),
            Event::TlbiDone {
                tlbi,
                order,
                operand,
                vttbr,
            } => self.tlbi(cpu, tlbi, operand, vttbr, order),
            Event::RegisterSet {
                register: Register::Vttbr,
                order,
                value,
            } => self.loaded(cpu, value, record.stamp.vcpu, order),
            Event::RegisterSet {
                register: Register::Vtcr,
                value,
                ..
            } => {
                if let Some(what) = self.vms.cpus.set_shape(cpu, value) {
                    self.breaks(SHAPE, what);
                }
            }
            Event::GraceBegun { order, number } => self.graces.begin(number, order),
            Event::GraceEnded { number, .. } => self.grace_ended(number),
            Event::FetchesInvalidated { .. } => {
                self.caches.forget_fetches(cpu);
                self.vms.forget_fetches(cpu);
            }
            // For a person. There is no `_`, so that what is new for the checker is checked.
            Event::Fault { .. }
            | Event::Refused { .. }
            | Event::Retry { .. }
            | Event::LockWait { .. }
            | Event::Map { .. }
            | Event::Unmap { .. }
            | Event::Split { .. }
            | Event::Collapse { .. }
            | Event::Migrate { .. }
            | Event::Marker { .. }
            | Event::Detached { .. }
            | Event::Grace { .. }
            | Event::Freed { .. }
            | Event::Tlbi { .. }
            | Event::Exit { .. }
            | Event::Enter {}
            | Event::Switch { .. }
            | Event::Log { .. }
            | Event::Ram { .. }
            | Event::Frames { .. } => {}
        }
        std::mem::take(&mut self.broken)
    }

    /// How often entries were changed in which way.
    pub(super) fn changes(self) -> Counts {
        self.changes.counts
    }

    fn cpu(&mut self, cpu: u8) -> &mut Cpu {
        self.vms.cpus.get(cpu)
    }

    fn breaks(&mut self, rule: &'static str, what: String) {
        self.broken.push((rule, what));
    }

    fn made(&mut self, pa: u64, table: Table) {
        if self.tables.0.contains_key(&pa) {
            self.breaks(REUSE, format!("{pa:#x} becomes a table and is one already"));
        }
        if let Some(whose) = self.frames.foreign(pa) {
            let what = format!("{pa:#x} becomes a table, and is {whose}");
            self.breaks(GUESTS, what);
        }
        self.leads_to([pa, pa + PAGE], "a table");
        self.tables.0.insert(pa, table);
    }

    /// Nothing leads to these frames when they become something else.
    fn leads_to(&mut self, frames: [u64; 2], what: &str) {
        if let Some((pa, place)) = self.frames.mapped(frames) {
            let what = format!("{pa:#x} becomes {what}, and vm{} has it mapped", place.vm);
            return self.breaks(REUSE, what);
        }
        if let Some(stale) = self.caches.of_frames(frames) {
            let what = format!(
                "{:#x} becomes {what}, and translations of vm{} to it may be cached",
                frames[0], stale.vm
            );
            self.breaks(REUSE, what);
        }
    }

    fn held(&mut self, frames: [u64; 2], holder: Holder, vm: u8) {
        match self.frames.mapped(frames) {
            // Shown to the same VM once more.
            Some((_, place)) if holder == Holder::Shown && place.vm == vm => {}
            _ => self.leads_to(frames, holder.text()),
        }
        let table = self
            .tables
            .0
            .keys()
            .find(|&&pa| frames[0] <= pa && pa < frames[1]);
        if let Some(pa) = table.copied() {
            let what = format!("{pa:#x} becomes {}, and is a table", holder.text());
            self.breaks(REUSE, what);
        }
        self.frames.hold(frames, holder, vm);
    }

    fn tree_ended(&mut self, vm: u8) {
        if let Some(how) = self.vms.end(vm) {
            self.breaks(
                FREE,
                format!("the tables of vm{vm} are taken down, and {how}"),
            );
        }
        self.caches.forget(vm);
        self.frames.forget(vm);
    }

    fn ended(&mut self, pa: u64) {
        let Some(table) = self.tables.0.remove(&pa) else {
            return self.breaks(TRUE, format!("{pa:#x} ends and is no table"));
        };
        if let State::Attached(_) = table.state {
            // With the whole tree.
            if !self.vms.is_over(table.vm) {
                let what = format!("{pa:#x} ends, and vm{} can walk to it", table.vm);
                self.breaks(FREE, what);
            }
        } else if let Some(stale) = self.caches.of_table(pa) {
            let what = format!("{pa:#x} ends, and vm{}'s walk caches may hold it", stale.vm);
            self.breaks(FREE, what);
        }
        let detached = matches!(table.state, State::Detached(_));
        if detached && !self.graces.passed_since(table.taken_out) {
            let what = format!(
                "{pa:#x} ends, and no grace period has passed since event {}, which took it out",
                table.taken_out
            );
            self.breaks(GRACE, what);
        }
        if let Some(cpu) = table.holder {
            self.breaks(FREE, format!("{pa:#x} ends while cpu{cpu} has its lock"));
        }
    }

    fn grace_ended(&mut self, number: u64) {
        if !self.graces.end(number) {
            self.breaks(
                TRUE,
                format!("grace period {number} ends and did not begin"),
            );
        }
        if let Some((cpu, lock)) = self.vms.cpus.holding_up(number) {
            let what = format!(
                "grace period {number} ends while cpu{cpu} has the lock of {:#x}, in a section that is older",
                lock.table
            );
            self.breaks(GRACE, what);
        }
    }

    fn locked(&mut self, cpu: u8, lock: Lock, taking: Taking) {
        let (pa, level) = (lock.table, lock.level);
        let Some(table) = self.tables.0.get_mut(&pa) else {
            return self.breaks(TRUE, format!("the lock of {pa:#x}, which is no table"));
        };
        let (vm, before) = (table.vm, table.holder.replace(cpu));
        if let Some(other) = before {
            self.breaks(ORDER, format!("cpu{other} has the lock of {pa:#x} already"));
        }
        let held = self.cpu(cpu).held.clone();
        self.cpu(cpu).held.push(lock);
        for Lock {
            table: other,
            level: above,
            ..
        } in held
        {
            let same = self
                .tables
                .0
                .get(&other)
                .is_some_and(|table| table.vm == vm);
            if taking == Taking::Waited && !(same && above < level) {
                let what = format!(
                    "the lock of {pa:#x}, level {level}, is waited for under that of {other:#x}, level {above}"
                );
                self.breaks(ORDER, what);
            }
        }
    }

    fn unlocked(&mut self, cpu: u8, pa: u64) {
        let state = self.cpu(cpu);
        let Some(at) = state.held.iter().position(|lock| lock.table == pa) else {
            return self.breaks(
                ORDER,
                format!("cpu{cpu} lets go {pa:#x}, which it has not locked"),
            );
        };
        state.held.remove(at);
        let unpublished = state.unpublished.iter().find(|&&e| e & !(PAGE - 1) == pa);
        if let Some(entry) = unpublished.copied() {
            let what = format!("the entry {entry:#x} was made, and no DSB followed under the lock");
            self.breaks(PUBLISH, what);
            self.cpu(cpu).unpublished.clear();
        }
        if let Some(table) = self.tables.0.get_mut(&pa) {
            table.holder = None;
        }
        self.flushed_in_time(pa);
    }

    /// Under the lock of the table at `pa`, which is let go, all that had to be flushed was.
    fn flushed_in_time(&mut self, pa: u64) {
        // A marker keeps its place until its owner has flushed.
        let late = self.caches.of_entries(pa, |entry| self.is_settled(entry));
        if let Some(entry) = late {
            let what =
                format!("what the entry {entry:#x} was may be cached when its lock is let go");
            self.breaks(TIME, what);
            // Once is enough.
            self.caches.stale.retain(|stale| stale.entry != entry);
        }
        // Its parts may be taken away, and their frames given on, as soon as their lock is free.
        let block = self.caches.of_leaf(|entry, level| {
            self.bits(entry)
                .is_some_and(|bits| kind(bits, level) == Kind::Table(pa))
        });
        if let Some(entry) = block {
            let what = format!(
                "the block that {entry:#x} was may be cached when the lock of its parts at {pa:#x} is let go"
            );
            self.breaks(TIME, what);
        }
    }

    fn bits(&self, entry: u64) -> Option<u64> {
        let table = self.tables.0.get(&(entry & !(PAGE - 1)))?;
        Some(table.entries[(entry % PAGE / 8) as usize])
    }

    fn written(&mut self, cpu: u8, entry: u64, [old, new]: [u64; 2], release: bool, order: u64) {
        let Some((table, index)) = self.tables.at(entry) else {
            return self.breaks(LOCK, format!("{entry:#x} is written and is in no table"));
        };
        let before = std::mem::replace(&mut table.entries[index], new);
        let (vm, level, state, holder) = (table.vm, table.level, table.state, table.holder);
        let ipa = table.ipa_of(index);
        match state {
            // What a frame held before it became a table is not known.
            State::Fresh(by) if by == cpu => return,
            State::Fresh(by) => {
                return self.breaks(LOCK, format!("{entry:#x} is in a table of cpu{by} alone"));
            }
            State::Detached(_) => {
                return self.breaks(
                    DETACHED,
                    format!("{entry:#x} is in a table that was taken out"),
                );
            }
            State::Attached(_) if self.vms.is_over(vm) => {
                let what = format!("{entry:#x} is in a tree that has ended");
                return self.breaks(DETACHED, what);
            }
            State::Attached(_) => {}
        }
        if holder != Some(cpu) {
            self.breaks(
                LOCK,
                format!("{entry:#x} is written without the lock of its table"),
            );
        }
        if !marked_by_hardware(before, old) {
            self.breaks(
                TRUE,
                format!("{entry:#x} was {before:#x} and is said to have been {old:#x}"),
            );
        }
        self.changes.add(entry, level, old, new);
        self.changed(Write {
            cpu,
            vm,
            order,
            level,
            ipa,
            entry,
            old,
            new,
            release,
        });
    }

    fn barrier(&mut self, cpu: u8, barrier: Barrier) {
        self.caches.barrier(cpu, barrier);
        self.cpu(cpu).barrier(barrier);
        if matches!(barrier, Barrier::DsbIshst | Barrier::DsbIsh) {
            self.cpu(cpu).unpublished.clear();
            for table in self.tables.0.values_mut() {
                table.synced = true;
            }
        }
        if barrier == Barrier::DsbIsh {
            self.vms.complete(cpu);
        }
    }

    fn tlbi(&mut self, cpu: u8, tlbi: Tlbi, operand: u64, vttbr: u64, order: u64) {
        let state = self.cpu(cpu);
        let (loaded, wrong) = (state.vttbr, state.tlbi(tlbi));
        if loaded != vttbr {
            let what = format!("VTTBR_EL2 is {vttbr:#x} and was last set to {loaded:#x}");
            self.breaks(TRUE, what);
        }
        if let Some((rule, what)) = wrong {
            self.breaks(rule, what.to_owned());
        }
        let vmid = (vttbr >> 48) as u16;
        self.vms.cpus.forget(cpu, tlbi, vmid);
        match tlbi {
            Tlbi::Vmalls12e1is => self.vms.empty(cpu, Some(vmid), order),
            Tlbi::Alle1is => self.vms.empty(cpu, None, order),
            _ => {}
        }
        self.caches.tlbi(cpu, tlbi, operand, vmid);
    }

    fn loaded(&mut self, cpu: u8, vttbr: u64, vcpu: u8, order: u64) {
        let root = vttbr & ROOT & !(PAGE - 1);
        let mut vm = None;
        if let Some(table) = self.tables.0.get(&root) {
            vm = Some(table.vm);
            let is_root = table.state == State::Attached(None) && table.ipa == 0;
            let synced = table.synced;
            if !is_root {
                self.breaks(VMID, format!("VTTBR_EL2 gets {root:#x}, which is no root"));
            } else if !synced {
                let what = format!("VTTBR_EL2 gets {root:#x}, and no DSB followed its making");
                self.breaks(PUBLISH, what);
            }
        }
        let vmid = (vttbr >> 48) as u16;
        if let Err(what) = self.vms.load(cpu, vmid, vm, order) {
            self.breaks(VMID, what);
        }
        if let Some(vm) = vm {
            self.walks(vm, vmid);
        }
        if let Some(what) = self.cpu(cpu).load(vttbr, vm, vcpu) {
            self.breaks(VCPU, what);
        }
    }

    /// From now on walks may make translations of the VM under this VMID.
    fn walks(&mut self, vm: u8, vmid: u16) {
        if let Some(entry) = self.caches.wake(vm, vmid) {
            let what = format!(
                "vm{vm} is loaded with VMID {vmid}, which it had before, and under which what {entry:#x} was may be cached"
            );
            self.breaks(VMID, what);
        }
        for (entry, by) in self.caches.load(vm, vmid) {
            // The holder of the lock will flush, or break another rule. So will the owner of a
            // marker.
            let holder = self.tables.at(entry).and_then(|(table, _)| table.holder);
            if holder != Some(by) && self.is_settled(entry) {
                let what = format!(
                    "vm{vm} is loaded, and no DSB of cpu{by} has followed its change of {entry:#x}: walks may find what that was"
                );
                self.breaks(WALKS, what);
            }
        }
    }

    /// Whether the entry is no marker of work under way.
    fn is_settled(&self, entry: u64) -> bool {
        let bits = self.bits(entry);
        bits.is_some_and(|bits| bits == 0 || bits & 1 != 0)
    }
}
