//! The seeded machine: the same seed does the same, and scenarios hold by many seeds.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Check, Folder, finish, rig_run, same, succeed};
use crate::{drivers, rig, toolchain::root};

const RUN: Duration = Duration::from_secs(120);
/// For what hangs; a busy machine takes minutes.
const LONG: Duration = Duration::from_secs(1200);
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
        name: "scenarios hold by many seeds that let things go wrong",
        run: many_faults,
    },
    Check {
        name: "a suspension while disks connect again fails no request",
        run: |_| explored(&["--scenario=suspend", "--cpus=1", "--seeds=40"]),
    },
    Check {
        name: "a second suspension while the first one's resume is at work fails no request",
        run: |_| explored(&["--scenario=suspend", "--cpus=2", "--seeds=20"]),
    },
    Check {
        name: "a suspension while cards connect again leaves no ring with a backend",
        run: |_| {
            explored(&["--scenario=nic", "--cpus=1", "--first=49", "--seeds=1"])?;
            explored(&["--scenario=nic", "--cpus=1", "--first=93", "--seeds=1"])
        },
    },
    Check {
        name: "a look for disks does not wait for power",
        run: |_| {
            explored(&[
                "--scenario=hotplug",
                "--seeds=20",
                "--fault=hibernate@event:54",
                "--fault=event:late@81",
            ])
        },
    },
    Check {
        name: "requests that wait for power or a connection are given back to a reset",
        run: |_| {
            explored(&[
                "--scenario=suspend",
                "--seeds=20",
                "--fault=store:never@216",
                "--fault=event:lose@47",
                "--fault=hibernate@event:54",
            ])
        },
    },
    Check {
        name: "nobody waits in what goes when power goes, and what xenstored kept of before does not hinder",
        run: |_| {
            explored(&["--scenario=boot", "--seeds=20", "--fault=store:never@10"])?;
            let first = ["--scenario=sleep", "--first=195", "--seeds=10"];
            explored(&[&first[..], &["--fault=store:ENOMEM@178"]].concat())
        },
    },
    Check {
        name: "a disk whose keys cannot be read after a suspension keeps its blocks",
        run: |_| {
            let seed = ["--scenario=suspend", "--first=66", "--seeds=1", "--cpus=2"];
            explored(&[&seed[..], &["--faults"]].concat())
        },
    },
    Check {
        name: "a disk that is detached twice is detached",
        run: |_| {
            let seed = ["--scenario=hotplug", "--first=247", "--seeds=1"];
            let faults = ["--fault=detach@alloc:35", "--fault=detach@store:12"];
            explored(&[&seed[..], &faults, &["--fault=store:late@7"]].concat())
        },
    },
    Check {
        name: "a run tells which faults struck",
        run: struck,
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
        let output = succeed(command.arg("--drivers").arg(drivers::dist()), LONG)?;
        ensure!(output.contains(", 0 failed, in "), "{output}");
    }
    Ok(())
}

fn explored(arguments: &[&str]) -> Result<()> {
    let mut command = explore();
    command
        .args(arguments)
        .arg("--drivers")
        .arg(drivers::dist());
    let output = succeed(&mut command, LONG)?;
    ensure!(output.contains(", 0 failed, in "), "{output}");
    Ok(())
}

fn many_faults(_: &Folder) -> Result<()> {
    for cpus in ["--cpus=1", "--cpus=2"] {
        explored(&["--faults", "--seeds=6", cpus])?;
    }
    Ok(())
}

/// In the demonstration, and in a scenario whose seed draws some.
fn struck(_: &Folder) -> Result<()> {
    let mut command = rig_run();
    command.args(["--seed=1", "--seconds=1", "--fault=event:late@40"]);
    let output = succeed(&mut command, RUN)?;
    ensure!(
        output.contains("struck   event:late@40") && output.contains("OK: 1 disk"),
        "{output}"
    );
    let mut command = rig_run();
    command.args(["--scenario=io", "--seed=3", "--cpus=2", "--faults"]);
    let output = succeed(&mut command, RUN)?;
    ensure!(
        output.contains("faults   ") && output.contains("OK: io by seed 3"),
        "{output}"
    );
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
