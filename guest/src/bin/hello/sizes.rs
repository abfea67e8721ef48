//! What loads of all sizes find in devices' registers, and what stores of eight bytes do there. The
//! values are those of QEMU 7.2's board without a hypervisor.

use guest::{machine::Machine, println, probe};

/// The devices' first registers on QEMU's board.
const FLASH: u64 = 0x0400_0000;
const DISTRIBUTOR: u64 = 0x0800_0000;
const REDISTRIBUTOR: u64 = 0x080a_0000;
const UART: u64 = 0x0900_0000;
const CLOCK: u64 = 0x0901_0000;
const FW_CFG: u64 = 0x0902_0000;
const VIRTIO: u64 = 0x0a00_0000;

/// `GICD_IPRIORITYR8` and `GICD_IROUTER32`.
const PRIORITY: u64 = DISTRIBUTOR + 0x420;
const ROUTE: u64 = DISTRIBUTOR + 0x6100;
/// `UARTIBRD`, and behind it `UARTFBRD`.
const RATE: u64 = UART + 0x24;
/// The selector of `fw_cfg`.
const SELECTOR: u64 = FW_CFG + 8;
/// Flash commands: to describe itself, and to show its contents.
const QUERY: u32 = 0x98;
const CONTENTS: u32 = 0xff;

