//! What belongs to whom: frames and addresses, VMIDs that come back, and what a VM that comes to
//! run may find.

use trace::event::{Barrier, Holder, Tlbi};

use super::*;

/// EL2's image, below what guests have.
const IMAGE: u64 = 0x4020_0000;
/// Registers of a device.
const UART: u64 = 0x0900_0000;
/// What no recording names.
const HOLE: u64 = 0x2_0000_0000;

fn everything_held() -> Story {
    let mut story = Story::running();
    story
        .held(Holder::Image, [IMAGE, IMAGE + 0x10_0000], NOBODY)
        .held(Holder::Device, [UART, UART + 0x1000], NOBODY);
    story
}

#[test]
fn a_frame_has_one_place_in_a_vm() {
    let mut story = Story::running();
    story.make(0, L3, 3, 9, page(0));
    assert_eq!(story.broken(), [ONCE]);
    // As a part of a block.
    let mut block = Story::running();
    block.make(0, L2, 2, 1, PAGE | NORMAL | 1);
    assert_eq!(block.broken(), [ONCE]);
    // In a table that comes into the tree with it.
    let mut table = Story::running();
    table
        .table(0, 0, 3, OTHER_L3)
        .write(0, OTHER_L3, 0, page(0))
        .make(0, L2, 2, 1, OTHER_L3 | 3);
    assert_eq!(table.broken(), [ONCE]);
    let mut moved = Story::running();
    moved.unmap().make(0, L3, 3, 9, page(0));
    assert_eq!(moved.broken(), [""; 0]);
    // The same place again, after all.
    moved.lock(0, L3, 3).write(0, L3 + 72, page(0), 0);
    moved.flush(0, Tlbi::Ipas2le1is, 9, 1).unlock(0, L3);
    moved.make(0, L3, 3, 3, page(0));
    assert_eq!(moved.broken(), [""; 0]);
}

#[test]
fn a_frame_of_a_vm_that_never_ran_is_no_others() {
    let mut story = Story::running();
    story
        .root(1, OTHER_ROOT)
        .table(1, 1, 2, OTHER_L2)
        .make(1, OTHER_ROOT, 1, 0, OTHER_L2 | 3)
        .table(1, 1, 3, OTHER_L3)
        .make(1, OTHER_L2, 2, 0, OTHER_L3 | 3)
        .make(1, OTHER_L3, 3, 0, page(0));
    assert_eq!(story.broken(), [REUSE]);
    // It is, once that VM's tree has ended.
    let mut over = Story::running();
    over.load(0, NOTHING, 1)
        .flush(0, Tlbi::Vmalls12e1is, 0, 1)
        .tree_ended(0)
        .another(2)
        .make(1, OTHER_L3, 3, 0, page(0))
        .ended(L3)
        .ended(L2)
        .ended(ROOT);
    assert_eq!(over.broken(), [""; 0]);
}

#[test]
fn a_table_that_comes_into_the_tree_has_no_frame_of_others() {
    for (frame, rule) in [(ROOT, REUSE), (UART, GUESTS), (page(0) & !LEAF, REUSE)] {
        let mut story = everything_held();
        story
            .another(2)
            .table(1, 1, 3, PAGE + 0x10_0000)
            .write(1, PAGE + 0x10_0000, 0, frame | LEAF)
            .make(1, OTHER_L2, 2, 1, (PAGE + 0x10_0000) | 3);
        assert_eq!(story.broken(), [rule], "{frame:#x}");
    }
}

#[test]
fn guests_have_what_is_guests() {
    let make = |pa: u64| {
        let mut story = everything_held();
        story.make(0, L3, 3, 9, pa | LEAF);
        story.broken()
    };
    assert_eq!(make(PAGE + 0x9000), [""; 0]);
    for pa in [IMAGE, UART, HOLE] {
        assert_eq!(make(pa), [GUESTS], "{pa:#x}");
        let mut table = everything_held();
        table.table(0, 0, 3, pa);
        assert_eq!(table.broken(), [GUESTS], "{pa:#x}");
    }
    // A block, of which one frame is the hypervisor's.
    let mut story = everything_held();
    let frame = [BLOCK + 0x8000, BLOCK + 0x9000];
    story.held(Holder::Hypervisor, frame, NOBODY);
    story.make(0, L2, 2, 1, BLOCK | NORMAL | 1);
    assert_eq!(story.broken(), [GUESTS]);
    // It was given back.
    let mut story = everything_held();
    story
        .held(Holder::Hypervisor, frame, NOBODY)
        .held(Holder::Guests, frame, NOBODY)
        .make(0, L2, 2, 1, BLOCK | NORMAL | 1);
    assert_eq!(story.broken(), [""; 0]);
}

