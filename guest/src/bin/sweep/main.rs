//! The guest that tries every system register there could be, and compares what it meets with the
//! contract ([`arch::contract`]).
//!
//! First it reads and writes all encodings with Op0 2 and 3 once (`survey`), so that each is known
//! to be undefined, or to answer. Then, in `rounds=` (100) rounds, it stores a pattern in each
//! register that takes one, reads all of them, lets others have its CPU for a while, and reads all
//! again (`rounds`). Other machines that run this guest with another `seed=` on the same CPUs store
//! other patterns meanwhile, and the vCPU gets from one CPU to another: whatever is not as it was
//! is seen by others, or lost.
//!
//! What must hold, else the verdict is `failed`:
//! - what the contract says is hidden, or does not name, is undefined;
//! - what it says is shown answers;
//! - what it says is constant is the same for ever, whatever is written;
//! - everything but what moves by itself is as this vCPU left it.
//!
//! Some registers are not written, or only some of their bits: `kept` has them, and why.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod alarm;
#[cfg(target_os = "none")]
mod code;
#[cfg(target_os = "none")]
mod kept;
#[cfg(target_os = "none")]
mod mismatches;
#[cfg(target_os = "none")]
mod pattern;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod rounds;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod survey;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("sweep is a guest: boot it with `cargo xtask qemu --guest sweep`");
}
