//! What the table manager's operations take on this machine, against what a user would pick
//! instead.
//!
//! `cargo bench -p stage2` prints:
//! - Nanoseconds a page (or a block), one operation a call and a whole 2 MiB a call: the best of
//!   many rounds, each with fresh tables, all subjects in turn within each round, so that they meet
//!   the same noise. (That is why no harness runs them, which would finish one before it begins the
//!   next.) Below each table stands what this crate takes beside the best of the others, and how
//!   much that should be at most; a `!` marks what is more. With several threads it is the time
//!   that passes for a page of any: half is twice as fast. *Apart*: each thread has regions of 2
//!   MiB to itself. *Together*: all work in each region, on every other page.
//! - Its instructions, and the cache lines that it writes and another thread's uses, counted
//!   (`lines`, `step`): no other work on the machine disturbs that. `cargo bench -p stage2 --
//!   count` does only that.
//! - What follows from both for many CPUs: a model, and said to be one (`scaling`).

mod arena;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod count;
mod gate;
mod lean;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod lines;
mod ours;
mod peers;
mod plain;
mod rounds;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod scaling;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod step;
mod subject;

use subject::{Operation, Subject};

/// `f::<S>(arguments)` for every subject, in the order in which they are shown.
macro_rules! of_all_subjects {
    ($f:ident($($argument:expr),*)) => {{
        use crate::{ours::Ours, peers::{Multiarch, Paging}, plain::{Exclusive, Plain, SideBySide}};
        [
            $f::<Ours>($($argument),*),
            $f::<Plain<Exclusive>>($($argument),*),
            $f::<Plain<SideBySide>>($($argument),*),
            $f::<Paging>($($argument),*),
            $f::<Multiarch>($($argument),*),
        ]
    }};
}
use of_all_subjects;

const SUBJECTS: usize = 5;
const NAMES: [&str; SUBJECTS] = {
    const fn name<S: Subject>() -> &'static str {
        S::NAME
    }
    of_all_subjects!(name())
};

fn main() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if std::env::args().any(|argument| argument == "count") {
        count::all();
        return;
    }
    let best = rounds::all();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        let shared = count::all();
        scaling::print(&best, &shared);
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        let _ = best;
        println!("\nShared cache lines are counted on Linux on x86-64 only.");
    }
}

/// The head of a table with a column for each operation.
fn head(title: &str) {
    print!("\n{title:<38}");
    for operation in Operation::ALL {
        print!("{:>9}", operation.title());
    }
    println!();
}
