//! Where everything is put that a guest finds in its memory at the start: image, initial RAM disk,
//! device tree.
//!
//! The places are those that QEMU chooses for its board, since guests have come to rely on them: a
//! kernel finds the device tree above everything else, aligned to 2 MiB, and the start of RAM
//! untouched; firmware and ELF files, which are told nothing, find it at the start of RAM.

use crate::image::{Image, ImageError, Kind};
use devices::board;
use psci::power::Entry;
use stage2::PAGE_SIZE;

/// The largest device tree, in bytes.
pub const DEVICE_TREE_ROOM: u64 = 16 << 10;

/// The device tree of a kernel is a multiple of this above the start of RAM: some kernels map the 2
/// MiB that it is in as one block, and nothing else.
const DEVICE_TREE_ALIGNMENT: u64 = 2 << 20;

/// The initial RAM disk is in the middle of RAM, but no further up than this.
const HIGHEST_INITRD: u64 = 128 << 20;

/// Where it all is. All of it lies in the guest's memory, but for the image of firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The guest's first instruction, and what it finds in x0.
    pub entry: Entry,
    /// The IPA of the initial RAM disk, if there is one.
    pub initrd: Option<u64>,
    /// The IPA of the device tree; none if an ELF file leaves no room for it at the start of RAM.
    pub device_tree: Option<u64>,
}

impl Layout {
    /// Lays out a memory of `memory_size` bytes for `image` and an initial RAM disk of `initrd`
    /// bytes, which is none if that is zero.
    ///
    /// # Errors
    ///
    /// The memory is too small, or is not where the image wants to be.
    pub fn new(image: &Image<'_>, initrd: u64, memory_size: u64) -> Result<Self, ImageError> {
        let base = board::RAM_BASE;
        if image.kind() != Kind::Firmware && image.start() < base {
            return Err(ImageError::BelowMemory(image.start()));
        }
        let image_end = match image.kind() {
            Kind::Firmware => 0,
            Kind::Kernel | Kind::Elf => image.end() - base,
        };
        fit(image_end, memory_size)?;

        let usual = (memory_size / 2).min(HIGHEST_INITRD);
        let initrd_at = usual.max(image_end).next_multiple_of(PAGE_SIZE);
        let initrd_end = initrd_at.saturating_add(initrd);
        if initrd > 0 {
            fit(initrd_end, memory_size)?;
        }

        let start_is_free = match image.kind() {
            Kind::Kernel => false,
            Kind::Elf => image.start() - base >= DEVICE_TREE_ROOM,
            Kind::Firmware => true,
        };
        let tree_at = match image.kind() {
            Kind::Kernel => Some(initrd_end.next_multiple_of(DEVICE_TREE_ALIGNMENT)),
            Kind::Elf | Kind::Firmware => start_is_free.then_some(0),
        };
        if let Some(at) = tree_at {
            fit(at.saturating_add(DEVICE_TREE_ROOM), memory_size)?;
        }
        let device_tree = tree_at.map(|at| base + at);
        Ok(Self {
            entry: Entry {
                address: image.entry(),
                context: match image.kind() {
                    Kind::Elf => 0,
                    Kind::Kernel | Kind::Firmware => device_tree.unwrap_or_default(),
                },
            },
            initrd: (initrd > 0).then_some(base + initrd_at),
            device_tree,
        })
    }
}

