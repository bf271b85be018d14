//! What one run adds to domain 0's root: the guest kernel, and a folder for each job.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    cpio::Archive,
    elf,
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

/// Debian's kernel for the bench's peer, and the file that becomes its root.
pub struct Peer<'a> {
    /// The kernel, compressed.
    pub kernel: &'a Path,
    /// Its root.
    pub root: &'a Path,
    /// The program that measures.
    pub program: &'a Path,
}

impl Peer<'_> {
    /// The peer's root: the one of the image, and after it the program with its libraries and the bench's lines.
    fn whole_root(&self, lines: &str) -> Result<Vec<u8>> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let mut archive = Archive::default();
        archive.file("peer-bench", 0o755, &read(self.program)?);
        archive.file("job", 0o644, lines.as_bytes());
        let folders = [
            "/usr/lib/x86_64-linux-gnu",
            "/lib/x86_64-linux-gnu",
            "/lib64",
        ];
        let libraries = elf::libraries(&[self.program.to_owned()], &folders.map(PathBuf::from))?;
        for (name, place) in &libraries {
            let folder = if name.starts_with("ld-linux") {
                "lib64"
            } else {
                "lib"
            };
            archive.file(&format!("{folder}/{name}"), 0o755, &read(place)?);
        }
        Ok([read(self.root)?, archive.finish()].concat())
    }
}

/// The archive for these jobs; with `shell`, domain 0 opens one at the end.
pub fn for_jobs(
    guest: &Guest<'_>,
    peer: Option<&Peer<'_>>,
    jobs: &[(&Job, Tier)],
    shell: bool,
) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.folder("run-jobs");
    for (place, path) in [(GUEST64, guest.elf64), (GUEST32, guest.elf32)] {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file(place.trim_start_matches('/'), 0o644, &bytes);
    }
    for (job, tier) in jobs {
        let module = (guest.module)(&job.guest)?;
        archive.file(
            &format!("run-jobs/{}/job.cpio", job.id(*tier)),
            0o644,
            &module,
        );
        if let (true, Some(peer)) = (job.bench, peer) {
            let kernel = fs::read(peer.kernel)
                .with_context(|| format!("cannot read {}", peer.kernel.display()))?;
            archive.file("guest/vmlinuz", 0o644, &kernel);
            archive.file("guest/peer.cpio", 0o644, &peer.whole_root(&job.guest)?);
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
