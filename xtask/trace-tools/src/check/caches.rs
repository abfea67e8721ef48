//! Which translations the TLBs and walk caches may still hold.
//!
//! What an entry translated to before it was changed may be cached until this has happened, all of
//! it on one CPU (Arm ARM, "TLB maintenance"): the CPU that wrote the entry has executed a DSB; a
//! TLBI reached the addresses (one without leaf hint, if the entry named a table); `dsb ish`; `tlbi
//! vmalle1is` for what was made of both stages; `dsb ish`. TLBIs by VMID or of everything do for
//! both stages.
//!
//! Where instruction caches do not follow data caches, they may hold what was fetched through the
//! translation until then, and go on doing so until `ic ialluis; dsb ish`.

use trace::event::{Barrier, Tlbi};

use super::tables::{Leaf, PAGE};

const IPA_MASK: u64 = (1 << 36) - 1;
const BASE_MASK: u64 = (1 << 37) - 1;

/// A range of addresses, the end not included.
pub(super) type Range = (u64, u64);

/// What may be cached of an entry that was changed.
#[derive(Clone, Debug)]
pub(super) struct Stale {
    /// The VM and the VMID under which it ran.
    pub(super) vm: u8,
    pub(super) vmid: u16,
    /// The IPAs that the entry covered.
    pub(super) range: Range,
    /// The level of the entry.
    pub(super) level: u8,
    /// The entry's PA.
    pub(super) entry: u64,
    /// The table that it named, if it did.
    pub(super) table: Option<u64>,
    /// The leaves that could be reached through it.
    pub(super) leaves: Vec<Leaf>,
    /// Who changed it, and whether a DSB of that CPU followed.
    by: u8,
    synced: bool,
    progress: Vec<Progress>,
    /// No TLB holds it any more; instruction caches may.
    flushed: bool,
    /// CPUs that have begun to empty the instruction caches since.
    forgetting: Vec<u8>,
    /// The VM has another VMID by now: nothing comes of it unless it gets this one back.
    dormant: bool,
}

/// A change that hardware walks may not see: no DSB of the CPU that made it has followed. (Acquire,
/// release and DMB say nothing of walks.)
#[derive(Clone, Debug)]
struct Unseen {
    /// What a walk would find.
    stale: Stale,
    /// The VMIDs under which the VM could be cached when it was made: what they hold is flushed.
    cached: Vec<u16>,
}

/// How far a CPU has come with invalidating it.
#[derive(Clone, Debug)]
struct Progress {
    cpu: u8,
    /// What no TLBI of stage 2 has reached.
    left: Vec<Range>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// TLBIs of stage 2.
    Ipas,
    /// The DSB behind those; that of stage 1 has to follow.
    Between,
    /// The TLBI of stage 1, or of both.
    Both,
}

impl Stale {
    pub(super) fn new(vm: u8, range: Range, level: u8, entry: u64, by: u8) -> Self {
        Self {
            vm,
            vmid: 0,
            range,
            level,
            entry,
            table: None,
            leaves: Vec::new(),
            by,
            synced: false,
            progress: Vec::new(),
            flushed: false,
            forgetting: Vec::new(),
            dormant: false,
        }
    }

    fn progress(&mut self, cpu: u8) -> &mut Progress {
        let at = self.progress.iter().position(|p| p.cpu == cpu);
        let at = at.unwrap_or_else(|| {
            self.progress.push(Progress {
                cpu,
                left: vec![self.range],
                stage: Stage::Ipas,
            });
            self.progress.len() - 1
        });
        &mut self.progress[at]
    }

    /// A TLBI of stage 2 has reached these addresses.
    fn reach(&mut self, cpu: u8, reached: Range, leaves_only: bool, hint: Option<u8>) {
        let touches = reached.0 < self.range.1 && self.range.0 < reached.1;
        let is_table = self.table.is_some();
        if !touches || is_table && leaves_only {
            return;
        }
        if !is_table {
            // One address of a leaf is enough, if the hint is not another level.
            if hint.is_none_or(|level| level == self.level) {
                self.progress(cpu).left.clear();
            }
            return;
        }
        let left = &mut self.progress(cpu).left;
        *left = left
            .iter()
            .flat_map(|&(from, to)| [(from, to.min(reached.0)), (from.max(reached.1), to)])
            .filter(|(from, to)| from < to)
            .collect();
    }
}

/// All that may be cached though it was changed.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) stale: Vec<Stale>,
    unseen: Vec<Unseen>,
    /// Instruction caches do not follow data caches.
    pub(super) fetches: bool,
}

