//! `CTR_EL0`: how caches are made. Software maintains them line by line, so a line must not be
//! taken for longer than it is on any CPU.

/// Bits that say that something need not be done: IDC and DIC.
const NEEDLESS: u64 = 0b11 << 28;
/// RES1.
const RES1: u64 = 1 << 31;

/// A field by its lowest bit and its width.
type Field = (u32, u32);

/// IminLine, DminLine and TminLine, of which the shortest counts; and L1Ip, of which the highest
/// value, physically indexed caches, promises what others do not.
const LOWER: [Field; 4] = [(0, 4), (16, 4), (32, 6), (14, 2)];
/// ERG and CWG, of which the longest counts; zero says that it is not known.
const LONGER: [Field; 2] = [(20, 4), (24, 4)];

/// What caches have in common of which CPUs say this and that.
pub(super) fn common(one: u64, other: u64) -> u64 {
    let merge = |(lsb, width): Field, merge: fn(u64, u64) -> u64| {
        let of = |value: u64| value >> lsb & ((1 << width) - 1);
        merge(of(one), of(other)) << lsb
    };
    let lower = LOWER.into_iter().map(|field| merge(field, u64::min));
    let longer = LONGER.into_iter().map(|field| merge(field, longest));
    lower.chain(longer).sum::<u64>() | one & other & NEEDLESS | (one | other) & RES1
}

fn longest(one: u64, other: u64) -> u64 {
    match one.min(other) {
        0 => 0,
        _ => one.max(other),
    }
}

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn the_shortest_line_is_everybodys() {
        let (a57, a53) = (0x8444_c004, 0x8444_8004);
        assert_eq!(common(a57, a57), a57);
        // Virtually indexed.
        assert_eq!(common(a57, a53), a53);
        assert_eq!(common(0x8443_c003, 0x8444_c004), 0x8443_c003);
        // Lines of 128 bytes, and nothing to be done.
        let longer = 0xb555_c005;
        assert_eq!(common(longer, a57), 0x8554_c004);
        assert_eq!(common(longer, 0x8004_c004), 0x8004_c004, "not known");
        assert_eq!(common(0, u64::MAX), 1 << 31);
    }
}
