//! A guest's kernel as the user has it: read, unpacked where it is compressed, and refused with the
//! reason where it is nothing that can be loaded and jumped to.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use flate2::read::MultiGzDecoder;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{LittleEndian, elf};

/// `ARM\x64` at byte 56: the header of Linux's boot protocol, whatever the first bytes are (with an
/// EFI stub they are those of a Windows program).
const IMAGE_MAGIC: (usize, &[u8]) = (56, b"ARM\x64");

/// Where that header has the memory that the kernel takes, in bytes, as a 64-bit word.
const IMAGE_SIZE_AT: usize = 16;

/// Where a kernel or firmware has to fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    bytes: u64,
    /// The longest ELF file, in bytes: most of one may be symbols, which are not loaded.
    elf: u64,
    what: &'static str,
}

impl Room {
    /// The flash for firmware (QEMU's `virt`, its first flash).
    pub(super) const FLASH: Self = Self {
        bytes: 64 << 20,
        elf: 0,
        what: "the flash",
    };

    /// So many bytes of guest's memory, on a machine with so many.
    pub(super) fn memory(guest: u64, machine: u64) -> Self {
        Self {
            bytes: guest.min(machine),
            elf: machine,
            what: "the guest's memory, which --guest-memory or memory= raises,",
        }
    }
}

const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// At byte 4 of a kernel that unpacks itself (Linux,
/// `drivers/firmware/efi/libstub/zboot-header.S`). Where what is packed is, and how long, in bytes,
/// is told at 8 and 12, and at 24 how it is packed.
const ZBOOT_MAGIC: &[u8] = b"zimg";

const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Other machines that have ELF files.
const MACHINES: [(elf::Machine, &str); 6] = [
    (elf::EM_386, "32-bit x86"),
    (elf::EM_MIPS, "MIPS"),
    (elf::EM_PPC, "PowerPC"),
    (elf::EM_ARM, "32-bit Arm"),
    (elf::EM_X86_64, "x86-64"),
    (elf::EM_RISCV, "RISC-V"),
];

/// Where guests' RAM begins.
const RAM_BASE: u64 = 0x4000_0000;

/// So many bytes tell whether a file is text.
const TEXT: usize = 512;

/// What is refused: bytes at a place, and what they tell of the file.
const REFUSED: [(usize, &[u8], &str); 17] = [
    (
        0,
        b"\xfd7zXZ",
        "compressed with xz; unpack it first: unxz FILE",
    ),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        "compressed with zstd; unpack it first: unzstd FILE",
    ),
    (
        0,
        b"BZh",
        "compressed with bzip2; unpack it first: bunzip2 FILE",
    ),
    (
        0,
        b"\x04\x22\x4d\x18",
        "compressed with LZ4; unpack it first: unlz4 FILE",
    ),
    (
        0,
        b"\x02\x21\x4c\x18",
        "compressed with LZ4; unpack it first: unlz4 FILE",
    ),
    (
        0,
        b"\x89LZO",
        "compressed with lzop; unpack it first: lzop -d FILE",
    ),
    (
        4,
        ZBOOT_MAGIC,
        "an EFI zboot image that is not packed with gzip; unpack the Image in it first",
    ),
    (
        0,
        b"\x27\x05\x19\x56",
        "a U-Boot image (uImage); take the Image that is in it",
    ),
    (
        0,
        b"\xd0\x0d\xfe\xed",
        "a device tree or a U-Boot FIT image; take the kernel that is in it",
    ),
    (
        0x24,
        b"\x18\x28\x6f\x01",
        "a kernel for 32-bit Arm (zImage); guests are 64-bit",
    ),
    (
        0x202,
        b"HdrS",
        "a kernel for x86 (bzImage); guests are 64-bit Arm",
    ),
    (
        0,
        b"MZ",
        "an EFI or Windows program; without the header of an arm64 Image it cannot be booted",
    ),
    (
        0,
        b"070701",
        "an initial RAM disk (cpio); it goes to --initrd",
    ),
    (
        0,
        b"070702",
        "an initial RAM disk (cpio); it goes to --initrd",
    ),
    (
        0,
        b"!<arch>\n",
        "a package or library (ar); take the kernel that is in it",
    ),
    (
        0,
        b"QFI\xfb",
        "a disk image (qcow2); take the kernel that is in it",
    ),
    (0, b"#!", "a script"),
];

