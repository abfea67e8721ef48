//! The instructions and the shared cache lines of all subjects.

use crate::lines::{Counted, Where, counted};
use crate::step::Shared;
use crate::subject::Operation;
use crate::{NAMES, SUBJECTS, head, of_all_subjects};

/// Counts for all subjects, prints it, and returns what threads in regions of their own share.
pub(crate) fn all() -> [Vec<Option<Shared>>; SUBJECTS] {
    const PAGES: &[Operation] = Operation::ALL.split_at(5).0;
    let apart = of_all_subjects!(counted(&Operation::ALL, Where::NextRegion));
    print("Instructions a call", &apart, |Counted { cost, .. }| {
        format!("{}/{}", cost.instructions, cost.waiting)
    });
    println!(
        "  All / those that wait for all stores before them: locked ones, exchanges, fences. Of a region's first call."
    );
    let lines =
        |Counted { shared, .. }: Counted| format!("{}/{}", shared.lines, shared.most_written);
    print("Lines shared by two regions", &apart, lines);
    let together = of_all_subjects!(counted(PAGES, Where::SameRegion));
    print("Lines shared within one", &together, lines);
    println!(
        "  Cache lines that one call writes and another thread's uses / writes to the one written most."
    );
    apart.map(|subject| {
        let shared = |counted: Option<Counted>| Some(counted?.shared);
        subject.into_iter().map(shared).collect()
    })
}

fn print(
    title: &str,
    counted: &[Vec<Option<Counted>>; SUBJECTS],
    text: impl Fn(Counted) -> String,
) {
    head(title);
    for (name, counted) in NAMES.iter().zip(counted) {
        print!("  {name:<36}");
        for counted in counted {
            let text = counted.map_or("-".to_string(), &text);
            print!("{text:>9}");
        }
        println!();
    }
}
