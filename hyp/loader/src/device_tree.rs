//! Writes the device tree a guest is given.
//!
//! It says what the virtual machine has and nothing else. There is no allocator, so the nodes are
//! laid down first, empty, and `dtoolkit` adds their properties in place. Bindings: Devicetree
//! Specification 0.4; Linux's `arm,psci`, `arm,armv8-timer`, `arm,pl011`, `arm,pl031`, `cfi-flash`,
//! `fixed-clock`, `qemu,fw-cfg-mmio` and `virtio,mmio`.

use arm_psci::FunctionId;
use bootargs::MAX_VCPUS;
use devices::board;
use devices::flash;
use devices::virtio;
use dtoolkit::ToPropertyValue;
use dtoolkit::error::{FdtMutError, FdtParseError};
use dtoolkit::fdt_mut::{FdtMut, FdtNodeMut, SliceBuffer};
use thiserror::Error;
use vgic;

/// What differs from one virtual machine to another, or from one start to the next.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// Number of vCPUs, at most [`MAX_VCPUS`].
    pub vcpus: usize,
    /// Size of the RAM in bytes.
    pub memory_size: u64,
    /// `/chosen/bootargs`, which is left out where there are none.
    pub boot_arguments: &'a str,
    /// `/chosen/linux,initrd-start` and `-end`: the IPAs of the initial RAM disk's first byte and
    /// of the byte behind it.
    pub initrd: Option<(u64, u64)>,
    /// `/chosen/tessera,boot-count`: how often the machine has been reset: 0 at first.
    pub boot_count: u32,
}

/// Why a device tree could not be written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TreeError {
    /// Its buffer is too small.
    #[error("it does not fit into {0} bytes; are the guest's boot arguments too long?")]
    NoSpace(usize),
    /// The nodes that were laid down make no device tree.
    #[error("its nodes are malformed: {0}")]
    Malformed(#[from] FdtParseError),
    /// A node that was laid down is not found again.
    #[error("its node {0} is missing")]
    NoNode(&'static str),
}

/// The value of a property that is there or not.
const EMPTY: [u32; 0] = [];
/// The phandle of the UART's clock.
const CLOCK_HANDLE: u32 = 1;
/// The phandle of the interrupt controller.
const CONTROLLER_HANDLE: u32 = 2;
/// Kinds of interrupts: shared (SPI) and private (PPI), each numbered from 0.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
/// The INTID of private interrupt 0.
const FIRST_PRIVATE: u32 = 16;
/// The INTIDs of the Secure physical timer and of EL2's. No guest can use these two, but their
/// places in the list of timers are for them.
const SECURE_TIMER: u32 = 29;
const HYPERVISOR_TIMER: u32 = 26;
/// An interrupt is pending once its line has become high.
const EDGE_RISING: u32 = 1;
/// An interrupt is pending while its line is high.
const LEVEL_HIGH: u32 = 4;

/// Names and paths of the vCPUs' nodes.
const CPUS: [(&str, &str); MAX_VCPUS] = [
    ("cpu@0", "/cpus/cpu@0"),
    ("cpu@1", "/cpus/cpu@1"),
    ("cpu@2", "/cpus/cpu@2"),
    ("cpu@3", "/cpus/cpu@3"),
    ("cpu@4", "/cpus/cpu@4"),
    ("cpu@5", "/cpus/cpu@5"),
    ("cpu@6", "/cpus/cpu@6"),
    ("cpu@7", "/cpus/cpu@7"),
];

/// How many places for virtio devices there are.
const PLACES: usize = virtio::PLACES as usize;
/// The paths of their nodes.
static VIRTIO_PATHS: [[u8; 20]; PLACES] = virtio_paths();

const fn virtio_paths() -> [[u8; 20]; PLACES] {
    let digits = b"0123456789abcdef";
    let mut paths = [*b"/virtio_mmio@a000000"; PLACES];
    let mut n = 0;
    while n < PLACES {
        let address = board::VIRTIO as usize + n * virtio::PLACE as usize;
        let mut digit = 0;
        while digit < 7 {
            paths[n][19 - digit] = digits[address >> (4 * digit) & 0xf];
            digit += 1;
        }
        n += 1;
    }
    paths
}

/// A path as text, of which all is ASCII.
fn virtio_path(path: &'static [u8; 20]) -> &'static str {
    core::str::from_utf8(path).unwrap_or("/")
}

/// Writes the tree to the start of `buffer` and returns it. Calls `pause` before each property: a
/// tree takes a million instructions or two, and others wait for the CPU.
///
/// # Errors
///
/// The buffer is too small: 10 KiB and the length of the boot arguments are enough.
pub fn write<'b>(
    buffer: &'b mut [u8],
    what: &Description<'_>,
    pause: &mut dyn FnMut(),
) -> Result<&'b [u8], TreeError> {
    let cpus = CPUS.get(..what.vcpus).unwrap_or(&CPUS);
    let capacity = buffer.len();
    Skeleton { buffer, at: 0 }
        .lay_down(cpus)
        .ok_or(TreeError::NoSpace(capacity))?;
    let mut tree = Tree {
        tree: FdtMut::from_slice(buffer)?,
        capacity,
        pause,
    };
    tree.describe(what, cpus)?;
    let size = tree.tree.as_read_only().data().len();
    Ok(&buffer[..size])
}

