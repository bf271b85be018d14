//! Builds the drivers and lays them out in dist/x64.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    inf, process,
    seal::seal,
    toolchain::{TARGET, Toolchain, root},
};

/// A driver image of the project.
pub(crate) struct Driver {
    /// Crate, image and INF name.
    pub name: &'static str,
    /// Whether devices bind to it by an INF of its own; an export library is brought along by another's.
    pub has_inf: bool,
}

/// Every driver, in the order of loading.
pub(crate) const DRIVERS: &[Driver] = &[
    Driver {
        name: "xen",
        has_inf: false,
    },
    Driver {
        name: "xenbus",
        has_inf: true,
    },
    Driver {
        name: "xenvbd",
        has_inf: true,
    },
    Driver {
        name: "xenvif",
        has_inf: true,
    },
    Driver {
        name: "xennet",
        has_inf: true,
    },
];

/// Where the finished drivers are.
pub(crate) fn dist() -> PathBuf {
    root().join("dist/x64")
}

/// The cargo command that builds every driver, with cargo's files in `target` where given.
pub(crate) fn cargo_build(target: Option<&Path>) -> Command {
    let mut command = Toolchain::current().cargo_for_windows("build");
    command.args(["--profile", "driver"]);
    for driver in DRIVERS {
        command.args(["--package", driver.name]);
    }
    if let Some(target) = target {
        command.arg("--target-dir").arg(target);
    }
    command
}

/// The finished image and its .pdb, from what cargo left in `target`.
pub(crate) fn finished(target: &Path, driver: &Driver) -> Result<(Vec<u8>, Vec<u8>)> {
    let read = |file: String| {
        let path = target.join(TARGET).join("driver").join(file);
        fs::read(&path).with_context(|| format!("the build left no {}", path.display()))
    };
    // The compiler names debug information after the crate, where a hyphen is an underscore.
    let mut image = read(format!("{}.exe", driver.name))?;
    let mut pdb = read(format!("{}.pdb", driver.name.replace('-', "_")))?;
    seal(&mut image, &mut pdb).with_context(|| format!("{}.sys", driver.name))?;
    Ok((image, pdb))
}

/// Builds everything into dist/x64.
pub(crate) fn build() -> Result<()> {
    let target = root().join("target");
    process::expect(
        "build drivers",
        cargo_build(Some(&target)).env("CARGO_TERM_PROGRESS_WHEN", "never"),
    )?;
    for driver in DRIVERS {
        lay_out(&target, driver, &root().join("drivers"), &dist())?;
    }
    Ok(())
}

/// Puts a driver that cargo has built into `folder`: image, .pdb and, from its template below `sources`, INF.
pub(crate) fn lay_out(target: &Path, driver: &Driver, sources: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (image, pdb) = finished(target, driver)?;
    replace(&folder.join(format!("{}.sys", driver.name)), &image)?;
    replace(&folder.join(format!("{}.pdb", driver.name)), &pdb)?;
    if driver.has_inf {
        let name = format!("{}.inf", driver.name);
        let template = sources.join(driver.name).join(&name);
        let text = fs::read_to_string(&template)
            .with_context(|| format!("cannot read {}", template.display()))?;
        let text = inf::Words::current()?
            .substitute(&text)
            .with_context(|| format!("{}", template.display()))?;
        replace(&folder.join(&name), text.as_bytes())?;
    }
    Ok(())
}

/// `./x build`.
pub(crate) fn build_and_say() -> Result<()> {
    build()?;
    let mut names: Vec<_> = fs::read_dir(dist())?
        .filter_map(|entry| entry.ok())
        .collect();
    names.sort_by_key(|entry| entry.file_name());
    for entry in names {
        println!(
            "dist/x64/{:<12} {:>9} bytes",
            entry.file_name().display(),
            entry.metadata()?.len()
        );
    }
    Ok(())
}

/// Puts a new file in place in one step: a rig that has the old one mapped keeps it.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, content)
        .with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}
