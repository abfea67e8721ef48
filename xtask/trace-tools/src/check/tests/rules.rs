//! A stream that keeps the rules, and the same with one rule taken out at a time.

use trace::event::{Barrier, Store, Taking, Tlbi};
use trace::frame::Header;
use trace::{Event, Stream};

use super::*;

#[test]
fn what_keeps_the_rules_is_clean() {
    let mut story = Story::running();
    story.unmap().make(0, L3, 3, 3, page(1)).another(2);
    story.make(1, OTHER_L3, 3, 0, page(0));
    assert_eq!(story.broken(), [""; 0]);
    story.collapse();
    // The frame of the table is another's now.
    story.table(0, 0, 3, L3);
    assert_eq!(story.broken(), [""; 0]);
}

#[test]
fn rights_and_marks_of_a_live_entry_may_change() {
    let written = page(0);
    let clean = written & !(1 << 7);
    let mut story = Story::running();
    story
        .lock(0, L3, 3)
        .write(0, L3 + 24, written, clean)
        .flush(0, Tlbi::Ipas2le1is, 3, 1)
        .write(0, L3 + 24, clean, written)
        .publish(0)
        .unlock(0, L3);
    assert_eq!(story.broken(), [""; 0]);
    let story = story.without(|e| {
        matches!(
            e,
            Event::TlbiDone {
                tlbi: Tlbi::Ipas2le1is,
                ..
            }
        )
    });
    assert_eq!(story.broken(), [TIME]);
}

#[test]
fn another_address_takes_a_break() {
    let mut story = Story::running();
    story.lock(0, L3, 3).write(0, L3 + 24, page(0), page(1));
    assert_eq!(story.broken(), [BREAK]);
    let mut story = Story::running();
    let device = page(0) & !(0b1110 << 2);
    story.lock(0, L3, 3).write(0, L3 + 24, page(0), device);
    assert_eq!(story.broken(), [BREAK]);
}

#[test]
fn an_entry_is_made_after_the_flush_of_what_it_was() {
    let make = |flush: &dyn Fn(&mut Story)| {
        let mut story = Story::running();
        story.lock(0, L3, 3).write(0, L3 + 24, page(0), MARKER);
        flush(&mut story);
        story
            .write(0, L3 + 24, MARKER, page(1))
            .publish(0)
            .unlock(0, L3);
        story
    };
    let whole = make(&|story| {
        story.flush(0, Tlbi::Ipas2le1is, 3, 1);
    });
    assert_eq!(whole.broken(), [""; 0]);
    assert_eq!(make(&|_| {}).broken().first(), Some(&BREAK));
    // Another VMID, another address, the wrong level, this CPU alone.
    for (tlbi, operand, vmid) in [
        (Tlbi::Ipas2le1is, 4, 1),
        (Tlbi::Ipas2le1is, 3 | 0b0110 << 44, 1),
        (Tlbi::Ipas2le1, 3, 1),
    ] {
        let story = make(&|story| {
            story.flush(0, tlbi, operand, vmid);
        });
        assert_eq!(
            story.broken().first(),
            Some(&BREAK),
            "{tlbi:?} {operand:#x}"
        );
    }
    // Stage 1 not invalidated; no DSB before the TLBI, between the two, or after them.
    let is =
        |event: &Event, wanted| matches!(event, Event::TlbiDone { tlbi, .. } if *tlbi == wanted);
    let second = |wanted| move |event: &Event| is(event, wanted);
    assert_eq!(
        whole
            .clone()
            .without(second(Tlbi::Vmalle1is))
            .broken()
            .first(),
        Some(&BREAK)
    );
    assert_eq!(
        whole
            .clone()
            .without(is_barrier(Barrier::DsbIsh))
            .broken()
            .first(),
        Some(&BREAK)
    );
    let no_dsb = |story: &mut Story| {
        story
            .tlbi(0, Tlbi::Ipas2le1is, 3, 1)
            .barrier(0, Barrier::DsbIsh)
            .tlbi(0, Tlbi::Vmalle1is, 0, 1)
            .barrier(0, Barrier::DsbIsh);
    };
    assert_eq!(make(&no_dsb).broken().first(), Some(&BREAK));
}

