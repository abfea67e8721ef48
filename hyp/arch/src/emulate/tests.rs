use super::*;
use proptest::prelude::*;

/// A guest whose access is to bytes that keep what is stored, as far as there are any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fake {
    x: [u64; 32],
    sp: u64,
    v: [u128; 32],
    memory: Vec<u8>,
    /// Offset and size of each access; those that store come with `true`.
    accesses: Vec<(u64, u32, bool)>,
}

impl Fake {
    fn new() -> Self {
        let mut guest = Self {
            x: [0; 32],
            sp: 0x5000,
            v: core::array::from_fn(|n| u128::from(n as u8) * (u128::MAX / 0xff)),
            memory: (0x81..0xc1).collect(),
            accesses: Vec::new(),
        };
        for (n, x) in guest.x.iter_mut().enumerate().take(31) {
            *x = 0x1111_1111_1111_1111_u64.wrapping_mul(n as u64);
        }
        guest.x[1] = 0x4000;
        guest
    }

    fn does(&mut self, instruction: u32) -> Option<()> {
        self.in_order(instruction, false)
    }

    fn in_order(&mut self, instruction: u32, big_endian: bool) -> Option<()> {
        let instruction = LoadStore::decode(instruction).expect("a load or store");
        carry_out(&instruction, self, big_endian)
    }

    fn bytes(&self, offset: u64, size: u32) -> Option<core::ops::Range<usize>> {
        let end = offset as usize + size as usize;
        (end <= self.memory.len()).then_some(offset as usize..end)
    }
}

impl Guest for Fake {
    fn general(&self, number: usize) -> u64 {
        self.x[number]
    }

    fn set_general(&mut self, number: usize, value: u64) {
        self.x[number] = value;
        self.x[31] = 0;
    }

    fn stack_pointer(&self) -> u64 {
        self.sp
    }

    fn set_stack_pointer(&mut self, value: u64) {
        self.sp = value;
    }

    fn vector(&self, number: usize) -> u128 {
        self.v[number]
    }

    fn set_vector(&mut self, number: usize, value: u128) {
        self.v[number] = value;
    }

    fn load(&mut self, offset: u64, size: u32) -> Option<u64> {
        self.accesses.push((offset, size, false));
        let mut value = [0; 8];
        value[..size as usize].copy_from_slice(&self.memory[self.bytes(offset, size)?]);
        Some(u64::from_le_bytes(value))
    }

    fn store(&mut self, offset: u64, size: u32, value: u64) -> Option<()> {
        self.accesses.push((offset, size, true));
        let bytes = self.bytes(offset, size)?;
        self.memory[bytes].copy_from_slice(&value.to_le_bytes()[..size as usize]);
        Some(())
    }
}

#[test]
fn a_base_moves_before_or_after() {
    let mut guest = Fake::new();
    // strb w0, [x1], #1; ldr w0, [x1, #4]!; ldrsb w2, [sp], #1
    guest.does(0x3800_1420).unwrap();
    assert_eq!((guest.x[1], guest.memory[0]), (0x4001, 0));
    guest.does(0xb840_4c20).unwrap();
    assert_eq!((guest.x[1], guest.x[0]), (0x4005, 0x8483_8200));
    guest.memory[0] = 0x80;
    guest.does(0x38c0_17e2).unwrap();
    assert_eq!((guest.sp, guest.x[2]), (0x5001, 0xffff_ff80));
}

#[test]
fn an_address_is_made_as_the_instruction_says() {
    let mut guest = Fake::new();
    guest.x[2] = 0xffff_fffe;
    for (text, instruction, expected) in [
        ("strb w0, [x1], #1", 0x3800_1420, 0x4000),
        ("ldr w0, [x1, #4]!", 0xb840_4c20, 0x4004),
        ("ldp x2, x3, [x1, #-16]", 0xa97f_0c22, 0x3ff0),
        ("ldrb w0, [sp], #1", 0x3840_17e0, 0x5000),
        ("ldr x0, [x1, w2, sxtw #3]", 0xf862_d820, 0x3ff0),
        ("ldr x0, [x1, w2, uxtw]", 0xf862_4820, 0x1_0000_3ffe),
        ("ldr x0, [x1, x2, lsl #3]", 0xf862_7820, 0x8_0000_3ff0),
    ] {
        let decoded = LoadStore::decode(instruction).expect(text);
        assert_eq!(address(&decoded, &guest), expected, "{text}");
    }
}

