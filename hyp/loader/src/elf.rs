//! ELF files for guests: segments that go where the program headers say.

use core::ops::Range;

use elf::ElfBytes;
use elf::abi::{EM_AARCH64, ET_REL, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParseError;
use elf::segment::{ProgramHeader, SegmentTable};
use thiserror::Error;

/// What ELF files begin with.
const MAGIC: &[u8] = b"\x7fELF";

/// An ELF file that can be loaded: it has something to load, and all of that is in the file.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a> {
    bytes: &'a [u8],
    headers: SegmentTable<'a, LittleEndian>,
    /// The addresses that are loaded, or zeroed: from the lowest to the one behind the highest.
    start: u64,
    end: u64,
    entry: u64,
}

/// Why an ELF file cannot be loaded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ElfError {
    /// It is for another machine.
    #[error("for another machine; guests are 64-bit Arm, little-endian")]
    Machine,
    /// It is to be linked yet.
    #[error("that is not linked yet (an object file)")]
    Object,
    /// What its headers name is not there.
    #[error("that is cut off or damaged")]
    Damaged,
    /// It has no loadable segment.
    #[error("with nothing to load")]
    NoSegments,
}

impl<'a> Elf<'a> {
    /// Reads an ELF file; `None` if `bytes` are none.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn open(bytes: &'a [u8]) -> Result<Option<Self>, ElfError> {
        if !bytes.starts_with(MAGIC) {
            return Ok(None);
        }
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|error| match error {
            ParseError::UnsupportedElfEndianness(_) => ElfError::Machine,
            _ => ElfError::Damaged,
        })?;
        if file.ehdr.class != Class::ELF64 || file.ehdr.e_machine != EM_AARCH64 {
            return Err(ElfError::Machine);
        }
        if file.ehdr.e_type == ET_REL {
            return Err(ElfError::Object);
        }
        let mut elf = Self {
            bytes,
            headers: file.segments().ok_or(ElfError::NoSegments)?,
            start: u64::MAX,
            end: 0,
            entry: file.ehdr.e_entry,
        };
        for segment in elf.loadable() {
            let end = segment.p_paddr.checked_add(segment.p_memsz);
            let whole = elf.contents(&segment).is_some() && segment.p_filesz <= segment.p_memsz;
            elf.start = elf.start.min(segment.p_paddr);
            elf.end = elf.end.max(end.filter(|_| whole).ok_or(ElfError::Damaged)?);
        }
        if elf.end == 0 {
            return Err(ElfError::NoSegments);
        }
        elf.entry = elf.physical(elf.entry);
        Ok(Some(elf))
    }

    /// The physical addresses that it uses, gaps between its segments included.
    pub fn extent(&self) -> Range<u64> {
        self.start..self.end
    }

    /// The physical address of its first instruction.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The physical address and the contents of each segment. What it has beyond its contents is
    /// zero.
    pub fn segments(self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let contents = move |segment: ProgramHeader| {
            let contents = self.contents(&segment)?;
            Some((segment.p_paddr, contents))
        };
        self.loadable().filter_map(contents)
    }

    fn loadable(&self) -> impl Iterator<Item = ProgramHeader> + use<'a> {
        let is_loaded = |segment: &ProgramHeader| segment.p_type == PT_LOAD && segment.p_memsz > 0;
        self.headers.into_iter().filter(is_loaded)
    }

    fn contents(&self, segment: &ProgramHeader) -> Option<&'a [u8]> {
        let offset = usize::try_from(segment.p_offset).ok()?;
        let length = usize::try_from(segment.p_filesz).ok()?;
        self.bytes.get(offset..)?.get(..length)
    }

    /// The physical address of the entry point, which some linkers give as a virtual one.
    fn physical(&self, entry: u64) -> u64 {
        let has_it = |segment: &ProgramHeader| {
            let code = segment.p_vaddr..segment.p_vaddr.saturating_add(segment.p_filesz);
            segment.p_flags & PF_X != 0 && code.contains(&entry)
        };
        let segment = self.loadable().find(has_it);
        segment.map_or(entry, |segment| entry - segment.p_vaddr + segment.p_paddr)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    /// How much higher virtual addresses are than physical ones.
    const VIRTUAL: u64 = 1 << 40;

    /// An executable for arm64 with a segment for each (physical address, contents, size in
    /// memory).
    pub(in super::super) fn elf_with(segments: &[(u64, &[u8], u64)], entry: u64) -> Vec<u8> {
        let mut file = vec![0; HEADER];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        file[16] = 2;
        file[18..20].copy_from_slice(&EM_AARCH64.to_le_bytes());
        file[20] = 1;
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32..40].copy_from_slice(&(HEADER as u64).to_le_bytes());
        file[54..56].copy_from_slice(&(PROGRAM_HEADER as u16).to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        let mut contents_at = (HEADER + PROGRAM_HEADER * segments.len()) as u64;
        for (address, contents, size) in segments {
            file.extend(PT_LOAD.to_le_bytes());
            file.extend((PF_X | 4).to_le_bytes());
            let length = contents.len() as u64;
            let virtual_address = address.wrapping_add(VIRTUAL);
            for field in [contents_at, virtual_address, *address, length, *size, 8] {
                file.extend(field.to_le_bytes());
            }
            contents_at += length;
        }
        file.extend(segments.iter().flat_map(|(_, contents, _)| *contents));
        file
    }

    fn error(bytes: &[u8]) -> ElfError {
        Elf::open(bytes).unwrap_err()
    }

    #[test]
    fn segments_go_to_their_physical_addresses() {
        let file = elf_with(
            &[
                (0x4020_0000, b"second", 6),
                (0x4010_0000, b"first", 0x1000),
                (0x4030_0000, b"", 0x2345),
                (0x1000, b"", 0),
            ],
            0x4020_0004,
        );
        let elf = Elf::open(&file).unwrap().unwrap();
        let segments: Vec<_> = elf.segments().collect();
        assert_eq!(
            segments,
            [
                (0x4020_0000, &b"second"[..]),
                (0x4010_0000, b"first"),
                (0x4030_0000, b"")
            ]
        );
        assert_eq!(elf.extent(), 0x4010_0000..0x4030_2345);
        assert_eq!(elf.entry(), 0x4020_0004);
    }

    #[test]
    fn a_virtual_entry_point_is_translated() {
        let segments: [(u64, &[u8], u64); 2] =
            [(0x4010_0000, b"code", 4), (0x4020_0000, b"more", 4)];
        let file = elf_with(&segments, 0x4020_0002 + VIRTUAL);
        assert_eq!(Elf::open(&file).unwrap().unwrap().entry(), 0x4020_0002);
    }

    #[test]
    fn what_cannot_be_loaded_says_why() {
        assert!(Elf::open(b"\x20\0\0\0").unwrap().is_none());
        let file = elf_with(&[(0x4010_0000, b"code", 4)], 0);
        let with = |at: usize, value: u8| {
            let mut changed = file.clone();
            changed[at] = value;
            changed
        };
        assert_eq!(error(&with(4, 1)), ElfError::Damaged);
        assert_eq!(error(&with(5, 2)), ElfError::Machine);
        assert_eq!(error(&with(18, 62)), ElfError::Machine);
        assert_eq!(error(&with(16, 1)), ElfError::Object);
        assert_eq!(error(&with(56, 0)), ElfError::NoSegments);
        assert_eq!(error(&elf_with(&[], 0)), ElfError::NoSegments);
        for length in 4..file.len() {
            assert_eq!(error(&file[..length]), ElfError::Damaged, "{length}");
        }
        for (address, contents, size) in [(u64::MAX, b"code", 4), (0x4010_0000, b"long", 3)] {
            assert_eq!(
                error(&elf_with(&[(address, contents, size)], 0)),
                ElfError::Damaged
            );
        }
    }
}
