//! Every address of the distributor's and a redistributor's frames, with every size of access,
//! against the register maps of Arm IHI 0069 (12.8, 12.9, 12.10), written down here a second time
//! as tables.

use super::*;

const SIZES: [u32; 4] = [1, 2, 4, 8];
const WORD: &[u32] = &[4];
const WORD_OR_BYTE: &[u32] = &[1, 4];
const DOUBLE_OR_WORD: &[u32] = &[4, 8];

/// What a store of all ones leaves in the bytes of a register.
#[derive(Clone, Copy)]
enum Ones {
    /// What was there before: it is read-only, or reserved.
    Nothing,
    /// These bits, for registers of this many bytes in a row.
    Bits(u64, u64),
}

/// Registers in a row that behave alike.
struct Row {
    from: u64,
    to: u64,
    sizes: &'static [u32],
    /// What each 32-bit word reads as after reset.
    reset: u32,
    ones: Ones,
    /// What a store of zeros leaves of the ones: those that are stored by another register stay.
    zeros: Ones,
}

const fn row(from: u64, to: u64, sizes: &'static [u32], reset: u32, ones: Ones) -> Row {
    let zeros = Ones::Nothing;
    Row {
        from,
        to,
        sizes,
        reset,
        ones,
        zeros,
    }
}

impl Row {
    /// Also a store of zeros is kept.
    const fn plain(self) -> Self {
        Self {
            zeros: Ones::Bits(0, 4),
            ..self
        }
    }
}

const ALL: Ones = Ones::Bits(u32::MAX as u64, 4);
const PRIORITY: Ones = Ones::Bits(0xf8f8_f8f8, 4);
const TRIGGER: Ones = Ones::Bits(0xaaaa_aaaa, 4);
const ROUTE: Ones = Ones::Bits(0xff_00ff_ffff, 8);

/// The distributor of a machine with 96 interrupts, affinity routing and one Security state. The
/// fields of the first 32 interrupts are reserved.
const DISTRIBUTOR: &[Row] = &[
    // CTLR: DS and ARE are fixed.
    row(0x0000, 0x0004, WORD, 0x50, Ones::Bits(0x53, 4)),
    // TYPER, IIDR.
    row(0x0004, 0x0008, WORD, 0x0348_0002, Ones::Nothing),
    row(0x0008, 0x000c, WORD, 0x5400_043b, Ones::Nothing),
    // IGROUPR1, 2.
    row(0x0084, 0x008c, WORD, 0, ALL).plain(),
    // ISENABLER, ICENABLER.
    row(0x0104, 0x010c, WORD, 0, ALL),
    row(0x0184, 0x018c, WORD, 0, Ones::Nothing),
    // ISPENDR, ICPENDR.
    row(0x0204, 0x020c, WORD, 0, ALL),
    row(0x0284, 0x028c, WORD, 0, Ones::Nothing),
    // ISACTIVER, ICACTIVER.
    row(0x0304, 0x030c, WORD, 0, ALL),
    row(0x0384, 0x038c, WORD, 0, Ones::Nothing),
    // IPRIORITYR8 to 23.
    row(0x0420, 0x0460, WORD_OR_BYTE, 0, PRIORITY).plain(),
    // ICFGR2 to 5.
    row(0x0c08, 0x0c18, WORD, 0, TRIGGER).plain(),
    // IROUTER32 to 95.
    row(0x6100, 0x6300, DOUBLE_OR_WORD, 0, ROUTE).plain(),
    // PIDR4, PIDR0 to 2 (GICv3), CIDR0 to 3.
    row(0xffd0, 0xffd4, WORD, 0x44, Ones::Nothing),
    row(0xffe0, 0xffe4, WORD, 0x92, Ones::Nothing),
    row(0xffe4, 0xffe8, WORD, 0xb4, Ones::Nothing),
    row(0xffe8, 0xffec, WORD, 0x3b, Ones::Nothing),
    row(0xfff0, 0xfff4, WORD, 0x0d, Ones::Nothing),
    row(0xfff4, 0xfff8, WORD, 0xf0, Ones::Nothing),
    row(0xfff8, 0xfffc, WORD, 0x05, Ones::Nothing),
    row(0xfffc, 0x1_0000, WORD, 0xb1, Ones::Nothing),
];

