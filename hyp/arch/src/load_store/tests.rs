//! What is decoded against what a disassembler says, and a few instructions as an assembler has
//! them.

use super::*;
use proptest::prelude::*;
use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::InstDecoder;

const ZERO: Registers = Registers {
    file: File::General,
    first: 0,
    second: None,
};

/// Each kind of instruction once, as GNU's assembler encodes it.
#[test]
fn an_assembler_encodes_what_is_decoded() {
    let load = |into, extend| Operation::Load { into, extend };
    let store = |from| Operation::Store { from, status: None };
    let both = |file, first, second| Registers {
        file,
        first,
        second: Some(second),
    };
    let vector = |first| Registers {
        file: File::Vector,
        first,
        second: None,
    };
    let rows = [
        (
            "strb w0, [x1], #1",
            0x3800_1420,
            1,
            store(ZERO),
            1,
            Address::PostIndex(1),
        ),
        (
            "ldr w0, [x1, #4]!",
            0xb840_4c20,
            4,
            load(ZERO, Extend::Zero),
            1,
            Address::PreIndex(4),
        ),
        (
            "ldrsw x0, [x1], #-8",
            0xb89f_8420,
            4,
            load(ZERO, Extend::SignTo64),
            1,
            Address::PostIndex(-8),
        ),
        (
            "ldrsb w0, [sp], #1",
            0x38c0_17e0,
            1,
            load(ZERO, Extend::SignTo32),
            31,
            Address::PostIndex(1),
        ),
        (
            "ldp x2, x3, [x1], #16",
            0xa8c1_0c22,
            8,
            load(both(File::General, 2, 3), Extend::Zero),
            1,
            Address::PostIndex(16),
        ),
        (
            "ldpsw x2, x3, [x1, #-8]",
            0x697f_0c22,
            4,
            load(both(File::General, 2, 3), Extend::SignTo64),
            1,
            Address::Offset(-8),
        ),
        (
            "stp q0, q1, [x1, #-32]!",
            0xadbf_0420,
            16,
            store(both(File::Vector, 0, 1)),
            1,
            Address::PreIndex(-32),
        ),
        (
            "ldr q5, [x1], #16",
            0x3cc1_0425,
            16,
            load(vector(5), Extend::Zero),
            1,
            Address::PostIndex(16),
        ),
        (
            "str h5, [x1, #2]",
            0x7d00_0425,
            2,
            store(vector(5)),
            1,
            Address::Offset(2),
        ),
        (
            "ldr x0, [x1, w2, sxtw #3]",
            0xf862_d820,
            8,
            load(ZERO, Extend::Zero),
            1,
            Address::Register {
                number: 2,
                is_word: true,
                is_signed: true,
                shift: 3,
            },
        ),
        (
            "stxr w3, x0, [x1]",
            0xc803_7c20,
            8,
            Operation::Store {
                from: ZERO,
                status: Some(3),
            },
            1,
            Address::Offset(0),
        ),
        (
            "swpalb w2, w3, [x1]",
            0x38e2_8023,
            1,
            Operation::Modify {
                how: Modify::Swap,
                operand: 2,
                into: 3,
            },
            1,
            Address::Offset(0),
        ),
        (
            "casp w2, w3, w4, w5, [x1]",
            0x0822_7c24,
            4,
            Operation::CompareAndSwap {
                expected: both(File::General, 2, 3),
                new: both(File::General, 4, 5),
            },
            1,
            Address::Offset(0),
        ),
    ];
    for (text, instruction, size, operation, base, address) in rows {
        let expected = LoadStore {
            operation,
            size,
            base,
            address,
        };
        assert_eq!(LoadStore::decode(instruction), Some(expected), "{text}");
        assert_eq!(said(instruction), Some(expected), "{text}, disassembled");
    }
}

/// Those that are not known here, and prefetches, which are no loads.
#[test]
fn others_are_none() {
    for (text, instruction) in [
        ("prfm pldl1keep, [x1]", 0xf980_0020),
        ("ldr x0, . + 8", 0x5800_0040),
        ("ld1 {v0.16b}, [x1]", 0x4c40_7020),
        ("stg x0, [x1]", 0xd920_0820),
        ("stgp x0, x2, [x1]", 0x6900_0820),
        ("ldraa x0, [x1]", 0xf820_0420),
        ("ld64b x0, [x1]", 0xf83f_d020),
        ("dc zva, x1", 0xd50b_7421),
        ("add x0, x0, x1", 0x8b01_0000),
        ("udf #0", 0),
    ] {
        assert_eq!(LoadStore::decode(instruction), None, "{text}");
    }
}

