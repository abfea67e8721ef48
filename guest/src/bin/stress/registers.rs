//! Registers of a vCPU that its own code never changes, so that only a hypervisor that forgets to
//! switch them, or switches them wrongly, can: the vector registers (this target's code is built
//! without them), and system registers that mean nothing to a guest without EL0 and exceptions.

use core::arch::asm;

use guest::random::Random;

use crate::{
    progress::{self, Activity},
    report,
};

/// Words of the 32 vector registers, two each.
const VECTOR_WORDS: usize = 64;

/// Defines the system registers in use: name and the bits that keep what is written.
macro_rules! system_registers {
    ($($name:literal: $bits:expr,)*) => {
        const SYSTEM: &[(&str, u64)] = &[$(($name, $bits)),*];

        fn write_system(values: &[u64; SYSTEM.len()]) {
            let mut values = values.iter();
            $(
                if let Some(value) = values.next() {
                    // SAFETY: nothing the guest does depends on this register, as the list says.
                    unsafe {
                        asm!(
                            ".arch_extension fp",
                            concat!("msr ", $name, ", {}"),
                            in(reg) value & $bits,
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                }
            )*
        }

        fn read_system() -> [u64; SYSTEM.len()] {
            [$({
                let value: u64;
                // SAFETY: reading the register has no effect.
                unsafe {
                    asm!(
                        ".arch_extension fp",
                        concat!("mrs {}, ", $name),
                        out(reg) value,
                        options(nomem, nostack, preserves_flags),
                    );
                }
                value & $bits
            }),*]
        }
    };
}

system_registers! {
    "TPIDR_EL0": u64::MAX,
    "TPIDRRO_EL0": u64::MAX,
    "TPIDR_EL1": u64::MAX,
    // EL1 runs on SP_EL1, and there is no EL0.
    "SP_EL0": u64::MAX,
    "CONTEXTIDR_EL1": 0xffff_ffff,
    // Exceptions write these; every exception ends this guest.
    "ELR_EL1": u64::MAX,
    "FAR_EL1": u64::MAX,
    "ESR_EL1": 0xffff_ffff,
    // The virtual timer is off.
    "CNTV_CVAL_EL0": u64::MAX,
    // DN, FZ and RMode: code without floating point does not look.
    "FPCR": 0x03c0_0000,
    // QC and the cumulative exception bits.
    "FPSR": 0x0800_009f,
}

/// What this vCPU's registers must hold.
pub(crate) struct Registers {
    vcpu: usize,
    vectors: [u64; VECTOR_WORDS],
    system: [u64; SYSTEM.len()],
}

impl Registers {
    /// Fills the registers of the calling vCPU, which is number `vcpu`.
    pub(crate) fn new(vcpu: usize, random: &mut Random) -> Self {
        let mut registers = Self {
            vcpu,
            vectors: [0; VECTOR_WORDS],
            system: [0; SYSTEM.len()],
        };
        registers.renew(random);
        registers
    }

    /// Checks that the registers hold what they were filled with, and fills them with something
    /// else.
    pub(crate) fn check_and_renew(&mut self, random: &mut Random) {
        let vectors = read_vectors();
        for (index, (&expected, &found)) in self.vectors.iter().zip(&vectors).enumerate() {
            let half = if index % 2 == 0 { "63:0" } else { "127:64" };
            let name = format_args!("V{} bits {half}", index / 2);
            report::compare_register(self.vcpu, name, expected, found);
        }
        for ((&(name, bits), expected), found) in SYSTEM.iter().zip(self.system).zip(read_system())
        {
            report::compare_register(self.vcpu, format_args!("{name}"), expected & bits, found);
        }
        progress::of(self.vcpu).count(Activity::RegisterCheck);
        self.renew(random);
    }

    fn renew(&mut self, random: &mut Random) {
        self.vectors.fill_with(|| random.next());
        self.system.fill_with(|| random.next());
        write_vectors(&self.vectors);
        write_system(&self.system);
    }
}

fn write_vectors(values: &[u64; VECTOR_WORDS]) {
    // SAFETY: loads 512 bytes of the array; the target's code never holds anything in these
    // registers, which is also why they can't be named as clobbered. The entry code has enabled
    // their use.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            r"ldr q\n, [{values}, #(16 * \n)]",
            ".endr",
            values = in(reg) values.as_ptr(),
            options(readonly, nostack, preserves_flags),
        );
    }
}

fn read_vectors() -> [u64; VECTOR_WORDS] {
    let mut values = [0; VECTOR_WORDS];
    // SAFETY: stores 512 bytes, the size of the array.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            r"str q\n, [{values}, #(16 * \n)]",
            ".endr",
            values = in(reg) values.as_mut_ptr(),
            options(nostack, preserves_flags),
        );
    }
    values
}