#[test]
fn a_range_of_pages_is_flushed_by_one_operation() {
    // Four pages from 0x2000: NUM = 1, SCALE = 0, 4 KiB.
    let operand = 2 | 1 << 39 | 0b01 << 46;
    let mut story = Story::running();
    story
        .make(0, L3, 3, 5, page(5))
        .lock(0, L3, 3)
        .write(0, L3 + 24, page(0), 0)
        .write(0, L3 + 40, page(5), 0)
        .flush(0, Tlbi::Ripas2le1is, operand, 1)
        .unlock(0, L3);
    assert_eq!(story.broken(), [""; 0]);
    let mut story = Story::running();
    story
        .make(0, L3, 3, 6, page(6))
        .lock(0, L3, 3)
        .write(0, L3 + 48, page(6), 0)
        .flush(0, Tlbi::Ripas2le1is, operand, 1)
        .unlock(0, L3);
    assert_eq!(story.broken(), [TIME]);
}

#[test]
fn tables_are_written_under_their_lock() {
    let story = Story::running();
    let locked_l3 = |e: &Event| matches!(e, Event::Locked { table: L3, .. });
    assert!(story.clone().without(locked_l3).broken().contains(&LOCK));
    let mut other = Story::running();
    other.lock(0, L3, 3).write(1, L3, 0, page(7));
    assert_eq!(other.broken(), [LOCK]);
    let mut nowhere = Story::running();
    nowhere.write(0, PAGE, 0, 1);
    assert_eq!(nowhere.broken(), [LOCK]);
}

#[test]
fn tables_are_published_whole_and_once() {
    let publish = |store, named| {
        let mut story = Story::running();
        story.table(0, 0, 3, OTHER_L3).lock(0, L2, 2);
        let (entry, new) = (L2 + 8, named | 3);
        story.tell(
            0,
            0,
            Event::Written {
                store,
                order: 0,
                entry,
                old: 0,
                new,
            },
        );
        story.publish(0).unlock(0, L2);
        story
    };
    assert_eq!(publish(Store::Release, OTHER_L3).broken(), [""; 0]);
    assert_eq!(publish(Store::Plain, OTHER_L3).broken(), [PUBLISH]);
    // No table, one that is in the tree, one of the wrong level.
    for named in [PAGE, L3, ROOT] {
        assert_eq!(
            publish(Store::Release, named).broken(),
            [PUBLISH],
            "{named:#x}"
        );
    }
    let unpublished = publish(Store::Release, OTHER_L3).without(is_barrier(Barrier::DsbIshst));
    assert_eq!(unpublished.broken(), [PUBLISH]);
}

#[test]
fn a_detached_table_stays_as_it_is() {
    let mut story = Story::running();
    story.collapse();
    let collapsed = story.clone();
    assert_eq!(collapsed.broken(), [""; 0]);
    let mut story = collapsed
        .clone()
        .without(|e| matches!(e, Event::TableEnded { .. }));
    story.lock(0, L3, 3).write(0, L3 + 32, 0, page(4));
    assert_eq!(story.broken(), [DETACHED]);
    let lock_of_l3 = |e: &Event| matches!(e, Event::Locked { table: L3, .. });
    assert!(collapsed.without(lock_of_l3).broken().contains(&DETACHED));
}

#[test]
fn a_table_that_was_taken_out_can_be_put_back() {
    let mut story = Story::running();
    story
        .lock(0, L2, 2)
        .lock(0, L3, 3)
        .write(0, L2, L3 | 3, MARKER)
        .unlock(0, L3)
        .flush(0, Tlbi::Vmalls12e1is, 0, 1)
        .write(0, L2, MARKER, L3 | 3)
        .publish(0)
        .unlock(0, L2)
        .unmap();
    assert_eq!(story.broken(), [""; 0]);
}

#[test]
fn a_table_ends_after_a_flush_without_leaf_hint() {
    let end = |tlbi| {
        let mut story = Story::running();
        story
            .take_out(tlbi, 31 << 39 | 1 << 44 | 0b01 << 46)
            .unlock(0, L2)
            .grace(2)
            .ended(L3);
        story
    };
    assert_eq!(end(Tlbi::Ripas2e1is).broken(), [""; 0]);
    assert_eq!(end(Tlbi::Ripas2le1is).broken(), [FREE]);
    // One address of it only.
    assert_eq!(end(Tlbi::Ipas2e1is).broken(), [FREE]);
    let mut attached = Story::running();
    attached.ended(L3);
    assert_eq!(attached.broken(), [FREE]);
}