#[test]
fn no_word_makes_it_panic_and_lengths_are_bounded() {
    for high in 0..=u16::MAX {
        for low in [0, 0x7c20, 0xffff, 0x0c20, 0x1420, 0x5555] {
            if let Some(decoded) = LoadStore::decode(u32::from(high) << 16 | low) {
                assert!((1..=32).contains(&decoded.length()) && decoded.base < 32);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 50 } else { 20_000 }))]

    /// Any word in the encodings of loads and stores.
    #[test]
    fn a_disassembler_says_the_same(word: u32) {
        let instruction = word & !(1 << 25) | 1 << 27;
        prop_assert_eq!(LoadStore::decode(instruction), said(instruction), "{:#010x}", instruction);
    }

    /// Those with the fields that only few words have: compare and swap, exclusive and ordered
    /// ones.
    #[test]
    fn a_disassembler_says_the_same_of_exclusive_ones(word: u32) {
        let instruction = word & !(0b11_1111 << 24) | 0b00_1000 << 24 | 0x1f << 10;
        prop_assert_eq!(LoadStore::decode(instruction), said(instruction), "{:#010x}", instruction);
    }
}

/// What a disassembler says of an instruction, in our words; none of those that are not known here.
fn said(instruction: u32) -> Option<LoadStore> {
    if is_taken_for_another(instruction) {
        return None;
    }
    let bytes = instruction.to_le_bytes();
    let decoder = InstDecoder::default();
    let text = decoder.decode(&mut U8Reader::new(&bytes)).ok()?.to_string();
    let (mnemonic, operands) = text.split_once(' ')?;
    let (registers, address) = operands.split_once('[')?;
    let registers: Vec<&str> = registers
        .split(", ")
        .filter(|name| !name.is_empty())
        .collect();
    let (name, narrow) = stem(mnemonic)?;
    let (base, address) = address_of(address)?;
    let wide = |name: &str| match name.as_bytes()[0] {
        b'b' => 1,
        b'h' => 2,
        b'w' | b's' => 4,
        b'x' | b'd' => 8,
        _ => 16,
    };
    let at = |index: usize| registers.get(index).map(|name| number(name)).unwrap_or(0);
    let file = |name: &str| match name.as_bytes()[0] {
        b'w' | b'x' => File::General,
        _ => File::Vector,
    };
    let group = |from: usize, count: usize| Registers {
        file: file(registers[from]),
        first: at(from),
        second: (count == 2).then(|| at(from + 1)),
    };
    let (extend, mut size) = match narrow {
        "b" => (Extend::Zero, Some(1)),
        "h" => (Extend::Zero, Some(2)),
        "sb" | "sh" | "sw" => {
            let extend = if wide(registers[0]) == 8 {
                Extend::SignTo64
            } else {
                Extend::SignTo32
            };
            (
                extend,
                Some(match narrow {
                    "sb" => 1,
                    "sh" => 2,
                    _ => 4,
                }),
            )
        }
        _ => (Extend::Zero, None),
    };
    let operation = match name {
        "load" => Operation::Load {
            into: group(0, registers.len()),
            extend,
        },
        "store" => Operation::Store {
            from: group(0, registers.len()),
            status: None,
        },
        "store-exclusive" => {
            size = size.or(Some(wide(registers[1])));
            Operation::Store {
                from: group(1, registers.len() - 1),
                status: Some(at(0)),
            }
        }
        "cas" => Operation::CompareAndSwap {
            expected: group(0, registers.len() / 2),
            new: group(registers.len() / 2, registers.len() / 2),
        },
        atomic => {
            let how = ATOMICS.iter().find(|(name, _)| *name == atomic)?.1;
            // Without a register to load, the name is one of a store.
            let into = if registers.len() == 1 { 31 } else { at(1) };
            Operation::Modify {
                how,
                operand: at(0),
                into,
            }
        }
    };
    let size = size.unwrap_or(wide(registers[0]));
    Some(LoadStore {
        operation,
        size,
        base,
        address,
    })
}

/// Two that the disassembler knows and the architecture does not: of a vector at an offset by a
/// register with `option` 00x or 10x, and LDAPR with a register where ones should be.
fn is_taken_for_another(instruction: u32) -> bool {
    let vector_at_register = instruction & 0x3f20_4c00 == 0x3c20_0800;
    let ordered = instruction & 0x3fe0_fc00 == 0x38a0_c000;
    vector_at_register || ordered && instruction >> 16 & 31 != 31
}

