//! Addresses to choose from. All are IPAs, and, below the end of what the guest maps, virtual
//! addresses too.

use guest::{boot, machine::Machine, pool::PAGE_SIZE, random::Random, span::Span};

/// Pages of RAM that steps may write to.
const PLAYGROUND: usize = 2048;
/// Pages at the end of RAM of which nothing is written but the last bytes: what is fetched there is
/// zero.
const DESERT: u64 = 256;
/// Bytes of what one instruction accesses, at most, offset and write-back included.
const REACH: u64 = 0x200;
/// Frames where QEMU's board has devices and this machine may have none.
const EMPTY: [Span; 6] = [
    Span {
        start: 0,
        end: 0x0400_0000,
    },
    Span {
        // Behind the page of `fw_cfg`.
        start: 0x0902_1000,
        end: 0x0a00_0000,
    },
    Span {
        start: 0x0a00_4000,
        end: 0x0b00_0000,
    },
    Span {
        start: 0x0c00_0000,
        end: 0x1000_0000,
    },
    Span {
        start: 0x1000_0000,
        end: 0x3eff_0000,
    },
    Span {
        start: 0x3f00_0000,
        end: 0x3fc0_0000,
    },
];
/// QEMU's second flash.
const FLASH: Span = Span {
    start: 0x0400_0000,
    end: 0x0800_0000,
};
/// Above RAM, but where the guest's tables still map something.
const FAR: Span = Span {
    start: 6 << 30,
    end: 8 << 30,
};
/// What one vCPU has of the redistributors.
const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
const UART_SIZE: u64 = 0x1000;

/// Where steps go.
pub(crate) struct Places {
    distributor: Span,
    redistributors: Span,
    uart: u64,
    playground: Span,
    memory_end: u64,
    /// The first page that no step names, by its number in the pool.
    pub(crate) first_kept: usize,
    /// The first page behind those, likewise.
    pub(crate) end_kept: usize,
}

impl Places {
    /// Those of this machine.
    pub(crate) fn new(machine: &Machine<'static>) -> Self {
        let Some([distributor, redistributors]) = machine.interrupt_controller() else {
            panic!("no arm,gic-v3 node with registers in the device tree");
        };
        let known = EMPTY.iter().find_map(|span| machine.device_at(span.start));
        assert!(
            known.is_none(),
            "there is a device where chaos wants nothing: {known:?}"
        );
        let pool = boot::pool(machine);
        let end_kept = pool.pages().saturating_sub(DESERT as usize);
        assert!(
            machine.memory.end <= FAR.start,
            "chaos leaves RAM above 6 GiB alone"
        );
        assert!(
            2 * PLAYGROUND < end_kept,
            "chaos needs at least 32 MiB of RAM"
        );
        Self {
            distributor,
            redistributors,
            uart: machine.uart,
            playground: Span {
                start: pool.ipa(0),
                end: pool.ipa(PLAYGROUND),
            },
            memory_end: machine.memory.end,
            first_kept: PLAYGROUND + 1,
            end_kept,
        }
    }

    /// The distributor, and the redistributor of vCPU `vcpu`.
    pub(crate) fn interrupt_controller(&self, vcpu: usize) -> [u64; 2] {
        let redistributor = self.redistributors.start + vcpu as u64 * REDISTRIBUTOR_SIZE;
        [self.distributor.start, redistributor]
    }

    /// A register of a device, or a place in its frame where there is none.
    pub(crate) fn device(&self, random: &mut Random) -> u64 {
        let frame = match random.below(8) {
            0..3 => self.distributor,
            3..6 => self.redistributors,
            // The PL031, a clock, follows the PL011 in 64 KiB.
            6 => Span::sized(self.uart + 0x1_0000 * random.below(2) as u64, UART_SIZE),
            _ => FLASH,
        };
        // Most registers are near the start of a page of 4 KiB.
        let page = random.below((frame.size() / PAGE_SIZE) as usize) as u64 * PAGE_SIZE;
        let page = if random.below(2) == 0 {
            page & !0xffff
        } else {
            page
        };
        let offset = match random.below(4) {
            0 => random.below(PAGE_SIZE as usize) as u64,
            1 => 0xfd0 + 4 * random.below(12) as u64,
            _ => 4 * random.below(0x400) as u64,
        };
        let address = frame.start + page + offset;
        // The output register: what the guest has to say must still be found on the console.
        if address & !7 == self.uart {
            self.uart + 0x18
        } else {
            address
        }
    }

