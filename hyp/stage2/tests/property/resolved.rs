//! What a fault is answered with is true: an access that is "resolved" goes through, at once.
//!
//! Every access, to every kind of entry, on a CPU whose TLB has the entry as it is or as it was.

use crate::support::{dirty_granule, dirty_state};
use proptest::prelude::*;
use stage2::fake::{FakeMachine, Fault, Guest, Setup};
use stage2::{
    Access, Attributes, Config, Execute, Format, Ipa, IpaRange, Level, Privilege, Resolution,
    Rights, Stage2,
};

const REGION: Ipa = Ipa::new(0x4000_0000);

/// How an entry came to be as it is.
#[derive(Clone, Copy, Debug)]
struct Past {
    block: bool,
    rights: Rights,
    hardware_dirty: bool,
    /// Mapped as if it had been written.
    written: bool,
    /// The CPU has seen it before what follows.
    cached: bool,
    stores_trap: bool,
    aged: bool,
    /// Another CPU has faulted on it and got what it wanted.
    granted: bool,
}

fn execute() -> impl Strategy<Value = Execute> {
    prop_oneof![
        Just(Execute::Both),
        Just(Execute::User),
        Just(Execute::Never),
        Just(Execute::Kernel),
    ]
}

fn past() -> impl Strategy<Value = Past> {
    let rights = (any::<[bool; 2]>(), execute()).prop_map(|([read, write], execute)| Rights {
        read,
        write,
        execute,
    });
    (rights, any::<[bool; 7]>()).prop_map(
        |(
            rights,
            [
                block,
                hardware_dirty,
                written,
                cached,
                stores_trap,
                aged,
                granted,
            ],
        )| Past {
            block,
            rights,
            hardware_dirty,
            written,
            cached,
            stores_trap,
            aged,
            granted,
        },
    )
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        Just(Access::Read),
        Just(Access::Write),
        Just(Access::Update),
        Just(Access::Execute(Privilege::User)),
        Just(Access::Execute(Privilege::Kernel)),
    ]
}

fn make(guest: &Guest<'_>, access: Access) -> Result<(), Fault> {
    match access {
        Access::Read => guest.read(REGION).map(drop),
        Access::Write => guest.write(REGION, 1),
        Access::Update => guest.update(REGION, 1),
        Access::Execute(level) => guest.fetch_at(REGION, level).map(drop),
    }
}

fn mapped(machine: &FakeMachine, past: Past) -> Stage2<&FakeMachine> {
    let config = Config {
        format: Format {
            execute_never_by_level: true,
            hardware_dirty: past.hardware_dirty,
            ..machine.config(1).format
        },
        ..machine.config(1)
    };
    let vm = Stage2::new(machine, config).unwrap();
    let attributes = Attributes {
        rights: past.rights,
        ..Attributes::RAM
    };
    if past.block {
        let block = machine.data().allocate(Level::L2).unwrap();
        vm.map_block(REGION, block, attributes, dirty_state(past.written))
            .unwrap();
    } else {
        let page = machine.data().allocate(Level::L3).unwrap();
        vm.map_page(REGION, page, attributes, dirty_state(past.written))
            .unwrap();
    }
    vm
}

/// Answers faults until the access goes through, or is refused. An access may need a block to be
/// split, and its page to be opened, and no more.
fn until_it_ends(guest: &Guest<'_>, vm: &Stage2<&FakeMachine>, access: Access, split: bool) {
    let mut resolved = false;
    for _ in 0..3 {
        let Err(fault) = make(guest, access) else {
            return;
        };
        assert!(!resolved, "{access:?} was resolved, and ends in {fault:?}");
        match vm.resolve_fault(REGION, access, dirty_granule(split)) {
            Resolution::Resolved => resolved = true,
            Resolution::Denied => return,
            Resolution::MustSplit(level) => vm.split_for_store(REGION, level).unwrap(),
            other => panic!("{other:?} for what is mapped, and nobody else is at work"),
        }
    }
    panic!("{access:?} faults again and again");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 24 } else { 4096 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Rule: an access is resolved only if the hardware lets it through now, each by what it needs.
    /// Taken out by `60-fetches-of-any-level.patch` and `60-walks-store-only.patch`.
    #[test]
    fn race_60_what_is_resolved_goes_through(past in past(), access in access(), split: bool) {
        let machine = FakeMachine::new(Setup {
            hardware_dirty: past.hardware_dirty,
            ..Setup::default()
        });
        let vm = mapped(&machine, past);
        let (here, there) = (machine.enter_on(0, &vm), machine.enter_on(1, &vm));
        if past.cached {
            let _ = make(&here, access);
        }
        let leaf = if past.block { Level::L2 } else { Level::L3 };
        if past.stores_trap {
            vm.trap_stores(IpaRange::entry(REGION, leaf));
        }
        if past.aged {
            vm.age(IpaRange::entry(REGION, leaf), |_, _| {});
        }
        if past.granted {
            // This CPU caches the entry as it is before.
            here.prefetch(REGION);
            let _on_the_other = machine.on_cpu(1);
            until_it_ends(&there, &vm, access, split);
        }
        until_it_ends(&here, &vm, access, split);
    }
}
