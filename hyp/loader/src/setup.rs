//! What virtual machines are made of: the initial RAM disk that the boot loader passed, read as an
//! archive with manifests, or as the image of a single guest.

use crate::archive::{Archive, ArchiveError, File, is_archive};
use crate::manifest::{self, EXTENSION, Manifest, ManifestError, Reason, Start};
use core::iter::once;
use thiserror::Error;

/// What a machine is made of. Kept for restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Number of vCPUs, 1 to `MAX_VCPUS`.
    pub vcpus: usize,
    /// Size of its RAM in bytes, a multiple of 4 KiB.
    pub memory_size: u64,
    /// The guest's image.
    pub image: &'a [u8],
    /// Whether the image is firmware, which is in flash and starts there.
    pub is_firmware: bool,
    /// The guest's initial RAM disk; empty if it has none.
    pub initrd: &'a [u8],
    /// The guest's boot arguments.
    pub boot_arguments: &'a str,
    /// How often it is made anew after it has switched itself off.
    pub restarts: u32,
}

/// What machines have whose manifest does not say.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// Number of vCPUs, 1 to `MAX_VCPUS`.
    pub vcpus: usize,
    /// Size of the RAM in bytes, a multiple of 4 KiB.
    pub memory_size: u64,
    /// Boot arguments.
    pub boot_arguments: &'a str,
}

/// Why there is no machine to set up.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SetupError {
    /// The initial RAM disk was meant to be an archive.
    #[error("the initial RAM disk is a damaged archive: {0}")]
    Archive(#[from] ArchiveError),
    /// The archive has no manifest.
    #[error("the archive in the initial RAM disk has no manifest (a file *{EXTENSION})")]
    NoManifest,
}

/// The name of a guest that comes without a manifest.
const NAMELESS: &str = "guest";

/// The machines that `initrd` asks for, each on its own either to be set up or in error.
///
/// # Errors
///
/// There is none.
pub fn machines<'a>(
    initrd: &'a [u8],
    defaults: Defaults<'a>,
) -> Result<impl Iterator<Item = Result<Setup<'a>, ManifestError<'a>>>, SetupError> {
    let archive = is_archive(initrd)
        .then(|| Archive::open(initrd))
        .transpose()?;
    let single = archive.is_none().then_some(Ok(Setup {
        name: NAMELESS,
        vcpus: defaults.vcpus,
        memory_size: defaults.memory_size,
        image: initrd,
        is_firmware: false,
        initrd: &[],
        boot_arguments: defaults.boot_arguments,
        restarts: 0,
    }));
    let mut manifests = archive.into_iter().flat_map(move |archive| {
        let is_manifest = |file: &File<'_>| file.name.ends_with(EXTENSION);
        let set_up = move |file| set_up(&archive, file, defaults);
        archive.files().filter(is_manifest).map(set_up)
    });
    let first = single
        .or_else(|| manifests.next())
        .ok_or(SetupError::NoManifest)?;
    Ok(once(first).chain(manifests))
}

fn set_up<'a>(
    archive: &Archive<'a>,
    file: File<'a>,
    defaults: Defaults<'a>,
) -> Result<Setup<'a>, ManifestError<'a>> {
    let Manifest {
        name,
        start,
        initrd,
        append,
        vcpus,
        memory,
        restarts,
    } = manifest::parse(file.name, file.contents)?;
    let find = |field, file| {
        archive.find(file).ok_or(ManifestError {
            vm: name,
            field: Some(field),
            reason: Reason::NoFile(file),
        })
    };
    let (field, image, is_firmware) = match start {
        Start::Kernel(file) => ("kernel", file, false),
        Start::Firmware(file) => ("firmware", file, true),
    };
    Ok(Setup {
        name,
        vcpus: vcpus.unwrap_or(defaults.vcpus),
        memory_size: memory.unwrap_or(defaults.memory_size),
        image: find(field, image)?,
        is_firmware,
        initrd: initrd.map_or(Ok(&[][..]), |file| find("initrd", file))?,
        boot_arguments: append.unwrap_or(defaults.boot_arguments),
        restarts: restarts.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::archive;

    const DEFAULTS: Defaults<'_> = Defaults {
        vcpus: 3,
        memory_size: 1 << 27,
        boot_arguments: "seconds=1",
    };

    fn all(initrd: &[u8]) -> Vec<Result<Setup<'_>, String>> {
        let machines = machines(initrd, DEFAULTS).unwrap();
        machines
            .map(|machine| machine.map_err(|error| error.to_string()))
            .collect()
    }

    #[test]
    fn a_plain_image_is_one_machine() {
        let setups = all(b"image");
        assert_eq!(
            setups,
            [Ok(Setup {
                name: "guest",
                vcpus: 3,
                memory_size: 1 << 27,
                image: b"image",
                is_firmware: false,
                initrd: b"",
                boot_arguments: "seconds=1",
                restarts: 0,
            })]
        );
    }

    #[test]
    fn each_manifest_is_a_machine_or_an_error() {
        let bytes = archive(&[
            (
                "a.vm",
                b"name=a\nkernel=Image\ninitrd=disk\nvcpus=1\nappend=x",
            ),
            ("Image", b"kernel"),
            ("b.vm", b"name=b\nkernel=nothing"),
            ("c.vm", b"name=c\nkernel=Image\nmemory=4M"),
            ("disk", b"files"),
            ("d.vm", b"name=d\nfirmware=Image"),
        ]);
        let setups = all(&bytes);
        let a = setups[0].as_ref().unwrap();
        assert_eq!((a.name, a.vcpus, a.memory_size), ("a", 1, 1 << 27));
        assert_eq!((a.image, a.initrd), (&b"kernel"[..], &b"files"[..]));
        assert_eq!(a.boot_arguments, "x");
        let missing = "VM `b`, field `kernel`: the archive has no file `nothing`";
        assert_eq!(setups[1], Err(missing.into()));
        let c = setups[2].as_ref().unwrap();
        assert_eq!((c.name, c.vcpus, c.memory_size), ("c", 3, 4 << 20));
        assert_eq!(c.boot_arguments, "seconds=1");
        let d = setups[3].as_ref().unwrap();
        assert_eq!((d.image, d.is_firmware), (&b"kernel"[..], true));
        assert_eq!(setups.len(), 4);
    }

    #[test]
    fn an_archive_without_machines_is_an_error() {
        let error = |bytes: &[u8]| machines(bytes, DEFAULTS).map(|_| ()).unwrap_err();
        assert_eq!(
            error(&archive(&[("Image", b"kernel")])),
            SetupError::NoManifest
        );
        let bytes = archive(&[("a.vm", b"name=a")]);
        let error = error(&bytes[..bytes.len() / 2]).to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}
