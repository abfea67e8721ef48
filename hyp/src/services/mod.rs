//! The hypervisor's own threads, beside those of vCPUs.

pub(crate) mod compaction;
pub(crate) mod monitor;
pub(crate) mod senders;
