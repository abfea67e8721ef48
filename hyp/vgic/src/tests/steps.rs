//! What a guest and the hardware see of the interrupt controller, step by step.

use super::*;

const ICFGR: u64 = 0xc00;

#[test]
fn a_level_is_pending_as_long_as_it_is_high() {
    let mut machine = Machine::new();
    assert_eq!(machine.vgic.set_line(SPI, true), set(&[0]));
    assert_eq!(machine.read(ISPENDR + 4), SPI_BIT);
    machine.refresh(0, 0);
    assert_eq!(machine.acknowledge(0), Some(SPI));
    machine.end(0, SPI);
    machine.refresh(0, 0);
    assert_eq!(machine.pending(0), [SPI], "it is still high");
    assert_eq!(machine.vgic.set_line(SPI, false), set(&[0]));
    machine.refresh(0, 0);
    assert!(machine.pending(0).is_empty());
    assert_eq!(machine.read(ISPENDR + 4), 0);
}

#[test]
fn the_end_of_a_level_is_told_if_it_is_still_high() {
    const TELL_END: u64 = 1 << 41;
    let mut machine = Machine::new();
    let _ = machine.vgic.set_line(SPI, true);
    machine.refresh(0, 0);
    machine.acknowledge(0);
    assert_ne!(machine.cpus[0].registers[0] & TELL_END, 0);
    let _ = machine.vgic.set_line(SPI, false);
    machine.refresh(0, 0);
    assert!(is_active(machine.cpus[0].registers[0]));
    assert_eq!(machine.cpus[0].registers[0] & TELL_END, 0);
}

#[test]
fn an_edge_is_pending_once() {
    let mut machine = Machine::new();
    let _ = machine.write(ICFGR + 8, 0b10 << 2);
    assert_eq!(machine.read(ICFGR + 8), 0b10 << 2);
    let _ = machine.vgic.set_line(SPI, true);
    machine.refresh(0, 0);
    assert_eq!(machine.acknowledge(0), Some(SPI));
    let _ = machine.vgic.set_line(SPI, false);
    assert_eq!(machine.vgic.set_line(SPI, true), set(&[0]), "again");
    machine.refresh(0, 0);
    assert_eq!(
        machine.cpus[0].registers[0] & STATE,
        STATE,
        "pending and active"
    );
    machine.end(0, SPI);
    assert_eq!(machine.acknowledge(0), Some(SPI));
    machine.end(0, SPI);
    machine.refresh(0, 0);
    assert_eq!(
        machine.cpus[0].listing.used, 0,
        "though the line is still high"
    );
}

#[test]
fn what_is_disabled_or_in_a_disabled_group_is_not_listed() {
    let mut machine = Machine::new();
    let _ = machine.write(ICENABLER + 4, SPI_BIT);
    assert_eq!(machine.vgic.set_line(SPI, true), VcpuSet::EMPTY);
    assert_eq!(machine.refresh(0, 0).1.used, 0);
    assert_eq!(machine.write(ISENABLER + 4, SPI_BIT), set(&[0]));
    assert_eq!(machine.refresh(0, 0).1.used, 1);
    assert_eq!(machine.write(ICENABLER + 4, SPI_BIT), set(&[0]));
    assert_ne!(
        machine.read(GICD_CTLR) & 1 << 31,
        0,
        "it may still be taken"
    );
    assert_eq!(machine.refresh(0, 0).1.used, 0);
    assert_eq!(machine.read(GICD_CTLR), 0b101_0010);
    let _ = machine.write(ISENABLER + 4, SPI_BIT);
    assert_eq!(machine.write(GICD_CTLR, 0b01), set(&[0, 1]));
    assert_eq!(machine.refresh(0, 0).1.used, 0);
    let _ = machine.write(0x84, 0);
    assert_eq!(machine.refresh(0, 0).1.used, 1, "Group 0 is enabled");
    assert_eq!(machine.cpus[0].registers[0] >> 60 & 1, 0);
}

