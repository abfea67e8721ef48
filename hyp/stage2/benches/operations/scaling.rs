//! What the measured times and the counted lines say about many CPUs: a model, not a measurement.
//!
//! CPUs map pages one by one, each in regions of its own. A call takes `t` on one CPU; it writes
//! `s` lines that the others' calls write too, the one written most `w` times; a line takes `c` to
//! come from another CPU. Then n CPUs together make
//!
//! ```text
//! calls(n) = min(n / (t + s c), 1 / k)    where k = t + c  if a call keeps all others out,
//!                                               k = w c    if it does not, and s > 0
//! calls(n) = n / t                        if s = 0
//! ```
//!
//! `t` and `c` are measured here, `s` and `w` counted. The model takes for granted that
//! - a shared line goes to another CPU after each call, as with a fair lock. An unfair one lets a
//!   CPU keep it for several calls while the others starve: so two threads measured can make more
//!   than the model says. Whatever the order, calls that keep each other out are no more than 1 /
//!   t;
//! - `c` is the same between any two CPUs as between two here. On larger machines it is larger, and
//!   grows when many CPUs want a line: that is in favour of those who share;
//! - nothing else is short: memory bandwidth, and frames for the pages, which are not part of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::gate::{Gate, cpus, stay};
use crate::rounds::{Best, Share};
use crate::step::Shared;
use crate::subject::{Operation, Subject};
use crate::{NAMES, SUBJECTS, of_all_subjects};

const CPUS: [usize; 5] = [1, 2, 8, 32, 128];
const HAND_OVERS: u64 = 20_000;
const ROUNDS: u64 = 60;

/// One subject, as the model sees it. Times in nanoseconds.
struct Call {
    time: f64,
    shared: Shared,
    exclusive: bool,
}

impl Call {
    /// Calls in a microsecond, by all CPUs together.
    fn rate(&self, cpus: usize, hand_over: f64) -> f64 {
        let alone = 1000.0 * cpus as f64 / self.time;
        if self.shared.lines == 0 || cpus == 1 {
            return alone;
        }
        let fetching = self.time + self.shared.lines as f64 * hand_over;
        let one_by_one = if self.exclusive {
            self.time + hand_over
        } else {
            self.shared.most_written as f64 * hand_over
        };
        (1000.0 * cpus as f64 / fetching).min(1000.0 / one_by_one)
    }
}

/// Prints what the model says of mapping page by page, beside what was measured.
pub(crate) fn print(best: &[Best], shared: &[Vec<Option<Shared>>; SUBJECTS]) {
    if cpus() < 2 {
        println!("\nWith one CPU nothing can be said of more.");
        return;
    }
    let map = Operation::ALL
        .iter()
        .position(|each| *each == Operation::Map);
    let map = map.expect("one of all");
    let measured = |threads, subject: usize| {
        let of = |best: &&Best| best.threads == threads && best.share == Share::Apart;
        best.iter().find(of).map(|best| best.times[subject][map])
    };
    let hand_over = hand_over();
    println!(
        "\nA model, not a measurement: pages mapped one by one in regions apart, calls a microsecond.\n  \
         min(n / (t + s c), 1 / k); k = t + c if a call keeps others out, else w c; n / t if s = 0;\n  \
         t, s, w as above; a line comes from another CPU in c = {hand_over:.1} ns (measured)."
    );
    print!("  {:<36}{:>10}", "CPUs", "2 measured");
    CPUS.iter().for_each(|cpus| print!("{cpus:>9}"));
    println!();
    let exclusive = of_all_subjects!(is_exclusive());
    for (subject, name) in NAMES.iter().enumerate() {
        let (Some(time), Some(shared)) = (measured(1, subject), shared[subject][map]) else {
            continue;
        };
        let call = Call {
            time,
            shared,
            exclusive: exclusive[subject],
        };
        let two = measured(2, subject).map_or(f64::NAN, |time| 1000.0 / time);
        print!("  {name:<36}{two:>10.0}");
        CPUS.iter()
            .for_each(|cpus| print!("{:>9.0}", call.rate(*cpus, hand_over)));
        println!();
    }
}

const fn is_exclusive<S: Subject>() -> bool {
    S::EXCLUSIVE
}

/// How long a line takes from one CPU to another, in nanoseconds: the best of many short rounds, in
/// which two threads take turns in writing one.
fn hand_over() -> f64 {
    #[repr(align(128))]
    struct Line(AtomicU64);
    let (line, gate) = (Line(AtomicU64::new(0)), Gate::new(2));
    let round = |thread: u64, round: u64| {
        gate.pass();
        let begin = Instant::now();
        for turn in (thread..HAND_OVERS).step_by(2) {
            let turn = round * HAND_OVERS + turn;
            while line.0.load(Ordering::Acquire) != turn {
                std::hint::spin_loop();
            }
            line.0.store(turn + 1, Ordering::Release);
        }
        begin.elapsed().as_nanos() as f64 / HAND_OVERS as f64
    };
    let best = |thread: u64| {
        stay(thread as usize);
        let rounds = (0..ROUNDS).map(|number| round(thread, number));
        rounds.fold(f64::INFINITY, f64::min)
    };
    std::thread::scope(|scope| {
        let best = &best;
        let threads = [0, 1].map(|thread| scope.spawn(move || best(thread)));
        let times = threads.map(|thread| thread.join().expect("a thread that counts"));
        times[0].max(times[1])
    })
}
