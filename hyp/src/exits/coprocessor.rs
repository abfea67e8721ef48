//! Coprocessor 14, the debug registers of AArch32, which a program at EL0 has trapped.

use aarch64_cpu::registers::{Readable, SPSR_EL2, Writeable};
use arch::pstate::with_flags;
use arch::syndrome::CoprocessorAccess;

use super::{skip_instruction, system_register};
use crate::vcpu::{Exit, Frame};

/// The register number by which MRC means the flags.
const FLAGS: usize = 15;

/// Emulates an MRC, MCR or MRRC, or says that it is undefined.
pub(super) fn access(frame: &mut Frame, esr: u64) {
    let vcpu = frame.vcpu;
    let access = CoprocessorAccess::new(esr);
    let value = match vcpu.access_debug_aarch32(access) {
        Ok(value) => value,
        Err(refusal) => return system_register::inject_refusal(vcpu, refusal, esr),
    };
    vcpu.counters.count(Exit::Register);
    match (access.read, access.register, access.second) {
        (true, first, Some(second)) => {
            frame.set_register(first, value.into());
            // No register of 64 bits has any of its upper half set.
            frame.set_register(second, 0);
        }
        (true, FLAGS, None) => SPSR_EL2.set(with_flags(SPSR_EL2.get(), value)),
        (true, number, None) => frame.set_register(number, value.into()),
        (false, ..) => {}
    }
    skip_instruction(esr);
}