#[test]
fn state_that_is_listed_can_be_changed() {
    let mut machine = Machine::new();
    let _ = machine.write_private(0, ISPENDR, 1 << 5);
    machine.refresh(0, 0);
    assert_eq!(machine.pending(0), [5]);
    assert_eq!(machine.write_private(0, ICPENDR, 1 << 5), set(&[0]));
    machine.refresh(0, 0);
    assert_eq!(machine.cpus[0].listing.used, 0, "no longer pending");

    let _ = machine.write_private(0, ISPENDR, 1 << 5);
    machine.refresh(0, 0);
    machine.acknowledge(0);
    assert_eq!(machine.write_private(0, ICACTIVER, 1 << 5), set(&[0]));
    machine.refresh(0, 0);
    assert_eq!(machine.cpus[0].listing.used, 0, "no longer active");

    assert_eq!(machine.write(ISACTIVER + 4, SPI_BIT), set(&[0]));
    machine.refresh(0, 0);
    assert!(is_active(machine.cpus[0].registers[0]));
    assert_eq!(machine.write(ICACTIVER + 4, SPI_BIT), set(&[0]));
    machine.refresh(0, 0);
    assert_eq!(machine.read(ISACTIVER + 4), 0);
}

#[test]
fn registers_show_what_was_listed_once_it_is_back() {
    let mut machine = Machine::new();
    let _ = machine.vgic.set_line(SPI, true);
    machine.refresh(0, 0);
    machine.acknowledge(0);
    let shown = |offset| machine.vgic.shown_by(Frame::Distributor, offset, 4);
    assert_eq!(shown(ISACTIVER + 4), set(&[0]));
    assert_eq!(shown(ISENABLER + 4), VcpuSet::EMPTY);
    let private = Frame::Redistributor(1);
    let shown = machine.vgic.shown_by(private, SGI_FRAME + ISPENDR, 4);
    assert_eq!(shown, set(&[1]));
    assert_eq!(machine.read(ISACTIVER + 4), 0, "not yet");
    machine.refresh(0, 0);
    assert_eq!(machine.read(ISACTIVER + 4), SPI_BIT, "and listed again");
    assert_eq!(machine.read(ICPENDR + 4), SPI_BIT);
    let _ = machine.write(ICACTIVER + 4, SPI_BIT);
    assert_eq!(machine.read(ISACTIVER + 4), 0);
}

#[test]
fn the_most_urgent_go_first() {
    let mut machine = Machine::new();
    for (intid, priority) in [
        (0, 0xf0),
        (1, 0x80),
        (2, 0x40),
        (3, 0x40),
        (4, 0xe0),
        (5, 0x10),
    ] {
        let _ = machine.set_priority(0, intid, priority);
    }
    let _ = machine.write_private(0, ISPENDR, 0x3f);
    let (_, listing) = machine.refresh(0, 0);
    assert!(listing.more_pending && !listing.more_active);
    assert_eq!(machine.pending(0), [5, 2, 3, 1]);
    for _ in 0..4 {
        let intid = machine.acknowledge(0).unwrap();
        machine.end(0, intid);
    }
    let (_, listing) = machine.refresh(0, 0);
    assert!(!listing.more_pending);
    assert_eq!(machine.pending(0), [4, 0]);
}

#[test]
fn more_active_interrupts_than_registers_end_in_order() {
    let mut machine = Machine::new();
    for intid in 0..6 {
        let _ = machine.set_priority(0, intid, 0xf0 - intid as u8 * 8);
    }
    // Each pre-empts the one before.
    let mut taken = Vec::new();
    for intid in 0..6 {
        let _ = machine.write_private(0, ISPENDR, 1 << intid);
        let (_, listing) = machine.refresh(0, 0);
        assert_eq!(listing.more_active, intid >= 4);
        taken.push(machine.acknowledge(0).unwrap());
    }
    assert_eq!(taken, [0, 1, 2, 3, 4, 5]);
    let mut expected = 0x3f;
    for intid in taken.into_iter().rev() {
        machine.end(0, intid);
        machine.refresh(0, 0);
        expected &= !(1 << intid);
        let mut copy = machine.vgic.clone();
        let _ = copy.unlist(0, machine.registers(0), Some(0), 0);
        let active = copy.read(Frame::Redistributor(0), SGI_FRAME + ISACTIVER, 4);
        assert_eq!(active, expected);
    }
}

