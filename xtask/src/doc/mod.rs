//! `cargo xtask doc`: the documentation of the crates, and the book.

mod book;

use anyhow::{Result, bail};

use crate::workspace::{Workspace, cargo, root};

/// Builds both, and says where they are.
///
/// # Errors
///
/// Cargo fails, or the book cannot be read or written.
pub fn doc() -> Result<u8> {
    let target = Workspace::load()?.target_directory();
    let pages = book::build(&root(), &target.join("book"))?;
    println!("The book: {}", pages.display());
    let mut crates = cargo();
    crates.args(["doc", "--locked", "--workspace", "--no-deps"]);
    if !crates.status()?.success() {
        bail!("cargo does not build the documentation; see above");
    }
    println!(
        "The crates: {}",
        target.join("doc/stage2/index.html").display()
    );
    Ok(0)
}
