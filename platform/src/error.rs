//! Why a device tree does not describe a board that this hypervisor can run on.

use core::fmt;

use dtoolkit::error::{FdtParseError, PropertyError, StandardError};
use thiserror::Error;

use crate::board::{PPIS, SPIS};

/// Why a device tree cannot be used: what is missing or wrong in it, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BoardError {
    /// Nothing at this address looks like a device tree.
    #[error(
        "no device tree at {0:#x}: the loader must pass its address in x0 (QEMU does so for a flat \
         image, not for an ELF file)"
    )]
    NoBlob(u64),
    /// The device tree is damaged.
    #[error("the device tree is damaged: {0}")]
    Damaged(#[from] FdtParseError),
    /// A node that the hypervisor cannot do without is not there.
    #[error("the device tree has no {0}")]
    NoNode(&'static str),
    /// A node lacks a property, or the property has too few entries.
    #[error("the device tree's {node} has no usable `{property}` property")]
    NoProperty {
        /// The node's name or kind.
        node: &'static str,
        /// The property's name.
        property: &'static str,
    },
    /// A property is there but cannot be decoded.
    #[error("the device tree's {node} is malformed: {reason}")]
    Malformed {
        /// The node's name or kind.
        node: &'static str,
        /// The parser's reason.
        reason: StandardError,
    },
    /// There are more of something than this build has room for.
    #[error("the device tree has more {what} than the {limit} this build has room for")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many fit.
        limit: usize,
    },
    /// A device interrupts in a way that it cannot.
    #[error(
        "the device tree's {node} has an interrupt of type {kind} and number {number}, but needs {wanted}"
    )]
    Interrupt {
        /// The node's name or kind.
        node: &'static str,
        /// The type that the device tree gives.
        kind: u32,
        /// The number that it gives.
        number: u32,
        /// What would do.
        wanted: InterruptKind,
    },
}

/// Who is interrupted by a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptKind {
    /// Any CPU: an SPI.
    Shared,
    /// The CPU that the device belongs to: a PPI.
    Private,
}

impl fmt::Display for InterruptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => write!(f, "an SPI (type 0, number below {SPIS})"),
            Self::Private => write!(f, "a PPI (type 1, number below {PPIS})"),
        }
    }
}

impl BoardError {
    pub(crate) fn property(node: &'static str, reason: PropertyError) -> Self {
        Self::Malformed {
            node,
            reason: StandardError::PropertyConversion(reason),
        }
    }
}
