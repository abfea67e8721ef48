//! Stacks, each with an unmapped page below it.
//!
//! The linker script sets an area aside. It is divided into slots of [`STACK_SLOT`] bytes, aligned
//! to their size: the lowest page of a slot is the guard, which EL2's tables leave unmapped, and
//! the rest is the stack. The first slots belong to the CPUs (the stack each starts on, then the
//! one for its emergencies); the others are handed out to threads as [`Stack`] values.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use platform::board::MAX_CPUS;

use super::layout;

/// Bytes of a stack and its guard page together. The linker script has the same number.
pub(crate) const STACK_SLOT: usize = 32 * 1024;
/// Bytes of the unmapped page at the bottom of a slot.
pub(crate) const GUARD: usize = 4096;
/// Slots that belong to the CPUs.
const CPU_SLOTS: usize = 2 * MAX_CPUS;
/// At most so many slots are handed out to threads, whatever the area's size.
const MAX_THREAD_SLOTS: usize = 128;

/// One bit a thread slot: set while it is in use.
static IN_USE: [AtomicU64; MAX_THREAD_SLOTS / 64] =
    [const { AtomicU64::new(0) }; MAX_THREAD_SLOTS / 64];

/// There is no stack left for another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfStacks;

impl fmt::Display for OutOfStacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no stack is left: this build has {} for threads; run fewer VMs or vCPUs",
            thread_slots()
        )
    }
}

/// A thread's stack, given back when dropped.
#[derive(Debug)]
pub(crate) struct Stack {
    slot: usize,
}

impl Stack {
    /// Takes a stack that nobody uses. Its contents are what the last user left.
    ///
    /// # Errors
    ///
    /// [`OutOfStacks`] if all are in use.
    pub(crate) fn new() -> Result<Self, OutOfStacks> {
        for index in 0..thread_slots() {
            let bit = 1 << (index % 64);
            if IN_USE[index / 64].fetch_or(bit, Ordering::Acquire) & bit == 0 {
                return Ok(Self {
                    slot: CPU_SLOTS + index,
                });
            }
        }
        Err(OutOfStacks)
    }

    /// The address just above the stack: the first value of SP, 16-byte aligned.
    pub(crate) fn top(&self) -> usize {
        top_of(self.slot)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let index = self.slot - CPU_SLOTS;
        IN_USE[index / 64].fetch_and(!(1 << (index % 64)), Ordering::Release);
    }
}

/// The top of the stack that CPU `cpu` starts on.
pub(crate) fn boot_stack_top(cpu: usize) -> usize {
    top_of(cpu)
}

/// The top of the stack on which CPU `cpu` reports its own exceptions.
pub(crate) fn emergency_stack_top(cpu: usize) -> usize {
    top_of(MAX_CPUS + cpu)
}

/// The guard pages, which the tables leave unmapped.
pub(crate) fn guards() -> impl Iterator<Item = Range<usize>> {
    layout::stacks()
        .step_by(STACK_SLOT)
        .map(|slot| slot..slot + GUARD)
}

/// The stack that `address` lies in, without its guard page; `None` outside the area.
pub(crate) fn bounds(address: usize) -> Option<Range<usize>> {
    let slot = slot_of(address)?;
    let top = top_of(slot);
    let stack = top - STACK_SLOT + GUARD..top;
    stack.contains(&address).then_some(stack)
}

/// Whose stack has overflowed if `address` was touched; `None` if that is no guard page.
pub(crate) fn overflowed(address: usize) -> Option<Owner> {
    let guard = top_of(slot_of(address)?) - STACK_SLOT;
    if address < guard + GUARD {
        owner(address)
    } else {
        None
    }
}

/// Whose slot `address` lies in; `None` outside the area.
pub(crate) fn owner(address: usize) -> Option<Owner> {
    Some(match slot_of(address)? {
        slot @ 0..MAX_CPUS => Owner::Cpu(slot),
        slot @ MAX_CPUS..CPU_SLOTS => Owner::Emergency(slot - MAX_CPUS),
        slot => Owner::Thread(slot - CPU_SLOTS),
    })
}

/// Whose a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The stack a CPU starts on: its idle thread's.
    Cpu(usize),
    /// The stack on which a CPU reports its own exceptions.
    Emergency(usize),
    /// A thread's, by the number of its slot.
    Thread(usize),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(cpu) => write!(f, "cpu{cpu}'s boot stack"),
            Self::Emergency(cpu) => write!(f, "cpu{cpu}'s emergency stack"),
            Self::Thread(slot) => write!(f, "thread stack {slot}"),
        }
    }
}

fn thread_slots() -> usize {
    (layout::stacks().len() / STACK_SLOT)
        .saturating_sub(CPU_SLOTS)
        .min(MAX_THREAD_SLOTS)
}

fn top_of(slot: usize) -> usize {
    layout::stacks().start + (slot + 1) * STACK_SLOT
}

fn slot_of(address: usize) -> Option<usize> {
    let area = layout::stacks();
    area.contains(&address)
        .then(|| (address - area.start) / STACK_SLOT)
}
