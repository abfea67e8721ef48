//! Trapped system registers.

use core::arch::asm;

use aarch64_cpu::registers::{Readable, SPSR_EL2, Writeable};
use arch::id::{Needs, at_least};
use arch::pstate::is_el0;
use arch::syndrome::SystemAccess;
use arch::{Encoding, id};
use debug::registers::Refusal;
use vgic::SgiRegister;

use super::{inject, skip_instruction};
use crate::cpu::id_registers;
use crate::vcpu::{Exit, Frame, Vcpu, interface};

/// `ACTLR_EL1`, which a guest may write without effect.
const ACTLR_EL1: Encoding = Encoding::new(3, 0, 1, 0, 1);
/// `ICC_SRE_EL1`, which says that the interrupt controller is used by system registers.
const ICC_SRE_EL1: Encoding = Encoding::new(3, 0, 12, 12, 5);
/// `ICC_SRE_EL1`: SRE, DFB and DIB, fixed.
const SYSTEM_REGISTERS_ONLY: u64 = 0b111;
/// `ICC_DIR_EL1`, which ends an interrupt by its number.
const ICC_DIR_EL1: Encoding = Encoding::new(3, 0, 12, 11, 1);
/// `ICC_SGI1R_EL1`, `ICC_ASGI1R_EL1` and `ICC_SGI0R_EL1`, which send interrupts to vCPUs.
const ICC_SGI1R_EL1: Encoding = Encoding::new(3, 0, 12, 11, 5);
const ICC_ASGI1R_EL1: Encoding = Encoding::new(3, 0, 12, 11, 6);
const ICC_SGI0R_EL1: Encoding = Encoding::new(3, 0, 12, 11, 7);
/// `ICC_CTLR_EL1`, `ICC_PMR_EL1` and `ICC_RPR_EL1`, which are trapped on CPUs that cannot trap
/// `ICC_DIR_EL1` alone.
const ICC_CTLR_EL1: Encoding = Encoding::new(3, 0, 12, 12, 4);
const ICC_PMR_EL1: Encoding = Encoding::new(3, 0, 4, 6, 0);
const ICC_RPR_EL1: Encoding = Encoding::new(3, 0, 12, 11, 3);
/// The INTID in `ICC_DIR_EL1`.
const INTID: u64 = 0xff_ffff;
/// What tells of caches; trapped on a CPU whose `CTR_EL0` is not what all have.
const CTR_EL0: Encoding = Encoding::new(3, 3, 0, 0, 1);
const CLIDR_EL1: Encoding = Encoding::new(3, 1, 0, 0, 1);
const CCSIDR_EL1: Encoding = Encoding::new(3, 1, 0, 0, 0);
const CCSIDR2_EL1: Encoding = Encoding::new(3, 1, 0, 0, 2);
const CSSELR_EL1: Encoding = Encoding::new(3, 2, 0, 0, 0);
/// `REVIDR_EL1` and `AIDR_EL1`, the implementer's own; trapped where `SMIDR_EL1` has to be.
const REVIDR_EL1: Encoding = Encoding::new(3, 0, 0, 0, 6);
const AIDR_EL1: Encoding = Encoding::new(3, 1, 0, 0, 7);

/// FEAT_CCIDX, with which there is `CCSIDR2_EL1`.
const WIDE_CACHE_SIZES: Needs = Needs::any(&[at_least("ID_AA64MMFR2_EL1", "CCIDX", 1)]);

