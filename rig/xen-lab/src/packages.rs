//! Debian's packages, by name: which versions this machine's package lists have, fetched and unpacked into a folder.
//! Nothing is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// What domain 0 is made of, besides its kernel.
const NAMES: &[&str] = &[
    "xen-hypervisor-4.17-amd64",
    "xen-utils-4.17",
    "qemu-system-xen",
    "busybox-static",
    "libxenmisc4.17",
    "xenstore-utils",
    "libxenstore4",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
];

/// The package that depends on Debian's current kernel. Not the cloud kernel: that one has no CONFIG_XEN_DOM0.
const KERNEL: &str = "linux-image-amd64";

/// A package in the version to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The packages in the versions that the package lists offer.
pub fn current() -> Result<Vec<Package>> {
    let kernel = kernel_name()?;
    NAMES
        .iter()
        .copied()
        .chain([kernel.as_str()])
        .map(|name| {
            let record = output("apt-cache", &["show", "--no-all-versions", name])
                .with_context(|| format!("Debian's package {name} is not in this machine's package lists (the lists of Debian 12 have it; apt-get update reads them)"))?;
            Ok(Package {
                name: name.to_owned(),
                version: field(&record, "Version")
                    .with_context(|| format!("apt-cache shows no version of {name}"))?
                    .to_owned(),
            })
        })
        .collect()
}

/// Reads Debian's package lists anew; only root may.
pub fn update() -> Result<()> {
    ensure!(is_root(), "only root may run apt-get update");
    run(tied("apt-get").arg("update")).map(|_| ())
}

/// A word that changes with any of the versions, for the cache's folder.
pub fn key(packages: &[Package], also: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for package in packages {
        hash.update(format!("{}={}\n", package.name, package.version));
    }
    for bytes in also {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Fetches the packages and unpacks them below `folder`/root, which it returns.
pub fn unpack(packages: &[Package], folder: &Path) -> Result<PathBuf> {
    let (debs, root) = (folder.join("debs"), folder.join("root"));
    for path in [&debs, &root] {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    let wanted = packages
        .iter()
        .map(|package| format!("{}={}", package.name, package.version));
    let mut fetch = tied("apt-get");
    fetch.arg("download").args(wanted).current_dir(&debs);
    // Without it, apt warns that its own user cannot write here, and fetches as the caller all the same.
    if is_root() {
        fetch.args(["-o", "APT::Sandbox::User=root"]);
    }
    run(&mut fetch).context("fetching Debian's packages")?;
    for package in packages {
        let deb = find(&debs, &format!("{}_", package.name))
            .with_context(|| format!("apt-get download left no file of {}", package.name))?;
        run(tied("dpkg").arg("-x").arg(&deb).arg(&root))
            .with_context(|| format!("unpacking {}", package.name))?;
        fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
    }
    Ok(root)
}

/// The one file in a folder whose name begins so.
pub fn find(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    names.sort();
    names.pop()
}

/// A program that ends with us, however we end.
pub fn tied(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", name]);
    command
}

/// Runs a program of [`tied`]; what it wrote last is in the error.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_args().nth(3).unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let done = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let last = said
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing");
        bail!("{name} failed ({}): {last}", done.status);
    }
    Ok(done.stdout)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn kernel_name() -> Result<String> {
    let text = output("apt-cache", &["depends", KERNEL])
        .with_context(|| format!("Debian's package {KERNEL} is not in the package lists"))?;
    first_kernel(&text)
        .map(str::to_owned)
        .with_context(|| format!("{KERNEL} depends on no kernel image"))
}

fn first_kernel(depends: &str) -> Option<&str> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
}

fn field<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    record
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let bytes = run(tied(program).args(arguments).env("LC_ALL", "C"))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    ensure!(!text.trim().is_empty(), "{program} found nothing");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(version: &str) -> Package {
        Package {
            name: "xen".into(),
            version: version.into(),
        }
    }

    #[test]
    fn the_key_changes_with_a_version_and_with_what_is_added() {
        let one = key(&[package("1")], &[b"init"]);
        assert_eq!(one, key(&[package("1")], &[b"init"]));
        assert_ne!(one, key(&[package("2")], &[b"init"]));
        assert_ne!(one, key(&[package("1")], &[b"init2"]));
        assert_ne!(key(&[], &[b"a", b"bc"]), key(&[], &[b"ab", b"c"]));
    }

    #[test]
    fn the_kernel_is_the_image_that_the_metapackage_depends_on() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Suggests: x\n";
        assert_eq!(first_kernel(text), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(first_kernel("linux-image-amd64\n"), None);
    }

    #[test]
    fn a_package_that_cannot_be_fetched_is_a_message_with_the_step() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let error = unpack(
            &[Package {
                name: "no-such-package-of-debian".into(),
                version: "1".into(),
            }],
            folder.path(),
        );
        let text = format!("{:#}", error.err().context("it was fetched")?);
        assert!(text.contains("fetching Debian's packages"), "{text}");
        Ok(())
    }

    #[test]
    fn a_failed_program_is_reported_with_its_last_words() {
        let error = run(tied("sh").args(["-c", "echo first >&2; echo last >&2; exit 3"]));
        let text = error.err().map(|error| error.to_string());
        assert!(text.is_some_and(|text| text.ends_with("last") && text.contains("exit status: 3")));
    }
}
