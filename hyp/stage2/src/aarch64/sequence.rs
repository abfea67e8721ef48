//! In which order translations, and what was fetched through them, are invalidated (Arm ARM, "TLB
//! maintenance").
//!
//! The instructions themselves are [`Instructions`], so the order can be tested on any machine.
//!
//! - Stage 1 comes after a DSB behind stage 2: what is cached of stage 1 may be combined with stage
//!   2, and until stage 2 is gone, a walk may combine the two anew.
//! - Instruction caches come after a DSB behind both, where they do not follow data
//!   (`CTR_EL0.DIC`): until then a CPU may still fetch through what is invalidated. So none holds
//!   anything of a frame that no guest has mapped.

use super::instructions::Instructions;
use super::tlbi::{Operations, leaves_only};
use crate::env::Scope;

/// Invalidates what `operations` reach, after a `dsb ishst` behind what was changed. `follow` is
/// whether instruction caches follow data.
#[inline(always)]
pub(super) fn invalidate(
    on: &impl Instructions,
    operations: Operations,
    scope: Scope,
    follow: bool,
) {
    let leaves = leaves_only(scope);
    operations.for_each(|operation| on.tlbi(operation, leaves));
    on.dsb_ish();
    on.tlbi_stage1();
    on.dsb_ish();
    invalidate_instruction_caches(on, follow);
    on.isb();
}

/// Invalidates all translations of all guests. Instruction caches too: those that tell VMIDs apart
/// (VPIPT) would have kept what was fetched under a number that is given to another now.
#[inline(always)]
pub(super) fn invalidate_everything(on: &impl Instructions, follow: bool) {
    on.dsb_ishst();
    on.tlbi_all();
    on.dsb_ish();
    invalidate_instruction_caches(on, follow);
    on.isb();
}

/// Empties the instruction caches, unless they follow data. Before the call, no CPU has a
/// translation any more by which it might fetch what they are to forget.
#[inline(always)]
pub(super) fn invalidate_instruction_caches(on: &impl Instructions, follow: bool) {
    if !follow {
        on.ic_ialluis();
        on.dsb_ish();
    }
}

#[cfg(all(test, not(loom)))]
#[allow(unsafe_code)] // plays the instructions
mod tests {
    use super::*;
    use crate::aarch64::tlbi::{Operation, operations};
    use crate::aarch64::{Abilities, El2Tlb, vttbr};
    use crate::addr::{Ipa, IpaRange, Level, Pa};
    use crate::env::{Loaded, Tlb};
    use crate::vmid::Vmid;
    use std::cell::{Cell, RefCell};

