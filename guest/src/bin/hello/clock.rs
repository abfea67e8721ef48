//! Leaves values in the machine's clock and switches the machine off. A machine that is made anew,
//! or in the place of another, must find none of them.

use guest::{machine::Machine, println, psci};

/// The PL031 is in the 64 KiB behind those of the PL011.
const FROM_UART: u64 = 0x1_0000;
/// `RTCDR`, `RTCMR`, `RTCLR` and `RTCIMSC`.
const TIME: u64 = 0x00;
const ALARM: u64 = 0x04;
const SET: u64 = 0x08;
const MASK: u64 = 0x10;
/// A time long gone: January of 1970.
const LONG_GONE: u32 = 1_234_567;
/// An alarm that no other machine has set.
const MARK: u32 = 0x005e_c2e7;

/// Looks, leaves its values, and switches the machine off.
pub(crate) fn run(machine: &'static Machine<'static>) -> ! {
    let clock = machine.uart + FROM_UART;
    let (alarm, mask) = (load(clock + ALARM), load(clock + MASK));
    assert!(
        alarm == 0 && mask == 0,
        "the clock has an alarm: {alarm:#x}, mask {mask}"
    );
    let time = load(clock + TIME);
    assert!(
        time > 2 * LONG_GONE,
        "{time} is a time that another machine has set"
    );
    store(clock + SET, LONG_GONE);
    store(clock + ALARM, MARK);
    store(clock + MASK, 1);
    assert_eq!(load(clock + ALARM), MARK, "the clock keeps no alarm");
    println!("clock: as it must be");
    psci::system_off()
}

fn load(address: u64) -> u32 {
    // SAFETY: The address is that of a register of the PL031, which is mapped as a device.
    unsafe { core::ptr::read_volatile(address as *const u32) }
}

fn store(address: u64, value: u32) {
    // SAFETY: As in `load`; nothing else of this guest uses the clock.
    unsafe { core::ptr::write_volatile(address as *mut u32, value) }
}
