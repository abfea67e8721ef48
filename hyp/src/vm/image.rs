//! Where a guest's image goes in its memory.
//!
//! An image with the header of Linux's arm64 boot protocol (`Documentation/arch/arm64/booting.rst`)
//! says how far above a 2 MiB boundary it wants to be and how much memory it will use; any other is
//! taken for a flat binary that starts with its first byte.

use super::machine;
use thiserror::Error;

/// `ARM\x64`, at byte 56 of the header.
const MAGIC: u32 = 0x644d_5241;
const MAGIC_AT: usize = 56;
const TEXT_OFFSET_AT: usize = 8;
const IMAGE_SIZE_AT: usize = 16;
/// Images with a header go to a multiple of this, plus their offset.
const ALIGNMENT: u64 = 2 << 20;

/// Where an image is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The IPA of its first byte, which is also its first instruction.
    pub address: u64,
    /// How many bytes from there it needs, zeroed memory behind it included.
    pub size: u64,
}

/// Why an image cannot be a guest.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// There are no bytes.
    #[error("the guest image is empty; give one with -initrd")]
    Empty,
    /// Its memory ends below the image's end.
    #[error(
        "the guest image needs {needed} KiB of memory and the guest has {memory} KiB; raise guest-memory"
    )]
    TooBig {
        /// KiB from the start of RAM to the end of the image.
        needed: u64,
        /// KiB of RAM.
        memory: u64,
    },
}

/// Decides where `image` goes in a guest with `memory_size` bytes of RAM.
///
/// # Errors
///
/// The image is empty or does not fit.
pub fn place(image: &[u8], memory_size: u64) -> Result<Placement, ImageError> {
    if image.is_empty() {
        return Err(ImageError::Empty);
    }
    let length = image.len() as u64;
    let placement = match header(image) {
        Some((text_offset, image_size)) => Placement {
            // Offset 0 would put it over the device tree.
            address: (machine::RAM_BASE + ALIGNMENT).saturating_add(text_offset),
            size: image_size.max(length),
        },
        None => Placement {
            address: machine::IMAGE,
            size: length,
        },
    };
    let needed = (placement.address - machine::RAM_BASE).saturating_add(placement.size);
    if needed > memory_size {
        let (needed, memory) = (needed.div_ceil(1024), memory_size / 1024);
        return Err(ImageError::TooBig { needed, memory });
    }
    Ok(placement)
}

/// The header's `text_offset` and `image_size`, if there is one.
fn header(image: &[u8]) -> Option<(u64, u64)> {
    let magic = image.get(MAGIC_AT..MAGIC_AT + 4)?;
    if magic != MAGIC.to_le_bytes() {
        return None;
    }
    let field = |at: usize| {
        let bytes = image.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    Some((field(TEXT_OFFSET_AT)?, field(IMAGE_SIZE_AT)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(text_offset: u64, image_size: u64) -> Vec<u8> {
        let mut image = vec![0; 64];
        image[8..16].copy_from_slice(&text_offset.to_le_bytes());
        image[16..24].copy_from_slice(&image_size.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        image
    }

    #[test]
    fn a_flat_image_goes_behind_the_device_tree() {
        let placement = place(&[1, 2, 3], 1 << 20).unwrap();
        assert_eq!((placement.address, placement.size), (0x4008_0000, 3));
    }

    #[test]
    fn a_header_is_obeyed() {
        let placement = place(&with_header(0x8_0000, 0x1000), 16 << 20).unwrap();
        assert_eq!((placement.address, placement.size), (0x4028_0000, 0x1000));
        let placement = place(&with_header(0, 0), 16 << 20).unwrap();
        assert_eq!((placement.address, placement.size), (0x4020_0000, 64));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(place(&[], 1 << 30), Err(ImageError::Empty));
        let too_big = ImageError::TooBig {
            needed: 513,
            memory: 512,
        };
        assert_eq!(place(&[0; 3], 512 << 10), Err(too_big));
        for image in [with_header(u64::MAX, 64), with_header(0, u64::MAX)] {
            assert!(matches!(
                place(&image, 1 << 30),
                Err(ImageError::TooBig { .. })
            ));
        }
    }
}
