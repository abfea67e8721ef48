//! The FP and SIMD registers of a guest.
//!
//! EL2 is built without them, so they stay in the CPU until another vCPU is loaded there.

use core::arch::global_asm;

/// q0 to q31, FPCR and FPSR.
#[repr(C, align(16))]
pub(super) struct FpRegisters {
    q: [u128; 32],
    fpcr: u64,
    fpsr: u64,
}

impl FpRegisters {
    /// All zero, as after reset.
    pub(super) const ZERO: Self = Self {
        q: [0; 32],
        fpcr: 0,
        fpsr: 0,
    };

    /// Copies this CPU's registers here.
    pub(super) fn save(&mut self) {
        // SAFETY: `self` has the layout that the code writes; CPTR_EL2 does not trap the registers.
        unsafe { fp_save(self) }
    }

    /// Copies these values to this CPU's registers.
    pub(super) fn load(&self) {
        // SAFETY: `self` has the layout that the code reads; EL2's own code uses none of them.
        unsafe { fp_load(self) }
    }
}

/// The value of vector register `number`, up to 31, of the guest whose registers this CPU holds.
pub(crate) fn vector(number: usize) -> u128 {
    let mut registers = FpRegisters::ZERO;
    registers.save();
    registers.q[number % 32]
}

/// Changes it.
pub(crate) fn set_vector(number: usize, value: u128) {
    let mut registers = FpRegisters::ZERO;
    registers.save();
    registers.q[number % 32] = value;
    registers.load();
}

unsafe extern "C" {
    fn fp_save(registers: *mut FpRegisters);
    fn fp_load(registers: *const FpRegisters);
}

global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd

    .macro  each_pair instruction
    \instruction q0, q1, [x0]
    \instruction q2, q3, [x0, #32]
    \instruction q4, q5, [x0, #64]
    \instruction q6, q7, [x0, #96]
    \instruction q8, q9, [x0, #128]
    \instruction q10, q11, [x0, #160]
    \instruction q12, q13, [x0, #192]
    \instruction q14, q15, [x0, #224]
    \instruction q16, q17, [x0, #256]
    \instruction q18, q19, [x0, #288]
    \instruction q20, q21, [x0, #320]
    \instruction q22, q23, [x0, #352]
    \instruction q24, q25, [x0, #384]
    \instruction q26, q27, [x0, #416]
    \instruction q28, q29, [x0, #448]
    \instruction q30, q31, [x0, #480]
    .endm

    .section .text.fp, "ax"
    .global fp_save
fp_save:
    each_pair stp
    mrs     x1, fpcr
    mrs     x2, fpsr
    str     x1, [x0, #512]
    str     x2, [x0, #520]
    ret                             // nothing behind it is executed ahead
    dsb     nsh
    isb

    .global fp_load
fp_load:
    each_pair ldp
    ldr     x1, [x0, #512]
    ldr     x2, [x0, #520]
    msr     fpcr, x1
    msr     fpsr, x2
    ret
    dsb     nsh
    isb

    .arch_extension nosimd
    .arch_extension nofp
    "#
);
