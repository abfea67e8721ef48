//! What the device tree says about the machine: RAM, vCPUs, console, PSCI, arguments.

use dtoolkit::{
    Node, Property,
    fdt::{Fdt, FdtNode},
    standard::NodeStandard,
};

use crate::span::Span;

/// vCPUs a guest uses at most; further ones of the tree stay off.
pub const MAX_VCPUS: usize = 8;

/// The instruction that makes a PSCI call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conduit {
    /// `hvc #0`
    Hvc,
    /// `smc #0`
    Smc,
}

/// The machine the guest runs on. Addresses are IPAs.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The first region of RAM.
    pub memory: Span,
    /// Base of the PL011.
    pub uart: u64,
    /// How PSCI is called.
    pub conduit: Conduit,
    /// The guest's boot arguments; empty if there are none.
    pub arguments: &'a str,
    mpidrs: [u64; MAX_VCPUS],
    vcpus: usize,
    tree: Fdt<'a>,
}

impl<'a> Machine<'a> {
    /// Reads `tree`; the error says what it lacks.
    pub fn from_tree(tree: Fdt<'a>) -> Result<Self, &'static str> {
        let memory = tree
            .memory()
            .ok()
            .and_then(|node| first_reg(*node))
            .ok_or("no memory node with a region in the device tree")?;
        let uart = tree
            .root()
            .find_compatible("arm,pl011")
            .find_map(first_reg)
            .ok_or("no arm,pl011 node in the device tree")?
            .start;
        let (mpidrs, vcpus) = vcpus(tree);
        if vcpus == 0 {
            return Err("no cpu nodes in the device tree");
        }
        Ok(Self {
            memory,
            uart,
            conduit: conduit(tree)
                .ok_or("no psci node with method hvc or smc in the device tree")?,
            arguments: arguments(tree),
            mpidrs,
            vcpus,
            tree,
        })
    }

    /// The affinity (MPIDR_EL1 bits) of each vCPU, in the tree's order; at least one, at most
    /// [`MAX_VCPUS`].
    pub fn mpidrs(&self) -> &[u64] {
        &self.mpidrs[..self.vcpus]
    }

    /// Where the device tree itself lies, given that it is mapped at its own address.
    pub fn tree_span(&self) -> Span {
        let data = self.tree.data();
        Span::sized(data.as_ptr() as u64, data.len() as u64)
    }

    /// The name of the device or bus whose registers or windows contain `ipa`, if the tree has one.
    pub fn device_at(&self, ipa: u64) -> Option<&'a str> {
        self.tree
            .root()
            .children()
            .find(|node| {
                regs(*node)
                    .chain(ranges(*node))
                    .any(|span| span.contains(ipa))
            })
            .map(|node| node.name())
    }

    /// The registers of the GICv3: the distributor's, and those of the first redistributors.
    pub fn interrupt_controller(&self) -> Option<[Span; 2]> {
        let root = self.tree.root();
        let controller = root.find_compatible("arm,gic-v3").next()?;
        let mut registers = regs(controller);
        Some([registers.next()?, registers.next()?])
    }

    /// How many times this VM has been reset, if the hypervisor tells.
    pub fn boot_count(&self) -> Option<u32> {
        let chosen = self.tree.chosen()?;
        let count = chosen.property("tessera,boot-count")?;
        count.value_as().ok()
    }
}

fn regs(node: FdtNode<'_>) -> impl Iterator<Item = Span> {
    let regs = node.reg().ok().flatten().into_iter().flatten();
    regs.filter_map(|reg| Some(Span::sized(reg.address().ok()?, reg.size().ok()?)))
}

/// The windows through which a bus reaches its children.
fn ranges(node: FdtNode<'_>) -> impl Iterator<Item = Span> {
    let ranges = node.ranges().ok().flatten().into_iter().flatten();
    ranges.filter_map(|range| {
        let start = range.parent_bus_address().ok()?;
        Some(Span::sized(start, range.length().ok()?))
    })
}

fn first_reg(node: FdtNode<'_>) -> Option<Span> {
    regs(node).next()
}

fn vcpus(tree: Fdt<'_>) -> ([u64; MAX_VCPUS], usize) {
    let mut mpidrs = [0; MAX_VCPUS];
    let mut found = 0;
    if let Ok(cpus) = tree.cpus() {
        let ids = cpus.cpus().filter_map(|cpu| first_reg(*cpu));
        for (place, id) in mpidrs.iter_mut().zip(ids) {
            *place = id.start;
            found += 1;
        }
    }
    (mpidrs, found)
}

