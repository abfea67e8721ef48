//! What each CPU has in its registers, holds, and still owes.
//!
//! Owns the rules that are about one CPU alone: the order of its TLBIs and barriers, and what it
//! has to forget when another vCPU of a VM comes to run on it. Who watches the guest's entry is not
//! needed for that: what is owed must be done before VTTBR_EL2 is written again.

use std::collections::{BTreeMap, HashMap};

use trace::event::{Barrier, NOBODY, Tlbi};

use super::rules::{STAGES, VMID};

/// A table's lock that a CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) table: u64,
    pub(super) level: u8,
    /// The youngest grace period when the CPU's read section began.
    pub(super) section: u64,
}

/// The domain for which a TLBI works, and for which a DSB waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    Here,
    Everywhere,
}

/// How much of a VMID's stage 1 a TLBI forgets.
fn forgets_stage1(tlbi: Tlbi) -> Option<Domain> {
    match tlbi {
        Tlbi::Vmalle1 | Tlbi::Vmalls12e1 => Some(Domain::Here),
        Tlbi::Vmalle1is | Tlbi::Vmalls12e1is | Tlbi::Alle1is => Some(Domain::Everywhere),
        Tlbi::Ipas2e1is
        | Tlbi::Ipas2le1is
        | Tlbi::Ripas2e1is
        | Tlbi::Ripas2le1is
        | Tlbi::Ipas2le1 => None,
    }
}

/// A vCPU that another has followed, and whose stage 1 is to be forgotten.
#[derive(Clone, Copy, Debug)]
struct Owed {
    before: u8,
    now: u8,
    /// The TLBI was executed; a DSB has to follow.
    begun: bool,
}

/// One CPU.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    pub(super) vttbr: u64,
    /// The VM whose root is in VTTBR_EL2.
    pub(super) vm: Option<u8>,
    /// VTCR_EL2, if it was told.
    vtcr: Option<u64>,
    /// Tables whose locks it has.
    pub(super) held: Vec<Lock>,
    /// Entries that it has made and no DSB has followed.
    pub(super) unpublished: Vec<u64>,
    /// No ISB has followed the last write of VTTBR_EL2.
    unsettled: bool,
    /// The domain of TLBIs of stage 2 by IPA that no DSB of it has followed.
    by_ipa: Option<Domain>,
    /// The vCPU that ran here last under each VMID.
    ran: HashMap<u16, u8>,
    owed: Option<Owed>,
}

impl Cpu {
    pub(super) fn vmid(&self) -> u16 {
        (self.vttbr >> 48) as u16
    }

    /// The CPU takes this value for VTTBR_EL2, which is for `vcpu` of `vm`, if it is for one. Says
    /// what it should have forgotten before.
    pub(super) fn load(&mut self, vttbr: u64, vm: Option<u8>, vcpu: u8) -> Option<String> {
        let forgotten = self.owed.take().map(|owed| {
            format!(
                "vcpu{} ran after vcpu{} under VMID {}, and what stage 1 had left there was not forgotten (tlbi vmalle1, dsb nsh)",
                owed.now,
                owed.before,
                self.vmid()
            )
        });
        (self.vttbr, self.vm, self.unsettled) = (vttbr, vm, true);
        if vm.is_some() && vcpu != NOBODY {
            let before = self.ran.insert(self.vmid(), vcpu);
            self.owed = before.filter(|&before| before != vcpu).map(|before| Owed {
                before,
                now: vcpu,
                begun: false,
            });
        }
        forgotten
    }