impl Caches {
    /// An entry has changed, and `stale` may be cached under the VMIDs in `cached`. The VM had
    /// `current` last.
    pub(super) fn add(&mut self, stale: Stale, cached: Vec<u16>, current: Option<u16>) {
        self.stale.extend(cached.iter().map(|&vmid| Stale {
            vmid,
            dormant: Some(vmid) != current,
            ..stale.clone()
        }));
        self.unseen.push(Unseen { stale, cached });
    }

    /// The VM gets this VMID back: what may be cached under it can be found again. Returns the
    /// entry of some of that.
    pub(super) fn wake(&mut self, vm: u8, vmid: u16) -> Option<u64> {
        let mut entry = None;
        for stale in &mut self.stale {
            if stale.dormant && !stale.flushed && (stale.vm, stale.vmid) == (vm, vmid) {
                stale.dormant = false;
                entry = Some(stale.entry);
            }
        }
        entry
    }

    /// The VM is about to be loaded under this VMID, under which nothing of it was cached: from now
    /// on what it was before changes that walks may not see can be. Returns their entries, and who
    /// made each.
    pub(super) fn load(&mut self, vm: u8, vmid: u16) -> Vec<(u64, u8)> {
        let mine = |unseen: &mut Unseen| unseen.stale.vm == vm && !unseen.cached.contains(&vmid);
        let found: Vec<_> = self.unseen.extract_if(.., mine).collect();
        let stale = found
            .into_iter()
            .map(|Unseen { stale, .. }| Stale { vmid, ..stale });
        let first = self.stale.len();
        self.stale.extend(stale);
        let new = self.stale[first..].iter();
        new.map(|stale| (stale.entry, stale.by)).collect()
    }

    /// The VM is over.
    pub(super) fn forget(&mut self, vm: u8) {
        self.stale.retain(|stale| stale.vm != vm);
        self.unseen.retain(|unseen| unseen.stale.vm != vm);
    }

    /// CPU `cpu` is about to execute a TLBI under this VMID.
    pub(super) fn tlbi(&mut self, cpu: u8, tlbi: Tlbi, operand: u64, vmid: u16) {
        for stale in &mut self.stale {
            let all = tlbi == Tlbi::Alle1is;
            if !stale.synced || !all && stale.vmid != vmid {
                continue;
            }
            match tlbi {
                Tlbi::Ipas2e1is | Tlbi::Ipas2le1is => {
                    let (range, hint) = single(operand, stale.level);
                    stale.reach(cpu, range, tlbi == Tlbi::Ipas2le1is, hint);
                }
                Tlbi::Ripas2e1is | Tlbi::Ripas2le1is => {
                    let (range, hint) = ranged(operand);
                    stale.reach(cpu, range, tlbi == Tlbi::Ripas2le1is, hint);
                }
                Tlbi::Vmalle1is => {
                    let progress = stale.progress(cpu);
                    if progress.stage == Stage::Between {
                        progress.stage = Stage::Both;
                    }
                }
                Tlbi::Vmalls12e1is | Tlbi::Alle1is => {
                    let progress = stale.progress(cpu);
                    progress.left.clear();
                    progress.stage = Stage::Both;
                }
                // Of this CPU alone.
                Tlbi::Ipas2le1 | Tlbi::Vmalle1 | Tlbi::Vmalls12e1 => {}
            }
        }
    }

    /// CPU `cpu` has executed a barrier.
    pub(super) fn barrier(&mut self, cpu: u8, barrier: Barrier) {
        if !matches!(barrier, Barrier::DsbIshst | Barrier::DsbIsh) {
            return;
        }
        for stale in &mut self.stale {
            stale.synced |= stale.by == cpu;
        }
        self.unseen.retain(|unseen| unseen.stale.by != cpu);
        if barrier != Barrier::DsbIsh {
            return;
        }
        let fetches = self.fetches;
        self.stale.retain_mut(|stale| {
            if stale.flushed {
                return !stale.forgetting.contains(&cpu);
            }
            let Some(progress) = stale.progress.iter_mut().find(|p| p.cpu == cpu) else {
                return true;
            };
            match progress.stage {
                Stage::Both => stale.flushed = true,
                Stage::Ipas if progress.left.is_empty() => progress.stage = Stage::Between,
                Stage::Ipas | Stage::Between => {}
            }
            !stale.flushed || fetches && !stale.leaves.is_empty()
        });
    }

