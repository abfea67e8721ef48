//! What every CPU does once all are up: it takes part in scheduling, for good. And the first guest.

use core::slice;

use hyp::bootargs::BootArgs;
use log::error;
use platform::Board;

use super::gic;
use crate::exits::interrupts;
use crate::vm::{self, Setup};
use crate::{compactor, console, sched, vcpu};

/// Starts the guest that the boot loader passed as the initrd.
///
/// Without a guest there is nothing to do, and the machine is switched off.
pub(super) fn start_guest(board: &'static Board<'static>, arguments: &BootArgs<'static>) {
    let image: &[u8] = match board.initrd {
        // SAFETY: The initrd is in RAM, which is mapped and reserved, so nobody ever writes to it.
        Some(initrd) => unsafe {
            slice::from_raw_parts(initrd.base as *const u8, initrd.size as usize)
        },
        None => &[],
    };
    let setup = Setup {
        vcpus: arguments.vcpus.unwrap_or(board.cpus.len()),
        memory_size: arguments.guest_memory,
        image,
        boot_arguments: arguments.guest_args,
    };
    if let Err(reason) = vm::create(setup) {
        error!("no guest can be started: {reason}");
        console::line(format_args!("tessera: off"));
        board.psci.system_off();
    }
    if let Err(reason) = compactor::start(arguments) {
        error!("memory is not compacted: {reason}");
    }
}

/// Makes the CPU that calls this one of those that threads run on.
pub(super) fn join() -> ! {
    vcpu::init_cpu();
    if let Err(error) = interrupts::init_cpu(gic()) {
        panic!("{error}");
    }
    sched::run_idle()
}