    /// The CPU is about to execute a TLBI; says which rule that breaks, and how.
    pub(super) fn tlbi(&mut self, tlbi: Tlbi) -> Option<(&'static str, &'static str)> {
        let unsettled = self.unsettled && tlbi != Tlbi::Alle1is;
        // What was made of both stages goes last: else a walk of stage 1 makes it anew of what
        // stage 2 was.
        let combined = matches!(tlbi, Tlbi::Vmalle1 | Tlbi::Vmalle1is);
        let wrong = if unsettled {
            let what = "a TLBI follows a write of VTTBR_EL2 with no ISB between";
            Some((VMID, what))
        } else if combined && self.by_ipa.is_some() {
            let what = "stage 1 is invalidated with no DSB behind the TLBI of stage 2";
            Some((STAGES, what))
        } else {
            None
        };
        match tlbi {
            Tlbi::Ipas2le1 => self.by_ipa = self.by_ipa.or(Some(Domain::Here)),
            Tlbi::Ipas2e1is | Tlbi::Ipas2le1is | Tlbi::Ripas2e1is | Tlbi::Ripas2le1is => {
                self.by_ipa = Some(Domain::Everywhere);
            }
            _ => {}
        }
        if let Some(owed) = &mut self.owed {
            owed.begun |= forgets_stage1(tlbi).is_some();
        }
        wrong
    }

    /// The CPU has executed a barrier.
    pub(super) fn barrier(&mut self, barrier: Barrier) {
        match barrier {
            Barrier::Isb => self.unsettled = false,
            Barrier::DsbIsh => self.by_ipa = None,
            Barrier::DsbNsh => self.by_ipa = self.by_ipa.filter(|by| *by != Domain::Here),
            Barrier::DsbIshst | Barrier::DsbNshst => {}
        }
        if matches!(barrier, Barrier::DsbIsh | Barrier::DsbNsh) {
            self.owed = self.owed.filter(|owed| !owed.begun);
        }
    }
}

/// All CPUs.
#[derive(Debug, Default)]
pub(super) struct Cpus(BTreeMap<u8, Cpu>);

impl Cpus {
    pub(super) fn get(&mut self, cpu: u8) -> &mut Cpu {
        self.0.entry(cpu).or_default()
    }

    /// The CPU takes this value for VTCR_EL2; says how its walks differ from others' or from what
    /// they were.
    pub(super) fn set_shape(&mut self, cpu: u8, vtcr: u64) -> Option<String> {
        let state = self.get(cpu);
        let loaded = state.vm.filter(|_| state.vtcr != Some(vtcr));
        state.vtcr = Some(vtcr);
        if let Some(vm) = loaded {
            return Some(format!(
                "cpu{cpu} gets another VTCR_EL2 while it has vm{vm}"
            ));
        }
        let differs = |other: &Cpu| other.vtcr.filter(|&other| other != vtcr);
        let other = self
            .0
            .iter()
            .find_map(|(number, cpu)| Some((number, differs(cpu)?)));
        other.map(|(number, theirs)| {
            format!("cpu{cpu} gets VTCR_EL2 {vtcr:#x}, and cpu{number} has {theirs:#x}")
        })
    }

    /// A CPU whose VTTBR_EL2 has the root of this VM, and for which that holds.
    pub(super) fn running(&self, vm: u8, holds: impl Fn(&Cpu) -> bool) -> Option<u8> {
        let mut all = self.0.iter();
        all.find_map(|(&number, cpu)| (cpu.vm == Some(vm) && holds(cpu)).then_some(number))
    }

    /// CPU `by` is about to execute a TLBI under this VMID: what of stage 1 the others have to
    /// forget when a vCPU comes is less by what it reaches. Where the VMID is in use, stage 1 is
    /// walked again at once.
    pub(super) fn forget(&mut self, by: u8, tlbi: Tlbi, vmid: u16) {
        let Some(domain) = forgets_stage1(tlbi) else {
            return;
        };
        for (&number, cpu) in &mut self.0 {
            let in_use = cpu.vm.is_some().then(|| cpu.vmid());
            let reached = |under: u16| tlbi == Tlbi::Alle1is || under == vmid;
            if domain == Domain::Everywhere || number == by {
                cpu.ran
                    .retain(|&under, _| !reached(under) || in_use == Some(under));
            }
        }
    }

    /// A CPU that has a lock in a read section which holds up this grace period, and the lock.
    pub(super) fn holding_up(&self, period: u64) -> Option<(u8, Lock)> {
        self.0.iter().find_map(|(&number, cpu)| {
            let lock = cpu
                .held
                .iter()
                .find(|lock| (1..period).contains(&lock.section));
            lock.map(|lock| (number, *lock))
        })
    }
}
