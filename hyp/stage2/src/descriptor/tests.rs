//! What an entry says, and what is made of it.

use super::*;

const PLAIN: LeafFormat = LeafFormat::new(Format {
    force_write_back: false,
    execute_never_by_level: true,
    hardware_dirty: true,
});

#[test]
fn a_leaf_keeps_its_attributes_through_split_and_merge() {
    let block = Descriptor::leaf(
        PLAIN,
        Level::L2,
        Pa::new(0x4020_0000),
        Attributes::RAM,
        DirtyState::Dirty,
    );
    let page = block.part(PLAIN, Level::L2, 3);
    assert_eq!(page.kind(Level::L3), EntryKind::Leaf(Pa::new(0x4020_3000)));
    assert_eq!(page.rights(), Rights::ALL);
    assert!(page.is_written() && page.is_accessed());
    let again = block
        .part(PLAIN, Level::L2, 0)
        .merged(PLAIN, Level::L2, Pa::new(0x4020_0000));
    assert_eq!(again, block);
}

#[test]
fn reserved_encodings_are_bad() {
    assert_eq!(
        Descriptor::from_bits(0x4000_0001).kind(Level::L3),
        EntryKind::Bad
    );
    assert_eq!(
        Descriptor::from_bits(0x4000_0001).kind(Level::L0),
        EntryKind::Bad
    );
    // A block whose address is no multiple of its size.
    assert_eq!(
        Descriptor::from_bits(0x4000_1001).kind(Level::L2),
        EntryKind::Bad
    );
    // Invalid, not empty, and no marker of ours.
    assert_eq!(Descriptor::from_bits(0x10).kind(Level::L2), EntryKind::Bad);
}

#[test]
fn a_marker_is_neither_empty_nor_bad() {
    for operation in [
        Operation::Collapse,
        Operation::Split,
        Operation::Migrate,
        Operation::FreeTable,
    ] {
        let marker = Marker::new(operation, 77);
        assert_eq!(marker.descriptor().kind(Level::L2), EntryKind::Busy(marker));
        assert_eq!((marker.operation(), marker.ticket()), (operation, 77));
    }
}

#[test]
fn without_xnx_a_right_for_one_level_is_a_right_for_none() {
    let rights = Rights {
        read: true,
        write: false,
        execute: Execute::Kernel,
    };
    let attributes = Attributes {
        rights,
        ..Attributes::RAM
    };
    let page = Descriptor::leaf(
        LeafFormat::new(Format::default()),
        Level::L3,
        Pa::new(0x1000),
        attributes,
        DirtyState::Clean,
    );
    assert_eq!(page.rights().execute, Execute::Never);
}

#[test]
fn what_was_written_is_known_until_it_is_collected() {
    let page = Descriptor::leaf(
        PLAIN,
        Level::L3,
        Pa::new(0x1000),
        Attributes::RAM,
        DirtyState::Dirty,
    );
    for closed in [
        page.as_copied(),
        page.with_rights(PLAIN, Level::L3, Rights::READ),
    ] {
        assert!(closed.is_written() && !closed.lets_stores_through());
        assert!(!closed.cleaned().is_written());
    }
}

#[test]
fn stores_never_go_through_where_they_are_not_allowed() {
    let attributes = Attributes {
        rights: Rights::READ,
        ..Attributes::RAM
    };
    let page = Descriptor::leaf(
        PLAIN,
        Level::L3,
        Pa::new(0x1000),
        attributes,
        DirtyState::Dirty,
    );
    assert!(!page.is_written() && !page.is_writable());
}

/// Every combination of the bits that the questions below are about.
fn all_of(bits: &[u64]) -> Vec<Descriptor> {
    (0..1 << bits.len())
        .map(|chosen: usize| {
            let set = bits.iter().enumerate();
            let set = set.filter(|(bit, _)| chosen >> bit & 1 != 0);
            Descriptor(set.fold(0, |all, (_, bit)| all | bit))
        })
        .collect()
}

#[test]
fn a_right_to_execute_is_that_of_its_levels() {
    for (execute, user, kernel) in [
        (Execute::Both, true, true),
        (Execute::User, true, false),
        (Execute::Never, false, false),
        (Execute::Kernel, false, true),
    ] {
        let allowed = [Privilege::User, Privilege::Kernel].map(|level| execute.allows(level));
        assert_eq!(allowed, [user, kernel], "{execute:?}");
    }
}

/// What the hardware may mark is exchanged; storing over it would lose the mark.
#[test]
fn the_hardware_marks_leaves_that_are_unused_or_whose_stores_it_may_let_through() {
    for entry in all_of(&[VALID, TABLE_OR_PAGE, ACCESS_FLAG, S2AP_WRITE, DBM]) {
        for level in [Level::L1, Level::L2, Level::L3] {
            let has = |bit| entry.0 & bit != 0;
            let leaf = has(VALID) && (!has(TABLE_OR_PAGE) || level == Level::L3);
            let marked = !has(ACCESS_FLAG) || has(DBM) && !has(S2AP_WRITE);
            assert_eq!(
                entry.may_be_marked(level),
                leaf && marked,
                "{entry:?} at {level:?}"
            );
        }
    }
}

