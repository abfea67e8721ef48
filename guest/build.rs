//! Hands the linker scripts to the linker, for the images that boot and for nothing that runs on
//! the host: `image.ld` (from `aarch64-rt`, which puts it on the search path) orders the sections,
//! `link.ld` says where the image lies.

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg-bins=-Timage.ld");
        println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
    }
}
