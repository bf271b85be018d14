//! Builds the driver that breaks the verifier's rules, which is no part of the product; rig/rig/tests/breach/ runs it.

use anyhow::Result;

use crate::{
    drivers::{self, Driver},
    process,
    toolchain::{Toolchain, root},
};

const DRIVER: Driver = Driver {
    name: "rig-breaker",
    has_inf: true,
};

/// `./x rules --break`.
pub(crate) fn check() -> Result<()> {
    build()?;
    let mut command = Toolchain::current().cargo("test");
    process::expect(
        "rules",
        command.args(["--package", "rig", "--test", "breach"]),
    )?;
    println!("every rule of the verifier is broken by a case, and each case is found");
    Ok(())
}

/// Builds the driver into target/breaker.
pub(crate) fn build() -> Result<()> {
    let mut command = Toolchain::current().cargo_for_windows("build");
    command
        .args(["--profile", "driver", "--package", DRIVER.name])
        .env("CARGO_TERM_PROGRESS_WHEN", "never");
    process::expect("build breaker", &mut command)?;
    drivers::lay_out(
        &root().join("target"),
        &DRIVER,
        &root().join("rig"),
        &root().join("target/breaker"),
    )
}
