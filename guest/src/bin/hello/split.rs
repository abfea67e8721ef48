//! Says lines in parts, with a pause in between in which others may say something.

use guest::{console, println, time};

/// Characters of a line that is longer than the hypervisor gathers.
const LONG: usize = 3000;

/// Prints a long line, and gives a verdict, each in two parts with `milliseconds` between them.
pub(crate) fn run(milliseconds: u64) -> ! {
    console::write_part("split: ");
    (0..LONG).for_each(|_| console::write_part("-"));
    pause(milliseconds);
    println!(" the end");
    console::write_part("verd");
    pause(milliseconds);
    println!("ict: failed: in two parts");
    guest::psci::system_off()
}

fn pause(milliseconds: u64) {
    let until = time::now() + milliseconds * time::frequency() / 1000;
    while time::now() < until {}
}
