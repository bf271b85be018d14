//! `./x fuzz`: the targets of fuzz/, run by libFuzzer, where there are such with the project's own files as first examples.
//!
//! libFuzzer needs code that counts where it has been. The flags for that are stable ones of the compiler, so neither
//! another toolchain nor cargo-fuzz is needed; it is C++, hence g++. Several targets run side by side, each on a
//! thread of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    drivers,
    process::{self, Outcome},
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

impl Target {
    /// Whether it looks into the rig, which takes long to build; the others need the drivers' cores alone.
    fn needs_rig(&self) -> bool {
        self.suffix.is_some()
    }
}

const TARGETS: &[Target] = &[
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
    Target {
        name: "oid",
        suffix: None,
        longest: 2048,
    },
];

/// Coverage as libFuzzer reads it (LLVM, "SanitizerCoverage": edges, counters, compared values).
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// With other flags than the rest of the workspace a build must not be taken for one of its.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// How long each target of `./x test` runs.
const STAGE_SECONDS: u32 = 60;

#[derive(Args)]
pub(crate) struct Options {
    /// pe (driver images), inf, packet (network frames), netrx (what a network backend does) or oid (requests to a
    /// network adapter); all by default.
    #[arg(value_parser = TARGETS.iter().map(|target| target.name).collect::<Vec<_>>())]
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// What a target came to.
pub(crate) struct Found {
    pub(crate) name: &'static str,
    /// What to show if an input was found that it fails for.
    pub(crate) failure: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted: Vec<_> = TARGETS
        .iter()
        .filter(|target| {
            options
                .target
                .as_deref()
                .is_none_or(|wanted| wanted == target.name)
        })
        .collect();
    let mut failed = false;
    for found in fuzz(&wanted, options.seconds)? {
        match found.failure {
            None => println!("{}: nothing found in {} s", found.name, options.seconds),
            Some(failure) => {
                failed = true;
                println!("{failure}");
            }
        }
    }
    if failed {
        bail!("libFuzzer found an input; it is in target/fuzz/");
    }
    Ok(())
}

/// The stage of `./x test`: what a network backend, a network and a protocol can send to the drivers. `None` without a
/// C++ compiler.
pub(crate) fn stage() -> Result<Option<Vec<Found>>> {
    if !which("g++") {
        return Ok(None);
    }
    let wanted: Vec<_> = TARGETS
        .iter()
        .filter(|target| !target.needs_rig())
        .collect();
    fuzz(&wanted, STAGE_SECONDS).map(Some)
}

fn folder() -> PathBuf {
    root().join("target/fuzz")
}

/// Builds the targets, then runs them, all at a time.
fn fuzz(targets: &[&'static Target], seconds: u32) -> Result<Vec<Found>> {
    if !which("g++") {
        bail!("libFuzzer is written in C++: install g++");
    }
    for target in targets {
        prepare(target)?;
    }
    let build = folder().join("build");
    let mut command: Command = Toolchain::current().cargo("build");
    command
        .current_dir(root())
        .env("RUSTFLAGS", FLAGS)
        .args(["--release", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target", TRIPLE])
        .arg("--target-dir")
        .arg(&build);
    for target in targets {
        command.args(["--bin", target.name]);
    }
    if targets.iter().any(|target| target.needs_rig()) {
        command.args(["--features", "rig"]);
    }
    process::expect("fuzz build", &mut command)?;
    let program = |name| build.join(TRIPLE).join("release").join(name);
    thread::scope(|scope| {
        let runs: Vec<_> = targets
            .iter()
            .map(|target| {
                (
                    target.name,
                    scope.spawn(|| work(target, &program(target.name), seconds)),
                )
            })
            .collect();
        runs.into_iter()
            .map(|(name, run)| match run.join() {
                Ok(outcome) => outcome.map(|outcome| Found {
                    name,
                    failure: (!outcome.success).then_some(outcome.output),
                }),
                Err(_) => bail!("{name}: the thread that ran it ended with a panic"),
            })
            .collect()
    })
}

/// Makes the folder of a target's examples.
fn prepare(target: &Target) -> Result<()> {
    let name = target.name;
    let corpus = folder().join("corpus").join(name);
    fs::create_dir_all(&corpus).context("cannot make target/fuzz")?;
    let Some(suffix) = target.suffix else {
        return Ok(());
    };
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
    Ok(())
}

fn work(target: &Target, program: &Path, seconds: u32) -> Result<Outcome> {
    let name = target.name;
    let mut command = Command::new(program);
    command
        .current_dir(root())
        .arg(folder().join("corpus").join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", target.longest))
        .arg(format!("-artifact_prefix={}/{name}-", folder().display()));
    process::run(&format!("fuzz {name}"), &mut command)
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
