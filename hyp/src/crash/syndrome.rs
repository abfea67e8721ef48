//! What `ESR_EL2` says, in words (Arm ARM, `ESR_EL2`, and ISS encodings for aborts).

use core::fmt;

/// Exception classes of aborts taken from EL2 itself.
const INSTRUCTION_ABORT: u64 = 0x21;
const DATA_ABORT: u64 = 0x25;

/// Whether the exception is an abort of EL2 itself, so that `FAR_EL2` holds the address.
pub(super) fn is_abort(esr: u64) -> bool {
    matches!(class(esr), INSTRUCTION_ABORT | DATA_ABORT)
}

/// A syndrome that prints as its exception class in words, with the fault's status for aborts.
pub(super) struct Syndrome(pub(super) u64);

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let esr = self.0;
        let class = class(esr);
        write!(f, "{} (class {class:#04x})", class_name(class))?;
        if is_abort(esr) {
            write!(f, ", {}", fault_name(esr & 0x3f))?;
            if let 0x04..=0x0f = esr & 0x3f {
                write!(f, " at level {}", esr & 0b11)?;
            }
            if class == DATA_ABORT && esr & 1 << 6 != 0 {
                f.write_str(", on a write")?;
            }
        }
        Ok(())
    }
}

fn class(esr: u64) -> u64 {
    esr >> 26 & 0x3f
}

fn class_name(class: u64) -> &'static str {
    match class {
        0x00 => "unknown reason (an undefined instruction, for example)",
        0x07 => "trapped SVE, SIMD or floating point",
        0x0e => "illegal execution state",
        0x15 => "SVC",
        0x16 => "HVC",
        0x17 => "SMC",
        0x18 => "trapped system register",
        0x19 => "trapped SVE",
        0x1c => "pointer authentication failure",
        INSTRUCTION_ABORT => "instruction abort",
        0x22 => "PC alignment fault",
        DATA_ABORT => "data abort",
        0x26 => "SP alignment fault",
        0x2f => "SError",
        0x3c => "BRK",
        _ => "unnamed class",
    }
}

fn fault_name(status: u64) -> &'static str {
    match status {
        0x00..=0x03 => "address size fault",
        0x04..=0x07 => "translation fault",
        0x08..=0x0b => "access flag fault",
        0x0c..=0x0f => "permission fault",
        0x10 => "synchronous external abort",
        0x14..=0x17 => "synchronous external abort on a table walk",
        0x21 => "alignment fault",
        0x30 => "TLB conflict",
        _ => "unnamed fault",
    }
}
