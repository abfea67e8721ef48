//! Counting the cache lines that threads share where they would not have to.
//!
//! Two threads do the same operation, one after the other. A line that the first one's writes, and the
//! second one's uses, would have to travel between their CPUs for every operation if they did it at
//! once. It is the least there can be: whoever has to wait writes more.

use std::sync::Mutex;

use crate::arena::be_cpu;
use crate::gate::Gate;
use crate::step::{Lines, Shared, lines_of};
use crate::subject::{BASE, Operation, Subject};

use stage2::{ENTRIES, Level, PAGE_SIZE};

/// Where the second thread works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the next 2 MiB.
    NextRegion,
    /// In the same 2 MiB, on pages whose entries are far from the first one's.
    SameRegion,
}

/// For each of `operations` that the subject can do, what two threads share. They must be in an
/// order in which each finds what it needs.
pub(crate) fn shared<S: Subject>(operations: &[Operation], second: Where) -> Vec<Option<Shared>> {
    let subject = S::new(2);
    let gate = Gate::new(2);
    // One at a time, so that each does what it would do alone.
    let turn = Mutex::new(());
    let work = |thread: u64| {
        be_cpu(thread as usize);
        let size = match second {
            Where::NextRegion => Level::L2.size(),
            Where::SameRegion => PAGE_SIZE * ENTRIES as u64 / 2,
        };
        let begin = BASE + thread * size;
        let measure = |operation: &Operation| {
            gate.pass();
            S::can(*operation).then(|| {
                let _turn = turn.lock().expect("no subject fails");
                lines(&subject, *operation, begin)
            })
        };
        operations.iter().map(measure).collect::<Vec<_>>()
    };
    let [first, second] = std::thread::scope(|scope| {
        let work = &work;
        // Both before either is waited for: a thread that has ended may leave its stack to the other.
        let threads = [0, 1].map(|thread| scope.spawn(move || work(thread)));
        threads.map(|thread| thread.join().expect("no subject fails"))
    });
    let both = first.iter().zip(&second);
    both.map(|(first, second)| Some(first.as_ref()?.shared_with(second.as_ref()?)))
        .collect()
}

/// The lines that one operation uses.
fn lines<S: Subject>(subject: &S, operation: Operation, begin: u64) -> Lines {
    use Operation::*;
    let page = begin + PAGE_SIZE;
    match operation {
        MapFirst => lines_of(|| subject.run(MapFirst, begin)),
        Unmap => {
            subject.run(Map, page);
            lines_of(|| subject.run(Unmap, page))
        }
        Map => lines_of(|| subject.run(Map, page)),
        Lock => lines_of(|| subject.run(Lock, page)),
        Walk => lines_of(|| subject.run(Walk, page)),
        of_regions => {
            if of_regions == MapRange {
                subject.run(Unmap, begin);
                subject.run(Unmap, page);
            }
            subject.prepare(of_regions, begin);
            lines_of(|| subject.run(of_regions, begin))
        }
    }
}
