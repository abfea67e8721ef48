//! Which modules name which: the floors of the image, and circles in it, in its library crates and
//! in the guests.

mod circles;
mod floors;
mod paths;
