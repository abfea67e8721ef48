//! The shared cache lines of all subjects.

use crate::lines::{Where, shared};
use crate::step::Shared;
use crate::subject::Operation;
use crate::{NAMES, SUBJECTS, head, of_all_subjects};

/// Counts for all subjects, prints it, and returns what threads in regions of their own share.
pub(crate) fn all() -> [Vec<Option<Shared>>; SUBJECTS] {
    const PAGES: &[Operation] = Operation::ALL.split_at(5).0;
    let apart = of_all_subjects!(shared(&Operation::ALL, Where::NextRegion));
    print("Lines shared by two regions", &apart);
    let together = of_all_subjects!(shared(PAGES, Where::SameRegion));
    print("Lines shared within one", &together);
    println!(
        "  Cache lines that one call writes and another thread's uses / writes to the one written most."
    );
    apart
}

fn print(title: &str, shared: &[Vec<Option<Shared>>; SUBJECTS]) {
    head(title);
    for (name, shared) in NAMES.iter().zip(shared) {
        print!("  {name:<36}");
        for shared in shared {
            let count = shared.map_or("-".to_string(), |shared| {
                format!("{}/{}", shared.lines, shared.most_written)
            });
            print!("{count:>9}");
        }
        println!();
    }
}
