//! Reads QEMU's own device tree, whole and with parts taken out.
//!
//! `data/qemu-7.2-virt.dtb` is what QEMU 7.2 passes for `-M virt,virtualization=on,gic-version=3
//! -smp 4 -m 512M` with an initrd of 12345 bytes and boot arguments (`-machine dumpdtb=`, without
//! the padding that QEMU adds).

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use platform::board::{Conduit, Mpidr, TimerInterrupts, Uart};
use platform::{Board, BoardError, Region};

const QEMU: &[u8] = include_bytes!("data/qemu-7.2-virt.dtb");
/// Where the tests say that the tree lies.
const BLOB: u64 = 0x4820_0000;

const fn region(base: u64, size: u64) -> Region {
    Region { base, size }
}

/// QEMU's tree after `change`, as a blob.
fn changed(change: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(QEMU).unwrap());
    change(&mut tree);
    tree.to_dtb()
}

/// The error, as its text, that comes of QEMU's tree after `change`.
fn complaint(change: impl FnOnce(&mut DeviceTree)) -> String {
    let blob = changed(change);
    Board::from_device_tree(&blob, BLOB)
        .expect_err("the tree must not be accepted")
        .to_string()
}

fn remove(tree: &mut DeviceTree, node: &str) {
    tree.root.remove_child(node).expect("no such node");
}

fn remove_property(tree: &mut DeviceTree, node: &str, property: &str) {
    let node = tree.find_node_mut(node).expect("no such node");
    node.remove_property(property).expect("no such property");
}

fn set(tree: &mut DeviceTree, node: &str, property: DeviceTreeProperty) {
    let node = tree.find_node_mut(node).expect("no such node");
    node.add_property(property);
}

#[test]
fn qemu_virt_is_read_in_full() {
    let board = Board::from_device_tree(QEMU, BLOB).unwrap();
    assert_eq!(board.memory[..], [region(0x4000_0000, 512 << 20)]);
    assert_eq!(board.initrd, Some(region(0x4800_0000, 12345)));
    assert_eq!(board.device_tree, region(BLOB, QEMU.len() as u64));
    assert_eq!(
        board.reserved[..],
        [board.device_tree, board.initrd.unwrap()]
    );
    assert_eq!(
        board.boot_arguments,
        "log=debug guest-args=\"seconds=5 seed=1\""
    );
    assert_eq!(board.cpus[..], [0, 1, 2, 3].map(Mpidr::from_raw));
    assert_eq!(
        board.uart,
        Uart {
            registers: region(0x900_0000, 0x1000),
            interrupt: 33,
        }
    );
    assert_eq!(board.gic.distributor, region(0x800_0000, 0x1_0000));
    assert_eq!(
        board.gic.redistributors[..],
        [region(0x80a_0000, 0xf6_0000)]
    );
    assert_eq!(board.gic.maintenance_interrupt, 25);
    assert_eq!(
        board.timer,
        TimerInterrupts {
            el1_physical: 30,
            el1_virtual: 27,
            el2_physical: 26,
        }
    );
    assert_eq!(board.psci, Conduit::Smc);
}

#[test]
fn the_console_is_found_before_the_rest_is_read() {
    let blob = changed(|tree| remove(tree, "cpus"));
    assert!(Board::from_device_tree(&blob, BLOB).is_err());
    let uart = Uart::from_device_tree(&blob).unwrap();
    assert_eq!(uart.registers.base, 0x900_0000);
}

#[test]
fn without_chosen_there_is_no_initrd_and_no_argument() {
    let blob = changed(|tree| remove(tree, "chosen"));
    let board = Board::from_device_tree(&blob, BLOB).unwrap();
    assert_eq!(board.initrd, None);
    assert_eq!(board.boot_arguments, "");
    assert_eq!(board.reserved[..], [board.device_tree]);
}

#[test]
fn initrd_addresses_may_have_two_cells() {
    let blob = changed(|tree| {
        for (name, address) in [("start", 0x1_4800_0000_u64), ("end", 0x1_4900_0000)] {
            let name = format!("linux,initrd-{name}");
            set(
                tree,
                "/chosen",
                DeviceTreeProperty::new(name, address).unwrap(),
            );
        }
    });
    let board = Board::from_device_tree(&blob, BLOB).unwrap();
    assert_eq!(board.initrd, Some(region(0x1_4800_0000, 16 << 20)));
}

#[test]
fn reservations_of_the_firmware_are_kept() {
    let blob = changed(|tree| {
        let area = DeviceTreeNode::builder("firmware@5f000000")
            .unwrap()
            .property(DeviceTreeProperty::new("reg", [0u32, 0x5f00_0000, 0, 0x10_0000]).unwrap())
            .build();
        let cells = |name| DeviceTreeProperty::new(name, 2u32).unwrap();
        let parent = DeviceTreeNode::builder("reserved-memory")
            .unwrap()
            .property(cells("#address-cells"))
            .property(cells("#size-cells"))
            .child(area)
            .build();
        tree.root.add_child(parent);
    });
    let board = Board::from_device_tree(&blob, BLOB).unwrap();
    assert!(board.reserved.contains(&region(0x5f00_0000, 0x10_0000)));
}