#[test]
fn a_page_in_use_is_accessed_and_lets_stores_through() {
    let page = Descriptor::leaf(
        PLAIN,
        Level::L3,
        Pa::new(0x1000),
        Attributes::RAM,
        DirtyState::Dirty,
    );
    assert!(page.is_page_in_use());
    for lesser in [
        page.without_accessed(),
        page.closed(),
        Descriptor(page.0 & !VALID),
        Descriptor::leaf(
            PLAIN,
            Level::L2,
            Pa::new(0),
            Attributes::RAM,
            DirtyState::Dirty,
        ),
    ] {
        assert!(!lesser.is_page_in_use(), "{lesser:?}");
    }
}

#[test]
fn a_leaf_with_both_marks_gains_none() {
    for leaf in all_of(&[VALID, ACCESS_FLAG, S2AP_WRITE, DBM]) {
        let both = leaf.is_accessed() && leaf.lets_stores_through();
        assert_eq!(leaf.may_gain_marks(), !both, "{leaf:?}");
    }
}

#[test]
fn marks_of_use_add_up() {
    let unused = Descriptor::leaf(
        PLAIN,
        Level::L3,
        Pa::new(0x1000),
        Attributes::RAM,
        DirtyState::Clean,
    )
    .without_accessed();
    for mark in [ACCESS_FLAG, S2AP_WRITE, DIRTY] {
        let marked = Descriptor(unused.0 | mark);
        for (one, other) in [(unused, marked), (marked, unused), (marked, marked)] {
            assert_eq!(one.with_use_of(other), marked);
        }
    }
    assert_eq!(unused.with_use_of(Descriptor(PINNED | COPIED)), unused);
}

/// Neither that a block has a table in the deposit is true of its parts, nor that a page was copied
/// of the block.
#[test]
fn parts_and_blocks_begin_with_marks_of_their_own() {
    let pa = Pa::new(0x4020_0000);
    let block = Descriptor::leaf(PLAIN, Level::L2, pa, Attributes::RAM, DirtyState::Dirty);
    let marked = block.with_deposit();
    assert!(!block.has_deposit() && marked.has_deposit());
    assert_eq!(marked.with_deposit(), marked);
    let page = block.with_deposit().part(PLAIN, Level::L2, 0);
    assert!(!page.has_deposit() && !page.is_copied());
    let copied = page.as_copied();
    assert!(copied.is_copied() && !copied.merged(PLAIN, Level::L2, pa).is_copied());
}

#[test]
fn a_leaf_that_nobody_has_used_has_no_mark() {
    let page = Descriptor::leaf(
        PLAIN,
        Level::L3,
        Pa::new(0),
        Attributes::RAM,
        DirtyState::Clean,
    );
    let unused = page.without_accessed();
    for marks in all_of(&[ACCESS_FLAG, S2AP_WRITE, COPIED, DIRTY, DEPOSIT]) {
        for pa in [0x1000, 0x7000].map(Pa::new) {
            let used = Descriptor(unused.0 | marks.0).with_output(Pa::new(0x5000));
            assert_eq!(used.unused_at(pa), unused.with_output(pa), "{used:?}");
        }
    }
}

/// Then it is not copied again while the guest is held up.
#[test]
fn a_copied_page_may_differ_in_address_and_in_marks_from_before_the_copy() {
    let page = Descriptor::leaf(
        PLAIN,
        Level::L3,
        Pa::new(0x1000),
        Attributes::RAM,
        DirtyState::Dirty,
    );
    let (copied, expected) = (page.as_copied(), page.copy());
    for same in [
        copied,
        copied.with_output(Pa::new(0x5000)),
        copied.without_accessed(),
        Descriptor(copied.0 & !DIRTY),
    ] {
        assert!(same.difference(expected).is_of_copy(), "{same:?}");
    }
    for other in [
        page,
        Descriptor(copied.0 | S2AP_WRITE),
        Descriptor(copied.0 & !COPIED),
        Descriptor(copied.0 | PINNED),
        copied.with_rights(PLAIN, Level::L3, Rights::READ),
        Descriptor::EMPTY,
    ] {
        assert!(!other.difference(expected).is_of_copy(), "{other:?}");
    }
}

/// Written out, since what puts a field in the wrong place may well find it there again.
#[test]
fn the_bits_of_leaves_are_those_of_the_architecture() {
    let leaf = |format, level, attributes, written| {
        let format = LeafFormat::new(format);
        Descriptor::leaf(format, level, Pa::new(0x20_0000), attributes, written).bits()
    };
    let dirty = Format {
        hardware_dirty: true,
        ..Format::default()
    };
    let forced = Format {
        force_write_back: true,
        ..Format::default()
    };
    let (ram, device) = (Attributes::RAM, Attributes::DEVICE);
    assert_eq!(
        leaf(dirty, Level::L3, ram, DirtyState::Dirty),
        0x0088_0000_0020_07ff
    );
    assert_eq!(
        leaf(forced, Level::L2, ram, DirtyState::Dirty),
        0x0080_0000_0020_07d9
    );
    assert_eq!(
        leaf(dirty, Level::L3, device, DirtyState::Clean),
        0x04c8_0000_0020_0447
    );
}
