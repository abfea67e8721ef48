//! The names of the rules that are checked. What each says is in the table of `check`.

/// A rule that was broken, and how.
pub(super) type Broken = (&'static str, String);

pub(super) const BREAK: &str = "break before make";
pub(super) const LOCK: &str = "write under the lock";
pub(super) const PUBLISH: &str = "complete when published";
pub(super) const DETACHED: &str = "detached stays as it is";
pub(super) const FREE: &str = "freed after the flush";
pub(super) const GRACE: &str = "freed after a grace period";
pub(super) const SECTION: &str = "found in a read section";
pub(super) const REUSE: &str = "reused after the flush";
pub(super) const ONCE: &str = "a frame has one place";
pub(super) const GUESTS: &str = "guests' own frames";
pub(super) const VMID: &str = "right VMID";
pub(super) const WALKS: &str = "seen by walks";
pub(super) const SHAPE: &str = "one shape of tables";
pub(super) const STAGES: &str = "stage 1 after stage 2";
pub(super) const VCPU: &str = "each vCPU its stage 1";
pub(super) const ORDER: &str = "lock order";
pub(super) const TIME: &str = "flushed in time";
pub(super) const TRUE: &str = "true to the record";