#[test]
fn cpus_that_are_disabled_do_not_count() {
    let blob = changed(|tree| {
        set(
            tree,
            "/cpus/cpu@2",
            DeviceTreeProperty::new("status", "disabled").unwrap(),
        );
    });
    let board = Board::from_device_tree(&blob, BLOB).unwrap();
    assert_eq!(board.cpus[..], [0, 1, 3].map(Mpidr::from_raw));
}

#[test]
fn what_is_missing_is_named() {
    for (node, expected) in [
        ("memory@40000000", "memory node"),
        ("cpus", "/cpus node"),
        ("pl011@9000000", "PL011 (`arm,pl011`)"),
        ("intc@8000000", "GICv3"),
        ("timer", "generic timer (`arm,armv8-timer`)"),
        ("psci", "PSCI firmware"),
    ] {
        let text = complaint(|tree| remove(tree, node));
        assert!(text.contains(expected), "without {node}: {text}");
    }
    for (node, property, expected) in [
        ("/memory@40000000", "reg", "memory node"),
        ("/cpus/cpu@0", "reg", "cpu node"),
        ("/pl011@9000000", "interrupts", "PL011"),
        ("/timer", "interrupts", "generic timer"),
        ("/psci", "method", "PSCI"),
    ] {
        let text = complaint(|tree| remove_property(tree, node, property));
        assert!(
            text.contains(expected) && text.contains(property),
            "without {node}'s {property}: {text}"
        );
    }
}

#[test]
fn an_older_interrupt_controller_gets_a_hint() {
    let text = complaint(|tree| {
        let gicv2 = DeviceTreeProperty::new("compatible", "arm,cortex-a15-gic").unwrap();
        set(tree, "/intc@8000000", gicv2);
    });
    assert!(text.contains("gic-version=3"), "{text}");
}

#[test]
fn a_timer_without_the_hypervisors_interrupt_is_refused() {
    let text = complaint(|tree| {
        let three = [1u32, 13, 4, 1, 14, 4, 1, 11, 4];
        set(
            tree,
            "/timer",
            DeviceTreeProperty::new("interrupts", three).unwrap(),
        );
    });
    assert!(
        text.contains("generic timer") && text.contains("interrupts"),
        "{text}"
    );
}

#[test]
fn interrupts_of_another_kind_than_the_devices_can_have_are_refused() {
    const SHARED: [u32; 3] = [0, 11, 4];
    const PRIVATE: [u32; 3] = [1, 11, 4];
    let timer = |last: [u32; 3]| [[1, 13, 4], [1, 14, 4], [1, 11, 4], last].concat();
    for (node, interrupts, expected) in [
        ("/timer", timer(SHARED), "(type 1, number below 16)"),
        ("/timer", timer([1, 16, 4]), "(type 1, number below 16)"),
        (
            "/intc@8000000",
            SHARED.to_vec(),
            "(type 1, number below 16)",
        ),
        (
            "/pl011@9000000",
            PRIVATE.to_vec(),
            "(type 0, number below 988)",
        ),
        (
            "/pl011@9000000",
            vec![0, 988, 4],
            "(type 0, number below 988)",
        ),
        (
            "/pl011@9000000",
            vec![2, 1, 4],
            "(type 0, number below 988)",
        ),
    ] {
        let cells: Vec<u8> = interrupts
            .iter()
            .flat_map(|cell| cell.to_be_bytes())
            .collect();
        let text = complaint(|tree| {
            set(
                tree,
                node,
                DeviceTreeProperty::new("interrupts", cells).unwrap(),
            );
        });
        assert!(text.ends_with(expected), "{node}, {interrupts:?}: {text}");
    }
}

#[test]
fn too_many_cpus_are_an_error_with_the_limit() {
    let text = complaint(|tree| {
        let cpus = tree.find_node_mut("/cpus").unwrap();
        for number in 4..9u32 {
            let cpu = DeviceTreeNode::builder(format!("cpu@{number}"))
                .unwrap()
                .property(DeviceTreeProperty::new("reg", number).unwrap())
                .build();
            cpus.add_child(cpu);
        }
    });
    assert_eq!(
        text,
        "the device tree has more CPUs than the 8 this build has room for"
    );
}

#[test]
fn a_damaged_blob_is_refused() {
    let mut blob = QEMU.to_vec();
    blob[0] ^= 0xff;
    let error = Board::from_device_tree(&blob, BLOB).unwrap_err();
    assert!(matches!(error, BoardError::Damaged(_)), "{error}");
    let error = Board::from_device_tree(&QEMU[..QEMU.len() - 1], BLOB).unwrap_err();
    assert!(matches!(error, BoardError::Damaged(_)), "{error}");
}