/// Reads a kernel. What is longer than its room is not read.
///
/// # Errors
///
/// When it cannot be read, is too long, or is nothing to boot; the message says why.
pub(super) fn read(path: &Path, room: Room) -> Result<Vec<u8>> {
    let name = path.display();
    let unreadable = || format!("could not read the kernel {name}");
    // Opening what is no file could wait for ever.
    let file = fs::metadata(path).with_context(unreadable)?;
    let bytes = if !file.is_file() {
        Err(anyhow!("it is no file"))
    } else if file.len() > room.bytes.max(room.elf) {
        Err(too_long(&format!("{} MiB", file.len() >> 20), room))
    } else {
        unpack(fs::read(path).with_context(unreadable)?, room)
    };
    bytes.with_context(|| format!("{name} cannot be booted"))
}

/// The bytes of memory that a kernel takes at least: its own, and what its header asks for. An ELF
/// file says where it is put.
pub(super) fn needs(bytes: &[u8]) -> u64 {
    if let Ok(file) = ElfFile64::<LittleEndian>::parse(bytes) {
        let end = loaded(&file).map(|(_, end)| end).max();
        return end.unwrap_or_default().saturating_sub(RAM_BASE);
    }
    let (at, magic) = IMAGE_MAGIC;
    let size = bytes
        .get(IMAGE_SIZE_AT..)
        .and_then(|rest| rest.first_chunk());
    let size = size.map_or(0, |size| u64::from_le_bytes(*size));
    let length = bytes.len() as u64;
    match has(bytes, at, magic) {
        true => size.max(length),
        false => length,
    }
}

fn too_long(length: &str, room: Room) -> anyhow::Error {
    anyhow!(
        "it has {length}, and {} {} MiB",
        room.what,
        room.bytes >> 20
    )
}

fn unpack(mut bytes: Vec<u8>, room: Room) -> Result<Vec<u8>> {
    if bytes.starts_with(GZIP_MAGIC) {
        let unpacked = unzip(&bytes, room);
        bytes = unpacked.context("it is a gzip file that is cut off or damaged")?;
    }
    if let Some(packed) = zboot(&bytes) {
        let unpacked = unzip(packed, room);
        bytes = unpacked.context("it is an EFI zboot image that is cut off or damaged")?;
    }
    let limit = match bytes.starts_with(ELF_MAGIC) {
        true => room.elf.max(room.bytes),
        false => room.bytes,
    };
    if bytes.len() as u64 > limit {
        return Err(too_long("more than fits, once it is unpacked", room));
    }
    check(&bytes)?;
    Ok(bytes)
}

/// What is packed; of what is longer than `room` a byte more than that.
fn unzip(packed: &[u8], room: Room) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = room.bytes.max(room.elf).saturating_add(1);
    MultiGzDecoder::new(packed)
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is packed in an EFI zboot image, with gzip.
fn zboot(bytes: &[u8]) -> Option<&[u8]> {
    if !has(bytes, 4, ZBOOT_MAGIC) || !has(bytes, 24, b"gzip\0") {
        return None;
    }
    let (start, length) = (word(bytes, 8)?, word(bytes, 12)?);
    let packed = bytes.get(start..)?;
    Some(packed.get(..length).unwrap_or(packed))
}

/// The 32-bit word at byte `at`.
fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*word)).ok()
}

fn check(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        bail!("it is empty");
    }
    if bytes.starts_with(ELF_MAGIC) {
        return check_elf(bytes);
    }
    let (at, magic) = IMAGE_MAGIC;
    if !has(bytes, at, magic) {
        return refuse(bytes);
    }
    let (length, whole) = (bytes.len(), image_length(bytes));
    if whole > Some(length) {
        let whole = whole.unwrap_or_default();
        bail!("it is cut off: of {whole} bytes it has {length}");
    }
    Ok(())
}

/// Refuses ELF files that cannot be loaded, as far as that can be told without knowing the guest's
/// memory.
fn check_elf(bytes: &[u8]) -> Result<()> {
    if let Some(machine) = other_machine(bytes) {
        bail!("it is an ELF file for {machine}; guests are 64-bit Arm");
    }
    let damaged =
        "it is an ELF file that is cut off, damaged, or none of 64-bit Arm, little-endian";
    let file = ElfFile64::<LittleEndian>::parse(bytes).context(damaged)?;
    if file.elf_header().e_machine.get(LittleEndian) != elf::EM_AARCH64 {
        bail!("it is an ELF file for another machine; guests are 64-bit Arm");
    }
    let lowest = loaded(&file).map(|(start, _)| start).min();
    match lowest {
        None => bail!("it is an ELF file with nothing to load, such as an object file"),
        Some(lowest) if lowest < RAM_BASE => bail!(
            "it is an ELF file that is to be loaded at {lowest:#x}, and guests' RAM begins at {RAM_BASE:#x}; it \
             may be a program for an operating system, or linked for another board"
        ),
        Some(_) => Ok(()),
    }
}

