//! Sweeps of faults, as many of each kind as there is time for, and every lie of the hostile backends.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};

use super::{Check, Folder, finish, succeed};
use crate::{drivers, rig, toolchain::root};

const LIMIT: Duration = Duration::from_secs(600);

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "a boot without memory at one place",
        run: |_| sweep("alloc", "boot", Some(80)),
    },
    Check {
        name: "I/O without memory at one place",
        run: |_| sweep("alloc", "io", None),
    },
    Check {
        name: "a boot with a hypercall that fails",
        run: |_| sweep("hypercall", "boot", None),
    },
    Check {
        name: "a boot with an event that is lost, late or for nothing",
        run: |_| sweep("event", "boot", Some(24)),
    },
    Check {
        name: "a boot with a request to xenstored that fails or dawdles",
        run: |_| sweep("store", "boot", Some(24)),
    },
    Check {
        name: "a boot that is suspended, put to sleep, or loses its disk",
        run: |_| sweep("act", "boot", Some(16)),
    },
    Check {
        name: "a boot with a network card without memory at one place",
        run: |_| sweep("alloc", "nic", Some(40)),
    },
    Check {
        name: "frames without memory at one place",
        run: |_| sweep("alloc", "frames", Some(24)),
    },
    Check {
        name: "hostile block and network backends",
        run: hostile,
    },
    Check {
        name: "a fault whose turn never comes is told",
        run: no_turn,
    },
    Check {
        name: "what names no fault is refused",
        run: no_fault,
    },
];

fn faults() -> Command {
    let mut command = Command::new(rig::program());
    command
        .current_dir(root())
        .arg("faults")
        .arg("--drivers")
        .arg(drivers::dist());
    command
}

fn sweep(kind: &str, scenario: &str, limit: Option<u32>) -> Result<()> {
    let mut command = faults();
    command.args([kind, "--scenario", scenario]);
    if let Some(limit) = limit {
        command.args(["--limit", &limit.to_string()]);
    }
    let output = succeed(&mut command, LIMIT)?;
    ensure!(output.contains(", 0 failed, "), "{output}");
    Ok(())
}

fn hostile(_: &Folder) -> Result<()> {
    let output = succeed(faults().arg("hostile"), LIMIT)?;
    ensure!(
        output.contains("noise") && output.contains(", 0 failed, "),
        "{output}"
    );
    Ok(())
}

fn no_turn(_: &Folder) -> Result<()> {
    let output = succeed(faults().args(["run", "--fault", "alloc:1"]), LIMIT)?;
    ensure!(output.contains("never had their turn"), "{output}");
    Ok(())
}

fn no_fault(_: &Folder) -> Result<()> {
    for name in ["alloc:everywhere", "store:EWHAT@3", "suspend@never"] {
        let ended = finish(faults().args(["run", "--fault", name]), LIMIT)?;
        ensure!(
            !ended.status.success() && ended.errors.contains("names no fault"),
            "{name}: {}{}",
            ended.output,
            ended.errors
        );
    }
    Ok(())
}
