//! The parts of a scheduler of threads that a host can test.
//!
//! Owns the states and queues; the image switches the threads (`sched`).
//!
//! Read [`park`] first: it has the protocol of waiting and waking.
//!
//! - [`park`]: one thread's wait, and its wake-up by others;
//! - [`queue`]: a CPU's queues of ready and of sleeping threads;
//! - [`slice`](mod@slice): time slices;
//! - [`wait`]: a vCPU's wait for an interrupt.

#![cfg_attr(not(test), no_std)]

pub mod park;
pub mod queue;
pub mod slice;
pub mod wait;
