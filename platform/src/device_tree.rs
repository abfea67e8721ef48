//! Reads a flattened device tree into a [`Board`].
//!
//! Bindings: Devicetree Specification 0.4 for `/memory`, `/reserved-memory`, `/cpus`, `/chosen`;
//! Linux's `arm,gic-v3`, `arm,pl011`, `arm,pl031`, `arm,armv8-timer` and `arm,psci` bindings for
//! the devices. Nodes are found by `compatible`, so their names and places under the root do not
//! matter.

use arrayvec::ArrayVec;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Reg, Status};
use dtoolkit::{Node, Property, ToCellInt};

use crate::board::{
    Board, Conduit, FIRST_PPI, FIRST_SPI, Gic, Mpidr, PPIS, Region, SPIS, TimerInterrupts, Uart,
};
use crate::error::{BoardError, InterruptKind};

/// The largest device tree that is accepted, in bytes: the boot protocol's own limit.
const MAX_SIZE: usize = 2 << 20;

/// The device tree blob at physical address `address`, where the loader says there is one.
///
/// # Errors
///
/// [`BoardError::NoBlob`] if nothing there looks like a device tree.
///
/// # Safety
///
/// `address` must be zero or readable memory: 2 MiB of it, or as much as the tree there says it
/// has. The memory must not change as long as the result is used.
pub unsafe fn device_tree_at(address: u64) -> Result<&'static [u8], BoardError> {
    const MAGIC: u32 = 0xd00d_feed;
    if address == 0 || !address.is_multiple_of(8) {
        return Err(BoardError::NoBlob(address));
    }
    let blob = address as *const u8;
    // SAFETY: The caller vouches for the memory; the address is aligned and not null.
    let [magic, size] = unsafe { blob.cast::<[u32; 2]>().read() }.map(u32::from_be);
    let size = size as usize;
    if magic != MAGIC || size > MAX_SIZE {
        return Err(BoardError::NoBlob(address));
    }
    // SAFETY: As above, for the size that the tree says it has.
    Ok(unsafe { core::slice::from_raw_parts(blob, size) })
}

impl Uart {
    /// Finds the console alone, so that everything else that is wrong with the tree can be said
    /// there.
    ///
    /// # Errors
    ///
    /// As [`Board::from_device_tree`].
    pub fn from_device_tree(blob: &[u8]) -> Result<Self, BoardError> {
        uart(Fdt::new(blob)?)
    }
}

impl<'dt> Board<'dt> {
    /// Reads the board's description out of a flattened device tree.
    ///
    /// `blob` holds the tree and nothing else, and `blob_address` is its physical address, which
    /// becomes [`Board::device_tree`] and one of the reserved regions.
    ///
    /// # Errors
    ///
    /// A [`BoardError`] that names what is missing, malformed or too much. Nothing is guessed.
    pub fn from_device_tree(blob: &'dt [u8], blob_address: u64) -> Result<Self, BoardError> {
        let tree = Fdt::new(blob)?;
        let device_tree = Region {
            base: blob_address,
            size: blob.len() as u64,
        };
        let (boot_arguments, initrd) = chosen(tree)?;
        let [interrupts, ticks, day, firmware, old_firmware] = find_compatible(
            tree,
            [
                "arm,gic-v3",
                "arm,armv8-timer",
                "arm,pl031",
                "arm,psci-1.0",
                "arm,psci-0.2",
            ],
        );
        Ok(Self {
            memory: memory(tree)?,
            reserved: reserved(tree, device_tree, initrd)?,
            device_tree,
            initrd,
            boot_arguments,
            cpus: cpus(tree)?,
            uart: uart(tree)?,
            gic: gic(interrupts)?,
            timer: timer(ticks)?,
            clock: clock(day)?,
            psci: psci(firmware.or(old_firmware))?,
        })
    }
}

/// RAM: the `reg` of every `/memory` node.
fn memory<const N: usize>(tree: Fdt<'_>) -> Result<ArrayVec<Region, N>, BoardError> {
    let mut regions = ArrayVec::new();
    let nodes = tree.root();
    for node in nodes.children() {
        if node.name_without_address() == "memory" {
            for region in registers(node, "memory node")? {
                push(&mut regions, region?, "ranges of RAM")?;
            }
        }
    }
    if regions.is_empty() {
        return Err(BoardError::NoNode("memory node"));
    }
    Ok(regions)
}

/// What must not be handed out: the blob, the initrd, the reservation block, `/reserved-memory`.
fn reserved<const N: usize>(
    tree: Fdt<'_>,
    device_tree: Region,
    initrd: Option<Region>,
) -> Result<ArrayVec<Region, N>, BoardError> {
    const WHAT: &str = "reserved ranges";
    let mut regions = ArrayVec::new();
    push(&mut regions, device_tree, WHAT)?;
    if let Some(initrd) = initrd {
        push(&mut regions, initrd, WHAT)?;
    }
    for entry in tree.memory_reservations() {
        let region = Region {
            base: entry.address(),
            size: entry.size(),
        };
        push(&mut regions, region, WHAT)?;
    }
    if let Some(parent) = tree.find_node("/reserved-memory") {
        for node in parent.children() {
            if node.property("reg").is_some() {
                for region in registers(node, "reserved-memory node")? {
                    push(&mut regions, region?, WHAT)?;
                }
            }
        }
    }
    Ok(regions)
}

