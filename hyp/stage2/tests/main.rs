//! The tests of the table manager that go through what it offers its users, by their method.
//! `README.md` beside this file says where a new one goes.

#[cfg(loom)]
mod loom;
#[cfg(not(any(loom, shuttle)))]
mod property;
#[cfg(not(any(loom, shuttle)))]
mod scenario;
mod support;
#[cfg(not(loom))]
mod threads;
