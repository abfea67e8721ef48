//! Races in one order of events, which two threads keep by waiting for each other.

use stage2::fake::{Copier, FakeMachine, Setup};
use stage2::{
    Attributes, CopyPages, CopyPlan, DirtyState, ENTRIES, GuestPage, Ipa, Level, PAGE_SIZE, Stage2,
    Unmapped, Unreadable,
};
use std::sync::Barrier;

const REGION: Ipa = Ipa::new(0x4000_0000);
/// The page that is away; not the first, whose copy starts the other thread.
const AWAY: usize = 5;

/// The moments at which the two threads meet.
struct Moments {
    claimed: Barrier,
    away: Barrier,
    seen: Barrier,
    back: Barrier,
}

/// Copies, and lets the other thread take its page away and put it back in between.
struct InStep<'a> {
    copier: Copier<'a>,
    moments: &'a Moments,
    begun: bool,
}

impl CopyPages for InStep<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        if !self.begun {
            self.begun = true;
            self.moments.claimed.wait();
            self.moments.away.wait();
        }
        self.copier.copy(from, to)
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.copier.zero(to);
        self.moments.seen.wait();
        self.moments.back.wait();
    }

    fn release(&mut self, leaf: Unmapped) {
        self.copier.release(leaf);
    }
}

fn page(index: usize) -> Ipa {
    REGION.offset(index as u64 * PAGE_SIZE)
}

/// A page is taken away to be looked at when a collapse copies its region, and is put back before
/// the collapse surveys the region again.
///
/// Rule: a page that was away counts as not copied. Taken out by
/// `13-zeroed-taken-for-copied.patch`.
#[test]
fn race_13_a_page_is_away_while_the_others_are_copied() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    let data = machine.data();
    let frames = data.allocate(Level::L2).unwrap();
    let away = frames.page(AWAY).unwrap().pa();
    for (index, frame) in frames.into_parts().enumerate() {
        data.write(frame.pa(), 1 + index as u64);
        vm.map_page(page(index), frame, Attributes::RAM, DirtyState::Clean)
            .unwrap();
    }
    let moments = Moments {
        claimed: Barrier::new(2),
        away: Barrier::new(2),
        seen: Barrier::new(2),
        back: Barrier::new(2),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _cpu = machine.on_cpu(1);
            moments.claimed.wait();
            let stays = |_: GuestPage<'_>| {
                moments.away.wait();
                moments.seen.wait();
                false
            };
            let went = vm.unmap_page_if(page(AWAY), away, stays, &mut data.copier());
            assert_eq!(went, Ok(false));
            moments.back.wait();
        });
        let to = data.allocate(Level::L2).unwrap();
        let plan = CopyPlan {
            max_empty: 0,
            max_hot: ENTRIES,
            rounds: 0,
        };
        let mut contents = InStep {
            copier: data.copier(),
            moments: &moments,
            begun: false,
        };
        let collapsed = vm.collapse_by_copying(REGION, to, plan, &mut contents);
        assert_eq!(collapsed, Ok(()));
    });
    let guest = machine.enter(&vm);
    for index in 0..ENTRIES {
        assert_eq!(
            guest.read(page(index)),
            Ok(1 + index as u64),
            "page {index}"
        );
    }
}
