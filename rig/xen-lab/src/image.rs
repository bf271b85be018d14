//! Xen, domain 0's kernel and its root as one cpio, made from Debian's packages and kept in a cache.
//!
//! The cache's folder is named after the packages' versions and our own files in it. It is made under another name and
//! renamed when whole, so what has the name is whole.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cpio::Archive,
    elf,
    packages::{self, Package},
};

/// Space for the packages, unpacked, and the image, in bytes: what a build was seen to take, and a fifth more.
const SPACE: u64 = 900 << 20;

/// Domain 0's kernel modules, in the order of loading; what they depend on is loaded before them.
const MODULES: &[&str] = &[
    "xen-evtchn",
    "xen-privcmd",
    "xenfs",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkback",
    "loop",
];

/// Programs of the packages, by their paths there; their libraries come with them.
const PROGRAMS: &[&str] = &[
    "usr/lib/xen-4.17/bin/xl",
    "usr/lib/xen-4.17/bin/libxl-save-helper",
    "usr/lib/xen-4.17/bin/xenstored",
    "usr/lib/xen-4.17/bin/xenconsoled",
    "usr/lib/xen-4.17/bin/xenconsole",
    "usr/lib/xen-4.17/bin/xen-init-dom0",
    "usr/libexec/xen-qemu-system-i386",
    "usr/bin/xenstore",
];

/// What `xenstore` is called as.
const STORE_COMMANDS: &[&str] = &[
    "xenstore-chmod",
    "xenstore-exists",
    "xenstore-list",
    "xenstore-ls",
    "xenstore-read",
    "xenstore-rm",
    "xenstore-watch",
    "xenstore-write",
];

/// Libraries that are loaded by name while a program runs: pthread_cancel needs it.
const LOADED_LATER: &[&str] = &["libgcc_s.so.1"];

/// Our own files in domain 0.
const OURS: &[(&str, u32, &str)] = &[
    ("init", 0o755, include_str!("../dom0/init")),
    ("lab/steps", 0o644, include_str!("../dom0/steps")),
    (
        "etc/xen/scripts/block",
        0o755,
        include_str!("../dom0/block"),
    ),
    ("etc/xen/xl.conf", 0o644, "autoballoon=\"off\"\n"),
    ("etc/passwd", 0o644, "root:x:0:0:root:/:/bin/sh\n"),
    ("etc/group", 0o644, "root:x:0:\n"),
];

/// The modules that Debian's kernel needs to be the bench's peer: its block frontend.
const PEER_MODULES: &[&str] = &["xen-blkfront"];

const PEER: &[(&str, u32, &str)] = &[("init", 0o755, include_str!("../dom0/peer-init"))];

/// A whole image in the cache.
#[derive(Clone, Debug)]
pub struct Image {
    folder: PathBuf,
    /// Xen's version, as its package says.
    pub xen_version: String,
}

impl Image {
    /// The hypervisor, as QEMU's multiboot loader takes it.
    pub fn xen(&self) -> PathBuf {
        self.folder.join("xen.elf")
    }

    /// Domain 0's kernel, uncompressed; the bench's peer runs the same one.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// Domain 0's root.
    pub fn dom0(&self) -> PathBuf {
        self.folder.join("dom0.cpio")
    }

    /// The root of the bench's peer.
    pub fn peer(&self) -> PathBuf {
        self.folder.join("peer.cpio")
    }

    /// The compressed kernel, small enough to lie in domain 0's memory for the peer.
    pub fn packed_kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }
}

/// The packages to use; a machine that has never read Debian's lists reads them now.
pub fn packages(say: &dyn Fn(&str)) -> Result<Vec<Package>> {
    packages::current().or_else(|error| {
        say("reading Debian's package lists");
        match packages::update() {
            Ok(()) => packages::current(),
            Err(_) => Err(error),
        }
    })
}

