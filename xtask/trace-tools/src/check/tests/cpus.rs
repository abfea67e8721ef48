//! What a CPU owes: the order of its TLBIs, stage 1 of a vCPU that goes, what instruction caches
//! hold.

use trace::event::{Barrier, Tlbi};

use super::*;

/// CPU 0 invalidates a page, with or without a DSB between the stages.
fn stages(of_stage2: Tlbi, between: Option<Barrier>, of_stage1: Tlbi) -> Vec<&'static str> {
    let mut story = Story::running();
    story.publish(0).tlbi(0, of_stage2, 3, 1);
    if let Some(barrier) = between {
        story.barrier(0, barrier);
    }
    story.tlbi(0, of_stage1, 0, 1).barrier(0, Barrier::DsbIsh);
    story.broken()
}

#[test]
fn race_54_a_dsb_stands_between_the_stages() {
    let everywhere = |between| stages(Tlbi::Ipas2le1is, between, Tlbi::Vmalle1is);
    assert_eq!(everywhere(Some(Barrier::DsbIsh)), [""; 0]);
    // None, one that waits for no TLBI, one for this CPU's alone.
    let others = [Barrier::DsbIshst, Barrier::DsbNsh, Barrier::Isb];
    for between in [None].into_iter().chain(others.map(Some)) {
        assert_eq!(everywhere(between), [STAGES], "{between:?}");
    }
    for tlbi in [Tlbi::Ipas2e1is, Tlbi::Ripas2le1is, Tlbi::Ripas2e1is] {
        assert_eq!(stages(tlbi, None, Tlbi::Vmalle1is), [STAGES], "{tlbi:?}");
    }
    let here = |between| stages(Tlbi::Ipas2le1, between, Tlbi::Vmalle1);
    assert_eq!(here(Some(Barrier::DsbNsh)), [""; 0]);
    assert_eq!(here(None), [STAGES]);
    // All that is left has no order.
    assert_eq!(stages(Tlbi::Ipas2le1is, None, Tlbi::Vmalls12e1is), [""; 0]);
}

/// The entry is flushed all the same if the DSB between the stages is the one that is missing.
#[test]
fn a_flush_is_none_without_the_dsb_between_the_stages() {
    let mut story = Story::running();
    story
        .lock(0, L3, 3)
        .write(0, L3 + 24, page(0), 0)
        .publish(0)
        .tlbi(0, Tlbi::Ipas2le1is, 3, 1)
        .tlbi(0, Tlbi::Vmalle1is, 0, 1)
        .barrier(0, Barrier::DsbIsh)
        .unlock(0, L3);
    assert_eq!(story.broken(), [STAGES, TIME]);
}

#[test]
fn all_cpus_walk_tables_of_one_shape() {
    let shape = |cpu, value| {
        move |story: &mut Story| {
            let event = Event::RegisterSet {
                register: Register::Vtcr,
                order: 0,
                value,
            };
            story.tell(cpu, NOBODY, event);
        }
    };
    let mut story = Story::running();
    shape(1, 7)(&mut story);
    shape(2, 7)(&mut story);
    shape(1, 7)(&mut story);
    assert_eq!(story.broken(), [""; 0]);
    shape(3, 8)(&mut story);
    assert_eq!(story.broken(), [SHAPE]);
    // CPU 0 has the VM.
    let mut loaded = Story::running();
    shape(0, 7)(&mut loaded);
    assert_eq!(loaded.broken(), [SHAPE]);
}

/// vCPU 1 runs where vCPU 0 did; `forget` is what CPU 0 does between.
fn another_vcpu(forget: impl Fn(&mut Story)) -> Vec<&'static str> {
    let mut story = Story::running();
    story.load(0, NOTHING, 0);
    story.vcpu = 1;
    story.load(0, ROOT, 1);
    forget(&mut story);
    story.load(0, NOTHING, 0);
    story.broken()
}

