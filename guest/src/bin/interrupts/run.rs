//! One group of trials after the other.

use guest::{machine::Machine, println};

use crate::{active, pair, private, timers};
use guest::gic::Gic;

guest::main!(run);

fn run(machine: &'static Machine<'static>) {
    let gic = Gic::of(machine, 0);
    gic.init_distributor();
    gic.init_vcpu();
    private::run(gic);
    println!("interrupts: a vCPU's own are right");
    timers::run(gic);
    println!("interrupts: the timers are right");
    active::run(gic, machine.mpidrs()[0]);
    println!("interrupts: those that are active are right");
    pair::run(machine, gic);
    println!("interrupts: those between vCPUs are right");
}
