//! Tests of guests' memory, on the machine of [`testing`](crate::testing).

mod bank;
mod filling;
mod interrupted;
mod logging;
mod peeking;
mod tables;
mod told;