    /// A register that cannot be written.
    pub(crate) fn read_only(&self, random: &mut Random) -> u64 {
        match random.below(6) {
            // GICD_TYPER and GICD_IIDR.
            0 => self.distributor.start + 4 + 4 * random.below(2) as u64,
            // GICR_IIDR and GICR_TYPER.
            1 => self.redistributors.start + 4 + 4 * random.below(3) as u64,
            // Identification.
            2 => self.distributor.start + 0xffd0 + 4 * random.below(12) as u64,
            3 => self.redistributors.start + 0xffd0 + 4 * random.below(12) as u64,
            4 => self.uart + [0x18, 0x3c, 0x40, 0xfe0, 0xffc][random.below(5)],
            _ => FLASH.start + random.next() % FLASH.size(),
        }
    }

    /// An address where nothing is, nor within [`REACH`], that the guest's tables map.
    pub(crate) fn nothing(&self, random: &mut Random) -> u64 {
        let span = match random.below(4) {
            0..2 => EMPTY[random.below(EMPTY.len())],
            2 => Span {
                start: self.memory_end,
                end: self.memory_end + (1 << 20),
            },
            _ => FAR,
        };
        let room = span.size() - 2 * REACH;
        // All sizes of accesses are aligned: those that are not fault before they leave the CPU.
        (span.start + REACH + random.next() % room) & !0xf
    }

    /// Just before the end of something, so that an access may lie half in it.
    pub(crate) fn edge(&self, random: &mut Random) -> u64 {
        let end = match random.below(6) {
            0 => self.memory_end,
            1 => self.distributor.end,
            2 => self.redistributors.end,
            3 => self.uart + UART_SIZE,
            4 => FLASH.start,
            _ => self.redistributors.start + REDISTRIBUTOR_SIZE * (1 + random.below(8) as u64),
        };
        end - 1 - random.below(24) as u64
    }

    /// Memory that steps may write to.
    pub(crate) fn playground(&self, random: &mut Random) -> u64 {
        let room = self.playground.size() - 2 * REACH;
        let address = self.playground.start + REACH + random.next() % room;
        if random.below(4) == 0 {
            address
        } else {
            address & !0xf
        }
    }

    /// A page of the playground with three more behind it.
    pub(crate) fn page(&self, random: &mut Random) -> u64 {
        self.playground.start + PAGE_SIZE * random.below(PLAYGROUND - 3) as u64
    }

    /// Memory that reads as zeros.
    pub(crate) fn desert(&self, random: &mut Random) -> u64 {
        let size = (DESERT - 1) * PAGE_SIZE;
        self.memory_end - DESERT * PAGE_SIZE + (random.next() % size / 4 * 4)
    }

    /// Anything at all that a step may touch.
    pub(crate) fn any(&self, random: &mut Random) -> u64 {
        match random.below(4) {
            0 => self.playground(random),
            _ => self.elsewhere(random),
        }
    }

    /// Anything but memory.
    pub(crate) fn elsewhere(&self, random: &mut Random) -> u64 {
        match random.below(6) {
            0 | 1 => self.device(random),
            2 => self.edge(random),
            3 | 4 => self.nothing(random),
            _ => random.next() | 1 << 40,
        }
    }

    /// Somewhere to fetch from: not where other steps leave data, which might run as anything.
    pub(crate) fn target(&self, random: &mut Random) -> u64 {
        match random.below(8) {
            0 | 1 => self.device(random) & !3,
            2 => self.memory_end,
            3 | 4 => self.nothing(random),
            5 => random.next() | 1 << 40,
            6 => self.desert(random),
            _ => self.desert(random) + 1 + random.below(3) as u64,
        }
    }
}
