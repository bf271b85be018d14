//! Builds the rig and starts it.

use std::{os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::{Context, Result};

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

/// `./x run`: the rig takes this process's place, so that Ctrl-C reaches it alone.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    drivers::build()?;
    build()?;
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
