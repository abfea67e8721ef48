//! What every CPU does once all are up: it takes part in scheduling, for good. And the guests.

use core::slice;

use bootargs::BootArgs;
use loader::manifest::ManifestError;
use loader::setup::{self, Defaults, Setup};
use log::error;
use platform::Board;

use crate::board::gic;
use crate::el2::serror;
use crate::sched::{self, Hooks};
use crate::services::{compaction, monitor, senders};
use crate::vcpu::{self, physical};
use crate::vm::{self, reaper};
use crate::{mm, percpu};

/// Starts the guests that the boot loader passed in the initial RAM disk. One that cannot be
/// started is named on the console, and the others are.
///
/// Without a guest there is nothing to do, and the machine is switched off.
pub(super) fn start_guests(board: &'static Board<'static>, arguments: &BootArgs<'static>) {
    if let Err(reason) = senders::start_console() {
        error!("a slow console holds up each thread that prints: {reason}");
    }
    if let Err(reason) = compaction::start(arguments) {
        error!("memory is not compacted: {reason}");
    }
    if let Err(reason) = reaper::start() {
        error!("no VM can be started again: {reason}");
    }
    if let Err(reason) = monitor::start(arguments.console) {
        error!("nobody listens to the console: {reason}");
    }
    start_all(board, arguments);
    vm::all_made();
}

fn start_all(board: &'static Board<'static>, arguments: &BootArgs<'static>) {
    let initrd: &[u8] = match board.initrd {
        // SAFETY: The initrd is in RAM, which is mapped and reserved, so nobody ever writes to it.
        Some(initrd) => unsafe {
            slice::from_raw_parts(initrd.base as *const u8, initrd.size as usize)
        },
        None => &[],
    };
    let defaults = Defaults {
        vcpus: arguments.vcpus.unwrap_or(board.cpus.len()),
        memory_size: arguments.guest_memory,
        boot_arguments: arguments.guest_args,
    };
    match setup::machines(initrd, defaults) {
        Ok(machines) => machines.for_each(start),
        Err(reason) => error!("no guest can be started: {reason}"),
    }
}

fn start(machine: Result<Setup<'static>, ManifestError<'_>>) {
    match machine {
        Ok(setup) => {
            if let Err(reason) = vm::create(setup) {
                error!("VM `{}` cannot be started: {reason}", setup.name);
            }
        }
        Err(reason) => error!("{reason}"),
    }
}

/// Makes the CPU that calls this one of those that threads run on.
pub(super) fn join() -> ! {
    sched::start(Hooks {
        serve_interrupts: || physical::serve(None),
        work_when_idle: mm::prezero,
    });
    serror::drop_former();
    vcpu::init_cpu();
    if let Err(error) = physical::init_cpu(gic()) {
        panic!("{error}");
    }
    if percpu::this().index() == 0
        && let Err(error) = physical::enable_console(gic())
    {
        error!("what is typed is not received: {error}");
    }
    sched::run_idle()
}
