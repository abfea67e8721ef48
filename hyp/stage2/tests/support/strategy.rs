//! Choosing operations at random.

use crate::support::model::{CPUS, Op, PAGES, Pages, Place, REGIONS};
use proptest::prelude::*;
use stage2::{Access, Attributes, Execute, MemoryType, Privilege, Rights};

/// Some regions and pages come up often, so that operations meet.
fn region() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..2usize, 2 => 2..4usize, 1 => Just(REGIONS - 1)]
}

fn place() -> impl Strategy<Value = Place> {
    let index = prop_oneof![4 => 0..4usize, 2 => Just(PAGES - 1), 1 => 0..PAGES];
    (region(), index)
}

fn pages() -> impl Strategy<Value = Pages> {
    let count = prop_oneof![
        3 => Just(1usize),
        2 => Just(PAGES),
        1 => Just(2 * PAGES),
        1 => Just(PAGES - 1),
        4 => 1..PAGES + 10,
    ];
    let any = (place(), count).prop_map(|(from, count)| Pages { from, count });
    let whole = (region(), 1..3usize).prop_map(|(region, regions)| Pages {
        from: (region, 0),
        count: regions * PAGES,
    });
    prop_oneof![3 => any, 1 => whole]
}

fn rights() -> impl Strategy<Value = Rights> {
    prop_oneof![
        4 => Just(Rights::ALL),
        2 => Just(Rights::READ),
        1 => Just(Rights::READ_WRITE),
        1 => Just(Rights::READ_EXECUTE),
        1 => Just(Rights { read: true, write: true, execute: Execute::Kernel }),
        1 => Just(Rights { read: true, write: false, execute: Execute::User }),
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let pinned = Attributes {
        pinned: true,
        ..Attributes::RAM
    };
    let device = Attributes {
        memory: MemoryType::Device,
        pinned: false,
        ..Attributes::DEVICE
    };
    prop_oneof![
        30 => Just(Attributes::RAM),
        3 => rights().prop_map(|rights| Attributes { rights, ..Attributes::RAM }),
        1 => Just(pinned),
        1 => Just(device),
    ]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        2 => Just(Access::Read),
        3 => Just(Access::Write),
        1 => Just(Access::Update),
        1 => Just(Access::Execute(Privilege::Kernel)),
        1 => Just(Access::Execute(Privilege::User)),
    ]
}

/// Operations that wait for nobody, so that they can happen amid another.
fn short_op() -> BoxedStrategy<Op> {
    let touch = (0..CPUS, place(), access(), any::<bool>());
    prop_oneof![
        6 => touch.prop_map(|(cpu, place, access, split_blocks)| {
            Op::Access { cpu, place, access, split_blocks }
        }),
        1 => (0..CPUS, pages()).prop_map(|(cpu, pages)| Op::Prefetch { cpu, pages }),
        2 => (place(), attributes(), any::<bool>())
            .prop_map(|(place, a, w)| Op::MapPage(place, a, w)),
        1 => (pages(), attributes(), any::<bool>())
            .prop_map(|(pages, a, w)| Op::MapPages(pages, a, w)),
        1 => pages().prop_map(Op::Unmap),
        1 => (pages(), rights()).prop_map(|(pages, rights)| Op::Protect(pages, rights)),
        1 => place().prop_map(Op::Move),
        1 => pages().prop_map(Op::Age),
        1 => pages().prop_map(Op::WriteProtect),
        1 => pages().prop_map(Op::TrapStores),
        2 => pages().prop_map(Op::CollectDirty),
        1 => pages().prop_map(Op::FreeEmptyTables),
    ]
    .boxed()
}

fn populate() -> BoxedStrategy<Op> {
    let holes = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(0..PAGES, 1..4)];
    (
        0..REGIONS,
        attributes(),
        any::<bool>(),
        any::<bool>(),
        holes,
    )
        .prop_map(
            |(region, attributes, written, adjacent, holes)| Op::Populate {
                region,
                attributes,
                written,
                adjacent,
                holes,
            },
        )
        .boxed()
}