#[test]
fn an_interrupt_may_be_ended_by_its_number() {
    let mut machine = Machine::new();
    let _ = machine.write_private(0, ISACTIVER, 0x3f);
    let (_, listing) = machine.refresh(0, 0);
    assert!(listing.more_active);
    machine.cpus[0].split = true;
    for intid in [5, 0] {
        let _ = machine.vgic.deactivate(0, intid);
    }
    machine.refresh(0, 0);
    assert_eq!(machine.read_private(0, ISACTIVER), 0x1e);
}

#[test]
fn shared_interrupts_go_where_they_are_routed() {
    let mut machine = Machine::new();
    let router = IROUTER + 8 * u64::from(SPI);
    let _ = machine.vgic.set_line(SPI, true);
    machine.refresh(0, 0);
    assert_eq!(machine.route(SPI, 1), set(&[0, 1]));
    assert_eq!(machine.vgic.read(Frame::Distributor, router, 8), 1);
    assert_eq!(machine.refresh(1, 0).1.used, 0, "vCPU 0 still has it");
    let (unlisted, listing) = machine.refresh(0, 0);
    assert_eq!((unlisted.others, listing.used), (set(&[1]), 0));
    machine.refresh(1, 0);
    assert_eq!(machine.acknowledge(1), Some(SPI));
    assert_eq!(machine.route(SPI, 7), set(&[1]));
    machine.refresh(1, 0);
    assert!(
        is_active(machine.cpus[1].registers[0]),
        "it ends where it was taken"
    );
    machine.end(1, SPI);
    assert_eq!(machine.refresh(1, 0).1.used, 0);
    assert_eq!(machine.refresh(0, 0).1.used, 0);
}

#[test]
fn a_timer_ends_together_with_the_hardwares() {
    const TIMER: u64 = 1 << VIRTUAL_TIMER;
    const LINE: u32 = 1 << VIRTUAL_TIMER;
    let mut machine = Machine::new();
    machine.refresh(0, LINE);
    assert_eq!(
        machine.cpus[0].listing.used, 0,
        "the CPU has not yet taken it"
    );
    assert_eq!(machine.read_private(0, ISPENDR), TIMER);
    machine.vgic.forward(0, VIRTUAL_TIMER);
    let (unlisted, _) = machine.refresh(0, LINE);
    assert_eq!((unlisted.release, unlisted.forwarded), (0, true));
    assert_ne!(machine.cpus[0].registers[0] & HARDWARE_LINK, 0);
    assert_eq!(machine.acknowledge(0), Some(VIRTUAL_TIMER));
    let (unlisted, _) = machine.refresh(0, 0);
    assert_eq!(unlisted.release, 0, "the guest will end it");
    machine.end(0, VIRTUAL_TIMER);
    let (unlisted, listing) = machine.refresh(0, 0);
    assert_eq!((unlisted.release, unlisted.forwarded), (0, false));
    assert_eq!(listing.used, 0);
}

#[test]
fn a_timer_may_come_again_before_its_end_was_seen() {
    const LINE: u32 = 1 << VIRTUAL_TIMER;
    let mut machine = Machine::new();
    machine.vgic.forward(0, VIRTUAL_TIMER);
    for _ in 0..3 {
        let (unlisted, _) = machine.refresh(0, LINE);
        assert!(unlisted.forwarded);
        assert_eq!(machine.acknowledge(0), Some(VIRTUAL_TIMER));
        machine.end(0, VIRTUAL_TIMER);
        machine.vgic.forward(0, VIRTUAL_TIMER);
    }
}

#[test]
fn a_timer_that_is_stopped_before_it_is_taken_lets_go_of_the_hardwares() {
    const LINE: u32 = 1 << PHYSICAL_TIMER;
    let mut machine = Machine::new();
    machine.vgic.forward(0, PHYSICAL_TIMER);
    machine.refresh(0, LINE);
    assert_eq!(machine.pending(0), [PHYSICAL_TIMER]);
    let (unlisted, listing) = machine.refresh(0, 0);
    assert_eq!((unlisted.release, listing.used), (LINE, 0));
}