/// Emulates an MSR or MRS, or says that it is undefined.
pub(super) fn access(frame: &mut Frame, esr: u64) {
    let access = SystemAccess::new(esr);
    let vcpu = frame.vcpu;
    let value = match access.encoding {
        id if id::contains(id) && access.read => {
            id_registers().guest.get(id::index(id.crm(), id.op2()))
        }
        REVIDR_EL1 if access.read => revision(),
        AIDR_EL1 if access.read => auxiliary_id(),
        CTR_EL0 if access.read => id_registers().guest.cache_type(),
        CLIDR_EL1 if access.read => aarch64_cpu::registers::CLIDR_EL1.get(),
        CCSIDR_EL1 if access.read => aarch64_cpu::registers::CCSIDR_EL1.get(),
        CCSIDR2_EL1 if access.read && WIDE_CACHE_SIZES.met(&id_registers().guest) => cache_sets(),
        CSSELR_EL1 if access.read => aarch64_cpu::registers::CSSELR_EL1.get(),
        CSSELR_EL1 => {
            let level = frame.register(access.register);
            aarch64_cpu::registers::CSSELR_EL1.set(level);
            0
        }
        ACTLR_EL1 => 0,
        debug if debug.op0() == 2 => match access_debug(frame, access) {
            Ok(value) => value,
            Err(refusal) => return inject_refusal(vcpu, refusal, esr),
        },
        ICC_SRE_EL1 => SYSTEM_REGISTERS_ONLY,
        common @ (ICC_CTLR_EL1 | ICC_PMR_EL1 | ICC_RPR_EL1) if access.read => read_common(common),
        command
            if !access.read && write_command(vcpu, command, frame.register(access.register)) =>
        {
            0
        }
        _ => return inject_refusal(vcpu, Refusal::Undefined, esr),
    };
    vcpu.counters.count(Exit::Register);
    if access.read {
        frame.set_register(access.register, value);
    }
    skip_instruction(esr);
}

/// The guest's EL1 is told of an access that is not answered.
#[inline(never)]
pub(super) fn inject_refusal(vcpu: &Vcpu, refusal: Refusal, esr: u64) {
    vcpu.counters.count(Exit::Injected);
    match refusal {
        Refusal::Undefined => inject::undefined(),
        Refusal::TrappedByEl1 => inject::trapped(esr),
    }
}

/// Reads or writes a debug register.
// As below.
#[inline(never)]
fn access_debug(frame: &Frame, access: SystemAccess) -> Result<u64, Refusal> {
    let is_el0 = is_el0(SPSR_EL2.get());
    if access.read {
        return frame.vcpu.read_debug(access.encoding, is_el0);
    }
    let value = frame.register(access.register);
    frame.vcpu.write_debug(access.encoding, value, is_el0)?;
    Ok(0)
}

/// What a register of the CPU interface says that is common to both groups.
// Not inline: others would save registers for it.
#[inline(never)]
fn read_common(register: Encoding) -> u64 {
    let interface = interface::common();
    match register {
        ICC_CTLR_EL1 => interface.control(),
        ICC_PMR_EL1 => interface.priority_mask(),
        _ => interface.running_priority(interface::active_priorities()),
    }
}

/// Does what a write to a register of the interrupt controller asks for; false if it is none.
// As above.
#[inline(never)]
fn write_command(vcpu: &Vcpu, register: Encoding, value: u64) -> bool {
    match register {
        ICC_SGI1R_EL1 => vcpu.send_sgi(SgiRegister::Group1, value),
        ICC_ASGI1R_EL1 | ICC_SGI0R_EL1 => vcpu.send_sgi(SgiRegister::Group0, value),
        ICC_DIR_EL1 => vcpu.deactivate((value & INTID) as u32),
        ICC_CTLR_EL1 => vcpu.set_control(value),
        ICC_PMR_EL1 => interface::set_common(interface::common().with_priority_mask(value)),
        _ => return false,
    }
    true
}

/// `CCSIDR2_EL1` of this CPU, which has FEAT_CCIDX: the number of sets of the cache that
/// `CSSELR_EL1` selects.
fn cache_sets() -> u64 {
    let value;
    // SAFETY: Reading the register changes nothing.
    unsafe {
        asm!("mrs {}, s3_1_c0_c0_2", out(reg) value, options(nomem, nostack, preserves_flags))
    };
    value
}

/// `REVIDR_EL1` of this CPU.
fn revision() -> u64 {
    let value;
    // SAFETY: Reading the register changes nothing.
    unsafe { asm!("mrs {}, revidr_el1", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// `AIDR_EL1` of this CPU.
fn auxiliary_id() -> u64 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("mrs {}, aidr_el1", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