/// A tree whose nodes get their properties.
struct Tree<'b, 'p> {
    tree: FdtMut<SliceBuffer<'b>>,
    capacity: usize,
    pause: &'p mut dyn FnMut(),
}

impl<'b> Tree<'b, '_> {
    fn describe(
        &mut self,
        what: &Description<'_>,
        cpus: &[(&'static str, &'static str)],
    ) -> Result<(), TreeError> {
        self.add_virtio()?;
        let root = "/";
        self.add(root, "compatible", "linux,dummy-virt")?;
        self.add(root, "model", "tessera,virt")?;
        self.add(root, "#address-cells", 2_u32)?;
        self.add(root, "#size-cells", 2_u32)?;

        let chosen = "/chosen";
        self.add(chosen, "stdout-path", "/pl011@9000000")?;
        if !what.boot_arguments.is_empty() {
            self.add(chosen, "bootargs", what.boot_arguments)?;
        }
        if let Some((start, end)) = what.initrd {
            self.add(chosen, "linux,initrd-start", start)?;
            self.add(chosen, "linux,initrd-end", end)?;
        }
        self.add(chosen, "tessera,boot-count", what.boot_count)?;

        let memory = "/memory@40000000";
        self.add(memory, "device_type", "memory")?;
        self.add(memory, "reg", range(board::RAM_BASE, what.memory_size))?;

        self.add("/cpus", "#address-cells", 1_u32)?;
        self.add("/cpus", "#size-cells", 0_u32)?;
        for (index, &(_, cpu)) in (0_u32..).zip(cpus) {
            self.add(cpu, "device_type", "cpu")?;
            self.add(cpu, "compatible", "arm,armv8")?;
            self.add(cpu, "reg", index)?;
            self.add(cpu, "enable-method", "psci")?;
        }

        let psci = ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"];
        self.add("/psci", "compatible", &psci[..])?;
        self.add("/psci", "method", "hvc")?;
        // For those that know the first binding only, which has the calls' numbers.
        self.add("/psci", "cpu_suspend", FunctionId::CpuSuspend64 as u32)?;
        self.add("/psci", "cpu_off", FunctionId::CpuOff as u32)?;
        self.add("/psci", "cpu_on", FunctionId::CpuOn64 as u32)?;

        let [distributor, redistributors] = [
            range(board::DISTRIBUTOR, board::DISTRIBUTOR_SIZE),
            range(
                board::REDISTRIBUTORS,
                cpus.len() as u64 * vgic::REDISTRIBUTOR_SIZE,
            ),
        ];
        let controller = "/intc@8000000";
        self.add(root, "interrupt-parent", CONTROLLER_HANDLE)?;
        self.add(controller, "compatible", "arm,gic-v3")?;
        self.add(controller, "interrupt-controller", EMPTY)?;
        self.add(controller, "#interrupt-cells", 3_u32)?;
        self.add(controller, "#redistributor-regions", 1_u32)?;
        self.add(controller, "#address-cells", 2_u32)?;
        self.add(controller, "#size-cells", 2_u32)?;
        self.add(controller, "ranges", EMPTY)?;
        let reg = [distributor, redistributors];
        self.add(controller, "reg", reg.as_flattened())?;
        self.add(controller, "phandle", CONTROLLER_HANDLE)?;

        let timer = "/timer";
        let timers = ["arm,armv8-timer", "arm,armv7-timer"];
        self.add(timer, "compatible", &timers[..])?;
        let interrupts = [
            SECURE_TIMER,
            vgic::PHYSICAL_TIMER,
            vgic::VIRTUAL_TIMER,
            HYPERVISOR_TIMER,
        ];
        let interrupts = interrupts.map(|intid| interrupt(PRIVATE, intid - FIRST_PRIVATE));
        self.add(timer, "interrupts", interrupts.as_flattened())?;
        self.add(timer, "always-on", EMPTY)?;

        self.add_uart()?;
        self.add_clock_and_flash()?;
        let fw_cfg = "/fw-cfg@9020000";
        self.add(fw_cfg, "compatible", "qemu,fw-cfg-mmio")?;
        let size = board::FW_CFG_END - board::FW_CFG;
        self.add(fw_cfg, "reg", range(board::FW_CFG, size))?;
        self.add(fw_cfg, "dma-coherent", EMPTY)
    }

    fn add_uart(&mut self) -> Result<(), TreeError> {
        let clock = "/apb-pclk";
        self.add(clock, "compatible", "fixed-clock")?;
        self.add(clock, "clock-output-names", "clk24mhz")?;
        self.add(clock, "#clock-cells", 0_u32)?;
        self.add(clock, "clock-frequency", board::UART_CLOCK)?;
        self.add(clock, "phandle", CLOCK_HANDLE)?;

        let uart = "/pl011@9000000";
        let size = board::UART_END - board::UART;
        self.add(uart, "compatible", &["arm,pl011", "arm,primecell"][..])?;
        self.add(uart, "reg", range(board::UART, size))?;
        let line = interrupt(SHARED, board::UART_INTERRUPT - vgic::FIRST_SHARED);
        self.add(uart, "interrupts", line)?;
        self.add(uart, "clocks", [CLOCK_HANDLE, CLOCK_HANDLE])?;
        self.add(uart, "clock-names", &["uartclk", "apb_pclk"][..])
    }

    fn add_clock_and_flash(&mut self) -> Result<(), TreeError> {
        let clock = "/pl031@9010000";
        let size = board::CLOCK_END - board::CLOCK;
        self.add(clock, "compatible", &["arm,pl031", "arm,primecell"][..])?;
        self.add(clock, "reg", range(board::CLOCK, size))?;
        self.add(clock, "clocks", CLOCK_HANDLE)?;
        self.add(clock, "clock-names", "apb_pclk")?;

        let chips = "/flash@4000000";
        self.add(chips, "compatible", "cfi-flash")?;
        self.add(chips, "reg", range(board::FLASH, flash::SIZE))?;
        self.add(chips, "bank-width", 4_u32)
    }

    /// Before all others, and from the last to the first: a node is looked for past all that are
    /// before it, with what they have, and what it gets moves all that is behind it.
    fn add_virtio(&mut self) -> Result<(), TreeError> {
        let first = board::VIRTIO_INTERRUPT - vgic::FIRST_SHARED;
        for (number, path) in VIRTIO_PATHS.iter().enumerate().rev() {
            let number = number as u32;
            let at = board::VIRTIO + u64::from(number) * virtio::PLACE;
            let interrupt = [SHARED, first + number, EDGE_RISING];
            let full = TreeError::NoSpace(self.capacity);
            let mut node = self.node(virtio_path(path))?;
            let mut all = node.add_property("compatible", "virtio,mmio").is_ok();
            all &= node.add_property("reg", range(at, virtio::PLACE)).is_ok();
            all &= node.add_property("interrupts", interrupt).is_ok();
            all &= node.add_property("dma-coherent", EMPTY).is_ok();
            if !all {
                return Err(full);
            }
        }
        Ok(())
    }

    fn node(&mut self, path: &'static str) -> Result<FdtNodeMut<'_, SliceBuffer<'b>>, TreeError> {
        (self.pause)();
        self.tree.find_node_mut(path).ok_or(TreeError::NoNode(path))
    }

    fn add(
        &mut self,
        node: &'static str,
        name: &str,
        value: impl ToPropertyValue,
    ) -> Result<(), TreeError> {
        let mut found = self.node(node)?;
        match found.add_property(name, value) {
            Ok(_) => Ok(()),
            Err(FdtMutError::Resize(_) | _) => Err(TreeError::NoSpace(self.capacity)),
        }
    }
}

