//! Hands the linker script to the linker when the image is built, and only then.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    let bare_metal = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    if let (true, Some(folder)) = (bare_metal, env::var_os("CARGO_MANIFEST_DIR")) {
        let script = PathBuf::from(folder).join("link.ld");
        println!("cargo:rustc-link-arg-bins=-T{}", script.display());
    }
}
