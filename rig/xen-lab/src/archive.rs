//! What one run adds to domain 0's root: the guest kernel, and a folder for each job.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    cpio::Archive,
    job::{Job, Tier},
};

/// Where domain 0 has the guest kernel for a PVH domain.
pub const GUEST64: &str = "/guest/xen-guest.elf";
/// The same as a 32-bit file, for an HVM domain.
pub const GUEST32: &str = "/guest/xen-guest32.elf";

/// The guest kernel's files and what makes a guest's module of a job's lines.
pub struct Guest<'a> {
    /// ELF64 with Xen's PVH note.
    pub elf64: &'a Path,
    /// Its ELF32 copy.
    pub elf32: &'a Path,
    /// The module with the drivers and these lines.
    pub module: &'a dyn Fn(&str) -> Result<Vec<u8>>,
}

/// The archive for these jobs; with `shell`, domain 0 opens one at the end.
pub fn for_jobs(guest: Option<&Guest<'_>>, jobs: &[(&Job, Tier)], shell: bool) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.folder("run-jobs");
    if let Some(guest) = guest {
        for (place, path) in [(GUEST64, guest.elf64), (GUEST32, guest.elf32)] {
            let bytes =
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            archive.file(place.trim_start_matches('/'), 0o644, &bytes);
        }
        for (job, tier) in jobs {
            let folder = format!("run-jobs/{}", job.id(*tier));
            let module = (guest.module)(&job.guest)?;
            archive.file(&format!("{folder}/job.cpio"), 0o644, &module);
        }
    }
    let mut list = String::new();
    for (job, tier) in jobs {
        let id = job.id(*tier);
        list.extend([&id, "\n"]);
        for (name, text) in [
            ("settings", job.settings(*tier)),
            ("guest.cfg", job.configuration(*tier)),
            ("steps", job.steps().to_owned()),
        ] {
            archive.file(&format!("run-jobs/{id}/{name}"), 0o644, text.as_bytes());
        }
    }
    if !jobs.is_empty() {
        archive.file("run-jobs/list", 0o644, list.as_bytes());
    }
    if shell {
        archive.file("run-jobs/shell", 0o644, b"");
    }
    Ok(archive.finish())
}
