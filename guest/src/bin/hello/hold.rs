//! Takes memory and keeps it, so that a test of short memory is not about how fast a guest is.

use core::sync::atomic::Ordering;

use guest::{boot, console, machine::Machine, println};
use plural::count;

/// Fills every `step`-th page, waits for something typed if it is to, and panics if a page has
/// changed.
pub(crate) fn run(machine: &'static Machine<'static>, step: usize, waits: bool) {
    let pool = boot::pool(machine);
    let pages = || (0..pool.pages()).step_by(step.max(1));
    let words = || pages().map(|index| (&pool.page(index).0[index % 512], pool.ipa(index)));
    words().for_each(|(word, ipa)| word.store(ipa, Ordering::Relaxed));
    println!(
        "hold: {} taken",
        count(pages().count(), "page is", "pages are")
    );
    if waits {
        console::wait_for_byte();
    }
    let wrong = words().filter(|(word, ipa)| word.load(Ordering::Relaxed) != *ipa);
    let wrong = wrong.count();
    assert!(wrong == 0, "{wrong} pages are not as they were left");
}