/// The redistributor of vCPU 1, the last one.
const REDISTRIBUTOR: &[Row] = &[
    // IIDR; TYPER: Last, processor number 1; its upper half: Aff0 1.
    row(0x0004, 0x0008, WORD, 0x5400_043b, Ones::Nothing),
    row(0x0008, 0x000c, DOUBLE_OR_WORD, 0x110, Ones::Nothing),
    row(0x000c, 0x0010, WORD, 1, Ones::Nothing),
    // WAKER: ChildrenAsleep follows ProcessorSleep.
    row(0x0014, 0x0018, WORD, 0b110, Ones::Bits(0b110, 4)).plain(),
    row(0xffd0, 0xffd4, WORD, 0x44, Ones::Nothing),
    row(0xffe0, 0xffe4, WORD, 0x92, Ones::Nothing),
    row(0xffe4, 0xffe8, WORD, 0xb4, Ones::Nothing),
    row(0xffe8, 0xffec, WORD, 0x3b, Ones::Nothing),
    row(0xfff0, 0xfff4, WORD, 0x0d, Ones::Nothing),
    row(0xfff4, 0xfff8, WORD, 0xf0, Ones::Nothing),
    row(0xfff8, 0xfffc, WORD, 0x05, Ones::Nothing),
    row(0xfffc, 0x1_0000, WORD, 0xb1, Ones::Nothing),
    // IGROUPR0, ISENABLER0, ICENABLER0, ISPENDR0, ICPENDR0, ISACTIVER0, ICACTIVER0.
    row(0x1_0080, 0x1_0084, WORD, 0, ALL).plain(),
    row(0x1_0100, 0x1_0104, WORD, 0, ALL),
    row(0x1_0180, 0x1_0184, WORD, 0, Ones::Nothing),
    row(0x1_0200, 0x1_0204, WORD, 0, ALL),
    row(0x1_0280, 0x1_0284, WORD, 0, Ones::Nothing),
    row(0x1_0300, 0x1_0304, WORD, 0, ALL),
    row(0x1_0380, 0x1_0384, WORD, 0, Ones::Nothing),
    // IPRIORITYR0 to 7.
    row(0x1_0400, 0x1_0420, WORD_OR_BYTE, 0, PRIORITY).plain(),
    // ICFGR0: SGIs are edge-triggered. ICFGR1.
    row(0x1_0c00, 0x1_0c04, WORD, 0xaaaa_aaaa, Ones::Nothing),
    row(0x1_0c04, 0x1_0c08, WORD, 0, TRIGGER).plain(),
];

/// The bytes that begin at `offset` of registers whose every `period` bytes are `value`.
fn part(value: u64, period: u64, offset: u64, size: u32) -> u64 {
    let whole = match period {
        4 => value << 32 | value,
        _ => value,
    };
    whole >> (8 * (offset % period)) & (u64::MAX >> (64 - 8 * size))
}

/// Tries each size at each address of a frame, each on a machine after reset.
fn check(frame: Frame, length: u64, rows: &[Row]) {
    let after_reset = Vgic::new(2);
    let mut unchanged = after_reset.clone();
    for (offset, size) in (0..length).flat_map(|offset| SIZES.map(|size| (offset, size))) {
        let here = format!("{frame:?}, {size} bytes at {offset:#x}");
        let row = rows
            .iter()
            .find(|row| (row.from..row.to).contains(&offset) && row.sizes.contains(&size))
            .filter(|_| offset.is_multiple_of(size.into()));
        let value = after_reset.read(frame, offset, size);
        let Some(row) = row else {
            assert_eq!(value, 0, "{here}: reserved");
            let concerned = unchanged.write(frame, offset, size, u64::MAX);
            assert_eq!(concerned, VcpuSet::EMPTY, "{here}: reserved");
            continue;
        };
        let mut reset = part(row.reset.into(), 4, offset, size);
        if (frame, offset, size) == (Frame::Redistributor(1), 8, 8) {
            reset = 1 << 32 | u64::from(row.reset);
        }
        assert_eq!(value, reset, "{here}: after reset");
        let mut vgic = after_reset.clone();
        let _ = vgic.write(frame, offset, size, u64::MAX);
        let expected = match row.ones {
            Ones::Nothing => reset,
            Ones::Bits(bits, period) => part(bits, period, offset, size),
        };
        assert_eq!(vgic.read(frame, offset, size), expected, "{here}: ones");
        let _ = vgic.write(frame, offset, size, 0);
        let expected = match row.zeros {
            Ones::Bits(..) => 0,
            // CTLR's fixed bits.
            Ones::Nothing if (frame, offset) == (Frame::Distributor, 0) => reset,
            Ones::Nothing => expected,
        };
        assert_eq!(vgic.read(frame, offset, size), expected, "{here}: zeros");
    }
    let states = [unchanged, after_reset].map(|vgic| format!("{vgic:?}"));
    assert_eq!(
        states[0], states[1],
        "{frame:?}: stores to what is reserved"
    );
}

#[test]
fn the_distributor_is_as_its_map_says() {
    check(Frame::Distributor, 0x1_0000, DISTRIBUTOR);
}

#[test]
fn a_redistributor_is_as_its_map_says() {
    check(Frame::Redistributor(1), REDISTRIBUTOR_SIZE, REDISTRIBUTOR);
}