    /// CPU `cpu` is about to empty the instruction caches.
    pub(super) fn forget_fetches(&mut self, cpu: u8) {
        for stale in self.stale.iter_mut().filter(|stale| stale.flushed) {
            stale.forgetting.push(cpu);
        }
    }

    /// What TLBs and walk caches may hold under the VMIDs that VMs have now.
    fn in_tlbs(&self) -> impl Iterator<Item = &Stale> {
        let all = self.stale.iter();
        all.filter(|stale| !stale.flushed && !stale.dormant)
    }

    /// What may be cached of translations by this entry.
    pub(super) fn of_entry(&self, entry: u64) -> Option<&Stale> {
        self.in_tlbs().find(|stale| stale.entry == entry)
    }

    /// What may be cached, and should have been flushed, of entries of the table at `pa`; `ready`
    /// says of an entry whether it is to be flushed by now.
    pub(super) fn of_entries(&self, pa: u64, ready: impl Fn(u64) -> bool) -> Option<u64> {
        let entries = self.in_tlbs().map(|stale| stale.entry);
        entries
            .filter(|entry| entry & !(PAGE - 1) == pa)
            .find(|&entry| ready(entry))
    }

    /// The entry of a leaf that may be cached, of those for which this holds; it gets the entry's
    /// level, too.
    pub(super) fn of_leaf(&self, holds: impl Fn(u64, u8) -> bool) -> Option<u64> {
        let leaves = self.in_tlbs().filter(|stale| stale.table.is_none());
        leaves
            .map(|stale| (stale.entry, stale.level))
            .find_map(|(entry, level)| holds(entry, level).then_some(entry))
    }

    /// What walk caches may hold of this table.
    pub(super) fn of_table(&self, pa: u64) -> Option<&Stale> {
        self.in_tlbs().find(|stale| stale.table == Some(pa))
    }

    /// What stands in the way of a new leaf: a cached one that translates an address of it
    /// otherwise, or leads to a frame of it from elsewhere.
    pub(super) fn against(&self, vm: u8, leaf: &Leaf) -> Option<(&Stale, &Leaf)> {
        Self::leaves(self.in_tlbs()).find(|(stale, old)| {
            let same = stale.vm == vm && leaf.is_like(old);
            let collides = stale.vm == vm && leaf.overlaps(old) || leaf.shares_frames(old);
            collides && !same
        })
    }

    /// A frame of the new leaf of which instruction caches may hold what another holder fetched.
    pub(super) fn fetched(&self, vm: u8, leaf: &Leaf) -> Option<&Stale> {
        let flushed = self.stale.iter().filter(|stale| stale.flushed);
        Self::leaves(flushed)
            .find(|(stale, old)| {
                let same = stale.vm == vm && leaf.agrees(old);
                leaf.shares_frames(old) && !same
            })
            .map(|(stale, _)| stale)
    }

    fn leaves<'a>(
        all: impl Iterator<Item = &'a Stale>,
    ) -> impl Iterator<Item = (&'a Stale, &'a Leaf)> {
        all.flat_map(|stale| stale.leaves.iter().map(move |old| (stale, old)))
    }

    /// What TLBs may still hold as leading to one of these frames.
    pub(super) fn of_frames(&self, [start, end]: [u64; 2]) -> Option<&Stale> {
        let within = |pa: u64| start <= pa && pa < end;
        let reaches = |leaf: &Leaf| leaf.pa < end && start < leaf.pa + leaf.size;
        self.in_tlbs()
            .find(|stale| stale.table.is_some_and(within) || stale.leaves.iter().any(reaches))
    }
}

/// The addresses of a TLBI by IPA, which the hint may widen, and the level of the hint.
fn single(operand: u64, level: u8) -> (Range, Option<u8>) {
    let ipa = (operand & IPA_MASK) * PAGE;
    let ttl = operand >> 44 & 0xf;
    // Without the granule in it there is no hint.
    let hint = (ttl >> 2 != 0).then_some(ttl as u8 & 3);
    let size = match hint {
        Some(hinted) if hinted == level => PAGE << (9 * (3 - u64::from(level))),
        _ => PAGE,
    };
    ((ipa, ipa + size), hint)
}

/// The addresses of a TLBI by range, and the level of the hint.
fn ranged(operand: u64) -> (Range, Option<u8>) {
    let ipa = (operand & BASE_MASK) * PAGE;
    let (num, scale) = (operand >> 39 & 0x1f, operand >> 44 & 3);
    let pages = (num + 1) << (5 * scale + 1);
    let ttl = operand >> 37 & 3;
    ((ipa, ipa + pages * PAGE), (ttl != 0).then_some(ttl as u8))
}
