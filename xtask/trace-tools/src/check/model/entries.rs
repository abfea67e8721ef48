//! The rules about what an entry of the tree becomes: what was there may be cached, what is there
//! now must neither contradict that nor belong to another holder.

use super::super::caches::Stale;
use super::super::rules::{BREAK, DETACHED, GUESTS, ONCE, PUBLISH, REUSE, TIME};
use super::super::tables::{self, Kind, Leaf, State, kind, leaf, restricts};
use super::Model;

/// A write of an entry, and where it is.
pub(super) struct Write {
    pub(super) cpu: u8,
    pub(super) vm: u8,
    pub(super) order: u64,
    pub(super) level: u8,
    pub(super) ipa: u64,
    pub(super) entry: u64,
    pub(super) old: u64,
    pub(super) new: u64,
    pub(super) release: bool,
}

impl Model {
    /// An entry of the tree has changed.
    pub(super) fn changed(&mut self, write: Write) {
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
                self.frames.unmap(write.vm, &old);
                self.becomes_stale(&write, None, vec![old]);
            }
            Kind::Table(child) => self.detach(&write, child),
            Kind::Invalid => {}
        }
        if is == Kind::Invalid {
            return;
        }
        self.cpu(write.cpu).unpublished.push(write.entry);
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
            self.frames.unmap(write.vm, &old);
            self.given(write.vm, &new);
        } else if let Some(what) = self.frames.forbids(write.vm, &new) {
            self.breaks(GUESTS, what);
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
        let range = (write.ipa, write.ipa + tables::size(write.level));
        let mut stale = Stale::new(write.vm, range, write.level, write.entry, write.cpu);
        (stale.table, stale.leaves) = (table, leaves);
        let cached = self.vms.cached(write.vm).collect();
        let current = self.vms.current(write.vm);
        self.caches.add(stale, cached, current);
    }

    fn detach(&mut self, write: &Write, child: u64) {
        let leaves = self.tables.leaves(child, write.ipa);
        for leaf in &leaves {
            self.frames.unmap(write.vm, leaf);
        }
        if let Some(table) = self.tables.0.get_mut(&child) {
            (table.state, table.taken_out) = (State::Detached(write.entry), write.order);
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
        let locked = table.holder == Some(write.cpu);
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
        let block = |stale: &Stale| stale.table.is_none();
        if !locked && self.caches.of_entry(write.entry).is_some_and(block) {
            let what = format!(
                "the parts at {child:#x} of the block that {:#x} was are not locked, and it may be cached",
                write.entry
            );
            self.breaks(TIME, what);
        }
        for leaf in self.tables.leaves(child, write.ipa) {
            self.leaf_of_table_made(write.vm, child, leaf);
        }
    }

    /// A leaf of the table `child` translates from now on. What is cached through that table, or of
    /// the block that it was part of, does not differ.
    fn leaf_of_table_made(&mut self, vm: u8, child: u64, leaf: Leaf) {
        let old = self.caches.against(vm, &leaf);
        let same = old.is_none_or(|(stale, old)| {
            stale.table == Some(child) || stale.vm == vm && self.direct && leaf.agrees(old)
        });
        if same {
            self.given(vm, &leaf);
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
            // A block that its parts have replaced directly, or the other way round, is no other
            // translation.
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
        if let Some(stale) = self.caches.fetched(vm, &leaf) {
            let what = format!(
                "vm{vm} gets {:#x} mapped, of which instruction caches may hold what vm{} fetched",
                leaf.pa, stale.vm
            );
            self.breaks(REUSE, what);
        }
        self.given(vm, &leaf);
    }

    /// The frames of a leaf that translates from now on: guests' they are, and no other page's.
    fn given(&mut self, vm: u8, leaf: &Leaf) {
        let table = leaf
            .frames()
            .find(|frame| self.tables.0.contains_key(frame));
        if let Some(frame) = table {
            self.breaks(
                REUSE,
                format!("vm{vm} gets {frame:#x} mapped, which is a table"),
            );
        }
        if let Some(what) = self.frames.forbids(vm, leaf) {
            self.breaks(GUESTS, what);
        }
        match self.frames.mapped([leaf.pa, leaf.pa + leaf.size]) {
            Some((frame, place)) if place.vm == vm => {
                let ipa = leaf.ipa + (frame - leaf.pa);
                let what = format!(
                    "vm{vm} gets {frame:#x} mapped at {ipa:#x}, and has it at {:#x}",
                    place.ipa
                );
                self.breaks(ONCE, what);
            }
            Some((frame, place)) => {
                let what = format!("vm{vm} gets {frame:#x} mapped, which vm{} has", place.vm);
                self.breaks(REUSE, what);
            }
            None => {}
        }
        self.frames.map(vm, leaf);
    }
}
