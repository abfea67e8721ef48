//! Rules of isolation that are broken on purpose (`breach=...`), so that tests can see the checker
//! of recordings report each. No guest gets anything of it: what is mapped is unmapped before the
//! machine's first vCPU starts.

use bootargs::Breach;
use log::warn;
use spin::Once;
use stage2::{Attributes, DirtyState, GuestFrame, Ipa, IpaRange, Level, PAGE_SIZE, Pa};

use super::Memory;
use crate::board;
use crate::el2::layout;
use crate::tlb;

static BREACH: Once<Breach> = Once::new();

/// What is to be broken from now on, if anything. To be called before there are guests.
pub(super) fn start(breach: Option<Breach>) {
    if let Some(breach) = breach {
        if breach == Breach::Vmid {
            tlb::break_rollover();
        }
        BREACH.call_once(|| breach);
        warn!("a rule of isolation is broken on purpose ({breach:?})");
    }
}

/// Maps a page that this memory must not have next to the last of its RAM, and unmaps it.
pub(super) fn show_a_page(memory: &Memory) {
    let last = Ipa::new(memory.ram().end().get() - PAGE_SIZE);
    let pa = match BREACH.get() {
        Some(Breach::Twice) => frame_of(memory, last),
        Some(Breach::Image) => Some(Pa::new(layout::text().start as u64)),
        Some(Breach::Device) => {
            let first = board::board().gic.redistributors.first();
            first.map(|region| Pa::new(region.base))
        }
        Some(Breach::Vmid) | None => None,
    };
    let Some(pa) = pa else {
        return;
    };
    let place = Ipa::new(last.get() - PAGE_SIZE);
    // SAFETY: page-aligned, as frames, the image and devices are. Guests are promised nothing: no
    // vCPU of this memory has started, no other thread knows of it, and the page is unmapped and
    // flushed below.
    let frame = unsafe { GuestFrame::new(pa, Level::L3) };
    let mapped = memory
        .stage2()
        .map_page(place, frame, Attributes::RAM, DirtyState::Clean);
    if let Err(refused) = mapped {
        warn!("the page for the breach was refused: {:?}", refused.reason);
        refused.frame.into_pa();
        return;
    }
    let unmapped = memory
        .stage2()
        .unmap(IpaRange::entry(place, Level::L3), |page| {
            // It has its own owner.
            page.frame.into_pa();
        });
    assert!(
        unmapped.is_ok(),
        "a page is no part of a block, whose table would need a frame"
    );
}

/// The frame of the page at `ipa`, which gets one if it has none.
fn frame_of(memory: &Memory, ipa: Ipa) -> Option<Pa> {
    memory.write(ipa, &[0]).ok()?;
    let entry = memory.stage2().query(ipa)?;
    Some(entry.descriptor.output())
}
