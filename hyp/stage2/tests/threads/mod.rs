//! Threads on one machine: real ones, and those whose steps shuttle orders at random.

#[cfg(not(shuttle))]
mod few;
#[cfg(not(shuttle))]
mod in_step;
#[cfg(not(shuttle))]
mod migration;
#[cfg(shuttle)]
mod random_schedules;
