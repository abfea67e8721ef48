//! What the hypervisor offers beyond PSCI; a machine without it says that it knows no such call.

use core::ops::Range;

use crate::psci;

/// Gives a range of memory back: a vendor's hypervisor service, fast, 64-bit (Arm DEN 0028).
const RELEASE_MEMORY: u32 = 0xc600_0001;
/// Has an asynchronous error found that this vCPU has caused: the same kind of call, for tests.
const SYSTEM_ERROR: u32 = 0xc600_0002;

/// Gives the pages of `range`, IPAs in whole pages and at most 2 MiB, back to the hypervisor; says
/// whether it took them. They read as zeros from then on.
///
/// # Safety
///
/// Nobody relies on what the pages hold, and nobody accesses them during the call.
pub unsafe fn release_memory(range: Range<u64>) -> bool {
    psci::call64(RELEASE_MEMORY, range.start, range.end - range.start)[0] == 0
}

/// Has the hypervisor find an asynchronous error with this syndrome (the low bits of an ESR), as if
/// this vCPU had caused it; says whether it does such a thing.
pub fn report_error(syndrome: u64) -> bool {
    psci::call64(SYSTEM_ERROR, syndrome, 0)[0] == 0
}
