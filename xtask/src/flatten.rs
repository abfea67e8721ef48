//! A flat binary from an ELF: what its loadable segments hold, laid out by physical address.
//!
//! Memory that a segment has beyond its file contents (`.bss`) is left out at the end of the image;
//! the image zeroes it itself. Gaps between segments are zero.

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, elf};

/// The largest flat image, in bytes. A larger one is a mistake in a linker script, such as a
/// segment at physical address zero.
const LARGEST: u64 = 64 << 20;

/// A piece of the image.
struct Piece<'a> {
    /// Physical address.
    address: u64,
    bytes: &'a [u8],
}

/// The flat image of a 64-bit ELF for Arm. Its first byte belongs at the lowest physical address
/// of the loadable segments.
///
/// # Errors
///
/// When `file` is no such ELF, has nothing to load, has segments that overlap, or spans more than
/// 64 MiB.
pub fn flatten(file: &[u8]) -> Result<Vec<u8>> {
    let elf = ElfFile64::<Endianness>::parse(file).context("not a 64-bit ELF")?;
    let pieces = pieces(&elf, file)?;
    let Some(base) = pieces.first().map(|piece| piece.address) else {
        bail!("no loadable segment has contents");
    };
    let mut image = Vec::new();
    for piece in pieces {
        let offset = piece.address - base;
        let end = offset.saturating_add(piece.bytes.len() as u64);
        if end > LARGEST {
            bail!(
                "segments from {base:#x} to {:#x} are too far apart for one image; \
                 look for a stray section in the linker script",
                piece.address
            );
        }
        if offset < image.len() as u64 {
            bail!(
                "the segment at {:#x} overlaps the one before it",
                piece.address
            );
        }
        image.resize(offset as usize, 0);
        image.extend_from_slice(piece.bytes);
    }
    Ok(image)
}

/// The loadable segments that have file contents, by address.
fn pieces<'a>(file: &ElfFile64<'a, Endianness>, bytes: &'a [u8]) -> Result<Vec<Piece<'a>>> {
    let endian = file.endian();
    if file.elf_header().e_machine.get(endian) != elf::EM_AARCH64 {
        bail!("an ELF for another machine than aarch64");
    }
    let mut pieces = Vec::new();
    for header in file.elf_program_headers() {
        if header.p_type(endian) == elf::PT_LOAD && header.p_filesz(endian) > 0 {
            let Ok(contents) = header.data(endian, bytes) else {
                bail!("a segment's contents lie outside the file");
            };
            pieces.push(Piece {
                address: header.p_paddr(endian),
                bytes: contents,
            });
        }
    }
    pieces.sort_by_key(|piece| piece.address);
    Ok(pieces)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;

    /// An ELF with a loadable segment for each (physical address, contents), `.bss` behind each.
    pub(crate) fn elf_with(machine: elf::Machine, segments: &[(u64, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; HEADER];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        file[16..18].copy_from_slice(&elf::ET_EXEC.0.to_le_bytes());
        file[18..20].copy_from_slice(&machine.0.to_le_bytes());
        file[20] = 1;
        file[32..40].copy_from_slice(&(HEADER as u64).to_le_bytes());
        file[52..54].copy_from_slice(&(HEADER as u16).to_le_bytes());
        file[54..56].copy_from_slice(&(PROGRAM_HEADER as u16).to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        let mut contents_at = (HEADER + PROGRAM_HEADER * segments.len()) as u64;
        for (address, contents) in segments {
            let size = contents.len() as u64;
            file.extend(elf::PT_LOAD.0.to_le_bytes());
            file.extend(0_u32.to_le_bytes());
            for field in [
                contents_at,
                address.wrapping_add(1 << 40),
                *address,
                size,
                size + 4096,
                8,
            ] {
                file.extend(field.to_le_bytes());
            }
            contents_at += size;
        }
        for (_, contents) in segments {
            file.extend_from_slice(contents);
        }
        file
    }

    fn error(file: &[u8]) -> String {
        format!("{:#}", flatten(file).expect_err("no image"))
    }

    #[test]
    fn segments_go_to_their_physical_addresses() {
        let file = elf_with(
            elf::EM_AARCH64,
            &[
                (0x4020_0008, b"late"),
                (0x4020_0000, b"first"),
                (0x4030_0000, b""),
            ],
        );
        assert_eq!(flatten(&file).expect("an image"), b"first\0\0\0late");
    }

    #[test]
    fn what_cannot_be_an_image_says_why() {
        assert!(error(b"").contains("not a 64-bit ELF"));
        assert!(error(&elf_with(elf::EM_X86_64, &[(0, b"x")])).contains("another machine"));
        assert!(error(&elf_with(elf::EM_AARCH64, &[])).contains("no loadable segment"));
        let overlapping = elf_with(elf::EM_AARCH64, &[(0, b"abc"), (2, b"x")]);
        assert!(error(&overlapping).contains("overlaps"));
        let far_apart = elf_with(elf::EM_AARCH64, &[(0, b"abc"), (u64::MAX, b"x")]);
        assert!(error(&far_apart).contains("too far apart"));
        let mut truncated = elf_with(elf::EM_AARCH64, &[(0, b"abcdef")]);
        truncated.truncate(truncated.len() - 1);
        assert!(error(&truncated).contains("outside the file"));
    }
}
