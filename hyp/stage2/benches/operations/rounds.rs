//! Taking the time: rounds of all subjects in turn, of which the best of each counts.

use std::time::Instant;

use stage2::{ENTRIES, Level, PAGE_SIZE};

use crate::arena::be_cpu;
use crate::gate::{Gate, cpus, stay};
use crate::subject::{BASE, Operation, REGIONS, Subject};
use crate::{NAMES, SUBJECTS, head, of_all_subjects};

const PAGES: usize = REGIONS * ENTRIES;
const ROUNDS: usize = 60;
/// How threads share the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    Apart,
    Together,
}

/// Nanoseconds by operation; infinite for what cannot be done.
pub(crate) type Times = [f64; Operation::ALL.len()];

/// The best times of all subjects.
pub(crate) struct Best {
    pub(crate) threads: usize,
    pub(crate) share: Share,
    pub(crate) times: [Times; SUBJECTS],
}

/// Measures all subjects and prints it: on one thread, and on as many as there are CPUs, by
/// doubling.
pub(crate) fn all() -> Vec<Best> {
    let mut settings = vec![(1, Share::Apart)];
    let mut threads = 2;
    while threads <= cpus().clamp(2, REGIONS) {
        settings.extend([(threads, Share::Apart), (threads, Share::Together)]);
        threads *= 2;
    }
    let best_of = |(threads, share)| {
        let mut times = [[f64::INFINITY; Operation::ALL.len()]; SUBJECTS];
        for _ in 0..ROUNDS {
            let now = of_all_subjects!(round(threads, share));
            for (best, now) in times.iter_mut().flatten().zip(now.iter().flatten()) {
                *best = best.min(*now);
            }
        }
        let best = Best {
            threads,
            share,
            times,
        };
        print(&best);
        best
    };
    settings.into_iter().map(best_of).collect()
}

/// All operations of one subject.
fn round<S: Subject>(threads: usize, share: Share) -> Times {
    let subject = S::new(threads);
    let gate = Gate::new(threads);
    let work = |thread| {
        be_cpu(thread);
        stay(thread);
        let part = Part {
            thread,
            threads,
            share,
        };
        Operation::ALL.map(|operation| part.time(&subject, operation, &gate))
    };
    let spans: Vec<[Span; Operation::ALL.len()]> = std::thread::scope(|scope| {
        let work = &work;
        let start = |thread| scope.spawn(move || work(thread));
        let all: Vec<_> = (0..threads).map(start).collect();
        let done = all.into_iter().map(|thread| thread.join());
        done.collect::<Result<_, _>>().expect("no subject fails")
    });
    std::array::from_fn(|index| {
        let operation = Operation::ALL[index];
        if !S::can(operation) {
            return f64::INFINITY;
        }
        let of_all = spans.iter().map(|spans| spans[index]);
        let begin = of_all
            .clone()
            .map(|span| span.begin)
            .min()
            .expect("a thread");
        let end = of_all.map(|span| span.end).max().expect("a thread");
        let units = if operation.counts_pages() {
            PAGES
        } else {
            REGIONS
        };
        end.duration_since(begin).as_nanos() as f64 / units as f64
    })
}

/// One thread's part of the work.
#[derive(Clone, Copy)]
struct Part {
    thread: usize,
    threads: usize,
    share: Share,
}

impl Part {
    /// Calls `each` for every region of the part.
    #[inline(always)]
    fn regions(self, each: impl FnMut(u64)) {
        self.addresses(REGIONS, Level::L2.size(), each);
    }

    /// Calls `each` for every page of the part.
    #[inline(always)]
    fn pages(self, each: impl FnMut(u64)) {
        self.addresses(PAGES, PAGE_SIZE, each);
    }

    #[inline(always)]
    fn addresses(self, all: usize, size: u64, mut each: impl FnMut(u64)) {
        let mine = all / self.threads;
        let (first, step) = match self.share {
            Share::Apart => (self.thread * mine, 1),
            Share::Together => (self.thread, self.threads),
        };
        let mut at = BASE + first as u64 * size;
        for _ in 0..mine {
            each(at);
            at += step as u64 * size;
        }
    }

    /// Does all of it. A loop for each operation, so that none has to choose on the way.
    fn run<S: Subject>(self, subject: &S, operation: Operation) {
        use Operation::*;
        match operation {
            MapFirst => self.pages(|ipa| subject.run(MapFirst, ipa)),
            Map => self.pages(|ipa| subject.run(Map, ipa)),
            Lock => self.pages(|ipa| subject.run(Lock, ipa)),
            Walk => self.pages(|ipa| subject.run(Walk, ipa)),
            Unmap => self.pages(|ipa| subject.run(Unmap, ipa)),
            MapRange => self.regions(|ipa| subject.run(MapRange, ipa)),
            WalkRange => self.regions(|ipa| subject.run(WalkRange, ipa)),
            UnmapRange => self.regions(|ipa| subject.run(UnmapRange, ipa)),
            Collapse => self.regions(|ipa| subject.run(Collapse, ipa)),
            Split => self.regions(|ipa| subject.run(Split, ipa)),
        }
    }

    /// When it began and when it ended.
    fn time<S: Subject>(self, subject: &S, operation: Operation, gate: &Gate) -> Span {
        let can = S::can(operation);
        if operation == Operation::MapRange {
            // What the operations before it have needed.
            self.run(subject, Operation::Unmap);
        }
        if can {
            self.regions(|region| subject.prepare(operation, region));
        }
        gate.pass();
        let begin = Instant::now();
        if can {
            self.run(subject, operation);
        }
        let end = Instant::now();
        gate.pass();
        Span { begin, end }
    }
}

/// A thread's time.
#[derive(Clone, Copy)]
struct Span {
    begin: Instant,
    end: Instant,
}

fn print(best: &Best) {
    let how = match (best.threads, best.share) {
        (1, _) => "One thread".to_string(),
        (n, Share::Apart) => format!("{n} threads, apart"),
        (n, Share::Together) => format!("{n} threads, together"),
    };
    head(&how);
    // Over the columns of `Operation::ALL`: seven a page, two a block, and one a page.
    println!(
        "{:<38}{:>63}{:>18}{:>9}",
        "", "ns a page", "ns a block", "a page"
    );
    for (name, times) in NAMES.iter().zip(&best.times) {
        print!("  {name:<36}");
        times.iter().for_each(|time| print!("{:>9}", number(*time)));
        print!("\n  {:<36}", "  times ours");
        let ratios = times.iter().zip(best.times[0]);
        ratios.for_each(|(time, ours)| print!("{:>9}", number(time / ours)));
        println!();
    }
    print_targets(best);
}

/// Shows what we take beside the best of the others, and where that is more than it should be.
fn print_targets(best: &Best) {
    let most = if best.threads == 1 { 1.2 } else { 1.0 };
    let [ours, others @ ..] = &best.times;
    let best_other = |index: usize| {
        others
            .iter()
            .map(|times| times[index])
            .fold(f64::INFINITY, f64::min)
    };
    print!("  {:<36}", "ours, times the best other's");
    for (index, time) in ours.iter().enumerate() {
        let ratio = time / best_other(index);
        let mark = if ratio > most { '!' } else { ' ' };
        print!("{:>8}{mark}", number(ratio));
    }
    println!(
        "\n  {:<36}{:>8}",
        "  should be at most (else !)",
        number(most)
    );
}

/// Two digits behind the point; a dash for what cannot be done.
fn number(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.2}")
    } else {
        "-".to_string()
    }
}