/// The boot arguments and the initrd.
fn chosen(tree: Fdt<'_>) -> Result<(&str, Option<Region>), BoardError> {
    const NODE: &str = "/chosen";
    let Some(node) = tree.find_node(NODE) else {
        return Ok(("", None));
    };
    let arguments = match node.property("bootargs") {
        Some(property) => property
            .value_as::<&str>()
            .map_err(|reason| BoardError::property(NODE, reason))?,
        None => "",
    };
    let start = address_property(node, NODE, "linux,initrd-start")?;
    let end = address_property(node, NODE, "linux,initrd-end")?;
    let initrd = match (start, end) {
        (Some(base), Some(end)) if end > base => Some(Region {
            base,
            size: end - base,
        }),
        _ => None,
    };
    Ok((arguments, initrd))
}

/// The CPUs that are present and can be used: those whose `status` is "okay", or absent.
fn cpus<const N: usize>(tree: Fdt<'_>) -> Result<ArrayVec<Mpidr, N>, BoardError> {
    const NODE: &str = "cpu node";
    let mut cpus = ArrayVec::new();
    let parent = tree
        .find_node("/cpus")
        .ok_or(BoardError::NoNode("/cpus node"))?;
    for node in parent.children() {
        if node.name_without_address() != "cpu" || !usable(node, NODE)? {
            continue;
        }
        let id = node
            .reg()
            .map_err(|reason| BoardError::property(NODE, reason))?
            .and_then(|mut reg| reg.next())
            .ok_or(BoardError::NoProperty {
                node: NODE,
                property: "reg",
            })?
            .address::<u64>()
            .map_err(|reason| BoardError::Malformed { node: NODE, reason })?;
        push(&mut cpus, Mpidr::from_raw(id), "CPUs")?;
    }
    if cpus.is_empty() {
        return Err(BoardError::NoNode("usable cpu node"));
    }
    Ok(cpus)
}

/// The console: the PL011 that `/chosen/stdout-path` names, or else the first one.
fn uart(tree: Fdt<'_>) -> Result<Uart, BoardError> {
    const NODE: &str = "PL011 (`arm,pl011`)";
    let node = stdout(tree)
        .filter(|node| node.is_compatible("arm,pl011"))
        .or_else(|| {
            let [first] = find_compatible(tree, ["arm,pl011"]);
            first
        })
        .ok_or(BoardError::NoNode(NODE))?;
    Ok(Uart {
        registers: first_register(node, NODE)?,
        interrupt: interrupt(node, NODE, 0, InterruptKind::Shared)?,
    })
}

/// The clock that knows the time of day: the machine can do without.
fn clock(node: Option<FdtNode<'_>>) -> Result<Option<Region>, BoardError> {
    node.map(|node| first_register(node, "PL031 (`arm,pl031`)"))
        .transpose()
}

/// The node that `/chosen/stdout-path` names (options after a colon are not for us).
fn stdout(tree: Fdt<'_>) -> Option<FdtNode<'_>> {
    let chosen = tree.find_node("/chosen")?;
    let path = chosen.property("stdout-path")?.value_as::<&str>().ok()?;
    tree.find_node(path.split(':').next()?)
}

/// The interrupt controller.
fn gic(node: Option<FdtNode<'_>>) -> Result<Gic, BoardError> {
    const NODE: &str = "GICv3 (`arm,gic-v3`; start QEMU with `-M virt,gic-version=3`)";
    const REGIONS: &str = "#redistributor-regions";
    let node = node.ok_or(BoardError::NoNode(NODE))?;
    let count = match node.property(REGIONS) {
        Some(property) => property
            .value_as::<u32>()
            .map_err(|reason| BoardError::property(NODE, reason))?,
        None => 1,
    };
    let mut reg = registers(node, NODE)?;
    let missing = BoardError::NoProperty {
        node: NODE,
        property: "reg",
    };
    let distributor = reg.next().ok_or(missing.clone())??;
    let mut redistributors = ArrayVec::new();
    for _ in 0..count {
        let region = reg.next().ok_or(missing.clone())??;
        push(&mut redistributors, region, "ranges of redistributors")?;
    }
    Ok(Gic {
        distributor,
        redistributors,
        maintenance_interrupt: interrupt(node, NODE, 0, InterruptKind::Private)?,
    })
}

/// The timer's interrupts. The binding's order: secure physical, physical, virtual, hypervisor.
fn timer(node: Option<FdtNode<'_>>) -> Result<TimerInterrupts, BoardError> {
    const NODE: &str = "generic timer (`arm,armv8-timer`)";
    let node = node.ok_or(BoardError::NoNode(NODE))?;
    let private = |index| interrupt(node, NODE, index, InterruptKind::Private);
    Ok(TimerInterrupts {
        el1_physical: private(1)?,
        el1_virtual: private(2)?,
        el2_physical: private(3)?,
    })
}

/// How to call the firmware.
fn psci(node: Option<FdtNode<'_>>) -> Result<Conduit, BoardError> {
    const NODE: &str = "PSCI firmware (`arm,psci-0.2` or later)";
    let node = node.ok_or(BoardError::NoNode(NODE))?;
    let method = node
        .property("method")
        .and_then(|property| property.value_as::<&str>().ok());
    match method {
        Some("smc") => Ok(Conduit::Smc),
        Some("hvc") => Ok(Conduit::Hvc),
        _ => Err(BoardError::NoProperty {
            node: NODE,
            property: "method",
        }),
    }
}

/// For each name the first usable child of the root that says it is compatible with it. All in one
/// pass: a tree has no index, so that each takes as long as the tree is.
fn find_compatible<'dt, const N: usize>(
    tree: Fdt<'dt>,
    names: [&str; N],
) -> [Option<FdtNode<'dt>>; N] {
    let mut found = [const { None }; N];
    for node in tree.root().children() {
        for said in node.compatible().into_iter().flatten() {
            let wanted = names.iter().position(|&name| name == said);
            let place = wanted.and_then(|index| found.get_mut(index));
            if let Some(place @ None) = place
                && node.status() == Ok(Status::Okay)
            {
                *place = Some(node);
            }
        }
    }
    found
}

