//! What one sequence of calls, written down in the test, comes to.

mod boundary;
mod checked;
mod copying;
mod counted;
mod in_the_way;
mod interrupts;
mod neighbours;
mod observed;
mod out_of_frames;
mod races;
mod unreadable;
