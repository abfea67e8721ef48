//! Where a guest's image and its initial RAM disk go in its memory.
//!
//! An image with the header of Linux's arm64 boot protocol (`Documentation/arch/arm64/booting.rst`)
//! says how far above a 2 MiB boundary it wants to be and how much memory it will use; any other is
//! taken for a flat binary that starts with its first byte.

use super::machine;
use stage2::PAGE_SIZE;
use thiserror::Error;

/// `ARM\x64`, at byte 56 of the header.
const MAGIC: u32 = 0x644d_5241;
const MAGIC_AT: usize = 56;
const TEXT_OFFSET_AT: usize = 8;
const IMAGE_SIZE_AT: usize = 16;
/// Images with a header go to a multiple of this, plus their offset.
const ALIGNMENT: u64 = 2 << 20;
/// Forms of kernels that are no images yet, by their first bytes.
const PACKED: [(&[u8], &str); 2] = [
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"\x7fELF", "an ELF file"),
];

/// Where an image is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The IPA of its first byte, which is also its first instruction.
    pub address: u64,
    /// How many bytes from there it needs, zeroed memory behind it included.
    pub size: u64,
}

impl Placement {
    /// How many bytes of RAM there have to be.
    fn end(&self) -> u64 {
        (self.address - machine::RAM_BASE).saturating_add(self.size)
    }
}

/// Why an image cannot be a guest.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// There are no bytes.
    #[error("the guest image is empty; give one with -initrd")]
    Empty,
    /// It is in a form that a boot loader has to unpack.
    #[error("the guest image is {0}; it has to be a raw Image or a flat binary")]
    Packed(&'static str),
    /// It is firmware that the flash has no room for.
    #[error("the firmware has {0} bytes; the flash has room for {room}", room = machine::FIRMWARE_ROOM)]
    TooLong(u64),
    /// Its memory ends below the image's end.
    #[error(
        "the guest's image and initial RAM disk need {needed} KiB of memory and it has {memory} KiB; \
         raise guest-memory, or `memory` in its manifest"
    )]
    TooBig {
        /// KiB from the start of RAM to the end of what is put there.
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
    check(image)?;
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
    fit(placement, memory_size)
}

/// Where firmware goes: to flash.
///
/// # Errors
///
/// The image is empty, packed, or longer than the flash.
pub fn place_firmware(image: &[u8]) -> Result<Placement, ImageError> {
    check(image)?;
    let size = image.len() as u64;
    if size > machine::FIRMWARE_ROOM {
        return Err(ImageError::TooLong(size));
    }
    Ok(Placement {
        address: machine::FIRMWARE,
        size,
    })
}

/// Decides where an initial RAM disk of `length` bytes goes, in a guest with `memory_size` bytes of RAM
/// whose image is placed: where QEMU puts it, or behind the image where that is larger.
///
/// # Errors
///
/// It does not fit.
pub fn place_initrd(
    image: &Placement,
    length: u64,
    memory_size: u64,
) -> Result<Placement, ImageError> {
    let usual = (memory_size / 2).min(128 << 20);
    let offset = usual.max(image.end()).next_multiple_of(PAGE_SIZE);
    let placement = Placement {
        address: machine::RAM_BASE + offset,
        size: length,
    };
    fit(placement, memory_size)
}

fn check(image: &[u8]) -> Result<(), ImageError> {
    if image.is_empty() {
        return Err(ImageError::Empty);
    }
    match PACKED.iter().find(|(magic, _)| image.starts_with(magic)) {
        Some((_, form)) => Err(ImageError::Packed(form)),
        None => Ok(()),
    }
}

fn fit(placement: Placement, memory_size: u64) -> Result<Placement, ImageError> {
    let needed = placement.end();
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
    fn an_initrd_goes_where_qemu_puts_it_or_behind_the_image() {
        let image = |size| Placement {
            address: 0x4020_0000,
            size,
        };
        let place = |size, memory| place_initrd(&image(size), 0x1001, memory);
        let at = |address| {
            Ok(Placement {
                address,
                size: 0x1001,
            })
        };
        assert_eq!(place(1, 64 << 20), at(0x4200_0000));
        assert_eq!(place(1, 4 << 30), at(0x4800_0000));
        assert_eq!(place(0x300_0001, 64 << 20), at(0x4320_1000));
        assert!(place(60 << 20, 62 << 20).is_err());
    }

    #[test]
    fn firmware_goes_to_address_zero() {
        let placement = place_firmware(&[1; 4096]).unwrap();
        assert_eq!((placement.address, placement.size), (0, 4096));
        assert_eq!(place_firmware(&[]), Err(ImageError::Empty));
        let long = vec![0; machine::FIRMWARE_ROOM as usize + 1];
        assert_eq!(
            place_firmware(&long),
            Err(ImageError::TooLong((64 << 20) + 1))
        );
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let refusal = |image: &[u8]| place(image, 1 << 30).unwrap_err().to_string();
        assert!(refusal(b"\x1f\x8b\x08").contains("gzip"));
        assert!(refusal(b"\x7fELF\x02").contains("ELF"));
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
