//! `./x fuzz`: the targets of fuzz/, run by libFuzzer, where there are such with the project's own files as first examples.
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

struct Target {
    name: &'static str,
    /// How the names of the project's files end that are examples for it. Without them it would hardly find out how such
    /// a file starts; without a suffix it does.
    suffix: Option<&'static str>,
    /// Longest input, in bytes.
    longest: u32,
}

const TARGETS: [Target; 4] = [
    Target {
        name: "pe",
        suffix: Some("sys"),
        longest: 300_000,
    },
    Target {
        name: "inf",
        suffix: Some("inf"),
        longest: 300_000,
    },
    Target {
        name: "packet",
        suffix: None,
        longest: 4096,
    },
    Target {
        name: "netrx",
        suffix: None,
        longest: 8192,
    },
];

/// Coverage as libFuzzer reads it (LLVM, "SanitizerCoverage": edges, counters, compared values).
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

#[derive(Args)]
pub(crate) struct Options {
    /// pe (driver images), inf, packet (network frames) or netrx (what a network backend does); all by default.
    #[arg(value_parser = TARGETS.map(|target| target.name))]
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !which("g++") {
        bail!("libFuzzer is written in C++: install g++");
    }
    for target in TARGETS {
        if options
            .target
            .as_deref()
            .is_none_or(|wanted| wanted == target.name)
        {
            fuzz(&target, options.seconds)?;
        }
    }
    Ok(())
}

fn fuzz(target: &Target, seconds: u32) -> Result<()> {
    let name = target.name;
    let folder = root().join("target/fuzz");
    let corpus = folder.join("corpus").join(name);
    fs::create_dir_all(&corpus).context("cannot make target/fuzz")?;
    if let Some(suffix) = target.suffix {
        let folders = [
            drivers::dist(),
            root().join("drivers"),
            root().join("target/selftest"),
            root().join("fuzz/corpus"),
        ];
        for folder in folders {
            take_examples(&folder, suffix, &corpus)?;
        }
        if fs::read_dir(&corpus)?.next().is_none() {
            bail!("{name}: there is no .{suffix} file to start from; ./x build makes them");
        }
    }
    let mut command: Command = Toolchain::current().cargo("run");
    command
        .current_dir(root())
        .env("RUSTFLAGS", FLAGS)
        .args(["--release", "--quiet", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--bin", name])
        .arg("--target-dir")
        .arg(folder.join("build"))
        .arg("--")
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", target.longest))
        .arg(format!("-artifact_prefix={}/{name}-", folder.display()));
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{name}: libFuzzer ended with {status}; the input is in target/fuzz/");
    }
    println!("{name}: nothing found in {seconds} s");
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
