//! Stage-2 faults, and what is to be done after one.

use stage2::{Access, Ipa, Level};

/// What kind of stage-2 fault was taken (ESR_EL2.xFSC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing is mapped at this level: where the walk stopped.
    Translation(Level),
    /// The access flag is clear, or a right is missing, in an entry of this level.
    Mapped(Level),
}

/// A stage-2 fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The address that faulted.
    pub ipa: Ipa,
    /// What the guest was doing.
    pub access: Access,
    /// What was in the way.
    pub kind: FaultKind,
}

/// What is to be done after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Let the guest try again.
    Resume,
    /// Another thread works on the region: let other threads run, then let the guest try again.
    Busy,
    /// No memory is there: a device, or nothing.
    Outside,
    /// No frame is left. Nothing was changed.
    OutOfMemory,
    /// The hypervisor has made a mistake, which it has logged: the machine cannot go on.
    Mistake,
}