/// What is loaded from an address by 1, 2, 4 and 8 bytes; of what is not aligned only some.
type Row = (u64, &'static [u64]);

const ALWAYS: [Row; 27] = [
    (VIRTIO, &[0x76, 0x6976, 0x7472_6976, 0x1_7472_6976]),
    (VIRTIO + 1, &[0]),
    (VIRTIO + 4, &[1, 1, 1]),
    (VIRTIO + 8, &[0, 0, 0, 0x554d_4551_0000_0000]),
    (VIRTIO + 0xc, &[0x51, 0x4551, 0x554d_4551]),
    (VIRTIO + 0xe, &[0, 0]),
    (VIRTIO + 0x100, &[0, 0, 0, 0]),
    (VIRTIO + 0x3e00, &[0x76, 0x6976, 0x7472_6976, 0x1_7472_6976]),
    (VIRTIO + 0x3ff8, &[0, 0, 0, 0]),
    (UART + 0x30, &[0, 0x300, 0x300, 0x12_0000_0300]),
    (UART + 0x31, &[0]),
    (UART + 0x34, &[0x12, 0x12, 0x12]),
    (UART + 0xfe0, &[0x11, 0x11, 0x11, 0x10_0000_0011]),
    (UART + 0xfe3, &[0x11]),
    (UART + 0xff6, &[0xf0, 0xf0]),
    (CLOCK + 8, &[0, 0, 0, 0x1_0000_0000]),
    (CLOCK + 0xd, &[0]),
    (CLOCK + 0xfe0, &[0x31, 0x31, 0x31, 0x10_0000_0031]),
    (CLOCK + 0xfe6, &[0x10, 0x10]),
    (DISTRIBUTOR, &[0, 0]),
    (DISTRIBUTOR + 0xffe8, &[0, 0, 0x3b, 0]),
    (DISTRIBUTOR + 0xffe9, &[0]),
    (DISTRIBUTOR + 0x8000, &[0, 0, 0, 0]),
    (REDISTRIBUTOR, &[0, 0]),
    (REDISTRIBUTOR + 8, &[0, 0, 0x10, 0x10]),
    (REDISTRIBUTOR + 0xc, &[0, 0, 0]),
    (REDISTRIBUTOR + 0xffe8, &[0, 0, 0x3b, 0]),
];
const STORED: [Row; 10] = [
    (RATE, &[0x44, 0x3344, 0x3344]),
    (RATE + 1, &[0x44]),
    (RATE + 4, &[0x15, 0x15, 0x15, 0x15]),
    (PRIORITY, &[0xd0, 0, 0xa0b0_c0d0, 0]),
    (PRIORITY + 1, &[0xc0]),
    (PRIORITY + 2, &[0xb0, 0]),
    (ROUTE, &[0, 0, 0x0001_0201, 0x3_0001_0201]),
    (ROUTE + 4, &[0, 0, 3]),
    (ROUTE + 8, &[0, 0, 0, 0]),
    (ROUTE + 2, &[0, 0]),
];
const DESCRIBED: [Row; 5] = [
    (
        FLASH + 0x40,
        &[0x51, 0x51, 0x51_0051, 0x0052_0052_0051_0051],
    ),
    (FLASH + 0x41, &[0x51]),
    (FLASH + 0x42, &[0x51, 0x51]),
    (FLASH + 0x47, &[0x52]),
    (
        FLASH + 0x48,
        &[0x59, 0x59, 0x59_0059, 0x0001_0001_0059_0059],
    ),
];

/// Compares them all. Returns how many differ.
pub(crate) fn run(machine: &'static Machine<'static>) -> u32 {
    assert!(machine.uart == UART, "no board like virt");
    let mut wrong = compare(&ALWAYS);
    let kept = [
        load(RATE, 4),
        load(RATE + 4, 4),
        load(PRIORITY, 4),
        load(ROUTE, 8),
    ];
    store64(RATE, 0x15_0000_3344);
    store32(PRIORITY, 0xa0b0_c0d0);
    // No register of this size.
    store64(PRIORITY, 0);
    store64(ROUTE, 0x3_0001_0201);
    wrong += compare(&STORED);
    store32(RATE, kept[0] as u32);
    store32(RATE + 4, kept[1] as u32);
    store32(PRIORITY, kept[2] as u32);
    store64(ROUTE, kept[3]);
    store32(FLASH, QUERY);
    wrong += compare(&DESCRIBED);
    store32(FLASH, CONTENTS);
    wrong + firmware()
}

fn compare(rows: &[Row]) -> u32 {
    let mut wrong = 0;
    for &(address, expected) in rows {
        for (shift, &expected) in expected.iter().enumerate() {
            wrong += u32::from(!is(address, 1 << shift, expected));
        }
    }
    wrong
}

fn is(address: u64, size: u32, expected: u64) -> bool {
    let found = load(address, size);
    if found != expected {
        println!("devices: {size} bytes at {address:#x}: {found:#x}, not {expected:#x}");
    }
    found == expected
}

/// Items of `fw_cfg`, whose bytes come one after the other, and what is no register. Returns how
/// many are wrong.
fn firmware() -> u32 {
    let mut wrong = 0;
    for (item, loads) in [
        (0_u16, &[(1, 0x51), (2, 0x4d45), (4, 0x55), (8, 0)][..]),
        (0, &[(8, 0x554d_4551)]),
        (0xffff, &[(4, 0)]),
    ] {
        // SAFETY: the selector, which nothing else here uses.
        unsafe { (SELECTOR as *mut u16).write_volatile(item.to_be()) };
        for &(size, expected) in loads {
            wrong += u32::from(!is(FW_CFG, size, expected));
        }
    }
    for nowhere in [FW_CFG + 4, SELECTOR, VIRTIO + 0x4000] {
        // SAFETY: a load.
        let outcome = unsafe { probe::load(nowhere) };
        if !outcome.is_external_data_abort() {
            println!("devices: {nowhere:#x} answers, ESR {:#x}", outcome.esr);
            wrong += 1;
        }
    }
    wrong
}

fn load(address: u64, size: u32) -> u64 {
    // SAFETY: registers of devices, which these loads change no more than `firmware` allows for.
    unsafe {
        match size {
            1 => (address as *const u8).read_volatile().into(),
            2 => (address as *const u16).read_volatile().into(),
            4 => (address as *const u32).read_volatile().into(),
            _ => (address as *const u64).read_volatile(),
        }
    }
}

fn store32(address: u64, value: u32) {
    // SAFETY: a register that nothing else here uses.
    unsafe { (address as *mut u32).write_volatile(value) }
}

fn store64(address: u64, value: u64) {
    // SAFETY: as above.
    unsafe { (address as *mut u64).write_volatile(value) }
}
