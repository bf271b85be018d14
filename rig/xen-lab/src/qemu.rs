//! Which QEMU runs Xen: this machine's own where it is new enough, else Debian's backport of a newer one, unpacked into the
//! cache like Xen's own packages. Nothing is installed.
//!
//! QEMU 7.2, Debian 12's own, runs this Xen, but in one boot of six a domain, or all of the machine, stood still or went on
//! with Xen's registers as its own (docs/XEN-FINDINGS.md).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{image, packages};

/// The program's name.
pub const NAME: &str = "qemu-system-x86_64";

/// The first version that is taken as it is.
const GOOD: u32 = 10;

/// The cache's folder; another number for another way to make it.
const FOLDER: &str = "qemu-bookworm-backports-1";

/// What the backport consists of. Its libraries are Debian 12's, which the machine's own QEMU has brought.
const PACKAGES: &[&str] = &[
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];

const SUITE: &str = "bookworm-backports";

/// Space for the packages and what is in them, in bytes: 100 MiB were seen.
const SPACE: u64 = 200 << 20;

/// A QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Folders of firmware, where it is not where the program looks.
    pub firmware: Vec<PathBuf>,
}

impl Qemu {
    fn named(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            firmware: Vec::new(),
        }
    }

    fn unpacked(folder: &Path) -> Self {
        let share = folder.join("root/usr/share");
        Self {
            program: folder.join("root/usr/bin").join(NAME),
            firmware: vec![share.join("qemu"), share.join("seabios")],
        }
    }

    /// What it says of itself, in one line.
    fn version(&self) -> Result<String> {
        let said = packages::run(packages::tied(&self.program.to_string_lossy()).arg("--version"))?;
        let text = String::from_utf8_lossy(&said);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// The QEMU to use: `chosen`, if there is one, as it is; this machine's, if it is new enough; the backport, from `cache` or
/// fetched; this machine's all the same, if that cannot be had, which `say` hears.
pub fn get(chosen: Option<PathBuf>, cache: &Path, say: &dyn Fn(&str)) -> Result<Qemu> {
    if let Some(program) = chosen {
        return Ok(Qemu::named(program));
    }
    let own = Qemu::named(NAME);
    let version = own.version()?;
    if major(&version).is_some_and(|major| major >= GOOD) {
        return Ok(own);
    }
    let folder = cache.join(FOLDER);
    let made = match folder.is_dir() {
        true => Ok(()),
        false => image::build_whole(&folder, |part| fetch(part, say)),
    };
    match made {
        Ok(()) => Ok(Qemu::unpacked(&folder)),
        Err(error) => {
            say(&format!(
                "{version}, with which Xen may stand still: no newer one can be had ({error:#})"
            ));
            Ok(own)
        }
    }
}

/// Unpacks the backport below `part`; a program that does not start here is an error.
fn fetch(part: &Path, say: &dyn Fn(&str)) -> Result<()> {
    image::enough_space(part, SPACE)?;
    say("fetching a newer QEMU from Debian's backports");
    let (apt, debs) = (part.join("apt"), part.join("debs"));
    for folder in [apt.join("lists/partial"), apt.join("cache"), debs.clone()] {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let list = apt.join("sources.list");
    let source = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {SUITE} main\n"
    );
    fs::write(&list, source).with_context(|| format!("cannot write {}", list.display()))?;
    // Lists and cache of its own: the machine's package lists stay as they are.
    let apt_get = || {
        let mut command = packages::tied("apt-get");
        for (key, value) in [
            ("Dir::Etc::SourceList", list.as_path()),
            ("Dir::Etc::SourceParts", Path::new("/dev/null")),
            ("Dir::State::Lists", &apt.join("lists")),
            ("Dir::Cache", &apt.join("cache")),
        ] {
            command.arg("-o").arg(format!("{key}={}", value.display()));
        }
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    };
    packages::run(apt_get().arg("update")).context("reading the package lists of backports")?;
    let names = PACKAGES.iter().map(|name| format!("{name}/{SUITE}"));
    packages::run(apt_get().arg("download").args(names).current_dir(&debs))
        .context("fetching QEMU's packages")?;
    let root = part.join("root");
    for name in PACKAGES {
        let deb = packages::find(&debs, &format!("{name}_"))
            .with_context(|| format!("apt-get download left no file of {name}"))?;
        packages::run(packages::tied("dpkg").arg("-x").arg(&deb).arg(&root))
            .with_context(|| format!("unpacking {name}"))?;
    }
    for folder in [&apt, &debs] {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let version = Qemu::unpacked(part).version()?;
    ensure!(
        major(&version).is_some_and(|major| major >= GOOD),
        "the backport calls itself {version:?}"
    );
    Ok(())
}

/// The first number of "QEMU emulator version 10.0.2 (…)".
fn major(version: &str) -> Option<u32> {
    let number = version.split("version ").nth(1)?;
    number.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_a_first_number() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)";
        assert_eq!(major(debian), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2"), Some(10));
        assert_eq!(major("no such machine"), None);
    }

    #[test]
    fn the_one_that_is_chosen_is_not_asked() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let chosen = PathBuf::from("/nonexistent/qemu");
        let qemu = get(Some(chosen.clone()), cache.path(), &|_| {})?;
        assert_eq!(qemu, Qemu::named(chosen));
        Ok(())
    }
}
