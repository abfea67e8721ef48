//! What may be done to an interrupt while it is active, and what is left of it then.

use super::*;

const GICR_CTLR: u64 = 0x0;
const ICFGR: u64 = 0xc00;
/// `RWP` of the distributor, and of a redistributor.
const DISTRIBUTOR_BUSY: u64 = 1 << 31;
const REDISTRIBUTOR_BUSY: u64 = 1 << 3;

impl Machine {
    /// A machine on which vCPU 0 has taken the shared interrupt, which is edge-triggered.
    fn with_spi_taken() -> Self {
        let mut machine = Self::new();
        let _ = machine.write(ICFGR + 8, 0b10 << 2);
        let _ = machine.set_priority(0, SPI, 0x80);
        let _ = machine.write(ISPENDR + 4, SPI_BIT);
        machine.refresh(0, 0);
        assert_eq!(machine.acknowledge(0), Some(SPI));
        machine
    }

    /// vCPU 0 takes an SGI of this priority, which pre-empts what it handles.
    fn nest(&mut self, intid: u32, priority: u8) {
        let _ = self.set_priority(0, intid, priority);
        let _ = self.write_private(0, ISPENDR, 1 << intid);
        self.refresh(0, 0);
        assert_eq!(self.acknowledge(0), Some(intid));
    }

    fn is_distributor_busy(&self) -> bool {
        self.read(GICD_CTLR) & DISTRIBUTOR_BUSY != 0
    }

    fn is_redistributor_busy(&self, vcpu: usize) -> bool {
        let control = self.vgic.read(Frame::Redistributor(vcpu), GICR_CTLR, 4);
        control & REDISTRIBUTOR_BUSY != 0
    }

    fn is_spi_active(&mut self) -> bool {
        for vcpu in 0..2 {
            self.refresh(vcpu, 0);
        }
        self.read(ISACTIVER + 4) & SPI_BIT != 0
    }
}

#[test]
fn a_register_write_is_done_though_the_interrupt_is_active() {
    let mut machine = Machine::with_spi_taken();
    let _ = machine.write_private(0, ISPENDR, 1);
    assert_eq!(machine.write(ICENABLER + 4, SPI_BIT), set(&[0]));
    assert!(machine.is_distributor_busy(), "it may not have been taken");
    machine.refresh(0, 0);
    assert!(!machine.is_distributor_busy(), "it was");
    assert!(is_active(machine.cpus[0].registers[1]));
    // What is known to be active has nothing left to be withdrawn.
    let _ = machine.write(ISENABLER + 4, SPI_BIT);
    assert_eq!(machine.write(ICENABLER + 4, SPI_BIT), VcpuSet::EMPTY);
    assert!(!machine.is_distributor_busy());

    assert_eq!(machine.acknowledge(0), Some(0));
    let _ = machine.write_private(0, ICENABLER, 1);
    assert!(machine.is_redistributor_busy(0));
    machine.refresh(0, 0);
    assert!(!machine.is_redistributor_busy(0));
    assert_eq!(machine.read_private(0, ISACTIVER), 1);
}

#[test]
fn disabling_a_group_is_done_when_nothing_of_it_can_be_taken() {
    let mut machine = Machine::new();
    let _ = machine.write_private(0, ISPENDR, 1);
    machine.refresh(0, 0);
    assert!(!machine.is_distributor_busy());
    assert_eq!(machine.write(GICD_CTLR, 0b01), set(&[0, 1]));
    assert!(machine.is_distributor_busy(), "an SGI is listed");
    machine.refresh(0, 0);
    assert!(!machine.is_distributor_busy());
    assert!(!machine.is_redistributor_busy(0));
}