fn conduit(tree: Fdt<'_>) -> Option<Conduit> {
    match tree
        .find_node("/psci")?
        .property("method")?
        .value_as()
        .ok()?
    {
        "hvc" => Some(Conduit::Hvc),
        "smc" => Some(Conduit::Smc),
        _ => None,
    }
}

fn arguments(tree: Fdt<'_>) -> &str {
    tree.find_node("/chosen")
        .and_then(|chosen| chosen.property("bootargs"))
        .and_then(|property| property.value_as().ok())
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

    use super::*;

    fn property(name: &str, value: Vec<u8>) -> DeviceTreeProperty {
        DeviceTreeProperty::new(name, value.as_slice()).unwrap()
    }

    fn cells(values: &[u32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_be_bytes())
            .collect()
    }

    fn node(name: &str, properties: Vec<DeviceTreeProperty>) -> DeviceTreeNode {
        let mut node = DeviceTreeNode::new(name).unwrap();
        for property in properties {
            node.add_property(property);
        }
        node
    }

    fn virt(vcpus: u32, method: &str) -> Vec<u8> {
        let mut tree = DeviceTree::new();
        tree.root
            .add_property(property("#address-cells", cells(&[2])));
        tree.root.add_property(property("#size-cells", cells(&[2])));
        let mut cpus = node(
            "cpus",
            vec![
                property("#address-cells", cells(&[1])),
                property("#size-cells", cells(&[0])),
            ],
        );
        for cpu in 0..vcpus {
            cpus.add_child(node(
                &format!("cpu@{cpu}"),
                vec![property("reg", cells(&[cpu]))],
            ));
        }
        let method = format!("{method}\0").into_bytes();
        for child in [
            node(
                "memory@40000000",
                vec![property("reg", cells(&[0, 0x4000_0000, 1, 0]))],
            ),
            node(
                "pl011@9000000",
                vec![
                    property("compatible", b"arm,pl011\0arm,primecell\0".to_vec()),
                    property("reg", cells(&[0, 0x900_0000, 0, 0x1000])),
                ],
            ),
            node("psci", vec![property("method", method)]),
            node(
                "pcie@10000000",
                vec![
                    property("#address-cells", cells(&[3])),
                    property("#size-cells", cells(&[2])),
                    property("ranges", cells(&[0, 0, 0, 0x80, 0, 0x80, 0])),
                ],
            ),
            node(
                "chosen",
                vec![
                    property("bootargs", b"seconds=3\0".to_vec()),
                    property("tessera,boot-count", cells(&[1])),
                ],
            ),
            cpus,
        ] {
            tree.root.add_child(child);
        }
        tree.to_dtb()
    }

    #[test]
    fn reads_the_machine() {
        let blob = virt(4, "hvc");
        let machine = Machine::from_tree(Fdt::new(&blob).unwrap()).unwrap();
        assert_eq!(
            machine.memory,
            Span {
                start: 0x4000_0000,
                end: 0x1_4000_0000
            }
        );
        assert_eq!(machine.uart, 0x900_0000);
        assert_eq!(machine.conduit, Conduit::Hvc);
        assert_eq!(machine.arguments, "seconds=3");
        assert_eq!(machine.mpidrs(), [0, 1, 2, 3]);
        assert_eq!(machine.boot_count(), Some(1));
        assert_eq!(machine.device_at(0x900_0ffc), Some("pl011@9000000"));
        assert_eq!(machine.device_at(0x900_1000), None);
        assert_eq!(machine.device_at(0xff_ffff_f000), Some("pcie@10000000"));
        assert_eq!(machine.tree_span().size(), blob.len() as u64);
    }

    #[test]
    fn uses_at_most_eight_vcpus() {
        let blob = virt(12, "smc");
        let machine = Machine::from_tree(Fdt::new(&blob).unwrap()).unwrap();
        assert_eq!(machine.mpidrs().len(), MAX_VCPUS);
        assert_eq!(machine.conduit, Conduit::Smc);
    }

    #[test]
    fn says_what_is_missing() {
        let error = |blob: &[u8]| Machine::from_tree(Fdt::new(blob).unwrap()).unwrap_err();
        assert!(error(&virt(0, "hvc")).contains("cpu"));
        assert!(error(&virt(1, "telepathy")).contains("psci"));
        assert!(error(&DeviceTree::new().to_dtb()).contains("memory"));
    }
}