/// The image for the packages that Debian has now: from `cache`, or made. `say` hears what is under way.
pub fn get(cache: &Path, say: &dyn Fn(&str)) -> Result<Image> {
    let packages = packages(say)?;
    let ours: Vec<_> = OURS
        .iter()
        .chain(PEER)
        .map(|(_, _, text)| text.as_bytes())
        // How it is made is part of what it is.
        .chain([&include_bytes!("image.rs")[..]])
        .collect();
    let folder = cache.join(format!("xen-{}", packages::key(&packages, &ours)));
    let xen_version = packages
        .iter()
        .find(|package| package.name.starts_with("xen-hypervisor"))
        .map(|package| package.version.clone())
        .unwrap_or_default();
    let image = Image {
        folder: folder.clone(),
        xen_version,
    };
    if folder.is_dir() {
        return Ok(image);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    sweep(cache);
    enough_space(cache, SPACE)?;
    let made = build_whole(&folder, |part| make(&packages, part, say));
    let Err(error) = made else {
        return Ok(image);
    };
    // Old lists name versions that the archive no longer has: with new ones, once more.
    say("reading Debian's package lists");
    if packages::update().is_err() || packages::current()? == packages {
        return Err(error);
    }
    get(cache, say)
}

/// Makes `folder` under another name and gives it its name when `make` has succeeded; otherwise nothing is left.
pub(crate) fn build_whole(folder: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let part = folder.with_extension(format!("part{}", process::id()));
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    let made = make(&part);
    if made.is_ok() && fs::rename(&part, folder).is_ok() {
        return Ok(());
    }
    // What cannot be removed is swept later.
    let _ = fs::remove_dir_all(&part);
    made?;
    // Another run may have been faster: its image is as good.
    ensure!(
        folder.is_dir(),
        "cannot give the image its name {}",
        folder.display()
    );
    Ok(())
}

/// Removes what ended builds left, and images that have not been made or swept for a month.
fn sweep(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok())
            .unwrap_or_default();
        let hours = if name.contains(".part") { 1 } else { 24 * 30 };
        if (name.starts_with("xen-") || name.starts_with("qemu-"))
            && age > Duration::from_secs(hours * 3600)
        {
            // Somebody else's leftover: if it stays, it only takes space.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

pub(crate) fn enough_space(folder: &Path, wanted: u64) -> Result<()> {
    let state = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot look at {}", folder.display()))?;
    let free = state.f_bavail.saturating_mul(state.f_frsize);
    ensure!(
        free >= wanted,
        "{} has {} MiB free; making Xen's image takes {} MiB",
        folder.display(),
        free >> 20,
        wanted >> 20
    );
    Ok(())
}

fn make(packages: &[Package], part: &Path, say: &dyn Fn(&str)) -> Result<()> {
    say("fetching and unpacking Debian's packages");
    let root = packages::unpack(packages, part)?;
    say("making the image");
    let boot = root.join("boot");
    let hypervisor = packages::find(&boot, "xen-4.17-amd64.gz")
        .context("Xen's package has no hypervisor in /boot")?;
    let xen = packages::run(packages::tied("gzip").arg("-dc").arg(&hypervisor))
        .context("unpacking the hypervisor")?;
    write(&part.join("xen.elf"), &xen)?;
    let vmlinuz =
        packages::find(&boot, "vmlinuz-").context("the kernel's package has no kernel in /boot")?;
    unpack_kernel(&vmlinuz, part)?;
    write(&part.join("dom0.cpio"), &dom0(&root)?)?;
    write(&part.join("peer.cpio"), &peer(&root)?)?;
    fs::copy(&vmlinuz, part.join("vmlinuz")).context("keeping the packed kernel")?;
    fs::remove_dir_all(&root).context("removing the unpacked packages")?;
    fs::remove_dir_all(part.join("debs")).context("removing the packages")
}

fn unpack_kernel(vmlinuz: &Path, part: &Path) -> Result<()> {
    let image = read(vmlinuz)?;
    let packed = part.join("vmlinux.xz");
    write(&packed, elf::kernel_payload(&image)?)?;
    let plain = fs::File::create(part.join("vmlinux")).context("cannot write vmlinux")?;
    packages::run(
        packages::tied("xz")
            .args(["-dc", "--single-stream"])
            .arg(&packed)
            .stdout(Stdio::from(plain)),
    )
    .context("unpacking the kernel")?;
    let start = read(&part.join("vmlinux"))?;
    ensure!(
        start.starts_with(b"\x7fELF"),
        "Debian's kernel unpacked to something that is not an ELF file"
    );
    fs::remove_file(&packed).context("removing the packed kernel")
}

fn dom0(root: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "run", "tmp", "root", "modules"] {
        archive.folder(folder);
    }
    archive.folder("var/log");
    for (path, mode, text) in OURS {
        archive.file(path, *mode, text.as_bytes());
    }
    archive.file("bin/busybox", 0o755, &read(&busybox(root)?)?);
    let programs: Vec<_> = PROGRAMS.iter().map(|path| root.join(path)).collect();
    for (path, program) in PROGRAMS.iter().zip(&programs) {
        archive.file(path, 0o755, &read(program)?);
    }
    for command in STORE_COMMANDS {
        archive.link(&format!("usr/bin/{command}"), "xenstore");
    }
    let folders = [
        root.join("usr/lib/x86_64-linux-gnu"),
        root.join("lib/x86_64-linux-gnu"),
        PathBuf::from("/usr/lib/x86_64-linux-gnu"),
        PathBuf::from("/lib/x86_64-linux-gnu"),
        PathBuf::from("/lib64"),
    ];
    let mut libraries = elf::libraries(&programs, &folders)?;
    for name in LOADED_LATER {
        let place = folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|place| place.exists())
            .with_context(|| format!("this machine has no {name}"))?;
        libraries.insert((*name).to_owned(), place);
    }
    for (name, place) in &libraries {
        let folder = if name.starts_with("ld-linux") {
            "lib64"
        } else {
            "usr/lib/x86_64-linux-gnu"
        };
        archive.file(&format!("{folder}/{name}"), 0o755, &read(place)?);
    }
    // qemu-dm looks its keyboard up even when it has no screen.
    let keys = Path::new("/usr/share/qemu/keymaps/en-us");
    archive.file("usr/share/qemu/keymaps/en-us", 0o644, &read(keys)?);
    add_modules(&mut archive, root, MODULES)?;
    Ok(archive.finish())
}

