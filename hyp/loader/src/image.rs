//! What a guest starts from: which bytes go where in its memory, and where its first instruction
//! is.
//!
//! As QEMU has it for its board: an ELF file goes where its program headers say. An image with the
//! header of Linux's arm64 boot protocol (`Documentation/arch/arm64/booting.rst`) says how far
//! above a 2 MiB boundary it wants to be and how much memory it will use; the start of RAM is such
//! a boundary, and the nearest there is. Any other is taken for a flat binary that starts with its
//! first byte.

use crate::elf::{Elf, ElfError};
use core::iter::once;
use devices::board;
use thiserror::Error;

/// `ARM\x64`, at byte 56 of the header.
const MAGIC: u32 = 0x644d_5241;
const MAGIC_AT: usize = 56;
const TEXT_OFFSET_AT: usize = 8;
const IMAGE_SIZE_AT: usize = 16;
/// Where an image begins that does not say it, in bytes above the start of RAM: a flat binary, and
/// a kernel from before Linux 3.17, which leaves `image_size` zero and whose `text_offset` means
/// nothing.
const USUAL_OFFSET: u64 = 0x8_0000;
/// The boot protocol's boundary, in bytes.
const ALIGNMENT: u64 = 2 << 20;
/// The start of RAM that an image is not put over: QEMU has code of its own there.
const BOOT_CODE_ROOM: u64 = 4 << 10;
/// The first bytes of an image that a boot loader has to unpack.
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// What a guest starts from.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    form: Form<'a>,
    /// The IPA of the first byte that it uses.
    start: u64,
    /// The IPA behind the last byte that it uses, zeroed memory included.
    end: u64,
    /// The IPA of its first instruction.
    entry: u64,
}

/// What kind of image it is.
#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    /// Its bytes, in one piece, from `start` on; the first is an instruction.
    Flat(&'a [u8]),
    Elf(Elf<'a>),
    /// The same as a flat image, in flash.
    Firmware(&'a [u8]),
}

/// How an image is started, beside its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As Linux is: it is told in x0 where the device tree is.
    Kernel,
    /// By its entry point alone: it knows where to look for a device tree.
    Elf,
    /// From flash.
    Firmware,
}

/// Why an image cannot be a guest.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// There are no bytes.
    #[error("the guest image is empty; give one with -initrd")]
    Empty,
    /// It is in a form that a boot loader has to unpack.
    #[error(
        "the guest image is compressed (gzip); it has to be an arm64 Image, an ELF file or a flat binary"
    )]
    Packed,
    /// It is an ELF file that cannot be loaded.
    #[error("the guest image is an ELF file {0}")]
    Elf(#[from] ElfError),
    /// It is firmware that the flash has no room for.
    #[error("the firmware has {0} bytes; the flash has room for {room}", room = board::FIRMWARE_ROOM)]
    TooLong(u64),
    /// It wants to be where no RAM is: an IPA.
    #[error(
        "the guest's image is to be loaded at {0:#x}, and RAM begins at {ram:#x}; link it to (physical) \
         addresses above that",
        ram = board::RAM_BASE
    )]
    BelowMemory(u64),
    /// Its memory ends below the end of what is put there.
    #[error(
        "the guest's image, initial RAM disk and device tree need {needed} KiB of memory and it has \
         {memory} KiB; raise guest-memory, or `memory` in its manifest"
    )]
    TooBig {
        /// KiB from the start of RAM to the end of what is put there.
        needed: u64,
        /// KiB of RAM.
        memory: u64,
    },
}

impl<'a> Image<'a> {
    /// Reads the image of a kernel, or of what starts as one.
    ///
    /// # Errors
    ///
    /// The image is empty, packed, or an ELF file that cannot be loaded.
    pub fn kernel(bytes: &'a [u8]) -> Result<Self, ImageError> {
        check(bytes)?;
        if let Some(elf) = Elf::open(bytes)? {
            let extent = elf.extent();
            return Ok(Self {
                form: Form::Elf(elf),
                start: extent.start,
                end: extent.end,
                entry: elf.entry(),
            });
        }
        let length = bytes.len() as u64;
        let (offset, size) = header(bytes).unwrap_or((USUAL_OFFSET, length));
        let start = board::RAM_BASE.saturating_add(offset);
        Ok(Self::flat(Form::Flat(bytes), start, size.max(length)))
    }

    /// Takes `bytes` for firmware.
    ///
    /// # Errors
    ///
    /// The image is empty, packed, or longer than the flash.
    pub fn firmware(bytes: &'a [u8]) -> Result<Self, ImageError> {
        check(bytes)?;
        let size = bytes.len() as u64;
        if size > board::FIRMWARE_ROOM {
            return Err(ImageError::TooLong(size));
        }
        Ok(Self::flat(Form::Firmware(bytes), board::FIRMWARE, size))
    }

    fn flat(form: Form<'a>, start: u64, size: u64) -> Self {
        Self {
            form,
            start,
            end: start.saturating_add(size),
            entry: start,
        }
    }

