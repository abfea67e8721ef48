//! What scheduling threads is made of. The image switches them; here is what can be tested on any
//! machine.
//!
//! - [`queue`]: a CPU's run queue;
//! - [`park`]: how one thread waits and others wake it;
//! - [`slice`](mod@slice): time slices;
//! - [`wait`]: what a virtual CPU looks at before it waits for an interrupt.

#![cfg_attr(not(test), no_std)]

pub mod park;
pub mod queue;
pub mod slice;
pub mod wait;
