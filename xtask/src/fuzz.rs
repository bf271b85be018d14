//! `./x fuzz`: the targets of fuzz/, run by libFuzzer with the project's own files as first examples.
//!
//! libFuzzer needs code that counts where it has been. The flags for that are stable ones of the compiler, so neither
//! another toolchain nor cargo-fuzz is needed; it is C++, hence g++.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    drivers,
    toolchain::{Toolchain, root, which},
};

/// A target, and what files of the project are examples for it.
const TARGETS: [(&str, &str); 2] = [("pe", "sys"), ("inf", "inf")];

/// Coverage as libFuzzer reads it (LLVM, "SanitizerCoverage": edges, counters, compared values).
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

#[derive(Args)]
pub(crate) struct Options {
    /// pe (driver images) or inf; all, one after the other, by default.
    #[arg(value_parser = ["pe", "inf"])]
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !which("g++") {
        bail!("libFuzzer is written in C++: install g++");
    }
    for (target, suffix) in TARGETS {
        if options
            .target
            .as_deref()
            .is_none_or(|wanted| wanted == target)
        {
            fuzz(target, suffix, options.seconds)?;
        }
    }
    Ok(())
}

fn fuzz(target: &str, suffix: &str, seconds: u32) -> Result<()> {
    let folder = root().join("target/fuzz");
    let corpus = folder.join("corpus").join(target);
    fs::create_dir_all(&corpus).context("cannot make target/fuzz")?;
    let folders = [
        drivers::dist(),
        root().join("drivers"),
        root().join("target/selftest"),
    ];
    for folder in folders {
        take_examples(&folder, suffix, &corpus)?;
    }
    // From nothing it would hardly find out how an image starts.
    if fs::read_dir(&corpus)?.next().is_none() {
        bail!("{target}: there is no .{suffix} file to start from; ./x build makes them");
    }
    let mut command: Command = Toolchain::current().cargo("run");
    command
        .current_dir(root())
        .env("RUSTFLAGS", FLAGS)
        .args(["--release", "--quiet", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--bin", target])
        .arg("--target-dir")
        .arg(folder.join("build"))
        .arg("--")
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg("-max_len=300000")
        .arg(format!("-artifact_prefix={}/{target}-", folder.display()));
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{target}: libFuzzer ended with {status}; the input is in target/fuzz/");
    }
    println!("{target}: nothing found in {seconds} s");
    Ok(())
}

/// Copies the files that end so from a folder and those in it.
fn take_examples(from: &Path, suffix: &str, to: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            take_examples(&path, suffix, to)?;
        } else if path.extension().is_some_and(|known| known == suffix)
            && let Some(name) = path.file_name()
        {
            fs::copy(&path, to.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
