//! Whose physical addresses are whose, and which page of which VM leads to each frame.

use std::collections::{BTreeMap, HashMap};

use trace::event::Holder;

use super::tables::{Leaf, PAGE};

/// A page of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) vm: u8,
    pub(super) ipa: u64,
}

/// The holder of addresses up to an end.
#[derive(Clone, Copy, Debug)]
struct Area {
    end: u64,
    holder: Holder,
    /// The VM that it is shown to.
    vm: u8,
}

#[derive(Debug, Default)]
pub(super) struct Frames {
    /// By the first address. They do not overlap.
    areas: BTreeMap<u64, Area>,
    /// What leads to each frame that is mapped.
    mapped: BTreeMap<u64, Place>,
    /// Each VM's RAM: its first IPA, and that behind the last.
    ram: HashMap<u8, (u64, u64)>,
}

impl Frames {
    /// These addresses are this holder's from now on.
    pub(super) fn hold(&mut self, [start, end]: [u64; 2], holder: Holder, vm: u8) {
        self.cut(start);
        self.cut(end);
        self.areas.retain(|&at, _| !(start..end).contains(&at));
        if start < end {
            self.areas.insert(start, Area { end, holder, vm });
        }
    }

    /// Makes two areas of the one that goes across `at`.
    fn cut(&mut self, at: u64) {
        if let Some((_, area)) = self.areas.range_mut(..at).next_back()
            && area.end > at
        {
            let rest = *area;
            area.end = at;
            self.areas.insert(at, rest);
        }
    }

    fn area(&self, pa: u64) -> Option<Area> {
        let (_, area) = self.areas.range(..=pa).next_back()?;
        (pa < area.end).then_some(*area)
    }

    /// Whose the address is, unless it is guests'.
    pub(super) fn foreign(&self, pa: u64) -> Option<&'static str> {
        let holder = self.area(pa).map(|area| area.holder);
        match holder {
            Some(Holder::Guests) => None,
            Some(other) => Some(other.text()),
            None => Some("nobody's"),
        }
    }

    /// The VM's RAM.
    pub(super) fn set_ram(&mut self, vm: u8, ram: (u64, u64)) {
        self.ram.insert(vm, ram);
    }

    /// Why the VM must not have this leaf, if so.
    pub(super) fn forbids(&self, vm: u8, leaf: &Leaf) -> Option<String> {
        let mut at = leaf.pa;
        while at < leaf.pa + leaf.size {
            let area = self.area(at);
            match area.map(|area| (area.holder, area.vm)) {
                Some((Holder::Guests, _)) => {}
                Some((Holder::Shown, to)) if to == vm && !leaf.stores => {}
                Some((Holder::Shown, to)) if to == vm => {
                    return Some(format!(
                        "vm{vm} may store to {at:#x}, which is only shown to it"
                    ));
                }
                _ => {
                    let whose = self.foreign(at).unwrap_or_default();
                    return Some(format!(
                        "vm{vm} gets {:#x} mapped to {at:#x}, which is {whose}",
                        leaf.ipa + (at - leaf.pa)
                    ));
                }
            }
            at = area.map_or(at + PAGE, |area| area.end);
        }
        let within = |&(start, end): &(u64, u64)| start <= leaf.ipa && leaf.ipa + leaf.size <= end;
        let in_ram = self.ram.get(&vm).is_some_and(within);
        (leaf.stores && !in_ram)
            .then(|| format!("vm{vm} may store to {:#x}, outside its RAM", leaf.ipa))
    }

    /// The first frame of these addresses that a page leads to, and that page.
    pub(super) fn mapped(&self, [start, end]: [u64; 2]) -> Option<(u64, Place)> {
        let first = self.mapped.range(start..end).next();
        first.map(|(&frame, &place)| (frame, place))
    }

    /// A leaf translates from now on.
    pub(super) fn map(&mut self, vm: u8, leaf: &Leaf) {
        self.mapped.extend(pages(vm, leaf));
    }

    /// A leaf translates no more.
    pub(super) fn unmap(&mut self, vm: u8, leaf: &Leaf) {
        for (frame, place) in pages(vm, leaf) {
            if self.mapped.get(&frame) == Some(&place) {
                self.mapped.remove(&frame);
            }
        }
    }

    /// The VM is gone.
    pub(super) fn forget(&mut self, vm: u8) {
        self.mapped.retain(|_, place| place.vm != vm);
        self.ram.remove(&vm);
    }
}

/// The frames of a leaf, each with the page that leads to it.
fn pages(vm: u8, leaf: &Leaf) -> impl Iterator<Item = (u64, Place)> + use<> {
    let (pa, ipa) = (leaf.pa, leaf.ipa);
    let place = move |frame| Place {
        vm,
        ipa: ipa + (frame - pa),
    };
    leaf.frames().map(move |frame| (frame, place(frame)))
}
