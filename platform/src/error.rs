//! Why a device tree does not describe a board that this hypervisor can run on.

use dtoolkit::error::{FdtParseError, PropertyError, StandardError};
use thiserror::Error;

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
    /// A node says something that the hypervisor does not support.
    #[error("the device tree's {node} has `{property}` = {value:#x}, which is not supported")]
    Unsupported {
        /// The node's name or kind.
        node: &'static str,
        /// The property's name.
        property: &'static str,
        /// The value found.
        value: u64,
    },
}

impl BoardError {
    pub(crate) fn property(node: &'static str, reason: PropertyError) -> Self {
        Self::Malformed {
            node,
            reason: StandardError::PropertyConversion(reason),
        }
    }
}