/// Where an ELF file is to be loaded: the start and the end, as physical addresses, of each piece.
fn loaded(file: &ElfFile64<'_, LittleEndian>) -> impl Iterator<Item = (u64, u64)> {
    let headers = file.elf_program_headers().iter();
    let pieces = headers.filter(|header| header.p_type(LittleEndian) == elf::PT_LOAD);
    let pieces = pieces.map(|header| (header.p_paddr(LittleEndian), header.p_memsz(LittleEndian)));
    let pieces = pieces.filter(|&(_, size)| size > 0);
    pieces.map(|(start, size)| (start, start.saturating_add(size)))
}

/// Refuses what is not the start of a flat binary either.
fn refuse(bytes: &[u8]) -> Result<()> {
    let refused = REFUSED
        .iter()
        .find(|&&(at, magic, _)| has(bytes, at, magic));
    if let Some((_, _, what)) = refused {
        bail!("it is {what}");
    }
    if is_text(bytes) {
        bail!("it is a text file; a kernel is an arm64 Image, an ELF file or a flat binary");
    }
    if word(bytes, 0).is_none_or(|instruction| instruction == 0) {
        bail!(
            "it does not begin with an instruction; a kernel is an arm64 Image, or a flat binary that starts \
             with its first byte"
        );
    }
    Ok(())
}

fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

/// The machine that an ELF file is for, if that is another one that is known.
fn other_machine(bytes: &[u8]) -> Option<&'static str> {
    let machine = word(bytes, 18)? & 0xffff;
    let known = MACHINES
        .iter()
        .find(|&&(number, _)| usize::from(number.0) == machine);
    known.map(|&(_, name)| name)
}

/// Whether the start is characters that people read, which no instructions are.
fn is_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(TEXT)];
    let text = match str::from_utf8(start) {
        Ok(text) => text,
        // A character may go on behind what is looked at.
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    text.chars().all(|c| !c.is_control() || c.is_whitespace())
}

