//! Builds the self-test driver, which is no part of the product, and has the rig run it.

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    drivers::{self, Driver},
    process, rig,
    toolchain::{Toolchain, root},
};

const DRIVER: Driver = Driver {
    name: "rig-selftest",
    has_inf: true,
};

/// Where the driver is, apart from the product.
fn folder() -> PathBuf {
    root().join("target/selftest")
}

/// Builds the driver.
fn build() -> Result<()> {
    let mut command = Toolchain::current().cargo_for_windows("build");
    command
        .args(["--profile", "driver", "--package", DRIVER.name])
        .env("CARGO_TERM_PROGRESS_WHEN", "never");
    process::expect("build selftest", &mut command)?;
    drivers::lay_out(
        &root().join("target"),
        &DRIVER,
        &root().join("rig"),
        &folder(),
    )
}

fn command() -> Command {
    let mut command = Command::new(rig::program());
    command
        .current_dir(root())
        .arg("selftest")
        .arg("--drivers")
        .arg(folder());
    command
}

/// `./x selftest`: the rig takes this process's place.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    build()?;
    rig::build(rig::Profile::Checked)?;
    Err(command().args(arguments).exec()).context("cannot start the rig")
}

/// What a run for `./x test` found.
pub(crate) struct Found {
    /// Cases that passed, over all runs.
    pub passed: usize,
    /// Cases that failed.
    pub failed: usize,
    /// The output of runs in which one did.
    pub text: String,
}

/// All cases on one processor and on two, a bug check with its callbacks, and that a case which is wrong on purpose fails.
pub(crate) fn check() -> Result<Found> {
    build()?;
    let mut found = Found {
        passed: 0,
        failed: 0,
        text: String::new(),
    };
    for cpus in ["1", "2"] {
        let output = command()
            .args(["--cpus", cpus])
            .output()
            .context("cannot start the rig")?;
        let text = text(&output);
        let (passed, failed) = counts(&text).ok_or_else(|| anyhow!("no verdict in:\n{text}"))?;
        ensure!(
            output.status.success() == (failed == 0),
            "{} with {failed} failed cases",
            output.status
        );
        // With two processors the rig has all that a case can ask for.
        ensure!(
            cpus == "1" || text.contains(" 0 skipped"),
            "cases were skipped:\n{text}"
        );
        found.passed += passed;
        found.failed += failed;
        if failed != 0 {
            found.text.push_str(&text);
        }
    }
    let output = command()
        .arg("--bug-check")
        .output()
        .context("cannot start the rig")?;
    let seen = text(&output);
    let (passed, failed) = counts(&seen).ok_or_else(|| anyhow!("no verdict in:\n{seen}"))?;
    ensure!(output.status.success(), "bug check callbacks:\n{seen}");
    found.passed += passed;
    found.failed += failed;
    let output = command()
        .args(["--self-check", "self-check"])
        .output()
        .context("cannot start the rig")?;
    ensure!(
        output.status.code() == Some(1) && text(&output).contains("a case that must fail"),
        "a case that is wrong on purpose did not fail:\n{}",
        text(&output)
    );
    found.passed += 1;
    Ok(found)
}

fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// Reads `N passed, N failed` off the last line of the table.
fn counts(text: &str) -> Option<(usize, usize)> {
    let line = text.lines().rev().find(|line| line.contains(" passed, "))?;
    let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
    let passed = words.next()?.parse().ok()?;
    let failed = words.nth(1)?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_table_has_the_counts() {
        let text = "events   23 passed\n155 passed, 2 failed, 4 skipped\n";
        assert_eq!(counts(text), Some((155, 2)));
        assert_eq!(counts("no table"), None);
    }
}