#[test]
fn what_the_hypervisor_takes_is_mapped_nowhere() {
    let frame = [PAGE, PAGE + 0x1000];
    let mut mapped = Story::running();
    mapped.held(Holder::Hypervisor, frame, NOBODY);
    assert_eq!(mapped.broken(), [REUSE]);
    let mut unflushed = Story::running();
    unflushed
        .lock(0, L3, 3)
        .write(0, L3 + 24, page(0), MARKER)
        .held(Holder::Hypervisor, frame, NOBODY);
    assert_eq!(unflushed.broken(), [REUSE]);
    let mut table = Story::running();
    table.held(Holder::Hypervisor, [L3, L3 + 0x1000], NOBODY);
    assert_eq!(table.broken(), [REUSE]);
    let mut taken = Story::running();
    taken.unmap().held(Holder::Hypervisor, frame, NOBODY);
    assert_eq!(taken.broken(), [""; 0]);
}

#[test]
fn what_is_shown_is_loaded_only_and_by_one_vm() {
    const STORES: u64 = 1 << 7;
    const DBM: u64 = 1 << 51;
    let frame = PAGE + 0x10_0000;
    let show = |to, index, bits| {
        let mut story = Story::running();
        story
            .held(Holder::Hypervisor, [frame, frame + 0x1000], NOBODY)
            .held(Holder::Shown, [frame, frame + 0x1000], to)
            .make(0, L3, 3, index, frame | bits);
        story
    };
    assert_eq!(show(0, 9, LEAF & !STORES).broken(), [""; 0]);
    assert_eq!(show(0, 9, LEAF).broken(), [GUESTS]);
    assert_eq!(show(0, 9, LEAF & !STORES | DBM).broken(), [GUESTS]);
    assert_eq!(show(1, 9, LEAF & !STORES).broken(), [GUESTS]);
    // Once more, and then with a right that it must not have.
    let mut story = show(0, 9, LEAF & !STORES);
    story
        .held(Holder::Shown, [frame, frame + 0x1000], 0)
        .lock(0, L3, 3)
        .write(0, L3 + 72, frame | LEAF & !STORES, frame | LEAF);
    assert_eq!(story.broken(), [GUESTS]);
}

#[test]
fn a_vm_stores_to_its_ram_only() {
    let outside = |bits: u64| {
        let mut story = Story::running();
        let end = RAM[1] - (512 << 12);
        let event = Event::RamMade {
            order: 0,
            ipa: 0x1000,
            end,
        };
        story
            .tell(0, 0, event)
            .make(0, L3, 3, 0, (PAGE + 0x10_0000) | bits);
        story.broken()
    };
    assert_eq!(outside(LEAF), [GUESTS]);
    assert_eq!(outside(LEAF & !(1 << 7)), [""; 0]);
}

/// VM 0 runs under VMID 1, then under 2, and under 1 again; `flush` is done while it has 2 and
/// before its page is unmapped, which is flushed under 2.
fn back_again(unmaps: bool, flush: impl Fn(&mut Story)) -> Vec<&'static str> {
    let mut story = Story::running();
    story.load(0, NOTHING, 0).load(0, ROOT, 2);
    flush(&mut story);
    if unmaps {
        story
            .lock(0, L3, 3)
            .write(0, L3 + 24, page(0), 0)
            .flush(0, Tlbi::Ipas2le1is, 3 | 0b0111 << 44, 2)
            .unlock(0, L3);
    }
    story.load(0, NOTHING, 0).load(0, ROOT, 1);
    story.broken()
}

#[test]
fn a_vmid_that_comes_back_brings_nothing_back() {
    assert_eq!(back_again(true, |_| {}), [VMID]);
    // Nothing has changed meanwhile.
    assert_eq!(back_again(false, |_| {}), [""; 0]);
    let emptied = back_again(true, |story| {
        story
            .tlbi(0, Tlbi::Alle1is, 0, 2)
            .barrier(0, Barrier::DsbIsh);
    });
    assert_eq!(emptied, [""; 0]);
    let under_the_wrong_one = back_again(true, |story| {
        story.flush(0, Tlbi::Vmalls12e1is, 0, 2);
    });
    assert_eq!(under_the_wrong_one, [VMID]);
    let no_dsb = back_again(true, |story| {
        story.tlbi(0, Tlbi::Alle1is, 0, 2);
    });
    assert_eq!(no_dsb, [VMID]);
}