#[test]
fn race_53_a_vcpu_does_not_find_stage_1_of_another() {
    assert_eq!(another_vcpu(|_| {}), [VCPU]);
    for tlbi in [Tlbi::Vmalle1, Tlbi::Vmalls12e1, Tlbi::Vmalle1is] {
        let whole = another_vcpu(|story| {
            story.tlbi(0, tlbi, 0, 1).barrier(0, Barrier::DsbNsh);
        });
        assert_eq!(whole, [""; 0], "{tlbi:?}");
        let no_dsb = another_vcpu(|story| {
            story.tlbi(0, tlbi, 0, 1).barrier(0, Barrier::Isb);
        });
        assert_eq!(no_dsb, [VCPU], "{tlbi:?}");
    }
    // On another CPU.
    let elsewhere = another_vcpu(|story| {
        story.load(1, ROOT, 1).tlbi(1, Tlbi::Vmalle1, 0, 1);
        story.barrier(1, Barrier::DsbNsh).load(1, NOTHING, 0);
    });
    assert_eq!(elsewhere, [VCPU]);
}

#[test]
fn stage_1_that_was_forgotten_meanwhile_is_not_forgotten_again() {
    let mut story = Story::running();
    story.load(0, NOTHING, 0).load(1, NOTHING, 1);
    story.flush(1, Tlbi::Vmalls12e1is, 0, 1).load(1, NOTHING, 0);
    story.vcpu = 1;
    story.load(0, ROOT, 1).load(0, NOTHING, 0);
    assert_eq!(story.broken(), [""; 0]);
    // The same one comes back, and a VM of its own comes between.
    let mut same = Story::running();
    same.load(0, NOTHING, 0).another(2);
    same.load(0, ROOT, 1).load(0, NOTHING, 0);
    assert_eq!(same.broken(), [""; 0]);
}

#[test]
fn stage_1_that_is_in_use_comes_back() {
    let mut story = Story::running();
    // vCPU 0 runs on CPU 0 all the while.
    story.load(1, NOTHING, 1).flush(1, Tlbi::Vmalls12e1is, 0, 1);
    story.load(0, NOTHING, 0);
    story.vcpu = 1;
    story.load(0, ROOT, 1).load(0, NOTHING, 0);
    assert_eq!(story.broken(), [VCPU]);
}

#[test]
fn a_vm_has_one_vmid_at_a_time() {
    let mut story = Story::running();
    story.load(1, ROOT, 2);
    assert_eq!(story.broken(), [VMID]);
    let mut in_turn = Story::running();
    in_turn.load(0, ROOT, 2);
    assert_eq!(in_turn.broken(), [""; 0]);
}

/// A page goes from one VM to another; `forget` is what is done between with the instruction
/// caches.
fn given_on(dic: u8, forget: impl Fn(&mut Story)) -> Vec<&'static str> {
    let mut story = Story::running();
    story.events[0].2 = Event::Allowed {
        bbm: 0,
        dic,
        order: 0,
    };
    story.another(2).unmap();
    forget(&mut story);
    story.make(1, OTHER_L3, 3, 0, page(0));
    story.broken()
}

#[test]
fn what_was_fetched_is_forgotten_before_somebody_else_fetches() {
    let forgotten = Event::FetchesInvalidated { order: 0 };
    assert_eq!(given_on(1, |_| {}), [""; 0]);
    assert_eq!(given_on(0, |_| {}), [REUSE]);
    let whole = given_on(0, |story| {
        story.tell(0, NOBODY, forgotten).barrier(0, Barrier::DsbIsh);
    });
    assert_eq!(whole, [""; 0]);
    let no_dsb = given_on(0, |story| {
        story.tell(0, NOBODY, forgotten);
    });
    assert_eq!(no_dsb, [REUSE]);
    let of_another_cpu = given_on(0, |story| {
        story.tell(0, NOBODY, forgotten).barrier(1, Barrier::DsbIsh);
    });
    assert_eq!(of_another_cpu, [REUSE]);
}

#[test]
fn what_was_fetched_is_forgotten_with_the_vm() {
    let end = |forgotten: bool| {
        let mut story = Story::running();
        story.events[0].2 = Event::Allowed {
            bbm: 0,
            dic: 0,
            order: 0,
        };
        story.load(0, NOTHING, 1).flush(0, Tlbi::Vmalls12e1is, 0, 1);
        if forgotten {
            let event = Event::FetchesInvalidated { order: 0 };
            story.tell(0, NOBODY, event).barrier(0, Barrier::DsbIsh);
        }
        story.tree_ended(0).ended(L3).ended(L2).ended(ROOT);
        story.broken()
    };
    assert_eq!(end(true), [""; 0]);
    assert_eq!(end(false), [FREE]);
}
