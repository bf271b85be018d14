//! `./x clean`.

use std::{fs, io::ErrorKind};

use anyhow::{Context, Result};

use crate::toolchain::root;

/// Removes what building and running leave behind. The running xtask keeps its own open file.
pub(crate) fn run() -> Result<()> {
    for folder in ["dist", "out", "target"] {
        match fs::remove_dir_all(root().join(folder)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {folder}/"));
            }
            _ => {}
        }
    }
    Ok(())
}
