//! Prints now and then, and measures for how long that holds it up, however busy the console is.

use guest::{println, time};

/// Prints `lines` lines, one every `every` milliseconds. None may take more than `most`
/// microseconds.
pub(crate) fn run(lines: u64, every: u64, most: u64) {
    let ticks = every * time::frequency() / 1000;
    let mut longest = 0;
    for line in 0..lines {
        let until = time::now() + ticks;
        while time::now() < until {}
        let begin = time::now();
        println!("say: line {line} of those that are said now and then");
        longest = longest.max(time::now() - begin);
    }
    let until = time::now() + ticks;
    while time::now() < until {}
    let longest = longest * 1_000_000 / time::frequency();
    println!("say: a line takes {longest} us at most");
    assert!(longest <= most, "more than {most} us");
}
