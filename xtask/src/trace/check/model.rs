//! What the events say the machine has done, and the rules that they keep.

use trace::event::{Barrier, Register, Store, Taking, Tlbi};
use trace::{Event, Record};

use super::caches::{Caches, Stale};
use super::tables::{
    self, Kind, Leaf, PAGE, State, Table, Tables, kind, leaf, marked_by_hardware, restricts,
};
use super::vms::Vms;

/// A rule that was broken, and how.
pub(super) type Broken = (&'static str, String);

pub(super) const BREAK: &str = "break before make";
pub(super) const LOCK: &str = "write under the lock";
pub(super) const PUBLISH: &str = "complete when published";
pub(super) const DETACHED: &str = "detached stays as it is";
pub(super) const FREE: &str = "freed after the flush";
pub(super) const REUSE: &str = "reused after the flush";
pub(super) const VMID: &str = "right VMID";
pub(super) const ORDER: &str = "lock order";
pub(super) const TIME: &str = "flushed in time";
pub(super) const TRUE: &str = "true to the record";

const ROOT: u64 = 0x0000_ffff_ffff_f000;

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Model {
    tables: Tables,
    caches: Caches,
    vms: Vms,
    /// FEAT_BBM level 2: a block and its parts may replace each other directly.
    direct: bool,
    broken: Vec<Broken>,
}

/// A write of an entry, and where it is.
struct Write {
    cpu: u8,
    vm: u8,
    level: u8,
    ipa: u64,
    entry: u64,
    old: u64,
    new: u64,
    release: bool,
}

impl Model {
    /// Takes the next event of the order; returns the rules that it breaks.
    pub(super) fn apply(&mut self, record: &Record) -> Vec<Broken> {
        let (cpu, vm) = (record.stamp.cpu, record.stamp.vm);
        match record.event {
            Event::Allowed { bbm, .. } => self.direct = bbm >= 2,
            Event::RootMade {
                level, table, ipa, ..
            } => self.made(table, Table::new(vm, level, ipa, State::Attached(None))),
            Event::TableMade { level, table, .. } => {
                self.made(table, Table::new(vm, level, 0, State::Fresh(cpu)));
            }
            Event::TableEnded { table, .. } => self.ended(table),
            Event::Locked {
                taking,
                table,
                level,
                ..
            } => self.locked(cpu, table, level, taking),
            Event::Unlocked { table, .. } => self.unlocked(cpu, table),
            Event::Written {
                store,
                entry,
                old,
                new,
                ..
            } => self.written(cpu, entry, [old, new], store == Store::Release),
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
            } => self.loaded(cpu, value, order),
            _ => {}
        }
        std::mem::take(&mut self.broken)
    }

    fn breaks(&mut self, rule: &'static str, what: String) {
        self.broken.push((rule, what));
    }

    fn made(&mut self, pa: u64, table: Table) {
        if self.tables.0.contains_key(&pa) {
            self.breaks(REUSE, format!("{pa:#x} becomes a table and is one already"));
        }
        if let Some(vm) = self.vms.maps(pa) {
            self.breaks(
                REUSE,
                format!("{pa:#x} becomes a table, and vm{vm} has it mapped"),
            );
        }
        if let Some(stale) = self.caches.of_frame(pa) {
            let what = format!(
                "{pa:#x} becomes a table, and translations of vm{} to it may be cached",
                stale.vm
            );
            self.breaks(REUSE, what);
        }
        self.tables.0.insert(pa, table);
    }

    fn ended(&mut self, pa: u64) {
        let Some(table) = self.tables.0.remove(&pa) else {
            return self.breaks(TRUE, format!("{pa:#x} ends and is no table"));
        };
        if let State::Attached(entry) = table.state {
            // With the whole VM, whose TLB entries are gone.
            if !self.vms.is_out(table.vm) {
                let what = format!("{pa:#x} ends, and vm{} can walk to it", table.vm);
                self.breaks(FREE, what);
            }
            if entry.is_none() {
                self.caches.stale.retain(|stale| stale.vm != table.vm);
                self.vms.forget(table.vm);
            }
        } else if let Some(stale) = self.caches.stale.iter().find(|s| s.table == Some(pa)) {
            let what = format!("{pa:#x} ends, and vm{}'s walk caches may hold it", stale.vm);
            self.breaks(FREE, what);
        }
        if let Some(cpu) = table.holder {
            self.breaks(FREE, format!("{pa:#x} ends while cpu{cpu} has its lock"));
        }
    }

    fn locked(&mut self, cpu: u8, pa: u64, level: u8, taking: Taking) {
        let Some(table) = self.tables.0.get_mut(&pa) else {
            return self.breaks(TRUE, format!("the lock of {pa:#x}, which is no table"));
        };
        let (vm, before) = (table.vm, table.holder.replace(cpu));
        if let Some(other) = before {
            self.breaks(ORDER, format!("cpu{other} has the lock of {pa:#x} already"));
        }
        let held = self.vms.cpu(cpu).held.clone();
        self.vms.cpu(cpu).held.push((pa, level));
        for (other, above) in held {
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
        let state = self.vms.cpu(cpu);
        let Some(at) = state.held.iter().position(|(table, _)| *table == pa) else {
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
            self.vms.cpu(cpu).unpublished.clear();
        }
        if let Some(table) = self.tables.0.get_mut(&pa) {
            table.holder = None;
        }
        self.flushed_in_time(pa);
    }

    /// Under the lock of the table at `pa`, which is let go, all that had to be flushed was.
    fn flushed_in_time(&mut self, pa: u64) {
        let late = self.caches.stale.iter().find(|stale| {
            let mine = stale.entry & !(PAGE - 1) == pa;
            // A marker keeps its place until its owner has flushed.
            mine && self
                .bits(stale.entry)
                .is_some_and(|bits| bits == 0 || bits & 1 != 0)
        });
        if let Some(entry) = late.map(|stale| stale.entry) {
            let what =
                format!("what the entry {entry:#x} was may be cached when its lock is let go");
            self.breaks(TIME, what);
            // Once is enough.
            self.caches.stale.retain(|stale| stale.entry != entry);
        }
    }

    fn bits(&self, entry: u64) -> Option<u64> {
        let table = self.tables.0.get(&(entry & !(PAGE - 1)))?;
        Some(table.entries[(entry % PAGE / 8) as usize])
    }

    fn written(&mut self, cpu: u8, entry: u64, [old, new]: [u64; 2], release: bool) {
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
        self.changed(Write {
            cpu,
            vm,
            level,
            ipa,
            entry,
            old,
            new,
            release,
        });
    }

    /// An entry of the tree has changed.
    fn changed(&mut self, write: Write) {
        let (was, is) = (kind(write.old, write.level), kind(write.new, write.level));
        match (was, is) {
            (Kind::Leaf, Kind::Leaf) => return self.live_leaf(&write),
            (Kind::Invalid, _) | (_, Kind::Invalid) => {}
            _ if write.old == write.new => return,
            _ => self.live_change(&write, was, is),
        }
        match was {
            Kind::Leaf => {
                let old = leaf(write.old, write.level, write.ipa);
                self.vms.unmap(write.vm, &old);
                self.becomes_stale(&write, None, vec![old]);
            }
            Kind::Table(child) => self.detach(&write, child),
            Kind::Invalid => {}
        }
        if is == Kind::Invalid {
            return;
        }
        self.vms.cpu(write.cpu).unpublished.push(write.entry);
        if was == Kind::Invalid
            && self
                .caches
                .of_entry(write.entry)
                .is_some_and(|s| self.differs(s, &write))
        {
            let what = format!("{:#x} is made while what it was may be cached", write.entry);
            self.breaks(BREAK, what);
        }
        match is {
            Kind::Table(child) => self.attach(&write, child),
            _ => self.leaf_made(write.vm, leaf(write.new, write.level, write.ipa)),
        }
    }

    /// Whether what is made is not what may be cached.
    fn differs(&self, stale: &Stale, write: &Write) -> bool {
        match kind(write.new, write.level) {
            Kind::Table(child) => stale.table != Some(child),
            _ => {
                let new = leaf(write.new, write.level, write.ipa);
                stale.table.is_some() || !stale.leaves.iter().all(|old| old.is_like(&new))
            }
        }
    }

    /// A valid leaf has become another, with no break between.
    fn live_leaf(&mut self, write: &Write) {
        let [old, new] = [write.old, write.new].map(|bits| leaf(bits, write.level, write.ipa));
        if !old.is_like(&new) {
            let what = format!(
                "{:#x} changes from {:#x} to {:#x} while it is valid",
                write.entry, write.old, write.new
            );
            self.breaks(BREAK, what);
            self.vms.unmap(write.vm, &old);
            self.vms.map(write.vm, &new);
        }
        if restricts(write.old, write.new) {
            self.becomes_stale(write, None, vec![old]);
        }
    }

    /// A valid entry has become one of another kind, with no break between.
    fn live_change(&mut self, write: &Write, was: Kind, is: Kind) {
        let same = match (was, is) {
            (Kind::Leaf, Kind::Table(child)) => {
                let block = leaf(write.old, write.level, write.ipa);
                self.tables.is_split(child, &block)
            }
            (Kind::Table(child), Kind::Leaf) => {
                let block = leaf(write.new, write.level, write.ipa);
                self.tables.is_split(child, &block)
            }
            _ => false,
        };
        if !(self.direct && same) {
            let allowed = if same {
                "which these CPUs don't allow"
            } else {
                "to something else"
            };
            let what = format!("{:#x} changes while it is valid, {allowed}", write.entry);
            self.breaks(BREAK, what);
        }
    }

    fn becomes_stale(&mut self, write: &Write, table: Option<u64>, leaves: Vec<Leaf>) {
        // Of a VM that no CPU has had, nothing is cached.
        let Some(vmid) = self.vms.vms.get(&write.vm).and_then(|vm| vm.vmid) else {
            return;
        };
        let range = (write.ipa, write.ipa + tables::size(write.level));
        let mut stale = Stale::new(write.vm, vmid, range, write.level, write.entry, write.cpu);
        (stale.table, stale.leaves) = (table, leaves);
        self.caches.stale.push(stale);
    }

    fn detach(&mut self, write: &Write, child: u64) {
        let leaves = self.tables.leaves(child, write.ipa);
        for leaf in &leaves {
            self.vms.unmap(write.vm, leaf);
        }
        if let Some(table) = self.tables.0.get_mut(&child) {
            table.state = State::Detached(write.entry);
            if table.holder != Some(write.cpu) {
                let what = format!("{child:#x} is taken out of the tree without its lock");
                self.breaks(DETACHED, what);
            }
        }
        self.becomes_stale(write, Some(child), leaves);
    }

    fn attach(&mut self, write: &Write, child: u64) {
        if !write.release {
            let what = format!("{:#x} names a table and was stored plainly", write.entry);
            self.breaks(PUBLISH, what);
        }
        let Some(table) = self.tables.0.get_mut(&child) else {
            let what = format!("{:#x} names {child:#x}, which is no table", write.entry);
            return self.breaks(PUBLISH, what);
        };
        let (vm, level, state) = (table.vm, table.level, table.state);
        table.state = State::Attached(Some(write.entry));
        table.ipa = write.ipa;
        let free = match state {
            State::Fresh(by) => by == write.cpu,
            State::Detached(from) => from == write.entry,
            State::Attached(_) => false,
        };
        if !free || vm != write.vm || level != write.level + 1 {
            let what = format!(
                "{:#x} of vm{}, level {}, names {child:#x}: a table of vm{vm}, level {level}, {state:?}",
                write.entry, write.vm, write.level
            );
            self.breaks(PUBLISH, what);
            return;
        }
        for leaf in self.tables.leaves(child, write.ipa) {
            self.leaf_of_table_made(write.vm, child, leaf);
        }
    }

    /// A leaf of the table `child` translates from now on. What is cached through that table, or of the
    /// block that it was part of, does not differ.
    fn leaf_of_table_made(&mut self, vm: u8, child: u64, leaf: Leaf) {
        let old = self.caches.against(vm, &leaf);
        let same = old.is_none_or(|(stale, old)| {
            stale.table == Some(child) || stale.vm == vm && self.direct && leaf.agrees(old)
        });
        if same {
            self.vms.map(vm, &leaf);
        } else {
            self.leaf_made(vm, leaf);
        }
    }

    fn leaf_made(&mut self, vm: u8, leaf: Leaf) {
        if let Some((stale, old)) = self.caches.against(vm, &leaf) {
            let (rule, why) = if stale.vm == vm && leaf.overlaps(old) {
                (BREAK, "the IPA")
            } else {
                (REUSE, "the frame")
            };
            // A block that its parts have replaced directly, or the other way round, is no other translation.
            if !(rule == BREAK && self.direct && leaf.agrees(old)) {
                let what = format!(
                    "vm{vm} gets {:#x} mapped to {:#x}, {} KiB, while another translation of {why} may be cached (vm{}, {:#x} to {:#x})",
                    leaf.ipa,
                    leaf.pa,
                    leaf.size / 1024,
                    stale.vm,
                    old.ipa,
                    old.pa
                );
                self.breaks(rule, what);
            }
        }
        let taken = leaf
            .frames()
            .find(|frame| self.tables.0.contains_key(frame));
        if let Some(frame) = taken {
            self.breaks(
                REUSE,
                format!("vm{vm} gets {frame:#x} mapped, which is a table"),
            );
        }
        let other = leaf
            .frames()
            .find_map(|frame| self.vms.maps(frame).filter(|&o| o != vm));
        if let Some(other) = other {
            let what = format!("vm{vm} gets {:#x} mapped, which vm{other} has", leaf.pa);
            self.breaks(REUSE, what);
        }
        self.vms.map(vm, &leaf);
    }

    fn barrier(&mut self, cpu: u8, barrier: Barrier) {
        self.caches.barrier(cpu, barrier);
        match barrier {
            Barrier::DsbIshst | Barrier::DsbIsh => {
                self.vms.cpu(cpu).unpublished.clear();
                for table in self.tables.0.values_mut() {
                    table.synced = true;
                }
                if barrier == Barrier::DsbIsh {
                    self.vms.complete(cpu);
                }
            }
            Barrier::Isb => self.vms.cpu(cpu).unsettled = false,
            Barrier::DsbNshst | Barrier::DsbNsh => {}
        }
    }

    fn tlbi(&mut self, cpu: u8, tlbi: Tlbi, operand: u64, vttbr: u64, order: u64) {
        let state = self.vms.cpu(cpu);
        let (loaded, unsettled) = (state.vttbr, state.unsettled);
        if loaded != vttbr {
            let what = format!("VTTBR_EL2 is {vttbr:#x} and was last set to {loaded:#x}");
            self.breaks(TRUE, what);
        }
        if unsettled && tlbi != Tlbi::Alle1is {
            let what = "a TLBI follows a write of VTTBR_EL2 with no ISB between".to_owned();
            self.breaks(VMID, what);
        }
        let vmid = (vttbr >> 48) as u16;
        match tlbi {
            Tlbi::Vmalls12e1is => self.vms.empty(cpu, Some(vmid), order),
            Tlbi::Alle1is => self.vms.empty(cpu, None, order),
            _ => {}
        }
        self.caches.tlbi(cpu, tlbi, operand, vmid);
    }

    fn loaded(&mut self, cpu: u8, vttbr: u64, order: u64) {
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
        if let Err(what) = self.vms.load(cpu, vttbr, vm, order) {
            self.breaks(VMID, what);
        }
    }
}