#[test]
fn frames_are_reused_after_the_flush() {
    let mut story = Story::running();
    story
        .another(2)
        .lock(0, L3, 3)
        .write(0, L3 + 24, page(0), MARKER);
    let mut to_table = story.clone();
    to_table.table(0, 0, 3, PAGE);
    assert_eq!(to_table.broken(), [REUSE]);
    let mut to_vm = story.clone();
    to_vm.make(1, OTHER_L3, 3, 9, page(0));
    assert_eq!(to_vm.broken(), [REUSE]);
    story
        .flush(0, Tlbi::Ipas2le1is, 3, 1)
        .make(1, OTHER_L3, 3, 9, page(0));
    assert_eq!(story.broken(), [""; 0]);
}

#[test]
fn a_frame_is_a_table_or_guest_memory_of_one() {
    let mut story = Story::running();
    story.make(0, L3, 3, 9, L2 | LEAF);
    assert_eq!(story.broken(), [REUSE]);
    let mut story = Story::running();
    story.another(2).make(1, OTHER_L3, 3, 9, page(0));
    assert_eq!(story.broken(), [REUSE]);
    let mut story = Story::running();
    story.table(0, 0, 3, PAGE);
    assert_eq!(story.broken(), [REUSE]);
}

#[test]
fn vmids_are_right() {
    let mut story = Story::running();
    story.another(1);
    assert_eq!(story.broken(), [VMID]);
    let mut zero = Story::running();
    zero.load(1, ROOT, 0);
    assert_eq!(zero.broken(), [VMID]);
    let mut unsettled = Story::running();
    unsettled.load(0, NOTHING, 1);
    let mut unsettled = unsettled.without(is_barrier(Barrier::Isb));
    unsettled.tlbi(0, Tlbi::Vmalle1is, 0, 1);
    assert_eq!(unsettled.broken(), [VMID]);
    // After everything was emptied, numbers are given anew.
    let mut anew = Story::running();
    anew.load(0, NOTHING, 0)
        .tlbi(0, Tlbi::Alle1is, 0, 0)
        .barrier(0, Barrier::DsbIsh)
        .another(1);
    assert_eq!(anew.broken(), [""; 0]);
}

#[test]
fn locks_are_taken_from_the_root_down() {
    let mut story = Story::running();
    story.lock(0, L3, 3).lock(0, L2, 2);
    assert_eq!(story.broken(), [ORDER]);
    let mut twice = Story::running();
    twice.lock(0, L3, 3).lock(1, L3, 3);
    assert_eq!(twice.broken(), [ORDER]);
    let mut tried = Story::running();
    let (taking, level, table) = (Taking::Tried, 2, L2);
    tried.lock(0, L3, 3).tell(
        0,
        0,
        Event::Locked {
            taking,
            level,
            claimed: 0,
            order: 0,
            table,
            section: 1,
        },
    );
    assert_eq!(tried.broken(), [""; 0]);
    let mut never = Story::running();
    never.unlock(1, L3);
    assert_eq!(never.broken(), [ORDER]);
}