#[test]
fn a_vmid_that_was_anothers_meanwhile_still_brings_back_what_it_had() {
    let mut story = Story::running();
    story
        .load(0, NOTHING, 0)
        .load(0, ROOT, 2)
        .another(1)
        .load(1, NOTHING, 0);
    story
        .lock(0, L3, 3)
        .write(0, L3 + 24, page(0), 0)
        .flush(0, Tlbi::Ipas2le1is, 3 | 0b0111 << 44, 2)
        .unlock(0, L3);
    // Once is enough, and from then on it counts as cached.
    story.load(0, NOTHING, 0).load(0, ROOT, 1);
    story.load(0, NOTHING, 0).load(0, ROOT, 1);
    story.make(0, L3, 3, 9, page(0));
    let checked = check(&story.recording());
    let broken: Vec<_> = checked
        .violations
        .iter()
        .map(|v| (v.rule, v.what.as_str()))
        .collect();
    let rules: Vec<_> = broken.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(rules, [VMID, VMID, VMID, REUSE, TIME], "{broken:#?}");
    let told = |at: usize, what: &str| assert!(broken[at].1.starts_with(what), "{broken:#?}");
    told(
        0,
        "vm1 is loaded with VMID 1, under which translations of vm0",
    );
    told(
        1,
        "vm0 is loaded with VMID 1, under which translations of vm1",
    );
    told(2, "vm0 is loaded with VMID 1, which it had before");
}

/// Two VMs go through all VMIDs, and a third gets the first one again.
#[test]
fn a_new_generation_begins_with_empty_tlbs() {
    let rollover = |flushes: bool| {
        let mut story = Story::running();
        story.load(0, NOTHING, 0).another(2).load(1, NOTHING, 0);
        if flushes {
            story
                .tlbi(1, Tlbi::Alle1is, 0, 0)
                .barrier(1, Barrier::DsbIsh);
        }
        // vm1 has vm0's number, vm0 that of vm1.
        story.load(1, OTHER_ROOT, 1).load(0, ROOT, 2);
        story.broken()
    };
    assert_eq!(rollover(true), [""; 0]);
    assert_eq!(rollover(false), [VMID]);
}

/// CPU 0 takes a page away from a VM that has no VMID yet; CPU 1 comes to run it. `between` is what
/// CPU 0 does first.
fn first_run(between: impl Fn(&mut Story)) -> Vec<&'static str> {
    let mut story = Story::running();
    story
        .load(0, NOTHING, 1)
        .another(2)
        .load(1, NOTHING, 0)
        .tlbi(1, Tlbi::Alle1is, 0, 0)
        .barrier(1, Barrier::DsbIsh)
        .lock(0, L3, 3)
        .write(0, L3 + 24, page(0), 0);
    between(&mut story);
    story.load(1, ROOT, 3);
    story.broken()
}

#[test]
fn races_56_and_57_walks_see_what_nobody_flushes() {
    let unlocked = |barrier: Option<Barrier>| {
        first_run(|story| {
            if let Some(barrier) = barrier {
                story.barrier(0, barrier);
            }
            story.unlock(0, L3);
        })
    };
    for barrier in [Barrier::DsbIshst, Barrier::DsbIsh] {
        assert_eq!(unlocked(Some(barrier)), [""; 0], "{barrier:?}");
    }
    for barrier in [None, Some(Barrier::DsbNshst), Some(Barrier::Isb)] {
        assert_eq!(unlocked(barrier), [WALKS], "{barrier:?}");
    }
    // It has the lock yet, so it may flush.
    assert_eq!(first_run(|_| {}), [""; 0]);
}

#[test]
fn who_is_overtaken_by_a_first_run_flushes() {
    let overtaken = |flushes: bool| {
        let mut story = Story::running();
        story
            .load(0, NOTHING, 1)
            .tlbi(0, Tlbi::Alle1is, 0, 1)
            .barrier(0, Barrier::DsbIsh)
            .lock(0, L3, 3)
            .write(0, L3 + 24, page(0), 0)
            .load(1, ROOT, 3);
        if flushes {
            story.load(0, NOTHING, 3).flush(0, Tlbi::Ipas2le1is, 3, 3);
        }
        story.unlock(0, L3);
        story.broken()
    };
    assert_eq!(overtaken(true), [""; 0]);
    assert_eq!(overtaken(false), [TIME]);
}

#[test]
fn a_tree_that_has_ended_is_left_alone() {
    let over = || {
        let mut story = Story::running();
        story
            .load(0, NOTHING, 1)
            .flush(0, Tlbi::Vmalls12e1is, 0, 1)
            .tree_ended(0);
        story
    };
    let mut written = over();
    written.lock(0, L3, 3).write(0, L3 + 24, page(0), 0);
    assert_eq!(written.broken(), [DETACHED]);
    let mut loaded = over();
    loaded.load(0, ROOT, 1);
    assert_eq!(loaded.broken(), [VMID]);
    // Another VM of the same number.
    let mut again = over();
    again.ended(L3).ended(L2).ended(ROOT);
    again.root(0, ROOT).load(0, ROOT, 1);
    assert_eq!(again.broken(), [""; 0]);
}
