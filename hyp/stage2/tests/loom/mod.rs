//! The protocol under the model checker: each race by its number, which `tests/RACES.md` explains.
//!
//! Every test explores the interleavings of two threads that run the production source on a
//! fake machine, with up to three preemptions, and checks what must hold after each.
//! `tests/mutations` has patches that take the rules of the protocol out, one each, and names the
//! tests that fail then; `cargo xtask rules` shows that they do.
//!
//! What the model leaves out: tables have two entries instead of 512, a page has one word, and a
//! sequentially consistent fence orders all that comes before it with all that comes after
//! another one, which is a little more than the architecture promises.

mod collapse;
mod free;
mod lookup;
mod map;
mod markers;
mod marks;
mod split;
mod unmap;
mod vmid;
mod walkers;
