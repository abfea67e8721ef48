//! Read sections, grace periods, and what became of entries.

use trace::event::Tlbi;

use super::*;

/// The level-3 table is taken out, empty, and its place is flushed.
fn emptied() -> Story {
    let mut story = Story::running();
    story
        .take_out(Tlbi::Vmalls12e1is, 0)
        .write(0, L2, MARKER, 0)
        .unlock(0, L2);
    story
}

#[test]
fn a_table_ends_after_a_grace_period_that_began_when_it_was_out() {
    let mut story = emptied();
    story.grace(2).ended(L3);
    assert_eq!(story.broken(), [""; 0]);

    let mut never = emptied();
    never.ended(L3);
    assert_eq!(never.broken(), [GRACE]);

    let mut under_way = emptied();
    under_way.grace_begins(2).ended(L3);
    assert_eq!(under_way.broken(), [GRACE]);

    let mut older = Story::running();
    let began = older.events.len();
    older = emptied();
    let begun = Event::GraceBegun {
        order: 0,
        number: 2,
    };
    older.events.insert(began, (1, NOBODY, begun, 0));
    older.grace_ends(2);
    assert_eq!(older.clone().broken(), [""; 0]);
    older.ended(L3);
    assert_eq!(older.broken(), [GRACE]);
    // One that another thread has awaited does as well, whatever the CPU.
    let mut others = emptied();
    others.grace_begins(2).grace(3).ended(L3);
    assert_eq!(others.broken(), [""; 0]);
}

#[test]
fn a_grace_period_waits_for_older_sections() {
    let ends = |section, unlocked: bool| {
        let mut story = Story::running();
        story.grace(2);
        story.section = section;
        story.lock(1, L3, 3).grace_begins(3);
        if unlocked {
            story.unlock(1, L3);
        }
        story.grace_ends(3);
        story
    };
    assert_eq!(ends(2, true).broken(), [""; 0]);
    assert_eq!(ends(3, false).broken(), [""; 0]);
    for older in [1, 2] {
        assert_eq!(ends(older, false).broken(), [GRACE]);
    }
}

#[test]
fn grace_periods_begin_before_they_end() {
    let mut story = Story::running();
    story.grace_ends(2);
    assert_eq!(story.broken(), [TRUE]);
}

#[test]
fn many_may_wait_for_one_grace_period() {
    let mut story = emptied();
    story.grace_begins(2).grace_begins(2);
    story.grace_ends(2).grace_ends(2).ended(L3);
    assert_eq!(story.broken(), [""; 0]);
    // It began when the first was told of it.
    let mut older = Story::running();
    older.grace_begins(2);
    let events = std::mem::take(&mut older.events);
    older = emptied();
    older.events.splice(0..events.len() - 1, events);
    older.grace_begins(2).grace_ends(2).ended(L3);
    assert_eq!(older.broken(), [GRACE]);
}

#[test]
fn locks_are_taken_in_read_sections() {
    let mut story = Story::running();
    story.section = 0;
    story.lock(0, L3, 3);
    assert_eq!(story.broken(), [SECTION]);
    // Or by who keeps it by a claim.
    let event = &mut story.events.last_mut().expect("the lock").2;
    if let Event::Locked { claimed, .. } = event {
        *claimed = 1;
    }
    assert_eq!(story.broken(), [""; 0]);
}

#[test]
fn changes_are_counted_past_their_markers() {
    let mut story = Story::running();
    let only = [("leaf made", 1), ("table put in", 2)];
    assert_eq!(story.changes(), only.into());
    story.unmap().make(0, L3, 3, 3, page(1));
    story
        .lock(0, L3, 3)
        .write(0, L3 + 24, page(1), MARKER)
        .flush(0, Tlbi::Ipas2le1is, 3, 1)
        .write(0, L3 + 24, MARKER, page(2))
        .publish(0)
        .unlock(0, L3)
        .collapse();
    let all = [
        ("leaf made", 2),
        ("leaf moved", 1),
        ("leaf taken away", 1),
        ("table collapsed", 1),
        ("table put in", 2),
    ];
    assert_eq!(story.changes(), all.into());
    assert_eq!(emptied().changes()["table taken away"], 1);
}
