//! Mapping, walking and unmapping pages, against what a user would pick instead, on one thread and two.
//!
//! `cargo bench -p stage2` prints nanoseconds a page: the best of many rounds, each with fresh tables,
//! all subjects in turn, so that they meet the same noise. With two threads it is the time that passes
//! for a page of either: half is twice as fast. *Apart*: each thread has regions of 2 MiB to itself.
//! *Together*: both work in each region, on every other page.

mod lean;
mod subjects;

use std::sync::Barrier;
use std::time::Instant;

use lean::Lean;
use stage2::{ENTRIES, PAGE_SIZE};
use subjects::{OneReaderWriterLock, Operation, Ours, Paging, Subject};

/// Regions of 2 MiB, on all threads together.
const REGIONS: usize = 64;
const PAGES: usize = REGIONS * ENTRIES;
const ROUNDS: usize = 40;
/// The root, one table below it for each GiB, and one for each region, with room to spare: two
/// threads may both make a table, and the one that comes second gives its frame back, which is lost.
const TABLES: usize = 4 * REGIONS;
const OPERATIONS: [Operation; 3] = [Operation::Map, Operation::Walk, Operation::Unmap];
const NAMES: [&str; 3] = [
    "stage2",
    "stage2, one reader-writer lock",
    "aarch64-paging, one lock",
];

/// How two threads share the pages.
#[derive(Clone, Copy)]
enum Share {
    Apart,
    Together,
}

/// Nanoseconds a page, by operation.
type Times = [f64; OPERATIONS.len()];

fn main() {
    for (title, threads, share) in [
        ("one thread", 1, Share::Apart),
        ("two threads, apart", 2, Share::Apart),
        ("two threads, together", 2, Share::Together),
    ] {
        let mut best = [[f64::INFINITY; OPERATIONS.len()]; NAMES.len()];
        for _ in 0..ROUNDS {
            for (best, now) in best.iter_mut().zip(round(threads, share)) {
                for (best, now) in best.iter_mut().zip(now) {
                    *best = best.min(now);
                }
            }
        }
        print(title, &best);
    }
}

/// One round of every subject.
fn round(threads: usize, share: Share) -> [Times; NAMES.len()] {
    let machine = || Lean::new(threads, TABLES);
    let (first, second) = (machine(), machine());
    [
        time(&Ours::new(&first), threads, share),
        time(&OneReaderWriterLock::new(&second), threads, share),
        time(&Paging::new(), threads, share),
    ]
}

fn time(subject: &dyn Subject, threads: usize, share: Share) -> Times {
    OPERATIONS.map(|operation| {
        let barrier = Barrier::new(threads + 1);
        let mut begin = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let barrier = &barrier;
                scope.spawn(move || {
                    lean::be_cpu(thread);
                    barrier.wait();
                    for index in 0..PAGES / threads {
                        let page = match share {
                            Share::Apart => thread * (PAGES / threads) + index,
                            Share::Together => index * threads + thread,
                        };
                        subject.page(operation, page as u64 * PAGE_SIZE);
                    }
                });
            }
            begin = Instant::now();
            barrier.wait();
        });
        begin.elapsed().as_nanos() as f64 / PAGES as f64
    })
}

fn print(title: &str, best: &[Times; NAMES.len()]) {
    println!(
        "\n{title:<34}{:>9}{:>9}{:>9}   ns a page",
        "map", "walk", "unmap"
    );
    for (name, times) in NAMES.iter().zip(best) {
        print!("  {name:<32}");
        for time in times {
            print!("{time:>9.1}");
        }
        let ratios = times.iter().zip(best[0]).map(|(time, ours)| time / ours);
        let ratios: Vec<_> = ratios.map(|ratio| format!("{ratio:.1}")).collect();
        println!("   {} times ours", ratios.join(", "));
    }
}