#[test]
fn a_reset_keeps_what_the_cpu_holds_active() {
    const LINE: u32 = 1 << VIRTUAL_TIMER;
    let mut machine = Machine::new();
    machine.vgic.forward(0, VIRTUAL_TIMER);
    machine.vgic = machine.vgic.after_reset();
    assert_eq!(machine.vgic.clone().leave_cpu(0), LINE, "its own");
    assert_eq!(machine.vgic.clone().leave_cpu(1), 0, "no other vCPU's");
    let unlisted = machine.unlist(0, LINE);
    assert_eq!((unlisted.release, unlisted.forwarded), (0, true));
    let (unlisted, listing) = machine.refresh(0, 0);
    assert_eq!((unlisted.release, unlisted.forwarded), (LINE, false));
    assert_eq!(listing.used, 0, "the guest never enabled it");
}

#[test]
fn a_timer_that_is_active_may_change_the_cpu() {
    const LINE: u32 = 1 << VIRTUAL_TIMER;
    let mut machine = Machine::new();
    machine.vgic.forward(0, VIRTUAL_TIMER);
    machine.refresh(0, LINE);
    machine.acknowledge(0);
    machine.unlist(0, LINE);
    assert_eq!(machine.vgic.leave_cpu(0), LINE);
    machine.refresh(0, 0);
    assert!(is_active(machine.cpus[0].registers[0]));
    assert_eq!(machine.cpus[0].registers[0] & HARDWARE_LINK, 0);
    // It fires again before the guest has ended it.
    machine.vgic.forward(0, VIRTUAL_TIMER);
    machine.refresh(0, LINE);
    assert_eq!(machine.cpus[0].registers[0] & STATE, 1 << 63);
    machine.end(0, VIRTUAL_TIMER);
    let (unlisted, _) = machine.refresh(0, LINE);
    assert!(!unlisted.forwarded, "the hardware's ended as well");
}

#[test]
fn vcpus_wake_for_what_they_let_through() {
    let mut machine = Machine::new();
    let _ = machine.set_priority(0, 0, 0xa0);
    let wakes = |machine: &Machine, groups, mask| machine.vgic.wakes(0, groups, mask, 0);
    assert!(!wakes(&machine, 0b11, 0xff));
    let _ = machine.write_private(0, ISPENDR, 1);
    assert!(wakes(&machine, 0b10, 0xff));
    assert!(!wakes(&machine, 0b01, 0xff), "it is in Group 1");
    assert!(!wakes(&machine, 0b10, 0xa0), "it is not more urgent");
    let _ = machine.write_private(0, ICPENDR, 1);
    assert!(machine.vgic.wakes(0, 0b10, 0xff, 1 << VIRTUAL_TIMER));
    let _ = machine.vgic.set_line(SPI, true);
    assert!(wakes(&machine, 0b10, 0xff));
    assert!(!machine.vgic.wakes(1, 0b10, 0xff, 0));
}

#[test]
fn software_interrupts_reach_whom_they_name() {
    let mut vgic = Machine::new().vgic;
    let to = |list: u64, sgi: u64| sgi << 24 | list;
    assert_eq!(
        vgic.send_sgi(0, SgiRegister::Group1, to(0b10, 3)),
        set(&[1])
    );
    let all_others = 1 << 40 | 4 << 24;
    assert_eq!(vgic.send_sgi(1, SgiRegister::Group1, all_others), set(&[0]));
    let pending = |vgic: &Vgic, vcpu| vgic.read(Frame::Redistributor(vcpu), SGI_FRAME + ISPENDR, 4);
    assert_eq!((pending(&vgic, 0), pending(&vgic, 1)), (1 << 4, 1 << 3));
    for nobody in [
        to(0b100, 5),
        1 << 16 | to(1, 5),
        1 << 32 | to(1, 5),
        1 << 44 | to(1, 5),
    ] {
        assert_eq!(
            vgic.send_sgi(0, SgiRegister::Group1, nobody),
            VcpuSet::EMPTY
        );
    }
    let group0 = vgic.send_sgi(0, SgiRegister::Group0, to(0b11, 6));
    assert_eq!(group0, VcpuSet::EMPTY, "it is in Group 1");
}