/// How long an Image with an EFI stub has to be, going by the sections of the Windows program that
/// it also is (PE format: COFF header and section table); `None` if it says nothing of that. Other
/// Images say only how much memory they use.
fn image_length(bytes: &[u8]) -> Option<usize> {
    let word = |at| word(bytes, at);
    let half = |at: usize| Some(word(at)? & 0xffff);
    let header = word(0x3c)?;
    if !bytes.get(header..)?.starts_with(b"PE\0\0") {
        return None;
    }
    let (sections, optional) = (half(header + 6)?, half(header + 20)?);
    let table = header + 24 + optional;
    (0..sections)
        .filter_map(|index| {
            let section = table + index * 40;
            Some(word(section + 16)?.saturating_add(word(section + 20)?))
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flatten::tests::elf_with;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    const ROOM: u64 = 1 << 20;

    fn unpack(bytes: Vec<u8>) -> Result<Vec<u8>> {
        super::unpack(bytes, Room::memory(ROOM, 4 * ROOM))
    }

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn image() -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[..2].copy_from_slice(b"MZ");
        image[56..60].copy_from_slice(b"ARM\x64");
        image
    }

    #[test]
    fn images_and_flat_binaries_pass() {
        let flat = vec![0x20, 0, 0x80, 0xd2];
        for bytes in [image(), flat] {
            assert_eq!(unpack(bytes.clone()).expect("a kernel"), bytes);
            assert_eq!(unpack(zipped(&bytes)).expect("a kernel"), bytes);
        }
    }

    #[test]
    fn kernels_that_unpack_themselves_are_unpacked() {
        let packed = zipped(&image());
        let mut zboot = vec![0; 0x400];
        zboot[..8].copy_from_slice(b"MZ\0\0zimg");
        zboot[9] = 4;
        zboot[12..14].copy_from_slice(&u16::try_from(packed.len()).expect("short").to_le_bytes());
        zboot[24..28].copy_from_slice(b"gzip");
        zboot.extend(&packed);
        // What follows is not packed.
        let whole = zboot.len();
        zboot.extend(b"reloc");
        assert_eq!(unpack(zboot.clone()).expect("a kernel"), image());
        zboot.truncate(whole - 9);
        let error = unpack(zboot.clone()).expect_err("cut off").to_string();
        assert!(error.contains("cut off or damaged"), "{error}");
        zboot[24..28].copy_from_slice(b"zstd");
        let error = unpack(zboot).expect_err("packed").to_string();
        assert!(error.contains("not packed with gzip"), "{error}");
    }

    #[test]
    fn what_is_too_long_once_it_is_unpacked_is_refused() {
        let bomb = zipped(&vec![1; 2 * ROOM as usize]);
        let error = unpack(bomb).expect_err("too long").to_string();
        assert!(
            error.starts_with("it has more than fits, once it is unpacked, and the guest's"),
            "{error}"
        );
    }

    #[test]
    fn a_header_says_how_much_memory_is_needed() {
        let mut image = image();
        assert_eq!(needs(&image), 4096);
        image[18] = 3;
        assert_eq!(needs(&image), 3 << 16);
        assert_eq!(needs(&[1; 10]), 10);
        let high = elf_with(
            elf::EM_AARCH64,
            &[(RAM_BASE, b"x"), (RAM_BASE + 0x3000, b"y")],
        );
        assert_eq!(needs(&high), 0x4001);
    }

    #[test]
    fn an_image_that_was_cut_off_is_refused() {
        let mut image = image();
        image[0x3c] = 64;
        image[64..68].copy_from_slice(b"PE\0\0");
        image[70] = 2;
        image[84] = 8;
        // The second section has 0x800 bytes from 0x800 on.
        let section = 64 + 24 + 8 + 40;
        image[section + 17] = 8;
        image[section + 21] = 8;
        assert_eq!(unpack(image.clone()).expect("a kernel"), image);
        image.pop();
        let error = unpack(image.clone()).expect_err("cut off").to_string();
        assert_eq!(error, "it is cut off: of 4096 bytes it has 4095");
        image.truncate(66);
        assert!(unpack(image).is_ok(), "it does not say how long it is");
    }

    #[test]
    fn elf_files_for_guests_pass_and_others_are_refused_with_the_reason() {
        let kernel = elf_with(elf::EM_AARCH64, &[(RAM_BASE, b"code")]);
        assert_eq!(unpack(kernel.clone()).expect("a kernel"), kernel);
        let refusal = |bytes: &[u8]| {
            let error = unpack(bytes.to_vec()).expect_err("no kernel");
            format!("{error:#}")
        };
        let foreign = elf_with(elf::EM_X86_64, &[(RAM_BASE, b"code")]);
        assert!(refusal(&foreign).contains("an ELF file for x86-64"));
        let unknown = elf_with(elf::Machine(9999), &[(RAM_BASE, b"code")]);
        assert!(refusal(&unknown).contains("for another machine"));
        let program = elf_with(elf::EM_AARCH64, &[(RAM_BASE, b"x"), (0x40_0000, b"x")]);
        assert!(refusal(&program).contains("loaded at 0x400000"));
        let empty = elf_with(elf::EM_AARCH64, &[]);
        assert!(refusal(&empty).contains("nothing to load"));
        assert!(refusal(&kernel[..60]).contains("cut off"));
    }

    #[test]
    fn what_cannot_be_booted_is_refused_with_the_reason() {
        for (at, magic, what) in REFUSED {
            let mut bytes = vec![0; 0x400];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            for bytes in [zipped(&bytes), bytes] {
                let error = unpack(bytes).expect_err(what).to_string();
                assert_eq!(error, format!("it is {what}"));
            }
        }
        assert!(unpack(Vec::new()).is_err());
        let start = |bytes: &[u8]| unpack(bytes.to_vec()).expect_err("no kernel").to_string();
        for text in [
            "CONFIG_ARM64=y\n".repeat(100),
            "\u{e9}".repeat(300),
            "a".into(),
        ] {
            assert!(start(text.as_bytes()).contains("a text file"));
        }
        for nothing in [&[0; 4096][..], &[0x20, 0, 0x80]] {
            assert!(start(nothing).contains("does not begin with an instruction"));
        }
        let mut damaged = zipped(&image());
        damaged.truncate(12);
        assert!(unpack(damaged).is_err());
        let nothing = read(Path::new("/nonexistent"), Room::FLASH).expect_err("no file");
        assert!(format!("{nothing:#}").contains("/nonexistent"));
    }
}
