//! Filling a VM's memory: what a boot loader does before it jumps to a kernel.

use core::fmt;

use loader::device_tree::{self, Description, TreeError};
use loader::image::{Image, ImageError, Kind};
use loader::layout::{DEVICE_TREE_ROOM, Layout};
use loader::setup::Setup;
use psci::power::Entry;
use spin::Mutex;
use stage2::Ipa;

use super::MAX_VMS;
use crate::mm::{self, Memory, MemoryError};

/// Bytes of the buffer in which device trees are made: more than eight vCPUs and two thousand
/// characters of boot arguments need.
const TREE_BUFFER: usize = DEVICE_TREE_ROOM as usize;

/// Where device trees are made, one at a time.
/// Each VM has its own, since the thread that fills one may give the CPU away meanwhile.
static BUFFERS: [Mutex<[u8; TREE_BUFFER]>; MAX_VMS] =
    [const { Mutex::new([0; TREE_BUFFER]) }; MAX_VMS];

/// Why a VM's memory could not be filled.
#[derive(Clone, Debug)]
pub(crate) enum LoadError {
    /// The image is no use.
    Image(ImageError),
    /// The device tree could not be written.
    Tree(TreeError),
    /// There is not enough memory for what has to be there at the start.
    OutOfMemory,
    /// Guests' addresses have room for this many bytes of RAM, and no more.
    TooWide(u64),
}

impl From<MemoryError> for LoadError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::OutOfFrames => Self::OutOfMemory,
            MemoryError::TooWide { most } => Self::TooWide(most),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(reason) => reason.fmt(f),
            Self::Tree(reason) => write!(f, "its device tree cannot be made: {reason}"),
            Self::OutOfMemory => write!(
                f,
                "there is no physical memory for its tables, image and device tree; give QEMU more \
                 with -m, or raise the boot argument frames"
            ),
            Self::TooWide(most) => write!(
                f,
                "guests on this CPU have addresses for {} MiB of RAM; lower guest-memory, or `memory` in \
                 its manifest",
                most >> 20
            ),
        }
    }
}

/// Makes new memory for VM number `vm` and loads its image, initial RAM disk and device tree.
///
/// Returns the memory and where vCPU 0 starts. On an error nothing is left of it.
pub(super) fn load(
    vm: usize,
    setup: &Setup<'_>,
    resets: u32,
) -> Result<(Memory, Entry), LoadError> {
    let (image, layout) = lay_out(setup).map_err(LoadError::Image)?;
    let memory = mm::new_memory(vm, setup.memory_size)?;
    let filled = store_image(&memory, &image)
        .and_then(|()| match layout.initrd {
            Some(ipa) => store(&memory, ipa, setup.initrd),
            None => Ok(()),
        })
        .and_then(|()| match layout.device_tree {
            Some(ipa) => store_device_tree(vm, &memory, ipa, setup, layout.initrd, resets),
            None => Ok(()),
        });
    match filled {
        Ok(()) => Ok((memory, layout.entry)),
        Err(error) => {
            memory.destroy();
            Err(error)
        }
    }
}

fn lay_out<'a>(setup: &Setup<'a>) -> Result<(Image<'a>, Layout), ImageError> {
    let image = if setup.is_firmware {
        Image::firmware(setup.image)
    } else {
        Image::kernel(setup.image)
    }?;
    let layout = Layout::new(&image, setup.initrd.len() as u64, setup.memory_size)?;
    Ok((image, layout))
}

fn store_device_tree(
    vm: usize,
    memory: &Memory,
    ipa: u64,
    setup: &Setup<'_>,
    initrd: Option<u64>,
    resets: u32,
) -> Result<(), LoadError> {
    let description = Description {
        vcpus: setup.vcpus,
        memory_size: setup.memory_size,
        boot_arguments: setup.boot_arguments,
        initrd: initrd.map(|start| (start, start + setup.initrd.len() as u64)),
        boot_count: resets,
    };
    let mut buffer = BUFFERS[vm].lock();
    let mut pause = || memory.machine().cond_resched();
    let tree = device_tree::write(&mut buffer[..], &description, &mut pause);
    let tree = tree.map_err(LoadError::Tree)?;
    store(memory, ipa, tree)
}

fn store_image(memory: &Memory, image: &Image<'_>) -> Result<(), LoadError> {
    for (ipa, bytes) in image.pieces() {
        match image.kind() {
            Kind::Kernel | Kind::Elf => store(memory, ipa, bytes)?,
            Kind::Firmware => memory
                .write_rom(Ipa::new(ipa), bytes)
                .map_err(|_| LoadError::OutOfMemory)?,
        }
    }
    Ok(())
}

fn store(memory: &Memory, ipa: u64, bytes: &[u8]) -> Result<(), LoadError> {
    // It is inside the RAM, as was checked, so the only reason to fail is that no frame is left.
    memory
        .write(Ipa::new(ipa), bytes)
        .map_err(|_| LoadError::OutOfMemory)
}
