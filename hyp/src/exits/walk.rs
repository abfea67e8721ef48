//! What a guest is told of a walk of its own tables that cannot be served.

use aarch64_cpu::registers::{Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1};
use hyp::exits::stage1::{Last, Stage1};
use hyp::exits::syndrome::{EXTERNAL_ABORT, external_abort_on_walk};
use hyp::memory::peek::Unreadable;
use stage2::Ipa;

use super::abort::OFFSET;
use crate::vm::Vm;

/// The status code of an external abort on the walk for `address`, which stage 2 stopped at `page`; none if the
/// guest has to walk once more, since its tables could not all be read.
pub(super) fn status(vm: &Vm, address: u64, page: u64) -> Option<u64> {
    let stage1 = Stage1 {
        tcr: TCR_EL1.get(),
        tables: [TTBR0_EL1.get(), TTBR1_EL1.get()],
        big_endian: SCTLR_EL1.is_set(SCTLR_EL1::EE),
    };
    let last = stage1.last_access(address, |ipa| vm.memory().peek(Ipa::new(ipa)));
    match last {
        Some(Last {
            unread: Some(Unreadable::Busy),
            ..
        }) => None,
        Some(Last { level, ipa, .. }) if ipa & !OFFSET == page => {
            Some(external_abort_on_walk(level))
        }
        // The hardware's walk was another: the guest has changed its tables since, or not told the TLB.
        _ => Some(EXTERNAL_ABORT),
    }
}
