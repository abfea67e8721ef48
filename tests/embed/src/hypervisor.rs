//! An environment, a guest's memory, and what is done about its faults and calls.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use aarch64_cpu::registers::{ESR_EL2, HCR_EL2, Readable, VTCR_EL2, Writeable};
use spin::Once;
use stage2::aarch64::{
    Abilities, Cpu, El2Tlb, FramePool, LinearWindow, OneCpu, Parts, reported_fault,
};
use stage2::{
    Attributes, DirtyGranule, DirtyState, GuestFrame, Ipa, IpaRange, Level, Owner, Pa, Privilege,
    Resolution, Rights, Stage2,
};

/// Where the guest finds its code, and its memory.
const CODE: Ipa = Ipa::new(0x4000_0000);
const MEMORY: Ipa = Ipa::new(0x4020_0000);
/// HCR_EL2.DC: memory is cacheable while the guest's MMU is off.
const DEFAULT_CACHEABLE: u64 = 1 << 12;

#[repr(align(0x20_0000))]
struct GuestMemory(UnsafeCell<[u8; 0x20_0000]>);

// SAFETY: only the guest accesses it.
unsafe impl Sync for GuestMemory {}

static GUEST_MEMORY: GuestMemory = GuestMemory(UnsafeCell::new([0; 0x20_0000]));
type Machine = Parts<&'static FramePool<12>, LinearWindow, El2Tlb<Cpu>, OneCpu>;

static TABLES: FramePool<12> = FramePool::new();
static VM: Once<Stage2<Machine>> = Once::new();

unsafe extern "C" {
    static guest_code: u8;
    fn enter(pc: u64) -> !;
}

pub(crate) extern "C" fn main() -> ! {
    let abilities = Abilities::detect();
    let owner = Owner::new(1).expect("a number");
    let config = abilities.config(owner, 32).expect("all CPUs have 32 bits");
    VTCR_EL2.set(abilities.vtcr(config.geometry));
    HCR_EL2.set(abilities.hcr() | DEFAULT_CACHEABLE);
    // SAFETY: EL2 maps RAM to itself, and nothing else runs: there is one CPU, and this is the only
    // machine.
    let machine = unsafe {
        let (window, cpu) = (LinearWindow::new(0), OneCpu::new(abilities.vmid_bits));
        Parts::new(&TABLES, window, El2Tlb::new(Cpu, abilities), cpu)
    };
    let vm = VM.call_once(|| Stage2::new(machine, config).expect("frames for the root"));
    vm.load();
    // SAFETY: the tables are loaded, and the first fetch faults.
    unsafe { enter(CODE.get()) }
}

pub(crate) extern "C" fn exit(registers: &mut [u64; 19]) {
    let vm = VM.get().expect("the guest was entered after that");
    match (ESR_EL2.read(ESR_EL2::EC), ESR_EL2.get() & 0xffff) {
        (0x16, 1) => vm
            .collapse_in_place(MEMORY, Level::L2)
            .expect("the pages are adjacent"),
        (0x16, _) => end(vm, registers[0]),
        (class, _) => fault(vm, class == 0x20),
    }
}

fn fault(vm: &Stage2<Machine>, fetch: bool) {
    let (abort, ipa) = reported_fault();
    let (ipa, access) = (
        ipa.expect("reported"),
        abort.access(fetch.then_some(Privilege::Kernel)),
    );
    match vm.resolve_fault(ipa, access, DirtyGranule::Leaf) {
        Resolution::Resolved => {}
        Resolution::Unmapped => map(vm, ipa.align_down(Level::L3)),
        other => panic!("{access:?} of {ipa:?}: {other:?}"),
    }
}

fn map(vm: &Stage2<Machine>, ipa: Ipa) {
    let readable = Attributes {
        rights: Rights::READ_EXECUTE,
        ..Attributes::RAM
    };
    let (memory, offset) = (
        GUEST_MEMORY.0.get() as u64,
        ipa.get().wrapping_sub(MEMORY.get()),
    );
    let (pa, attributes) = match ipa {
        CODE => (&raw const guest_code as u64, readable),
        _ if offset < 0x20_0000 => (memory + offset, Attributes::RAM),
        _ => panic!("nothing is at {ipa:?}"),
    };
    // SAFETY: a page of the guest's memory, or of its code, which it cannot store to.
    let page = unsafe { GuestFrame::new(Pa::new(pa), Level::L3) };
    vm.map_page(ipa, page, attributes, DirtyState::Dirty)
        .expect("a frame for a table");
}

fn end(vm: &Stage2<Machine>, sum: u64) -> ! {
    let (mut blocks, region) = (0, IpaRange::entry(MEMORY, Level::L2));
    let unmapped = vm.unmap(region, |leaf| {
        blocks += u32::from(leaf.level() == Level::L2)
    });
    let passed = unmapped.is_ok() && (sum, blocks) == (511 * 512 / 2, 1);
    let _ = writeln!(
        Uart,
        "embed: sum {sum}, {blocks} block: {}",
        if passed { "passed" } else { "failed" }
    );
    // SAFETY: PSCI SYSTEM_OFF.
    unsafe { core::arch::asm!("smc #0", in("x0") 0x8400_0008_u64, options(noreturn)) }
}

struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the PL011 of QEMU's board, whose FIFO takes all at once.
        text.bytes()
            .for_each(|byte| unsafe { (0x900_0000 as *mut u32).write_volatile(byte.into()) });
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Uart, "embed: {info}");
    loop {
        core::hint::spin_loop();
    }
}
