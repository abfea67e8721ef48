//! Placeholder until its first verb lands.
fn main() {}