/// Accesses go to this region; other operations stay as they are.
fn toward(region: usize, op: Op) -> Op {
    match op {
        Op::Access {
            cpu,
            place: (_, index),
            access,
            split_blocks,
        } => Op::Access {
            cpu,
            place: (region, index),
            access,
            split_blocks,
        },
        op => op,
    }
}

fn collapse_by_copying() -> BoxedStrategy<Op> {
    let meanwhile = prop::collection::vec((0..PAGES, short_op()), 0..6);
    let limit = prop_oneof![Just(0), Just(1), Just(4), Just(PAGES)];
    (region(), limit.clone(), limit, 0..3usize, meanwhile)
        .prop_map(|(region, max_empty, max_hot, rounds, meanwhile)| {
            let toward = |(at, op)| (at, toward(region, op));
            let meanwhile = meanwhile.into_iter().map(toward).collect();
            Op::CollapseByCopying {
                region,
                max_empty,
                max_hot,
                rounds,
                meanwhile,
            }
        })
        .boxed()
}

fn op() -> BoxedStrategy<Op> {
    prop_oneof![
        12 => short_op(),
        4 => populate(),
        1 => (region(), attributes(), any::<bool>()).prop_map(|(r, a, w)| Op::MapBlock(r, a, w)),
        1 => region().prop_map(Op::Split),
        2 => region().prop_map(Op::CollapseInPlace),
        3 => collapse_by_copying(),
        1 => place().prop_map(Op::MoveFromElsewhere),
    ]
    .boxed()
}

/// Memory to begin with: most of what follows needs some.
fn beginning() -> BoxedStrategy<Op> {
    let ram = prop_oneof![4 => Just(Attributes::RAM), 1 => attributes()];
    let block = (region(), ram.clone(), any::<bool>());
    let full = (region(), ram, any::<bool>(), any::<bool>());
    prop_oneof![
        1 => block.prop_map(|(region, a, w)| Op::MapBlock(region, a, w)),
        3 => full.prop_map(|(region, attributes, written, adjacent)| {
            Op::Populate { region, attributes, written, adjacent, holes: Vec::new() }
        }),
    ]
    .boxed()
}

/// Operations on one region that make sense in this order, with short ones between them.
fn scenario() -> BoxedStrategy<Vec<Op>> {
    let ram = prop_oneof![4 => Just(Attributes::RAM), 1 => attributes()];
    let parts = (region(), ram, any::<[bool; 4]>(), collapse_by_copying());
    let between = || prop::collection::vec(short_op(), 0..6);
    (parts, between(), between())
        .prop_map(|((region, attributes, choices, collapse), first, second)| {
            let [block, written, adjacent, in_place] = choices;
            let begin = if block {
                vec![Op::MapBlock(region, attributes, written), Op::Split(region)]
            } else {
                let holes = Vec::new();
                vec![Op::Populate {
                    region,
                    attributes,
                    written,
                    adjacent,
                    holes,
                }]
            };
            let end = match collapse {
                _ if in_place => Op::CollapseInPlace(region),
                Op::CollapseByCopying {
                    max_empty,
                    max_hot,
                    rounds,
                    meanwhile,
                    ..
                } => Op::CollapseByCopying {
                    region,
                    max_empty,
                    max_hot,
                    rounds,
                    meanwhile: meanwhile
                        .into_iter()
                        .map(|(at, op)| (at, toward(region, op)))
                        .collect(),
                },
                other => other,
            };
            let toward = |op| toward(region, op);
            let first = first.into_iter().map(toward).collect();
            let second = second.into_iter().map(toward).collect();
            [begin, first, vec![end], second].concat()
        })
        .boxed()
}

/// A sequence of about so many operations.
pub(crate) fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let group = prop_oneof![4 => op().prop_map(|op| vec![op]), 1 => scenario()];
    let first = prop::collection::vec(beginning(), 0..3);
    let rest = prop::collection::vec(group, 1..most);
    (first, rest).prop_map(|(first, rest)| [first, rest.concat()].concat())
}
