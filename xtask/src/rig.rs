//! Builds the rig and starts it.

use std::{os::unix::process::CommandExt, path::PathBuf, process::Command, thread};

use anyhow::{Context, Result, bail};

use crate::{
    drivers, process,
    toolchain::{Toolchain, root},
};

/// The rig's program.
pub(crate) fn program() -> PathBuf {
    root().join("target/debug/rig")
}

/// Builds the rig.
pub(crate) fn build() -> Result<()> {
    process::expect(
        "build rig",
        Toolchain::current()
            .cargo("build")
            .args(["--package", "rig"]),
    )?;
    Ok(())
}

/// Builds the drivers and the rig at a time: they share no output, and the drivers are linked on one core.
pub(crate) fn build_everything() -> Result<()> {
    thread::scope(|scope| {
        let rig = scope.spawn(build);
        let drivers = drivers::build();
        let rig = rig
            .join()
            .unwrap_or_else(|_| bail!("the build of the rig panicked"));
        drivers.and(rig)
    })
}

/// `./x run`: the rig takes this process's place, so that Ctrl-C reaches it alone.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    build_everything()?;
    let mut command = Command::new(program());
    command.arg("run");
    if !arguments
        .iter()
        .any(|argument| argument == "--drivers" || argument.starts_with("--drivers="))
    {
        command.arg("--drivers").arg(drivers::dist());
    }
    command.args(arguments);
    Err(command.exec()).context("cannot start the rig")
}