fn peer(root: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "bin", "modules"] {
        archive.folder(folder);
    }
    for (path, mode, text) in PEER {
        archive.file(path, *mode, text.as_bytes());
    }
    archive.file("bin/busybox", 0o755, &read(&busybox(root)?)?);
    add_modules(&mut archive, root, PEER_MODULES)?;
    Ok(archive.finish())
}

fn busybox(root: &Path) -> Result<PathBuf> {
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.exists())
        .context("busybox's package has no busybox")
}

/// The modules and those they depend on, and modules/order, which lists them in the order of loading.
fn add_modules(archive: &mut Archive, root: &Path, names: &[&str]) -> Result<()> {
    let mut order = Vec::new();
    for name in names {
        module(archive, root, name, &mut order)?;
    }
    archive.file("modules/order", 0o644, (order.join("\n") + "\n").as_bytes());
    Ok(())
}

fn module(archive: &mut Archive, root: &Path, name: &str, order: &mut Vec<String>) -> Result<()> {
    // A dependency has underscores where its file may have hyphens.
    let same = |file: &str| file.replace('-', "_") == name.replace('-', "_");
    if order.iter().any(|known| same(known)) {
        return Ok(());
    }
    let kernel = packages::find(&root.join("lib/modules"), "")
        .context("the kernel's package has no modules")?;
    let Some(path) = walk(&kernel.join("kernel"), &mut |path| {
        path.extension().is_some_and(|ext| ext == "ko")
            && path
                .file_stem()
                .is_some_and(|stem| same(&stem.to_string_lossy()))
    }) else {
        bail!("Debian's kernel has no module {name}");
    };
    let bytes = read(&path)?;
    for needed in elf::module_needs(&bytes).with_context(|| path.display().to_string())? {
        module(archive, root, &needed, order)?;
    }
    archive.file(&format!("modules/{name}.ko"), 0o644, &bytes);
    order.push(name.to_owned());
    Ok(())
}

fn walk(folder: &Path, wanted: &mut dyn FnMut(&Path) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = walk(&path, wanted) {
                return Some(found);
            }
        } else if wanted(&path) {
            return Some(path);
        }
    }
    None
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_fails_leaves_nothing_that_looks_whole() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let folder = cache.path().join("xen-1");
        let failed = build_whole(&folder, |part| {
            write(&part.join("xen.elf"), b"half")?;
            bail!("the disk is full")
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(cache.path())?.count(), 0);
        build_whole(&folder, |part| write(&part.join("xen.elf"), b"whole"))?;
        assert_eq!(read(&folder.join("xen.elf"))?, b"whole");
        Ok(())
    }

    #[test]
    fn of_two_builds_at_a_time_both_succeed() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let folder = cache.path().join("xen-1");
        build_whole(&folder, |part| {
            write(&part.join("a"), b"mine")?;
            // The other one is done first.
            fs::create_dir(&folder)?;
            write(&folder.join("a"), b"theirs")
        })?;
        assert_eq!(read(&folder.join("a"))?, b"theirs");
        assert_eq!(fs::read_dir(cache.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn too_little_space_is_a_message_before_anything_is_fetched() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let error = enough_space(cache.path(), u64::MAX);
        assert!(error.is_err_and(|error| error.to_string().contains("MiB free")));
        Ok(())
    }
}