/// Checks that what ends `end` bytes above the start of RAM is inside.
fn fit(end: u64, memory_size: u64) -> Result<(), ImageError> {
    if end > memory_size {
        return Err(ImageError::TooBig {
            needed: end.div_ceil(1024),
            memory: memory_size / 1024,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::elf_with;
    use crate::image::tests::with_header;

    const MIB: u64 = 1 << 20;

    fn lay_out(image: &[u8], initrd: u64, memory_size: u64) -> Result<Layout, ImageError> {
        Layout::new(&Image::kernel(image).unwrap(), initrd, memory_size)
    }

    fn layout(entry: u64, context: u64, initrd: Option<u64>, tree: Option<u64>) -> Layout {
        Layout {
            entry: Entry {
                address: entry,
                context,
            },
            initrd,
            device_tree: tree,
        }
    }

    /// The places were read from QEMU 7.2's memory (`info roms`).
    #[test]
    fn a_kernel_finds_its_tree_where_qemu_puts_it() {
        for (image_size, initrd, memory, disk_at, tree_at) in [
            (0x1000, 0, 128 * MIB, None, 0x4400_0000),
            (0x1000, 1, 128 * MIB, Some(0x4400_0000), 0x4420_0000),
            (0x1000, 2 * MIB, 1024 * MIB, Some(0x4800_0000), 0x4820_0000),
            // Above the image, all of it, where that is larger than half of the memory.
            (90 * MIB, 0, 128 * MIB, None, 0x45c0_0000),
            (
                90 * MIB + 1,
                0x1001,
                128 * MIB,
                Some(0x45a8_1000),
                0x45c0_0000,
            ),
        ] {
            let image = with_header(0x8_0000, image_size);
            assert_eq!(
                lay_out(&image, initrd, memory),
                Ok(layout(0x4008_0000, tree_at, disk_at, Some(tree_at)))
            );
        }
        let flat = lay_out(&[1, 2, 3], 0, 4 * MIB);
        let tree = 0x4020_0000;
        assert_eq!(flat, Ok(layout(0x4008_0000, tree, None, Some(tree))));
    }

    #[test]
    fn firmware_finds_its_tree_at_the_start_of_ram() {
        let image = Image::firmware(&[1; 4096]).unwrap();
        let base = 0x4000_0000;
        assert_eq!(
            Layout::new(&image, 0, MIB),
            Ok(layout(0, base, None, Some(base)))
        );
        assert!(Layout::new(&image, 0, 8192).is_err());
    }

    #[test]
    fn an_elf_file_finds_its_tree_at_the_start_of_ram_if_there_is_room() {
        let high = elf_with(&[(0x4010_0000, b"code", 0x1000)], 0x4010_0000);
        let base = 0x4000_0000;
        let tree = Some(base);
        assert_eq!(
            lay_out(&high, 0, 2 * MIB),
            Ok(layout(0x4010_0000, 0, None, tree))
        );
        assert_eq!(
            lay_out(&high, 1, 4 * MIB),
            Ok(layout(0x4010_0000, 0, Some(0x4020_0000), tree))
        );
        let low = elf_with(&[(base, b"code", 0x1000)], base);
        assert_eq!(lay_out(&low, 0, MIB), Ok(layout(base, 0, None, None)));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let too_big = |needed, memory| Err(ImageError::TooBig { needed, memory });
        assert_eq!(lay_out(&[0; 3], 0, 512 << 10), too_big(513, 512));
        // Image and disk have room, and the tree has none.
        assert_eq!(lay_out(&[0; 3], 0, 2 * MIB), too_big(2064, 2048));
        assert_eq!(lay_out(&[0; 3], MIB + 1, 2 * MIB), too_big(2049, 2048));
        for image in [with_header(u64::MAX, 64), with_header(0, u64::MAX)] {
            assert!(matches!(
                lay_out(&image, 0, 1 << 30),
                Err(ImageError::TooBig { .. })
            ));
        }
        let image = with_header(0, 64);
        assert!(lay_out(&image, u64::MAX, 1 << 30).is_err());
    }

    #[test]
    fn an_elf_file_that_is_linked_elsewhere_is_told_so() {
        let linux = elf_with(&[(0x40_0000, b"code", 4)], 0x40_0000);
        let error = lay_out(&linux, 0, 1 << 30).unwrap_err();
        assert_eq!(error, ImageError::BelowMemory(0x40_0000));
        assert!(error.to_string().contains("RAM begins at 0x40000000"));
        let high = elf_with(
            &[(0xffff_8000_0000_0000, b"code", 4)],
            0xffff_8000_0000_0000,
        );
        assert!(matches!(
            lay_out(&high, 0, 1 << 30),
            Err(ImageError::TooBig { .. })
        ));
    }
}
