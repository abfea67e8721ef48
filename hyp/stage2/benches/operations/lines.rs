//! Counting the cache lines that threads share where they would not have to, and the instructions
//! of a call.
//!
//! Two threads do the same operation, one after the other. A line that the first one's writes, and
//! the second one's uses, would have to travel between their CPUs for every operation if they did
//! it at once. It is the least there can be: a thread that has to wait writes more.

use std::sync::Mutex;

use crate::arena::be_cpu;
use crate::gate::Gate;
use crate::step::{Cost, Shared, Steps, steps_of};
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

/// What is counted of an operation.
#[derive(Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) shared: Shared,
    pub(crate) cost: Cost,
}

/// For each of `operations` that the subject can do, what two threads share, and what it takes the
/// first of them. They must be in an order in which each finds what it needs.
pub(crate) fn counted<S: Subject>(operations: &[Operation], second: Where) -> Vec<Option<Counted>> {
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
                steps(&subject, *operation, begin)
            })
        };
        operations.iter().map(measure).collect::<Vec<_>>()
    };
    let [first, second] = std::thread::scope(|scope| {
        let work = &work;
        // Both before either is waited for: a thread that has ended may leave its stack to the
        // other.
        let threads = [0, 1].map(|thread| scope.spawn(move || work(thread)));
        threads.map(|thread| thread.join().expect("no subject fails"))
    });
    let both = first.iter().zip(&second);
    let counted = |(first, second): (&Option<Steps>, &Option<Steps>)| {
        let (first, second) = (first.as_ref()?, second.as_ref()?);
        Some(Counted {
            shared: first.shared_with(second),
            cost: first.cost(),
        })
    };
    both.map(counted).collect()
}

/// What one operation takes.
fn steps<S: Subject>(subject: &S, operation: Operation, begin: u64) -> Steps {
    use Operation::*;
    let page = begin + PAGE_SIZE;
    match operation {
        MapFirst => steps_of(|| subject.run(MapFirst, begin)),
        Unmap => {
            subject.run(Map, page);
            steps_of(|| subject.run(Unmap, page))
        }
        Map => steps_of(|| subject.run(Map, page)),
        Lock => steps_of(|| subject.run(Lock, page)),
        Walk => steps_of(|| subject.run(Walk, page)),
        of_regions => {
            if of_regions == MapRange {
                subject.run(Unmap, begin);
                subject.run(Unmap, page);
            }
            subject.prepare(of_regions, begin);
            steps_of(|| subject.run(of_regions, begin))
        }
    }
}
