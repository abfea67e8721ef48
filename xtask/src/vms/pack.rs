//! Virtual machines put together to an archive: their files, each once, and a manifest for each
//! machine, as the hypervisor reads them (`loader::manifest`).

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::kernel::Room;
use super::{Sources, Spec, disk, kernel};
use crate::archive::Archive;
use crate::size::Size;

/// The fields of a manifest for what runs first.
const KERNEL: &str = "kernel";
const FIRMWARE: &str = "firmware";

/// Makes the archive.
///
/// # Errors
///
/// When a file cannot be read or is no kernel; the message names the machine and what it is for.
pub(super) fn pack(specs: &[Spec], sources: &Sources<'_>) -> Result<Vec<u8>> {
    let mut files = Files::default();
    let mut manifests = Files::default();
    for spec in specs {
        let name = manifests.unused(&spec.label());
        let manifest =
            manifest(&name, spec, sources, &mut files).with_context(|| format!("VM `{name}`"))?;
        manifests
            .0
            .push((name.clone(), name, manifest.into_bytes()));
    }
    let mut archive = Archive::default();
    for (_, name, text) in manifests.0 {
        archive.file(&format!("{name}.vm"), 0o644, &text)?;
    }
    for (_, name, contents) in files.0 {
        archive.file(&name, 0o644, &contents)?;
    }
    Ok(archive.finish()?)
}

fn manifest(name: &str, spec: &Spec, sources: &Sources<'_>, files: &mut Files) -> Result<String> {
    let mut text = format!("name = {name}\n");
    let mut add = |field: &str, value: &str| text.push_str(&format!("{field} = {value}\n"));
    let (field, kernel) = kernel_of(spec, sources, files)?;
    add(field, &kernel);
    if let Some(initrd) = initrd_of(spec, sources, files)? {
        add("initrd", &initrd);
    }
    if let Some(append) = spec.boot_arguments() {
        add("append", &append);
    }
    if let Some(vcpus) = spec.vcpus {
        add("vcpus", &vcpus.to_string());
    }
    if let Some(memory) = spec.memory {
        add("memory", &memory.to_string());
    }
    if let Some(restarts) = spec.restarts {
        add("restarts", &restarts.to_string());
    }
    Ok(text)
}

/// The field for what runs first, and the name of its file.
fn kernel_of(
    spec: &Spec,
    sources: &Sources<'_>,
    files: &mut Files,
) -> Result<(&'static str, String)> {
    let (field, path) = match (&spec.firmware, &spec.kernel, &spec.guest) {
        (Some(path), _, _) => (FIRMWARE, path),
        (None, Some(path), _) => (KERNEL, path),
        (None, None, Some(name)) => match sources.debian(spec).transpose()? {
            Some(guest) if guest.is_firmware => (FIRMWARE, &guest.kernel),
            Some(guest) => (KERNEL, &guest.kernel),
            None => (KERNEL, &sources.images.guest(name)?.flat),
        },
        (None, None, None) => bail!("it has no kernel"),
    };
    let room = match field {
        FIRMWARE => Room::FLASH,
        _ => Room::memory(spec.memory.map_or(u64::MAX, Size::bytes), u64::MAX),
    };
    Ok((field, files.add(path, |path| kernel::read(path, room))?))
}

fn initrd_of(spec: &Spec, sources: &Sources<'_>, files: &mut Files) -> Result<Option<String>> {
    if let Some(path) = &spec.initrd {
        return files.add(path, disk::read).map(Some);
    }
    let Some(guest) = sources.debian(spec).transpose()? else {
        return Ok(None);
    };
    let disk = guest.initrd.as_ref().map(|disk| {
        let name = format!("{}.initrd", spec.guest.as_deref().unwrap_or_default());
        files.add(Path::new(&name), |_| Ok(disk.clone()))
    });
    disk.transpose()
}

/// Files by where they come from, with the names that they get.
#[derive(Default)]
struct Files(Vec<(String, String, Vec<u8>)>);

impl Files {
    /// The name of the file from `path`, which is read if it is new.
    fn add(&mut self, path: &Path, read: impl FnOnce(&Path) -> Result<Vec<u8>>) -> Result<String> {
        let source = path.to_string_lossy();
        if let Some((_, name, _)) = self.0.iter().find(|(known, ..)| *known == source) {
            return Ok(name.clone());
        }
        let base = path.file_name().unwrap_or_default().to_string_lossy();
        let name = self.unused(base.trim());
        self.0
            .push((source.into_owned(), name.clone(), read(path)?));
        Ok(name)
    }

    /// `base`, with a number if that is taken.
    fn unused(&self, base: &str) -> String {
        let taken = |name: &str| self.0.iter().any(|(_, known, _)| known == name);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let mut names = std::iter::once(base.to_owned()).chain(numbered);
        names.find(|name| !taken(name)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Image, Images};
    use crate::debian::Guest;
    use std::collections::BTreeMap;
    use std::fs;

    fn images(folder: &Path) -> Images {
        let image = |name: &str| Image {
            name: name.into(),
            elf: folder.join(name),
            flat: folder.join(format!("{name}.bin")),
        };
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("hello.bin"), b"\x01hello's code").expect("a file");
        Images {
            hypervisor: image("tessera"),
            guests: vec![image("hello")],
        }
    }

    #[test]
    fn each_machine_has_a_manifest_and_each_file_is_there_once() {
        let folder = std::env::temp_dir().join(format!("xtask-pack-{}", std::process::id()));
        let images = images(&folder);
        let kernel = folder.join("vmlinuz");
        fs::write(&kernel, b"\x01linux's code").expect("a file");
        let linux = Guest {
            kernel: kernel.clone(),
            is_firmware: false,
            initrd: Some(b"linux's disk".to_vec()),
        };
        let debian = BTreeMap::from([("linux".to_owned(), Ok(linux))]);
        let sources = Sources {
            images: &images,
            debian: &debian,
        };
        let specs = [
            "guest=linux,vcpus=2",
            "guest=linux,append=a b,memory=1G",
            "guest=hello,restarts=3",
            &format!("name=uefi,firmware={}", kernel.display()),
        ];
        let specs = specs.map(|text| Spec::parse(text).expect("a VM"));
        let archive = pack(&specs, &sources).expect("an archive");
        let text = String::from_utf8_lossy(&archive);
        for part in [
            "name = linux\nkernel = vmlinuz\ninitrd = linux.initrd\nappend = console=ttyAMA0\nvcpus = 2\n",
            "name = linux-2\nkernel = vmlinuz\ninitrd = linux.initrd\nappend = console=ttyAMA0 a b\nmemory = 1G\n",
            "name = hello\nkernel = hello.bin\nrestarts = 3\n",
            "name = uefi\nfirmware = vmlinuz\n",
        ] {
            assert!(text.contains(part), "{part}");
        }
        for once in ["linux's code", "linux's disk", "hello's code"] {
            assert_eq!(text.matches(once).count(), 1, "{once}");
        }

        let wrong = Spec::parse("kernel=/nonexistent,name=x").expect("a VM");
        let error = pack(&[wrong], &sources).expect_err("no file");
        assert!(format!("{error:#}").starts_with("VM `x`: "), "{error:#}");
        let wrong = Spec::parse("firmware=/nonexistent").expect("a VM");
        let error = pack(&[wrong], &sources).expect_err("no file");
        assert!(
            format!("{error:#}").starts_with("VM `nonexistent`: "),
            "{error:#}"
        );
        fs::remove_dir_all(folder).expect("the folder");
    }
}
