//! Boot tests of what guests start from: where images are put, and what is said of those that cannot run.

use crate::scenario::Scenario;

/// The tests of images.
pub fn images() -> Vec<Scenario> {
    places()
}

/// Where an image and the device tree are: the places are QEMU's.
fn places() -> Vec<Scenario> {
    vec![
        Scenario::new("image-header", "guest=placed,memory=128M")
            .wants(
                r"^vm0\| placed: runs at 0x00000000400fffc0, x0 0x0000000044000000, start of RAM 0x0000000000000000$",
            )
            .quick(),
        // The tree, which x0 does not tell of, is at the start of RAM.
        Scenario::new("image-elf", "guest=placed,memory=128M")
            .as_elf()
            .wants(
                r"^vm0\| placed: runs at 0x0000000040080000, x0 0x0000000000000000, start of RAM 0x00000000edfe0dd0$",
            ),
    ]
}