/// An interrupt of a GIC: kind, number, trigger.
fn interrupt(kind: u32, number: u32) -> [u32; 3] {
    [kind, number, LEVEL_HIGH]
}

/// An address and a size, in two cells each.
fn range(base: u64, size: u64) -> [u32; 4] {
    [
        (base >> 32) as u32,
        base as u32,
        (size >> 32) as u32,
        size as u32,
    ]
}

/// Lays down a device tree that has nodes but no properties (Devicetree Specification, chapter 5).
struct Skeleton<'b> {
    buffer: &'b mut [u8],
    at: usize,
}

impl Skeleton<'_> {
    const MAGIC: u32 = 0xd00d_feed;
    const HEADER_SIZE: u32 = 40;
    /// An empty list of reserved memory.
    const RESERVATIONS_SIZE: u32 = 16;
    const BEGIN_NODE: u32 = 1;
    const END_NODE: u32 = 2;
    const END: u32 = 9;

    /// `None` if it does not fit.
    fn lay_down(mut self, cpus: &[(&str, &str)]) -> Option<()> {
        let structure = Self::HEADER_SIZE + Self::RESERVATIONS_SIZE;
        for _ in 0..structure / 4 {
            self.word(0)?;
        }
        self.begin("")?;
        self.leaf("chosen")?;
        self.leaf("memory@40000000")?;
        self.begin("cpus")?;
        for (name, _) in cpus {
            self.leaf(name)?;
        }
        self.word(Self::END_NODE)?;
        for name in [
            "psci",
            "intc@8000000",
            "timer",
            "apb-pclk",
            "pl011@9000000",
            "pl031@9010000",
            "flash@4000000",
            "fw-cfg@9020000",
        ] {
            self.leaf(name)?;
        }
        for path in &VIRTIO_PATHS {
            self.leaf(&virtio_path(path)[1..])?;
        }
        self.word(Self::END_NODE)?;
        self.word(Self::END)?;
        self.header(structure)
    }

    fn header(&mut self, structure: u32) -> Option<()> {
        let size = self.at as u32;
        self.at = 0;
        let (version, compatible_version) = (17, 16);
        for word in [
            Self::MAGIC,
            size,
            structure,
            size, // the strings, behind the structure: none yet
            Self::HEADER_SIZE,
            version,
            compatible_version,
            0, // the boot CPU
            0, // length of the strings
            size - structure,
        ] {
            self.word(word)?;
        }
        Some(())
    }

    fn leaf(&mut self, name: &str) -> Option<()> {
        self.begin(name)?;
        self.word(Self::END_NODE)
    }

    /// The name is terminated by a zero and filled up to whole words.
    fn begin(&mut self, name: &str) -> Option<()> {
        self.word(Self::BEGIN_NODE)?;
        let field = self.take((name.len() + 4) & !3)?;
        field.fill(0);
        field[..name.len()].copy_from_slice(name.as_bytes());
        Some(())
    }

    fn word(&mut self, word: u32) -> Option<()> {
        self.take(4)?.copy_from_slice(&word.to_be_bytes());
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&mut [u8]> {
        let start = self.at;
        self.at += length;
        self.buffer.get_mut(start..self.at)
    }
}

#[cfg(test)]
mod tests;