#[test]
fn pairs_and_vectors_are_one_access_a_register() {
    let mut guest = Fake::new();
    // ldpsw x2, x3, [x1]; stp q0, q1, [x1]; ldr q5, [x1]
    guest.does(0x6940_0c22).unwrap();
    assert_eq!(
        guest.x[2..4],
        [0xffff_ffff_8483_8281, 0xffff_ffff_8887_8685]
    );
    guest.does(0xad00_0420).unwrap();
    assert_eq!(guest.memory[..32], [[0; 16], [1; 16]].concat());
    guest.v[0] = 0;
    guest.memory[0] = 7;
    guest.does(0x3dc0_0025).unwrap();
    assert_eq!(guest.v[5], 7);
    let stores = [0, 8, 16, 24].map(|offset| (offset, 8, true));
    let expected = [
        &[(0, 4, false), (4, 4, false)],
        &stores[..],
        &[(0, 8, false), (8, 8, false)],
    ];
    assert_eq!(guest.accesses, expected.concat());
    // ldr b5, [x1]: the rest of the vector is cleared.
    guest.does(0x3d40_0025).unwrap();
    assert_eq!(guest.v[5], 7);
    guest.v[6] = u128::MAX;
    guest.does(0x3d40_0026).unwrap();
    assert_eq!(guest.v[6], 7);
}

#[test]
fn nothing_changes_unless_all_of_it_is_answered() {
    for (text, instruction) in [
        ("ldp x2, x3, [x1], #16", 0xa8c1_0c22),
        ("ldp q0, q1, [x1], #32", 0xacc1_0420),
        ("ldr q0, [x1], #16", 0x3cc1_0420),
        ("casp x2, x3, x4, x5, [x1]", 0x4822_7c24),
        ("ldadd x2, x3, [x1]", 0xf822_0023),
    ] {
        let mut guest = Fake::new();
        guest
            .memory
            .truncate(if text.starts_with("ldadd") { 7 } else { 12 });
        let before = guest.clone();
        assert_eq!(guest.does(instruction), None, "{text}");
        guest.accesses.clear();
        assert_eq!(guest, before, "{text}");
    }
}

#[test]
fn exclusive_stores_succeed() {
    let mut guest = Fake::new();
    // ldxr w0, [x1]; stxr w3, w2, [x1]; ldxp x4, x5, [x1]; stlxp w3, x4, x5, [x1]
    guest.does(0x885f_7c20).unwrap();
    assert_eq!(guest.x[0], 0x8483_8281);
    guest.does(0x8803_7c22).unwrap();
    assert_eq!((guest.x[3], &guest.memory[..4]), (0, &[0x22; 4][..]));
    guest.x[3] = 1;
    guest.does(0xc87f_1424).unwrap();
    guest.does(0xc823_9424).unwrap();
    assert_eq!((guest.x[3], guest.memory[4]), (0, 0x85));
    assert_eq!(guest.x[4], 0x8887_8685_2222_2222);
}

#[test]
fn atomic_instructions_store_what_comes_of_both() {
    for (opcode, memory, operand, expected) in [
        (0b0000, 0xf0_u8, 0x20_u64, 0x10_u8),
        (0b0001, 0xf1, 0x21, 0xd0),
        (0b0010, 0xf1, 0x21, 0xd0),
        (0b0011, 0xf1, 0x2a, 0xfb),
        (0b0100, 0xf0, 0xffff_ff05, 0x05),
        (0b0101, 0xf0, 0x05, 0xf0),
        (0b0110, 0xf0, 0x1_0005, 0xf0),
        (0b0111, 0xf0, 0x05, 0x05),
        (0b1000, 0xf0, 0x1234, 0x34),
    ] {
        let mut guest = Fake::new();
        guest.memory[0] = memory;
        guest.x[2] = operand;
        // ldaddb w2, w3, [x1] and its like
        guest.does(0x3822_0023 | opcode << 12).unwrap();
        let found = (guest.x[3], guest.memory[0], guest.memory[1]);
        assert_eq!(found, (memory.into(), expected, 0x82), "{opcode:#b}");
    }
}