    /// The IPA of the first byte that it uses.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The IPA behind the last byte that it uses, zeroed memory included.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The IPA of its first instruction.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// How it is started.
    pub fn kind(&self) -> Kind {
        match self.form {
            Form::Flat(_) => Kind::Kernel,
            Form::Elf(_) => Kind::Elf,
            Form::Firmware(_) => Kind::Firmware,
        }
    }

    /// Its bytes, in pieces, each with its IPA.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let (whole, elf) = match self.form {
            Form::Flat(bytes) | Form::Firmware(bytes) => (Some((self.start, bytes)), None),
            Form::Elf(elf) => (None, Some(elf)),
        };
        let segments = elf.into_iter().flat_map(|elf| elf.segments());
        once(whole).flatten().chain(segments)
    }
}

fn check(image: &[u8]) -> Result<(), ImageError> {
    if image.is_empty() {
        return Err(ImageError::Empty);
    }
    if image.starts_with(GZIP_MAGIC) {
        return Err(ImageError::Packed);
    }
    Ok(())
}

/// What the header says, if there is one: how many bytes above the start of RAM the image goes, and
/// how much memory it uses, 0 if that is not known. Both a kernel that asks to be near the start of
/// RAM (bit 3 of `flags` clear) and one that does not mind are content with this place.
fn header(image: &[u8]) -> Option<(u64, u64)> {
    let magic = image.get(MAGIC_AT..MAGIC_AT + 4)?;
    if magic != MAGIC.to_le_bytes() {
        return None;
    }
    let field = |at: usize| {
        let bytes = image.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let offset = match (field(TEXT_OFFSET_AT)?, field(IMAGE_SIZE_AT)?) {
        (_, 0) => (USUAL_OFFSET, 0),
        (offset, size) if offset < BOOT_CODE_ROOM => (ALIGNMENT + offset, size),
        known => known,
    };
    Some(offset)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An image with a header.
    pub(in super::super) fn with_header(text_offset: u64, image_size: u64) -> Vec<u8> {
        let mut image = vec![0; 64];
        image[8..16].copy_from_slice(&text_offset.to_le_bytes());
        image[16..24].copy_from_slice(&image_size.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        image
    }

    fn extent(bytes: &[u8]) -> (u64, u64) {
        let image = Image::kernel(bytes).unwrap();
        assert_eq!((image.kind(), image.entry()), (Kind::Kernel, image.start()));
        let pieces: Vec<_> = image.pieces().collect();
        assert_eq!(pieces, [(image.start(), bytes)]);
        (image.start(), image.end())
    }

    #[test]
    fn a_flat_image_goes_where_qemu_puts_it() {
        assert_eq!(extent(&[1, 2, 3]), (0x4008_0000, 0x4008_0003));
    }

    #[test]
    fn a_header_is_obeyed() {
        for (text_offset, image_size, start, end) in [
            (0x8_0000, 0x1000, 0x4008_0000, 0x4008_1000),
            // Unikraft's.
            (0xf_ffc0, 0x20_0000, 0x400f_ffc0, 0x402f_ffc0),
            // NuttX's.
            (0x48_0000, 0x1000, 0x4048_0000, 0x4048_1000),
            (0x1000, 0x1000, 0x4000_1000, 0x4000_2000),
            // The start of RAM is the boot loader's: so the next boundary.
            (0, 0x1000, 0x4020_0000, 0x4020_1000),
            (0xfff, 0x1000, 0x4020_0fff, 0x4020_1fff),
            // A kernel that does not tell its size has no valid offset either.
            (0x20_0000, 0, 0x4008_0000, 0x4008_0040),
            (0, 0, 0x4008_0000, 0x4008_0040),
            // One that is longer than it tells is believed its bytes.
            (0x8_0000, 1, 0x4008_0000, 0x4008_0040),
        ] {
            let image = with_header(text_offset, image_size);
            assert_eq!(extent(&image), (start, end), "{text_offset:#x}");
        }
        // Images anywhere (bit 3 of flags) go to the same place.
        let mut anywhere = with_header(0, 0x1000);
        anywhere[24] = 1 << 3;
        assert_eq!(extent(&anywhere), (0x4020_0000, 0x4020_1000));
    }

    #[test]
    fn what_is_cut_off_within_the_header_is_a_flat_image() {
        let image = &with_header(0, 0x1000)[..59];
        assert_eq!(extent(image), (0x4008_0000, 0x4008_003b));
    }

    #[test]
    fn firmware_goes_to_address_zero() {
        let bytes = [1; 4096];
        let image = Image::firmware(&bytes).unwrap();
        assert_eq!((image.start(), image.end(), image.entry()), (0, 4096, 0));
        assert_eq!(image.kind(), Kind::Firmware);
        assert_eq!(Image::firmware(&[]).unwrap_err(), ImageError::Empty);
        let long = vec![0; board::FIRMWARE_ROOM as usize + 1];
        assert_eq!(
            Image::firmware(&long).unwrap_err(),
            ImageError::TooLong((64 << 20) + 1)
        );
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert_eq!(Image::kernel(&[]).unwrap_err(), ImageError::Empty);
        let packed = Image::kernel(b"\x1f\x8b\x08").unwrap_err();
        assert!(packed.to_string().contains("gzip"));
    }
}