#[test]
fn whoever_enables_a_timers_interrupt_has_its_vcpu_look() {
    let mut machine = Machine::new();
    let timer = 1 << VIRTUAL_TIMER;
    let _ = machine.write_private(1, ICENABLER, timer);
    assert_eq!(machine.write_private(1, ISENABLER, timer), set(&[1]));
    assert_eq!(machine.write_private(1, ISENABLER, timer), VcpuSet::EMPTY);
    // The line of another is known.
    let _ = machine.write_private(1, ICENABLER, 1 << 5);
    assert_eq!(machine.write_private(1, ISENABLER, 1 << 5), VcpuSet::EMPTY);
}

#[test]
fn any_vcpu_ends_a_shared_interrupt_by_its_number() {
    let mut machine = Machine::with_spi_taken();
    assert_eq!(machine.vgic.deactivate(1, SPI), set(&[0]));
    let _ = machine.write(ISPENDR + 4, SPI_BIT);
    machine.end(0, SPI);
    machine.refresh(0, 0);
    assert_eq!(machine.acknowledge(0), Some(SPI), "it comes again");
    // Its holder has left the guest.
    machine.unlist(0, 0);
    assert_eq!(machine.vgic.deactivate(1, SPI), VcpuSet::EMPTY);
    assert!(!machine.is_spi_active());
    // Software has made it active.
    let _ = machine.write(ISACTIVER + 4, SPI_BIT);
    assert!(machine.is_spi_active());
    assert_eq!(machine.vgic.deactivate(1, SPI), set(&[0]));
    assert!(!machine.is_spi_active());
}

#[test]
fn only_its_own_vcpu_ends_a_private_interrupt_by_its_number() {
    let mut machine = Machine::new();
    let _ = machine.write_private(0, ISACTIVER, 1 << 5);
    for other in [5, SPI, INTERRUPTS, 1023, 0xff_ffff] {
        let _ = machine.vgic.deactivate(1, other);
    }
    assert_eq!(machine.read_private(0, ISACTIVER), 1 << 5);
    let _ = machine.vgic.deactivate(0, 5);
    assert_eq!(machine.read_private(0, ISACTIVER), 0);
}

#[test]
fn an_interrupt_ends_at_the_priority_and_in_the_group_in_which_it_was_taken() {
    for others in [0_u32, 4] {
        for change in 0..4 {
            let mut machine = Machine::with_spi_taken();
            let _ = match change {
                0 => machine.set_priority(0, SPI, 0x40),
                1 => machine.set_priority(0, SPI, 0xf0),
                _ => VcpuSet::EMPTY,
            };
            if change == 2 {
                let _ = machine.write(0x84, 0);
            }
            machine.refresh(0, 0);
            // With others nested within it no register is left for it.
            for intid in 0..others {
                machine.nest(intid, 0x38 - 8 * intid as u8);
            }
            machine.refresh(0, 0);
            for intid in (0..others).rev() {
                machine.end(0, intid);
            }
            machine.end(0, SPI);
            assert_eq!(machine.cpus[0].running, [0, 0]);
            assert!(!machine.is_spi_active(), "{others} others, change {change}");
        }
    }
}

#[test]
fn an_interrupt_that_is_taken_otherwise_next_time_waits_for_its_end() {
    let mut machine = Machine::with_spi_taken();
    let _ = machine.write(ISPENDR + 4, SPI_BIT);
    machine.refresh(0, 0);
    assert_eq!(machine.pending(0), [SPI], "it comes as it came");
    let _ = machine.set_priority(0, SPI, 0x40);
    machine.refresh(0, 0);
    assert_eq!(machine.registers(0)[0] & STATE, 1 << 63);
    assert_eq!(priority_of(machine.registers(0)[0]), 0x80);
    machine.end(0, SPI);
    assert!(machine.cpus[0].wants_maintenance());
    machine.refresh(0, 0);
    assert_eq!(priority_of(machine.registers(0)[0]), 0x40);
    assert_eq!(machine.acknowledge(0), Some(SPI));
}