#[test]
fn compare_and_swap_stores_if_it_finds_what_it_expects() {
    let mut guest = Fake::new();
    // cas w2, w3, [x1]
    guest.does(0x88a2_7c23).unwrap();
    assert_eq!((guest.x[2], guest.memory[0]), (0x8483_8281, 0x81));
    guest.x[2] |= 5 << 32;
    guest.does(0x88a2_7c23).unwrap();
    assert_eq!((guest.x[2], guest.memory[0]), (0x8483_8281, 0x33));
    // casp w2, w3, w4, w5, [x1]: one half fits, then both.
    guest.x[2] = 0x3333_3333;
    guest.does(0x0822_7c24).unwrap();
    assert_eq!((guest.x[3], guest.memory[0]), (0x8887_8685, 0x33));
    guest.does(0x0822_7c24).unwrap();
    assert_eq!(
        guest.memory[..9],
        [[0x44; 4].as_slice(), &[0x55; 4], &[0x89]].concat()
    );
}

#[test]
fn a_big_endian_guest_has_its_bytes_the_other_way_round() {
    let mut guest = Fake::new();
    // ldp w2, w3, [x1]; str q2, [x1]; ldr q5, [x1]; ldadd w4, w3, [x1]
    guest.in_order(0x2940_0c22, true).unwrap();
    assert_eq!(guest.x[2..4], [0x8182_8384, 0x8586_8788]);
    guest.v[2] = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
    guest.in_order(0x3d80_0022, true).unwrap();
    let descending: Vec<u8> = (0..16).rev().collect();
    assert_eq!(guest.memory[..16], descending);
    guest.in_order(0x3dc0_0025, true).unwrap();
    assert_eq!(guest.v[5], guest.v[2]);
    guest.x[4] = 0x10;
    guest.in_order(0xb824_0023, true).unwrap();
    assert_eq!((guest.x[3], guest.memory[3]), (0x0f0e_0d0c, 0x1c));
}

/// What was changed between the abort and the look at it gives the guest no right.
#[test]
fn only_what_aborted_is_carried_out() {
    let write = Abort::WRITE;
    let of = |abort, far, is_el0, has_vectors| Aborted {
        abort,
        far,
        is_el0,
        has_vectors,
    };
    let decode = |instruction| LoadStore::decode(instruction).expect("a load or store");
    let (load, store) = (decode(0xa940_0c22), decode(0xa900_0c22));
    let read = of(Abort::empty(), 0x4008, true, true);
    assert_eq!(read.allows(&load, 0x4000), Some(8), "ldp x2, x3, [x1]");
    assert_eq!(read.allows(&load, 0x4008), Some(0));
    assert_eq!(read.allows(&load, 0x400c), None);
    assert_eq!(read.allows(&load, 0x3ff8), None, "behind it");
    assert_eq!(read.allows(&store, 0x4008), None, "it was a load");
    let written = of(write, 0x4008, true, true);
    assert_eq!(written.allows(&load, 0x4008), None, "it was a store");
    assert_eq!(written.allows(&store, 0x4008), Some(0));
    let tagged = of(Abort::empty(), 0xab00_0000_0000_4008, true, true);
    assert_eq!(tagged.allows(&load, 0x4008), Some(0));
    let crossing = of(Abort::empty(), 0x4ff8, true, true);
    assert_eq!(crossing.allows(&load, 0x4ff8), None, "into the next page");
    assert_eq!(crossing.allows(&load, 0x4ff0), Some(8));
    let atomic = decode(0xb824_0023);
    for (abort, is_el0, right) in [
        (Abort::empty(), true, None),
        (Abort::empty(), false, Some(0)),
        (write, true, Some(0)),
    ] {
        assert_eq!(
            of(abort, 0x4000, is_el0, true).allows(&atomic, 0x4000),
            right
        );
    }
    let vector = decode(0x3dc0_0025);
    assert_eq!(
        of(Abort::empty(), 0x4000, true, false).allows(&vector, 0x4000),
        None
    );
    assert_eq!(
        of(Abort::empty(), 0x4000, true, true).allows(&vector, 0x4000),
        Some(0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a guest makes of its instruction, it is over after four accesses to the device, and
    /// those are within the length that was checked.
    #[test]
    fn any_instruction_stays_within_its_length(word: u32, big_endian: bool, has: u8) {
        let instruction = word & !(1 << 25) | 1 << 27;
        if let Some(decoded) = LoadStore::decode(instruction) {
            let mut guest = Fake::new();
            guest.memory.truncate(usize::from(has % 64));
            let length = decoded.length();
            let done = carry_out(&decoded, &mut guest, big_endian);
            prop_assert_eq!(done.is_some(), length as usize <= guest.memory.len());
            prop_assert!(guest.accesses.len() <= 4);
            for (offset, size, _) in guest.accesses {
                prop_assert!(size <= 8 && offset + u64::from(size) <= length.into());
            }
            prop_assert_eq!(guest.x[31], 0);
        }
    }
}