#[test]
fn the_frames_say_what_they_are() {
    let vgic = Vgic::new(2);
    let read = |offset, size| vgic.read(Frame::Distributor, offset, size);
    assert_eq!(read(0x4, 4) & 0x1f, 2, "96 interrupts");
    assert_eq!(read(0xffe8, 4) >> 4 & 0xf, 3, "GICv3");
    assert_eq!(read(GICD_CTLR, 4), 0x50);
    let redistributor = |vcpu, offset, size| vgic.read(Frame::Redistributor(vcpu), offset, size);
    assert_eq!(redistributor(0, 0x8, 8), 0);
    assert_eq!(redistributor(1, 0x8, 8), 1 << 32 | 1 << 8 | 1 << 4);
    assert_eq!(redistributor(1, 0x8, 4), 1 << 8 | 1 << 4);
    assert_eq!(redistributor(1, 0xc, 4), 1);
    assert_eq!(redistributor(0, 0xffe8, 4) >> 4 & 0xf, 3);
    assert_eq!(redistributor(0, SGI_FRAME + ICFGR, 4), 0xaaaa_aaaa);
}

#[test]
fn a_redistributor_wakes_and_sleeps() {
    let mut vgic = Vgic::new(1);
    let frame = Frame::Redistributor(0);
    assert_eq!(vgic.read(frame, 0x14, 4), 0b110);
    let _ = vgic.write(frame, 0x14, 4, 0);
    assert_eq!(vgic.read(frame, 0x14, 4), 0);
    let _ = vgic.write(frame, 0x14, 4, 0b010);
    assert_eq!(vgic.read(frame, 0x14, 4), 0b110);
}

#[test]
fn priorities_have_bytes_and_words() {
    let mut machine = Machine::new();
    let _ = machine.write(IPRIORITYR + 32, 0xffee_ddcc);
    assert_eq!(machine.read(IPRIORITYR + 32), 0xf8e8_d8c8);
    let frame = Frame::Distributor;
    let _ = machine.vgic.write(frame, IPRIORITYR + 33, 1, 0x20);
    assert_eq!(machine.read(IPRIORITYR + 32), 0xf8e8_20c8);
    assert_eq!(machine.vgic.read(frame, IPRIORITYR + 35, 1), 0xf8);
}

#[test]
fn what_is_not_there_reads_as_zero_and_ignores_writes() {
    let mut machine = Machine::new();
    let before = format!("{:?}", machine.vgic);
    let frames = [Frame::Distributor, Frame::Redistributor(5)];
    for (frame, size) in frames
        .into_iter()
        .flat_map(|frame| [(frame, 2), (frame, 8)])
    {
        for offset in [
            0,
            2,
            ISENABLER + 4,
            0x102,
            IPRIORITYR + 32,
            0x5ff8,
            0x6300,
            0xffff,
        ] {
            assert_eq!(machine.vgic.read(frame, offset, size), 0, "{offset:#x}");
            let concerned = machine.vgic.write(frame, offset, size, u64::MAX);
            assert_eq!(concerned, VcpuSet::EMPTY, "{offset:#x}");
        }
    }
    for offset in [
        ISENABLER,
        ISENABLER + 12,
        ISPENDR,
        ICFGR,
        IROUTER,
        0xf00,
        0x40,
    ] {
        assert_eq!(machine.read(offset), 0, "{offset:#x}");
        let _ = machine.write(offset, u64::MAX);
    }
    assert_eq!(format!("{:?}", machine.vgic), before);
    assert_eq!(machine.vgic.set_line(5000, true), VcpuSet::EMPTY);
    assert_eq!(machine.vgic.set_line(3, true), VcpuSet::EMPTY);
}