#[test]
fn a_block_is_split_directly_only_where_that_is_allowed() {
    let split = |bbm, moved: u64| {
        let mut story = Story::running();
        story.events[0].2 = Event::Allowed {
            bbm,
            dic: 1,
            order: 0,
        };
        story
            .make(0, L2, 2, 1, BLOCK | NORMAL | 1)
            .table(0, 0, 3, OTHER_L3);
        for index in 0..512 {
            let new = (BLOCK + moved + index * 4096) | LEAF;
            let (store, entry) = (Store::Plain, OTHER_L3 + 8 * index);
            story.tell(
                0,
                0,
                Event::Written {
                    store,
                    order: 0,
                    entry,
                    old: 0,
                    new,
                },
            );
        }
        story
            .lock(0, L2, 2)
            .lock(0, OTHER_L3, 3)
            .write(0, L2 + 8, BLOCK | NORMAL | 1, OTHER_L3 | 3)
            .flush(0, Tlbi::Ipas2le1is, 512, 1)
            .unlock(0, OTHER_L3)
            .unlock(0, L2);
        story
    };
    assert_eq!(split(2, 0).broken(), [""; 0]);
    // Its parts are locked until the block is gone from the TLBs.
    let mut early = split(2, 0);
    let position = |story: &Story, wanted: fn(&Event) -> bool| {
        let found = story
            .events
            .iter()
            .rposition(|(_, _, event, _)| wanted(event));
        found.expect("such an event")
    };
    let unlocking = |e: &Event| matches!(e, Event::Unlocked { table, .. } if *table == OTHER_L3);
    let unlocked = early.events.remove(position(&early, unlocking));
    let replaced = position(&early, |e| matches!(e, Event::Written { .. }));
    early.events.insert(replaced + 1, unlocked);
    assert_eq!(early.broken(), [TIME]);
    let locking = |e: &Event| matches!(e, Event::Locked { table, .. } if *table == OTHER_L3);
    early.events.remove(position(&early, locking));
    early.events.remove(position(&early, unlocking));
    assert_eq!(early.broken(), [TIME]);
    assert_eq!(split(1, 0).broken().first(), Some(&BREAK));
    assert_eq!(split(2, 0x20_0000).broken().first(), Some(&BREAK));
    let mut back = split(2, 0);
    back.lock(0, L2, 2)
        .lock(0, OTHER_L3, 3)
        .write(0, L2 + 8, OTHER_L3 | 3, BLOCK | NORMAL | 1)
        .flush(0, Tlbi::Vmalls12e1is, 0, 1)
        .unlock(0, OTHER_L3)
        .unlock(0, L2)
        .grace(2)
        .ended(OTHER_L3);
    assert_eq!(back.broken(), [""; 0]);
}

#[test]
fn tables_of_a_vm_that_is_gone_end_where_they_are() {
    let mut story = Story::running();
    story.load(0, NOTHING, 1).flush(0, Tlbi::Vmalls12e1is, 0, 1);
    story.tree_ended(0).ended(L3).ended(L2).ended(ROOT);
    assert_eq!(story.broken(), [""; 0]);
    let flushed = |e: &Event| {
        matches!(
            e,
            Event::TlbiDone {
                tlbi: Tlbi::Vmalls12e1is,
                ..
            }
        )
    };
    assert_eq!(story.clone().without(flushed).broken(), [FREE]);
    let untold = |e: &Event| matches!(e, Event::TreeEnded { .. });
    assert_eq!(story.without(untold).broken(), [FREE]);
    let mut running = Story::running();
    running.flush(0, Tlbi::Vmalls12e1is, 0, 1).tree_ended(0);
    assert_eq!(running.broken(), [FREE]);
}

#[test]
fn old_values_are_what_was_written_but_for_the_hardwares_marks() {
    let marked = |bits: u64| {
        let mut story = Story::running();
        let dbm = page(4) & !(1 << 10 | 1 << 7) | 1 << 51;
        story
            .make(0, L3, 3, 4, dbm)
            .lock(0, L3, 3)
            .write(0, L3 + 32, dbm | bits, 0);
        story
    };
    assert_eq!(marked(1 << 10 | 1 << 7).broken(), [""; 0]);
    assert_eq!(marked(1 << 54).broken(), [TRUE]);
}

#[test]
fn a_missing_event_ends_the_check() {
    let mut recording = Story::running().recording();
    recording.records.remove(5);
    let checked = check(&recording);
    assert_eq!((checked.missing, checked.violations.len()), (Some(6), 0));
    // Cut at the end is well; lost is not.
    assert!(checked.is_complete(&recording));
    let header = Header {
        cpu: 0,
        stream: Stream::Replay,
        frequency: 1,
        first: 1,
    };
    recording.lost.add(&header, 1, 0);
    assert!(!checked.is_complete(&recording));
    let mut out = Vec::new();
    assert_eq!(run(&recording, &mut out).expect("memory"), 1);
    assert!(String::from_utf8_lossy(&out).contains("event 6 is missing"));
}

#[test]
fn a_violation_is_shown_with_what_was_round_it() {
    let story = Story::running().without(is_tlbi_or_lock);
    let mut out = Vec::new();
    assert_eq!(run(&story.recording(), &mut out).expect("memory"), 1);
    let text = String::from_utf8_lossy(&out);
    assert!(
        text.starts_with("write under the lock: 0x80003018"),
        "{text}"
    );
    assert!(text.lines().any(|line| line.starts_with("-> ")), "{text}");
    let mut out = Vec::new();
    assert_eq!(
        run(&Story::running().recording(), &mut out).expect("memory"),
        0
    );
    assert!(run(&Recording::default(), &mut Vec::new()).is_err());
}