#[test]
fn what_is_pending_of_an_active_interrupt_goes_where_it_is_routed() {
    let mut machine = Machine::with_spi_taken();
    let _ = machine.write(ISPENDR + 4, SPI_BIT);
    machine.refresh(0, 0);
    assert_eq!(machine.route(SPI, 1), set(&[0, 1]));
    machine.refresh(0, 0);
    assert_eq!(machine.registers(0)[0] & STATE, 1 << 63);
    assert_eq!(machine.refresh(1, 0).1.used, 0, "it is active");
    machine.end(0, SPI);
    assert!(machine.cpus[0].wants_maintenance());
    assert_eq!(machine.acknowledge(0), None);
    let (unlisted, listing) = machine.refresh(0, 0);
    assert_eq!((unlisted.others, listing.used), (set(&[1]), 0));
    machine.refresh(1, 0);
    assert_eq!(machine.acknowledge(1), Some(SPI));
}

#[test]
fn two_vcpus_that_handle_what_is_the_others_do_not_call_each_other() {
    let mut machine = Machine::with_spi_taken();
    let other = SPI + 1;
    let _ = machine.route(other, 1);
    let _ = machine.write(ISPENDR + 4, SPI_BIT << 1);
    machine.refresh(1, 0);
    assert_eq!(machine.acknowledge(1), Some(other));
    let _ = machine.write(ISPENDR + 4, SPI_BIT | SPI_BIT << 1);
    let _ = (machine.route(SPI, 1), machine.route(other, 0));
    for vcpu in [0, 1] {
        let (unlisted, _) = machine.refresh(vcpu, 0);
        assert_eq!(unlisted.others, VcpuSet::EMPTY, "nothing has changed");
    }
}

#[test]
fn the_new_vcpu_is_told_of_an_end_that_no_register_saw() {
    let mut machine = Machine::with_spi_taken();
    let _ = machine.write(ISPENDR + 4, SPI_BIT);
    let _ = machine.route(SPI, 1);
    for intid in 0..4 {
        machine.nest(intid, 0x38 - 8 * intid as u8);
    }
    let (_, listing) = machine.refresh(0, 0);
    assert!(listing.more_active);
    for intid in (0..4).rev() {
        machine.end(0, intid);
    }
    machine.end(0, SPI);
    assert!(machine.cpus[0].wants_maintenance());
    assert_eq!(machine.refresh(0, 0).0.others, set(&[1]));
}

#[test]
fn a_group_that_is_not_let_through_takes_no_place_of_the_others() {
    let mut machine = Machine::new();
    let _ = machine.write(GICD_CTLR, 0b11);
    let _ = machine.write_private(0, 0x80, 1 << 5 | 1 << 6);
    let _ = machine.set_priority(0, 5, 0x80);
    let _ = machine.write_private(0, ISPENDR, 0x3f);
    machine.cpus[0].groups = 0b10;
    let (_, listing) = machine.refresh(0, 0);
    assert_eq!(machine.pending(0)[0], 5, "of the group that is let through");
    assert_eq!((listing.more_pending, listing.held_back), (false, 0b01));
    assert!(!machine.cpus[0].wants_maintenance());
    assert_eq!(machine.acknowledge(0), Some(5));
    machine.end(0, 5);
    // The other group is let through now, too.
    machine.cpus[0].groups = 0b11;
    assert!(machine.cpus[0].wants_maintenance());
    let (_, listing) = machine.refresh(0, 0);
    assert_eq!((listing.more_pending, listing.held_back), (true, 0));
    assert_eq!(machine.pending(0), [0, 1, 2, 3]);
    // And no longer, while its interrupts have all places.
    let _ = machine.write_private(0, ISPENDR, 1 << 5);
    machine.refresh(0, 0);
    machine.cpus[0].groups = 0b10;
    assert!(machine.cpus[0].wants_maintenance());
    machine.refresh(0, 0);
    assert_eq!(machine.acknowledge(0), Some(5));
}

