//! Tests of guests' memory, on the machine of [`testing`](crate::testing).

mod bank;
mod dirty_log;
mod filling;
mod interrupted;
mod peeking;
mod tables;
mod traced;
