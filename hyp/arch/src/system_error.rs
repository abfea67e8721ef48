//! Asynchronous errors, which Arm calls SError interrupts: their severity, and their source.
//!
//! One comes when memory or a bus fails an access that is over already, so the thread that made the
//! access is known only as long as no other thread has been on the CPU since. The hypervisor sees
//! to that: it looks for errors before a thread leaves its CPU, and hands what it finds to that
//! thread ([`Source`]).

use core::fmt;

use crate::syndrome::IL;

/// `ESR_EL2.EC` of an SError interrupt.
const CLASS: u64 = 0x2f;

/// `ESR_EL2.IDS`, and the same in `DISR_EL1` and `VSESR_EL2`: the rest is implementation defined.
const IMPLEMENTATION_DEFINED: u64 = 1 << 24;
/// AET: the kind of the error, if DFSC says that it is known.
const KIND_SHIFT: u32 = 10;
const KIND: u64 = 0b111;
/// DFSC, and its value for an SError interrupt whose kind is told (FEAT_RAS).
const STATUS: u64 = 0x3f;
const STATUS_KNOWN: u64 = 0x11;
/// IDS and what is below it.
const SYNDROME: u64 = 0x1ff_ffff;
/// `DISR_EL1.A`: an error was deferred.
const DEFERRED: u64 = 1 << 31;

/// An asynchronous error, as its syndrome tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemError {
    syndrome: u64,
}

/// How bad an error is (Arm ARM, `ESR_EL2`, AET).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The hardware has mended it.
    Corrected,
    /// Nothing wrong was used, and what ran can go on.
    Restartable,
    /// What ran cannot go on before software has mended something, which nobody here does.
    Recoverable,
    /// What ran cannot go on.
    Unrecoverable,
    /// What is wrong may have been used, or stored, anywhere.
    Uncontained,
    /// The CPU does not tell, as those without FEAT_RAS.
    Unknown,
}

/// Who was on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A vCPU's thread: its guest, or the hypervisor for it.
    Guest,
    /// A thread of the hypervisor's own.
    Hypervisor,
}

/// What has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing more than to tell of it.
    GoOn,
    /// The guest takes a virtual SError interrupt, with this in `VSESR_EL2`.
    Inject(u64),
    /// The machine stops: nobody knows what else is wrong.
    Stop,
}

impl SystemError {
    /// The error that an SError exception with this `ESR_EL2` tells of.
    pub const fn taken(esr: u64) -> Self {
        Self {
            syndrome: esr & SYNDROME,
        }
    }

    /// The error that an ESB has put into `DISR_EL1`, if it has.
    pub const fn deferred(disr: u64) -> Option<Self> {
        if disr & DEFERRED == 0 {
            return None;
        }
        Some(Self::taken(disr))
    }

    /// What `DISR_EL1` would hold of it.
    pub const fn as_deferred(self) -> u64 {
        self.syndrome | DEFERRED
    }

    /// What `ESR_EL2` would hold of it.
    pub const fn as_taken(self) -> u64 {
        CLASS << 26 | IL | self.syndrome
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        if self.syndrome & IMPLEMENTATION_DEFINED != 0 || self.syndrome & STATUS != STATUS_KNOWN {
            return Severity::Unknown;
        }
        match self.syndrome >> KIND_SHIFT & KIND {
            0b001 => Severity::Unrecoverable,
            0b010 => Severity::Restartable,
            0b011 => Severity::Recoverable,
            0b110 => Severity::Corrected,
            // 0b000, and what is reserved.
            _ => Severity::Uncontained,
        }
    }

    /// What is to be done, given who was on the CPU.
    ///
    /// A guest takes what is its own as it would without a hypervisor, and knows best what to do:
    /// Linux reports it, and writes a crash dump. The hypervisor itself goes on only where nothing
    /// wrong was used. What is not contained may be wrong in any VM, and in the hypervisor.
    pub const fn remedy(self, source: Source) -> Remedy {
        match (self.severity(), source) {
            (Severity::Corrected | Severity::Restartable, _) => Remedy::GoOn,
            (Severity::Uncontained, _) | (_, Source::Hypervisor) => Remedy::Stop,
            (_, Source::Guest) => Remedy::Inject(self.syndrome),
        }
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity() {
            Severity::Corrected => "corrected",
            Severity::Restartable => "restartable",
            Severity::Recoverable => "recoverable",
            Severity::Unrecoverable => "unrecoverable",
            Severity::Uncontained => "uncontained",
            Severity::Unknown => "unclassified",
        };
        write!(f, "{severity} system error, syndrome {:#x}", self.syndrome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An SError's `ESR_EL2` with this AET.
    const fn esr(kind: u64) -> u64 {
        0x2f << 26 | 1 << 25 | kind << 10 | 0x11
    }

    #[test]
    fn kinds_are_told_apart() {
        let kinds = [0, 1, 2, 3, 6].map(|kind| SystemError::taken(esr(kind)).severity());
        assert_eq!(
            kinds,
            [
                Severity::Uncontained,
                Severity::Unrecoverable,
                Severity::Restartable,
                Severity::Recoverable,
                Severity::Corrected,
            ]
        );
        for reserved in [4, 5, 7] {
            let error = SystemError::taken(esr(reserved));
            assert_eq!(error.severity(), Severity::Uncontained);
        }
        // Without FEAT_RAS, or implementation defined, or of a kind that is not told.
        for esr in [0x2f << 26, esr(1) | 1 << 24, esr(1) & !0x3f] {
            assert_eq!(SystemError::taken(esr).severity(), Severity::Unknown);
        }
    }

    #[test]
    fn a_guest_gets_its_own_errors() {
        let inject = |esr| SystemError::taken(esr).remedy(Source::Guest);
        assert_eq!(inject(esr(1)), Remedy::Inject(1 << 10 | 0x11));
        assert_eq!(inject(esr(3)), Remedy::Inject(3 << 10 | 0x11));
        assert_eq!(inject(0x2f << 26), Remedy::Inject(0));
        assert_eq!(inject(1 << 24 | 0x1234), Remedy::Inject(1 << 24 | 0x1234));
        for harmless in [2, 6] {
            assert_eq!(inject(esr(harmless)), Remedy::GoOn);
        }
        assert_eq!(inject(esr(0)), Remedy::Stop);
    }

    #[test]
    fn the_hypervisor_does_not_go_on_with_what_may_be_wrong() {
        for kind in 0..8 {
            let remedy = SystemError::taken(esr(kind)).remedy(Source::Hypervisor);
            let harmless = matches!(kind, 2 | 6);
            assert_eq!(remedy == Remedy::GoOn, harmless, "{kind}");
            assert_eq!(remedy == Remedy::Stop, !harmless, "{kind}");
        }
    }

    #[test]
    fn what_was_deferred_is_what_was_taken() {
        assert_eq!(SystemError::deferred(0x411), None);
        let error = SystemError::taken(esr(1));
        assert_eq!(SystemError::deferred(error.as_deferred()), Some(error));
        assert_eq!(error.as_taken(), esr(1));
    }
}
