//! `rig bench`: that it measures, and what is exact in it. Times say nothing on a machine that tests something else.

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
        name: "frames cost the drivers no memory, few events, one copy at most, and always the same",
        run: frames_are_cheap,
    },
    Check {
        name: "a copy of the drivers costs what they cost",
        run: a_copy_is_alike,
    },
];

/// Bytes of a frame that may be copied for a look at it.
const HEADERS: f64 = 256.0;
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

/// Beside a copy of themselves, the drivers do exactly the same.
fn frames_are_cheap(folder: &Folder) -> Result<()> {
    let copy = copy_of_drivers(folder)?;
    let choice = ["--queues", "1", "--size", "64", "--size", "1500"];
    let report = bench_of(
        folder,
        "net",
        &[&["--drivers", &copy], &choice[..]].concat(),
    )?;
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
        // The backend copies each frame once, and knows how long it is.
        let frame = exact("backend_copied")?;
        ensure!(
            exact("backend_copies")? == 1.0 && [78.0, 1514.0].contains(&frame),
            "{name}: the backend copies {frame} bytes"
        );
        for what in ["functions", "copiers", "copied", "exact"] {
            let (ours, other) = (&row["ours"][what], &row["other"][what]);
            ensure!(
                !ours.is_null() && ours == other,
                "{name}: {what} of a copy of the drivers: {ours}, then {other}"
            );
        }
    }
    let ratio = number(&report, "/ratio/instructions")?;
    ensure!(
        (ratio - 1.0).abs() < 1e-9,
        "a copy takes {ratio} times the instructions"
    );
    // What is sent may be copied, and what is received is not: how much the drivers copy of longer frames, headers and
    // structures aside.
    for (pair, most) in rows.chunks(2).zip([1.0, 0.0, 0.5]) {
        let of = |row: &Value| number(row, "/ours/copied/bytes");
        let more = of(&pair[1])? - of(&pair[0])?;
        ensure!(
            more <= most * (1500.0 - 64.0) + HEADERS,
            "{}: {more} bytes more are copied of 1500 than of 64",
            pair[0]["way"]
        );
    }
    Ok(())
}

/// iperf3 between two Linux network stacks, which needs what the stage `net` needs.
pub(super) fn iperf3_measures(folder: &Folder) -> Result<()> {
    let report = bench_of(
        folder,
        "net",
        &["--iperf3", "--queues", "1", "--way", "both"],
    )?;
    let rows = report["iperf3"].as_array().context("there are no rows")?;
    ensure!(rows.len() == 2, "{} rows of 2", rows.len());
    for row in rows {
        ensure!(number(row, "/ours")? > 0.0, "nothing arrived: {row}");
    }
    Ok(())
}

/// A folder with a copy of our drivers.
fn copy_of_drivers(folder: &Folder) -> Result<String> {
    let copy = folder.path("copy");
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(drivers::dist())? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    Ok(copy.display().to_string())
}

fn a_copy_is_alike(folder: &Folder) -> Result<()> {
    let copy = copy_of_drivers(folder)?;
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
        (ratio - 1.0).abs() < 1e-9,
        "a copy of the drivers takes {ratio} times their instructions"
    );
    Ok(())
}