const ATOMICS: [(&str, Modify); 9] = [
    ("add", Modify::Add),
    ("clr", Modify::Clear),
    ("eor", Modify::ExclusiveOr),
    ("set", Modify::Set),
    ("smax", Modify::SignedMax),
    ("smin", Modify::SignedMin),
    ("umax", Modify::UnsignedMax),
    ("umin", Modify::UnsignedMin),
    ("swp", Modify::Swap),
];

/// What a mnemonic does, and what it says of the width in memory.
fn stem(mnemonic: &str) -> Option<(&'static str, &str)> {
    const KINDS: [(&str, &[&str], &[&str]); 3] = [
        (
            "load",
            &[
                "ldnp", "ldp", "ldr", "ldur", "ldtr", "ldar", "ldlar", "ldapr", "ldapur", "ldxr",
                "ldaxr", "ldxp", "ldaxp",
            ],
            &["", "b", "h", "sb", "sh", "sw"],
        ),
        (
            "store",
            &[
                "stnp", "stp", "str", "stur", "sttr", "stlr", "stllr", "stlur",
            ],
            &["", "b", "h"],
        ),
        (
            "store-exclusive",
            &["stxr", "stlxr", "stxp", "stlxp"],
            &["", "b", "h"],
        ),
    ];
    for (kind, names, widths) in KINDS {
        for name in names {
            if let Some(narrow) = mnemonic
                .strip_prefix(name)
                .filter(|rest| widths.contains(rest))
            {
                return Some((
                    kind,
                    if *name == "ldp" && narrow == "sw" {
                        "sw"
                    } else {
                        narrow
                    },
                ));
            }
        }
    }
    let orders = ["", "a", "l", "al"];
    let split = |rest: &'static str, mnemonic: &str| {
        let suffix = mnemonic.strip_prefix(rest)?;
        let narrow = if suffix.ends_with('b') {
            "b"
        } else if suffix.ends_with('h') {
            "h"
        } else {
            ""
        };
        let order = &suffix[..suffix.len() - narrow.len()];
        orders.contains(&order).then_some(narrow)
    };
    let at_end = |narrow: &str| &mnemonic[mnemonic.len() - narrow.len()..];
    for name in ["casp", "cas"] {
        if let Some(narrow) = split(name, mnemonic) {
            return Some(("cas", at_end(narrow)));
        }
    }
    for (name, _) in ATOMICS {
        let plain = mnemonic
            .strip_prefix("ld")
            .or_else(|| mnemonic.strip_prefix("st"))
            .unwrap_or(mnemonic);
        if let Some(narrow) = split(name, plain) {
            return Some((name, at_end(narrow)));
        }
    }
    None
}

/// The base, and how the address is made from it, of what stands behind the bracket.
fn address_of(text: &str) -> Option<(usize, Address)> {
    let (inner, behind) = text.split_once(']')?;
    let mut parts = inner.split(", ");
    let base = number(parts.next()?);
    let second = parts.next();
    let address = if let Some(by) = behind.strip_prefix(", ") {
        Address::PostIndex(immediate(by)?)
    } else {
        match second {
            None if behind == "!" => Address::PreIndex(0),
            None => Address::Offset(0),
            Some(by) if behind == "!" => Address::PreIndex(immediate(by)?),
            Some(by) if by.starts_with('#') => Address::Offset(immediate(by)?),
            Some(register) => {
                let extend = parts.next().unwrap_or("lsl");
                let shift = extend
                    .split_once(" #")
                    .and_then(|(_, by)| by.parse().ok())
                    .unwrap_or(0);
                Address::Register {
                    number: number(register),
                    is_word: register.starts_with('w'),
                    is_signed: extend.starts_with('s'),
                    shift,
                }
            }
        }
    };
    Some((base, address))
}

fn immediate(text: &str) -> Option<i64> {
    let text = text.strip_prefix('#')?;
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let digits = digits.strip_prefix("0x")?;
    Some(sign * i64::from_str_radix(digits, 16).ok()?)
}

/// The number of a register by its name.
fn number(name: &str) -> usize {
    if name.ends_with("zr") || name.ends_with("sp") {
        31
    } else {
        name[1..].parse().unwrap_or(99)
    }
}
