//! Filling a virtual machine's memory: what a boot loader does before it jumps to a kernel.

use core::fmt;

use hyp::vm::device_tree::{self, Description, TreeError};
use hyp::vm::image::{self, ImageError, Placement};
use hyp::vm::machine::{DEVICE_TREE, DEVICE_TREE_ROOM};
use hyp::vm::power::Entry;
use hyp::vm::setup::Setup;
use spin::Mutex;
use stage2::Ipa;

use super::MAX_VMS;
use crate::machine::{self, Memory, MemoryError};

/// Bytes of the buffer in which device trees are made: more than eight vCPUs and two thousand
/// characters of boot arguments need.
const TREE_BUFFER: usize = 8192;

const _: () = assert!(TREE_BUFFER as u64 <= DEVICE_TREE_ROOM);

/// Where device trees are made, one at a time.
/// Each machine has its own, since whoever fills one may give the CPU away meanwhile.
static BUFFERS: [Mutex<[u8; TREE_BUFFER]>; MAX_VMS] =
    [const { Mutex::new([0; TREE_BUFFER]) }; MAX_VMS];

/// Why a machine's memory could not be filled.
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

/// Makes new memory for machine number `vm` and loads its image, initial RAM disk and device tree.
///
/// Returns the memory and where vCPU 0 starts. On an error nothing is left of it.
pub(super) fn load(
    vm: usize,
    setup: &Setup<'_>,
    resets: u32,
) -> Result<(Memory, Entry), LoadError> {
    let place = if setup.is_firmware {
        image::place_firmware(setup.image)
    } else {
        image::place(setup.image, setup.memory_size)
    };
    let image = place.map_err(LoadError::Image)?;
    let initrd = place_initrd(setup, &image).map_err(LoadError::Image)?;
    let memory = machine::new_memory(vm, setup.memory_size)?;
    let filled = store_image(&memory, &image, setup)
        .and_then(|()| match initrd {
            Some(place) => store(&memory, place.address, setup.initrd),
            None => Ok(()),
        })
        .and_then(|()| store_device_tree(vm, &memory, setup, initrd, resets));
    match filled {
        Ok(()) => {
            let entry = Entry {
                address: image.address,
                context: DEVICE_TREE,
            };
            Ok((memory, entry))
        }
        Err(error) => {
            memory.destroy();
            Err(error)
        }
    }
}

fn place_initrd(setup: &Setup<'_>, image: &Placement) -> Result<Option<Placement>, ImageError> {
    let length = setup.initrd.len() as u64;
    (length > 0)
        .then(|| image::place_initrd(image, length, setup.memory_size))
        .transpose()
}

fn store_device_tree(
    vm: usize,
    memory: &Memory,
    setup: &Setup<'_>,
    initrd: Option<Placement>,
    resets: u32,
) -> Result<(), LoadError> {
    let description = Description {
        vcpus: setup.vcpus,
        memory_size: setup.memory_size,
        boot_arguments: setup.boot_arguments,
        initrd: initrd.map(|place| (place.address, place.address + place.size)),
        boot_count: resets,
    };
    let mut buffer = BUFFERS[vm].lock();
    let tree = device_tree::write(&mut buffer[..], &description).map_err(LoadError::Tree)?;
    store(memory, DEVICE_TREE, tree)
}

fn store_image(memory: &Memory, place: &Placement, setup: &Setup<'_>) -> Result<(), LoadError> {
    if !setup.is_firmware {
        return store(memory, place.address, setup.image);
    }
    memory
        .write_rom(Ipa::new(place.address), setup.image)
        .map_err(|_| LoadError::OutOfMemory)
}

fn store(memory: &Memory, ipa: u64, bytes: &[u8]) -> Result<(), LoadError> {
    // It is inside the RAM, as was checked, so the only reason to fail is that no frame is left.
    memory
        .write(Ipa::new(ipa), bytes)
        .map_err(|_| LoadError::OutOfMemory)
}
