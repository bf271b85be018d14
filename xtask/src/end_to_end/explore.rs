//! The seeded machine: the same seed does the same, and scenarios hold by many seeds.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Check, Folder, finish, rig_run, same, succeed};
use crate::{drivers, rig, toolchain::root};

const RUN: Duration = Duration::from_secs(120);
/// Seeds of each scenario; `./x explore --seeds 1000` is for a longer look.
const SEEDS: &str = "10";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "the same seed gives the same trace",
        run: same_trace,
    },
    Check {
        name: "the demonstration runs by a seed",
        run: demonstration,
    },
    Check {
        name: "scenarios hold by many seeds",
        run: many_seeds,
    },
    Check {
        name: "a seed that fails is shown with its command",
        run: failing_seed,
    },
];

/// Twice each, on one virtual CPU and on two, kernel calls included; another seed does something else.
fn same_trace(folder: &Folder) -> Result<()> {
    for (scenario, cpus) in [("io", "1"), ("hotplug", "2"), ("suspend", "2")] {
        let trace = |name: &str, seed: &str| {
            let path = folder.path(name);
            let mut command = rig_run();
            command.args(["--scenario", scenario, "--cpus", cpus, "--seed", seed]);
            command.arg("--trace-calls").arg("--trace").arg(&path);
            succeed(&mut command, RUN).map(|_| path)
        };
        let (first, again) = (trace("first", "19")?, trace("again", "19")?);
        same(&first, &again)?;
        let other = trace("other", "20")?;
        ensure!(
            fs::read(&first)? != fs::read(&other)?,
            "seeds 19 and 20 do the same"
        );
    }
    Ok(())
}

fn demonstration(_: &Folder) -> Result<()> {
    let output = succeed(rig_run().args(["--seed=1", "--cpus=2", "--seconds=1"]), RUN)?;
    ensure!(output.contains("OK: 1 disk"), "{output}");
    Ok(())
}

fn explore() -> Command {
    let mut command = Command::new(rig::program());
    command.current_dir(root()).arg("explore");
    command
}

fn many_seeds(_: &Folder) -> Result<()> {
    for cpus in ["1", "2"] {
        let mut command = explore();
        command.args(["--seeds", SEEDS, "--cpus", cpus]);
        let output = succeed(command.arg("--drivers").arg(drivers::dist()), 3 * RUN)?;
        ensure!(output.contains(", 0 failed, in "), "{output}");
    }
    Ok(())
}

/// Without a driver for disks none comes up; that takes minutes of the machine's time only.
fn failing_seed(folder: &Folder) -> Result<()> {
    for entry in fs::read_dir(drivers::dist())? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?;
        if !name.to_string_lossy().starts_with("xenvbd.") {
            fs::copy(&path, folder.path(&name.to_string_lossy()))?;
        }
    }
    let mut command = explore();
    command.args(["--scenario=boot", "--seeds=2", "--first=7", "--drivers"]);
    let ended = finish(command.arg(folder.path("")), RUN)?;
    ensure!(!ended.status.success(), "{}", ended.output);
    for words in [
        "seed 8: not within 150 s: disk 0 comes up",
        "./x run --scenario boot --seed 8 --cpus 2",
        "FAILED: 2 runs, 2 failed",
    ] {
        ensure!(
            ended.output.contains(words),
            "no {words:?} in:\n{}",
            ended.output
        );
    }
    Ok(())
}