/// Whether a node's `status` allows its use.
fn usable(node: FdtNode<'_>, name: &'static str) -> Result<bool, BoardError> {
    match node.status() {
        Ok(status) => Ok(status == Status::Okay),
        Err(reason) => Err(BoardError::Malformed { node: name, reason }),
    }
}

/// The node's `reg` entries as regions.
fn registers<'dt>(
    node: FdtNode<'dt>,
    name: &'static str,
) -> Result<impl Iterator<Item = Result<Region, BoardError>> + 'dt, BoardError> {
    let reg = node
        .reg()
        .map_err(|reason| BoardError::property(name, reason))?
        .ok_or(BoardError::NoProperty {
            node: name,
            property: "reg",
        })?;
    Ok(reg.map(move |entry| region(entry, name)))
}

fn region(entry: Reg<'_>, node: &'static str) -> Result<Region, BoardError> {
    let malformed = |reason| BoardError::Malformed { node, reason };
    Ok(Region {
        base: entry.address::<u64>().map_err(malformed)?,
        size: entry.size::<u64>().map_err(malformed)?,
    })
}

fn first_register(node: FdtNode<'_>, name: &'static str) -> Result<Region, BoardError> {
    registers(node, name)?
        .next()
        .ok_or(BoardError::NoProperty {
            node: name,
            property: "reg",
        })?
}

/// An address in one or two cells; `None` if the property is not there.
fn address_property(
    node: FdtNode<'_>,
    name: &'static str,
    property: &'static str,
) -> Result<Option<u64>, BoardError> {
    let Some(property) = node.property(property) else {
        return Ok(None);
    };
    let cells = property
        .value_as::<dtoolkit::Cells<'_>>()
        .map_err(|reason| BoardError::property(name, reason))?;
    cells
        .to_int::<u64>()
        .map(Some)
        .map_err(|reason| BoardError::Malformed { node: name, reason })
}

/// The INTID of entry `index` of the node's `interrupts`: type, number and flags for a GICv3. It
/// must be of this kind.
fn interrupt(
    node: FdtNode<'_>,
    name: &'static str,
    index: usize,
    wanted: InterruptKind,
) -> Result<u32, BoardError> {
    const PROPERTY: &str = "interrupts";
    let missing = BoardError::NoProperty {
        node: name,
        property: PROPERTY,
    };
    let property = node.property(PROPERTY).ok_or(missing.clone())?;
    let [kind, number, _flags] = property
        .as_prop_encoded_array([1, 1, 1])
        .map_err(|reason| BoardError::property(name, reason))?
        .nth(index)
        .ok_or(missing)?;
    let malformed = |reason| BoardError::Malformed { node: name, reason };
    let number = number.to_int::<u32>().map_err(malformed)?;
    let kind = kind.to_int::<u32>().map_err(malformed)?;
    match (kind, wanted) {
        (0, InterruptKind::Shared) if number < SPIS => Ok(FIRST_SPI + number),
        (1, InterruptKind::Private) if number < PPIS => Ok(FIRST_PPI + number),
        _ => Err(BoardError::Interrupt {
            node: name,
            kind,
            number,
            wanted,
        }),
    }
}

fn push<T, const N: usize>(
    list: &mut ArrayVec<T, N>,
    item: T,
    what: &'static str,
) -> Result<(), BoardError> {
    list.try_push(item)
        .map_err(|_| BoardError::TooMany { what, limit: N })
}