    /// Where something may be: not there, there until the next DSB, or there.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    enum Cached {
        #[default]
        Not,
        Leaving,
        Held,
    }

    /// Another CPU, which does all that it may at the worst moment: it walks, combines and fetches
    /// before each instruction, and forgets only when it has to.
    #[derive(Default)]
    struct Other {
        /// The descriptor was taken out, and walks find that.
        published: Cell<bool>,
        stage2: Cell<Cached>,
        combined: Cell<Cached>,
        instructions: Cell<Cached>,
        /// The next DSB waits until both stages are gone, whatever was made of one meanwhile.
        all_leave: Cell<bool>,
        /// What its instruction cache does when data changes.
        follows: bool,
        vttbr: Cell<u64>,
        executed: RefCell<Vec<&'static str>>,
    }

    impl Other {
        /// A CPU that has used the translation.
        fn new(follows: bool) -> Self {
            let other = Self {
                follows,
                ..Self::default()
            };
            other.run();
            other
        }

        fn run(&self) {
            if !self.published.get() {
                self.stage2.set(Cached::Held);
            }
            // What is leaving may be used, as long as it is there.
            if self.stage2.get() != Cached::Not {
                self.combined.set(Cached::Held);
            }
            if self.combined.get() != Cached::Not && !self.follows {
                self.instructions.set(Cached::Held);
            }
        }

        fn execute(&self, name: &'static str, effect: impl FnOnce()) {
            self.run();
            self.executed.borrow_mut().push(name);
            effect();
            self.run();
        }

        fn holds_nothing(&self) -> bool {
            [&self.stage2, &self.combined, &self.instructions].map(Cell::get) == [Cached::Not; 3]
        }
    }

    fn leave(cached: &Cell<Cached>) {
        if cached.get() == Cached::Held {
            cached.set(Cached::Leaving);
        }
    }

    // SAFETY: nothing is executed.
    unsafe impl Instructions for Other {
        fn dsb_ishst(&self) {
            self.execute("dsb ishst", || self.published.set(true));
        }
        fn dsb_ish(&self) {
            self.execute("dsb ish", || {
                if self.all_leave.take() {
                    self.stage2.set(Cached::Leaving);
                    self.combined.set(Cached::Leaving);
                }
                for cached in [&self.stage2, &self.combined, &self.instructions] {
                    if cached.get() == Cached::Leaving {
                        cached.set(Cached::Not);
                    }
                }
            });
        }
        fn isb(&self) {
            self.execute("isb", || ());
        }
        fn tlbi(&self, operation: Operation, leaves: bool) {
            let name = match (operation, leaves) {
                (Operation::Single(_), true) => "tlbi ipas2le1is",
                (Operation::Single(_), false) => "tlbi ipas2e1is",
                (Operation::Range(_), true) => "tlbi ripas2le1is",
                (Operation::Range(_), false) => "tlbi ripas2e1is",
                (Operation::All, _) => "tlbi vmalls12e1is",
            };
            self.execute(name, || leave(&self.stage2));
        }
        fn tlbi_stage1(&self) {
            self.execute("tlbi vmalle1is", || leave(&self.combined));
        }
        fn tlbi_all(&self) {
            self.execute("tlbi alle1is", || self.all_leave.set(true));
        }
        fn ic_ialluis(&self) {
            self.execute("ic ialluis", || leave(&self.instructions));
        }
        fn dsb_nshst(&self) {
            self.execute("dsb nshst", || ());
        }
        fn dsb_nsh(&self) {
            self.execute("dsb nsh", || ());
        }
        fn tlbi_leaf_local(&self, _: u64) {
            self.execute("tlbi ipas2le1", || ());
        }
        fn tlbi_stage1_local(&self) {
            self.execute("tlbi vmalle1", || ());
        }
        fn tlbi_vmid_local(&self) {
            self.execute("tlbi vmalls12e1", || ());
        }
        fn vttbr(&self) -> u64 {
            self.vttbr.get()
        }
        fn set_vttbr(&self, value: u64) {
            self.execute("msr vttbr_el2", || self.vttbr.set(value));
        }
    }

    fn page() -> Operations {
        let range = IpaRange::entry(Ipa::new(0x4000_0000), Level::L3);
        operations(range, Scope::Leaf(Level::L3), &Abilities::NONE)
    }

    #[test]
    fn no_cpu_holds_anything_of_what_was_invalidated() {
        for follow in [false, true] {
            let other = Other::new(follow);
            assert!(!other.holds_nothing(), "a test that cannot fail");
            other.dsb_ishst();
            invalidate(&other, page(), Scope::Leaf(Level::L3), follow);
            assert!(other.holds_nothing(), "{:?}", other.executed);
            let other = Other::new(follow);
            invalidate_everything(&other, follow);
            assert!(other.holds_nothing(), "{:?}", other.executed);
        }
    }

    #[test]
    fn instruction_caches_are_emptied_where_they_do_not_follow_data() {
        let page_of = |follow| {
            let other = Other::new(follow);
            other.dsb_ishst();
            invalidate(&other, page(), Scope::Leaf(Level::L3), follow);
            other.executed.into_inner().join(", ")
        };
        let translations = "dsb ishst, tlbi ipas2le1is, dsb ish, tlbi vmalle1is, dsb ish";
        assert_eq!(
            page_of(false),
            format!("{translations}, ic ialluis, dsb ish, isb")
        );
        assert_eq!(page_of(true), format!("{translations}, isb"));
        let other = Other::new(false);
        invalidate_everything(&other, false);
        let all = [
            "dsb ishst",
            "tlbi alle1is",
            "dsb ish",
            "ic ialluis",
            "dsb ish",
            "isb",
        ];
        assert_eq!(*other.executed.borrow(), all);
    }

    /// For a VM that is not loaded here, VTTBR_EL2 has its VMID meanwhile with tables that
    /// translate nothing, after the walks of the VM that was loaded have ended; and then again what
    /// it had.
    #[test]
    fn a_vm_that_is_not_loaded_is_flushed_under_its_vmid() {
        let range = IpaRange::entry(Ipa::new(0x4000_0000), Level::L3);
        let loaded = |vmid| Loaded {
            root: Pa::new(0x8000_0000),
            vmid: Vmid::new(vmid),
        };
        for (here, switches) in [(loaded(1), true), (loaded(2), false)] {
            let other = Other::new(true);
            other.vttbr.set(vttbr(Some(here)));
            let tlb = El2Tlb::new(other, Abilities::NONE);
            tlb.invalidate_range(Vmid::new(2), range, Scope::Leaf(Level::L3));
            let other = tlb.into_instructions();
            assert_eq!(other.vttbr.get(), vttbr(Some(here)));
            let executed = other.executed.borrow();
            let switch = ["dsb nsh", "msr vttbr_el2", "isb"];
            assert_eq!(executed.starts_with(&switch), switches, "{executed:?}");
            let writes = executed.iter().filter(|name| **name == "msr vttbr_el2");
            assert_eq!(writes.count(), if switches { 2 } else { 0 });
        }
    }

    /// One leaf of this CPU: stage 2 is gone before stage 1 is, and both before the guest is
    /// entered.
    #[test]
    fn a_leaf_of_this_cpu_goes_in_order() {
        let tlb = El2Tlb::new(Other::new(true), Abilities::NONE);
        let range = IpaRange::entry(Ipa::new(0x1000), Level::L3);
        tlb.invalidate_local(Vmid::new(0), range, Scope::Leaf(Level::L3));
        let executed = tlb.into_instructions().executed.into_inner();
        let order = [
            "dsb nshst",
            "tlbi ipas2le1",
            "dsb nsh",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
        ];
        assert_eq!(executed, order);
    }

    #[test]
    fn where_a_table_goes_no_leaf_hint_is_given() {
        let other = Other::new(true);
        invalidate(&other, page(), Scope::Tables, true);
        assert_eq!(other.executed.borrow()[0], "tlbi ipas2e1is");
    }
}
