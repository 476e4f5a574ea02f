//! What a failed test leaves for people to look at, in `FOCI_ARTIFACTS`.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder, if one is named.
fn folder() -> Option<PathBuf> {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test harness is configured from outside"
    )]
    let named = std::env::var_os("FOCI_ARTIFACTS")?;
    Some(named.into())
}

/// Copies a file there; a test that fails already must not fail of this.
pub fn keep(file: &Path) {
    if let (Some(folder), Some(name)) = (folder(), file.file_name()) {
        let _ = fs::create_dir_all(&folder);
        let _ = fs::copy(file, folder.join(name));
    }
}
