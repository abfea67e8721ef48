//! What holds after any sequence of operations, or for every input: drawn at random, from a fixed
//! seed.

mod gigabyte;
mod pages;
mod resolved;
