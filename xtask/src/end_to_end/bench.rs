//! `rig bench disk`: that it measures, and what is exact in it. Times say nothing on a machine that tests something else.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Check, Folder, finish};
use crate::{drivers, rig, toolchain::root};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "requests cost the drivers no more than they should",
        run: requests_are_cheap,
    },
    Check {
        name: "frames cost the drivers no memory and few events",
        run: frames_are_cheap,
    },
    Check {
        name: "a copy of the drivers costs what they cost",
        run: a_copy_is_alike,
    },
];

/// For a machine that hangs; one that is busy takes minutes.
const LIMIT: Duration = Duration::from_secs(1200);

fn bench(folder: &Folder, arguments: &[&str]) -> Result<Value> {
    bench_of(
        folder,
        "disk",
        &[&["--backend", "null"], arguments].concat(),
    )
}

fn bench_of(folder: &Folder, what: &str, arguments: &[&str]) -> Result<Value> {
    let json = folder.path("bench.json");
    let mut command = Command::new(rig::program());
    command
        .current_dir(root())
        .args(["bench", what, "--quick", "--ours"])
        .arg(drivers::dist())
        .arg("--json")
        .arg(&json)
        .args(arguments);
    let ended = finish(&mut command, LIMIT)?;
    ensure!(ended.status.success(), "{}", ended.errors);
    serde_json::from_slice(&fs::read(json)?).context("the report is no JSON")
}

/// A number in a report.
fn number(value: &Value, path: &str) -> Result<f64> {
    value
        .pointer(path)
        .and_then(Value::as_f64)
        .with_context(|| format!("{path} is missing in {value}"))
}

fn requests_are_cheap(folder: &Folder) -> Result<()> {
    let report = bench(
        folder,
        &[
            "--size", "4k", "--size", "64k", "--cpus", "1", "--cpus", "2",
        ],
    )?;
    let rows = report["rows"].as_array().context("there are no rows")?;
    ensure!(rows.len() == 16, "{} rows of 16", rows.len());
    for row in rows {
        let of = |path: &str| number(row, path);
        let pages = of("/size")? / 4096.0;
        let name = format!("{} {} {}", row["op"], row["size"], row["depth"]);
        let most = |path: &str, most: f64| -> Result<()> {
            let found = of(path)?;
            ensure!(
                found <= most,
                "{name}: {path} is {found}, at most {most} is right"
            );
            Ok(())
        };
        ensure!(of("/ours/requests")? > 0.0, "{name}: no requests");
        ensure!(of("/ours/rate")? > 0.0, "{name}: no rate");
        ensure!(of("/ours/instructions")? > 100.0, "{name}: no instructions");
        ensure!(of("/ours/driver_ns")? > 0.0, "{name}: no time in drivers");
        ensure!(of("/ours/latency/p50")? <= of("/ours/latency/max")?);
        // On a seeded machine: elsewhere it depends on the host how many requests meet, and how far caches grow.
        // Requests need no memory of their own.
        most("/ours/exact/allocations", 0.0)?;
        // The one hypercall is the event to the backend, which answers with one at most. A request of more than 11
        // segments is two in the ring.
        let parts = (pages / 11.0).ceil();
        most("/ours/exact/hypercalls", parts)?;
        most("/ours/exact/events", parts)?;
        let grants = of("/ours/exact/grants")?;
        ensure!(
            (grants - 2.0 * pages).abs() < 0.01,
            "{name}: {grants} grant operations for {pages} pages"
        );
    }
    Ok(())
}

fn frames_are_cheap(folder: &Folder) -> Result<()> {
    let choice = ["--queues", "1", "--size", "64", "--size", "1500"];
    let report = bench_of(folder, "net", &choice)?;
    let rows = report["rows"].as_array().context("there are no rows")?;
    ensure!(rows.len() == 6, "{} rows of 6", rows.len());
    for row in rows {
        let of = |path: &str| number(row, path);
        let name = format!("{} {}", row["way"], row["size"]);
        ensure!(of("/ours/rate")? > 0.0, "{name}: no rate");
        ensure!(of("/ours/instructions")? > 100.0, "{name}: no instructions");
        // On a seeded machine, as above.
        let exact = |what: &str| of(&format!("/ours/exact/{what}"));
        ensure!(exact("allocations")? == 0.0, "{name}: pool is allocated");
        ensure!(
            exact("hypercalls")? <= 1.0,
            "{name}: {}",
            exact("hypercalls")?
        );
        let grants = exact("grants")?;
        ensure!(
            (grants - 2.0).abs() < 0.01,
            "{name}: {grants} grant operations"
        );
    }
    Ok(())
}

fn a_copy_is_alike(folder: &Folder) -> Result<()> {
    let copy = folder.path("copy");
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(drivers::dist())? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    let copy = copy.display().to_string();
    let report = bench(
        folder,
        &[
            "--drivers",
            &copy,
            "--size",
            "4k",
            "--depth",
            "1",
            "--cpus",
            "1",
        ],
    )?;
    let ratio = number(&report, "/ratio/instructions")?;
    ensure!(
        (ratio - 1.0).abs() <= 0.03,
        "a copy of the drivers takes {ratio} times their instructions"
    );
    Ok(())
}
