//! Builds the rig and starts it.

use std::{os::unix::process::CommandExt, path::PathBuf, process::Command, thread};

use anyhow::{Context, Result, bail};

use crate::{
    drivers, process,
    toolchain::{Toolchain, root},
};

/// How the rig is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// With all checks, together with its tests: for what `./x test` does.
    Checked,
    /// Optimised: for what people start.
    Fast,
}

impl Profile {
    /// Cargo's name of the profile, and of the folder below target/.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Checked => ("dev", "debug"),
            Self::Fast => ("rig", "rig"),
        }
    }
}

/// The rig's program, as it is built for the tests.
pub(crate) fn program() -> PathBuf {
    program_of(Profile::Checked)
}

fn program_of(profile: Profile) -> PathBuf {
    root().join("target").join(profile.names().1).join("rig")
}

/// Builds the rig.
pub(crate) fn build(profile: Profile) -> Result<()> {
    process::expect(
        "build rig",
        Toolchain::current().cargo("build").args([
            "--package",
            "rig",
            "--profile",
            profile.names().0,
        ]),
    )?;
    Ok(())
}

/// Builds the drivers and the rig at a time: they share no output, and the drivers are linked on one core.
pub(crate) fn build_everything(profile: Profile) -> Result<()> {
    thread::scope(|scope| {
        let rig = scope.spawn(move || build(profile));
        let drivers = drivers::build();
        let rig = rig
            .join()
            .unwrap_or_else(|_| bail!("the build of the rig panicked"));
        drivers.and(rig)
    })
}

/// `./x rules`.
pub(crate) fn rules() -> Result<()> {
    build(Profile::Checked)?;
    Err(Command::new(program()).arg("rules").exec()).context("cannot start the rig")
}

/// A command of the rig's that boots the drivers.
pub(crate) fn run(name: &str, profile: Profile, arguments: &[String]) -> Result<()> {
    start(&[name], profile, Some("--drivers"), arguments)
}

/// `./x bench`.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((what, rest)) if !what.starts_with('-') => {
            start(&["bench", what], Profile::Fast, Some("--ours"), rest)
        }
        _ => start(&["bench"], Profile::Fast, None, arguments),
    }
}

/// Builds and starts the rig, with our drivers where the `option` for them is not given. The rig takes this process's
/// place, so that Ctrl-C reaches it alone.
fn start(
    words: &[&str],
    profile: Profile,
    option: Option<&str>,
    arguments: &[String],
) -> Result<()> {
    build_everything(profile)?;
    let mut command = Command::new(program_of(profile));
    command.args(words);
    if let Some(option) = option {
        let given = |argument: &String| {
            argument
                .strip_prefix(option)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        if !arguments.iter().any(given) {
            command.arg(option).arg(drivers::dist());
        }
    }
    command.args(arguments);
    Err(command.exec()).context("cannot start the rig")
}

/// `./x trace`: needs no drivers.
pub(crate) fn trace(arguments: &[String]) -> Result<()> {
    build(Profile::Fast)?;
    let mut command = Command::new(program_of(Profile::Fast));
    command.arg("trace").args(arguments);
    Err(command.exec()).context("cannot start the rig")
}