#[test]
fn an_end_of_what_software_made_inactive_ends_nothing_else() {
    let mut machine = Machine::new();
    for intid in 0..10 {
        machine.nest(intid, 0xf0 - 8 * intid as u8);
    }
    machine.refresh(0, 0);
    // One that is in a register, and one that is in none.
    let _ = machine.write_private(0, ICACTIVER, 1 << 7 | 1 << 5);
    machine.refresh(0, 0);
    let mut active = 0x35f;
    for intid in (0..10).rev() {
        assert_eq!(machine.read_private(0, ISACTIVER), active, "before {intid}");
        machine.end(0, intid);
        machine.refresh(0, 0);
        active &= !(1 << intid);
    }
    assert_eq!(active, 0);
}

#[test]
fn an_end_of_a_shared_one_that_software_made_inactive_ends_nothing_else() {
    let mut machine = Machine::new();
    for intid in 0..5 {
        machine.nest(intid, 0xf0 - 8 * intid as u8);
    }
    let _ = machine.set_priority(0, SPI, 0x80);
    let _ = machine.write(ISPENDR + 4, SPI_BIT);
    machine.refresh(0, 0);
    assert_eq!(machine.acknowledge(0), Some(SPI));
    for intid in 8..12 {
        machine.nest(intid, 0x78 - 8 * (intid as u8 - 8));
    }
    machine.refresh(0, 0);
    let _ = machine.write(ICACTIVER + 4, SPI_BIT);
    for intid in (8..12).rev() {
        machine.end(0, intid);
        machine.refresh(0, 0);
    }
    machine.end(0, SPI);
    machine.refresh(0, 0);
    assert_eq!(machine.read_private(0, ISACTIVER), 0x1f);
}

#[test]
fn what_is_active_and_not_handled_is_not_ended_by_a_count() {
    for reset in [false, true] {
        let mut machine = Machine::with_spi_taken();
        machine.nest(9, 0x78);
        machine.refresh(0, 0);
        if reset {
            machine.unlist(0, 0);
            machine.cpus[0] = Interface::RESET;
            machine.vgic.reset_interface(0);
        } else {
            // Their priorities are dropped, and no more.
            machine.cpus[0].split = true;
            machine.end(0, 9);
            machine.end(0, SPI);
            machine.refresh(0, 0);
            machine.cpus[0].split = false;
        }
        machine.nest(0, 0xf8);
        for intid in 1..7 {
            machine.nest(intid, 0x78 - 8 * intid as u8);
        }
        machine.refresh(0, 0);
        for intid in (0..7).rev() {
            machine.end(0, intid);
        }
        assert!(machine.is_spi_active(), "reset: {reset}");
        let active = machine.read_private(0, ISACTIVER);
        assert_eq!(active, 1 << 9, "reset: {reset}");
    }
}

#[test]
fn what_was_outlived_by_a_dropped_priority_is_over() {
    let mut machine = Machine::with_spi_taken();
    machine.cpus[0].split = true;
    machine.end(0, SPI);
    // Another vCPU ends it by its number, before and after this one has looked.
    for looks in [true, false] {
        if looks {
            machine.refresh(0, 0);
        }
        let _ = machine.vgic.deactivate(1, SPI);
        machine.refresh(0, 0);
        let _ = machine.write(ISPENDR + 4, SPI_BIT);
        machine.refresh(0, 0);
        assert_eq!(machine.acknowledge(0), Some(SPI));
        machine.end(0, SPI);
    }
    let _ = machine.vgic.deactivate(0, SPI);
    machine.refresh(0, 0);
    machine.cpus[0].split = false;
    machine.nest(0, 0xf8);
    for intid in 1..7 {
        machine.nest(intid, 0x78 - 8 * intid as u8);
    }
    machine.refresh(0, 0);
    for intid in (0..7).rev() {
        machine.end(0, intid);
    }
    machine.refresh(0, 0);
    assert_eq!(machine.read_private(0, ISACTIVER), 0);
}
