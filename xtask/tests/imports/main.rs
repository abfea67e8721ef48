//! Which modules name which: the floors of the image, and circles in it and in its library crates.

mod circles;
mod floors;
mod paths;
