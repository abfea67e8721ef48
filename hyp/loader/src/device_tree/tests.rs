//! The device tree that a guest gets, parsed again.

use super::*;
use dtoolkit::fdt::Fdt;
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};

const GUEST: Description<'_> = Description {
    vcpus: 3,
    memory_size: 5 << 30,
    boot_arguments: "seconds=3 seed=7",
    initrd: Some((0x4800_0000, 0x4812_3456)),
    boot_count: 2,
};

#[test]
fn the_tree_says_what_the_machine_has() {
    let mut buffer = [0xff; 10240];
    let blob = write(&mut buffer, &GUEST, &mut || ()).unwrap();
    let tree = Fdt::new(blob).unwrap();
    let text = |path: &str, name| {
        let node = tree.find_node(path).unwrap();
        node.property(name).unwrap().value_as::<&str>().unwrap()
    };
    assert_eq!(text("/chosen", "bootargs"), "seconds=3 seed=7");
    assert_eq!(text("/psci", "method"), "hvc");
    let chosen = tree.find_node("/chosen").unwrap();
    let end = chosen.property("linux,initrd-end").unwrap();
    assert_eq!(end.value_as::<u64>(), Ok(0x4812_3456));
    let count = chosen.property("tessera,boot-count").unwrap();
    assert_eq!(count.value_as::<u32>(), Ok(2));
    let memory = tree.find_node("/memory@40000000").unwrap();
    let reg = memory.reg().unwrap().unwrap().next().unwrap();
    assert_eq!(reg.address::<u64>(), Ok(0x4000_0000));
    assert_eq!(reg.size::<u64>(), Ok(5 << 30));
    let uart = tree.find_node(text("/chosen", "stdout-path")).unwrap();
    assert!(uart.is_compatible("arm,pl011"));
    let controller = tree.find_node("/intc@8000000").unwrap();
    let regions: Vec<(u64, u64)> = controller
        .reg()
        .unwrap()
        .unwrap()
        .map(|reg| (reg.address().unwrap(), reg.size().unwrap()))
        .collect();
    assert_eq!(
        regions,
        [(0x800_0000, 0x1_0000), (0x80a_0000, 3 * 0x2_0000)]
    );
    let interrupts = uart.property("interrupts").unwrap();
    assert_eq!(interrupts.value(), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4]);
    let timer = tree.find_node("/timer").unwrap();
    let interrupts = timer.property("interrupts").unwrap();
    let cells = interrupts.value().chunks(12);
    let numbers: Vec<u8> = cells.map(|cells| cells[7]).collect();
    assert_eq!(numbers, [13, 14, 11, 10]);
    let place = tree.find_node("/virtio_mmio@a003e00").unwrap();
    assert!(place.is_compatible("virtio,mmio"));
    let interrupts = place.property("interrupts").unwrap();
    assert_eq!(interrupts.value(), [0, 0, 0, 0, 0, 0, 0, 47, 0, 0, 0, 1]);
    let reg = place.reg().unwrap().unwrap().next().unwrap();
    assert_eq!(
        (reg.address::<u64>(), reg.size::<u64>()),
        (Ok(0xa00_3e00), Ok(0x200))
    );
    let places = tree.root().find_compatible("virtio,mmio").count();
    assert_eq!(places, 32);
    // Without the register of DMA.
    let fw_cfg = tree.find_node("/fw-cfg@9020000").unwrap();
    let reg = fw_cfg.reg().unwrap().unwrap().next().unwrap();
    assert_eq!(
        (reg.address::<u64>(), reg.size::<u64>()),
        (Ok(0x902_0000), Ok(0x10))
    );
    let cpus = tree.find_node("/cpus").unwrap();
    assert_eq!(cpus.children().count(), 3);
    let last = tree.find_node("/cpus/cpu@2").unwrap();
    assert_eq!(last.property("reg").unwrap().value_as::<u32>(), Ok(2));
}

/// Some guests count the arguments, and one that is empty is one.
#[test]
fn where_there_are_no_arguments_nothing_is_said_of_them() {
    let mut buffer = [0; 10240];
    let guest = Description {
        boot_arguments: "",
        ..GUEST
    };
    let tree = Fdt::new(write(&mut buffer, &guest, &mut || ()).unwrap()).unwrap();
    let chosen = tree.find_node("/chosen").unwrap();
    assert!(chosen.property("bootargs").is_none());
    assert!(chosen.property("stdout-path").is_some());
}

#[test]
fn a_buffer_that_is_too_small_is_an_error() {
    let mut whole = [0; 10240];
    let size = write(&mut whole, &GUEST, &mut || ()).unwrap().len();
    for capacity in (0..size).step_by(61).chain([size - 1]) {
        let mut buffer = vec![0; capacity];
        assert_eq!(
            write(&mut buffer, &GUEST, &mut || ()),
            Err(TreeError::NoSpace(capacity))
        );
    }
    let mut buffer = vec![0; size];
    assert!(write(&mut buffer, &GUEST, &mut || ()).is_ok());
}
