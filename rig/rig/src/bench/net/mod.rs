//! `bench net`: what frames cost the drivers, and beside them another set of drivers.

pub mod load;
pub mod row;

use std::{fs::File, io, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    BenchError, Effort, SEED, file,
    result::{Mean, Ratio, Result as RowResult, Rounds},
    rounds,
    row::name,
    subject::{Kind, Subject},
};
use row::{Row, Size, Way};

/// Arguments of `bench net`.
#[derive(Args, Clone, Debug)]
pub struct Net {
    /// Another set of drivers: a folder of .sys and .inf files. It runs in turn with ours, and ratios are shown. Packages
    /// that it lacks are ours.
    #[arg(long, value_name = "DIR")]
    pub drivers: Option<PathBuf>,
    /// Our drivers.
    #[arg(long, value_name = "DIR", default_value = "dist/x64")]
    pub ours: PathBuf,
    /// Also write the results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Short rounds and small samples: a look, not a measurement.
    #[arg(long)]
    pub quick: bool,
    /// Rounds of each row; by default 20, and 40 to 400 to compare.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Only this size: 64, 1500, 9000 or large (64 KiB of TCP). This and the next may be given several times.
    #[arg(long = "size", value_name = "SIZE")]
    pub sizes: Vec<Size>,
    /// Only this way: send, receive or both.
    #[arg(long = "way", value_name = "WAY")]
    pub ways: Vec<Way>,
    /// Only this number of queues, each with a virtual CPU.
    #[arg(long = "queues", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub queues: Vec<u32>,
}

/// The report.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    ours: PathBuf,
    other: Option<PathBuf>,
    rows: Vec<Measured>,
    /// Other to ours over all rows, geometric means.
    ratio: Option<Mean>,
}

/// A row, measured; a request is a frame.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    row: Row,
    gbit: f64,
    ours: RowResult,
    other: Option<RowResult>,
    ratio: Option<Ratio>,
}

/// Measures, printing rows as they are done.
pub fn net(options: &Net) -> Result<(), BenchError> {
    let json = match &options.json {
        Some(path) => Some((path, File::create(path).map_err(file(path))?)),
        None => None,
    };
    let effort = Effort::new(options.quick, options.rounds, options.drivers.is_some());
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        ours: options.ours.clone(),
        other: options.drivers.clone(),
        rows: Vec::new(),
        ratio: None,
    };
    let all = [Some(&options.ours), options.drivers.as_ref()];
    let rows = row::rows(&options.queues, &options.ways, &options.sizes);
    for group in rows.chunk_by(|a, b| a.queues == b.queues) {
        let mut subjects = Vec::new();
        for drivers in all.into_iter().flatten() {
            let queues = group[0].queues;
            subjects.push(Subject::start(drivers, &options.ours, queues, Kind::Card)?);
        }
        head(group[0].queues);
        for row in group {
            let mut found = rounds(&mut subjects.iter_mut().collect::<Vec<_>>(), row, effort)?;
            for (subject, rounds) in subjects.iter().zip(&mut found) {
                let kind = Kind::SeededCard(SEED);
                let mut seeded =
                    Subject::start(subject.drivers(), &options.ours, row.queues, kind)?;
                let sample = if row.size == Size::Large { 4 } else { 32 };
                rounds.exact = Some(seeded.instructions(row, sample)?);
                seeded.end()?;
            }
            let measured = sum_up(row, found);
            print(&measured, options);
            report.rows.push(measured);
        }
        for subject in subjects {
            subject.end()?;
        }
    }
    println!("{}", super::INSTRUCTIONS);
    println!("a large frame counts as one; both: frames of both ways together");
    report.ratio = Mean::of(report.rows.iter().filter_map(|row| row.ratio.as_ref()));
    if let (Some(ratio), Some(other)) = (&report.ratio, &options.drivers) {
        super::table::mean(ratio, other);
    }
    if let Some((path, mut to)) = json {
        serde_json::to_writer_pretty(&mut to, &report)
            .map_err(io::Error::from)
            .map_err(file(path))?;
    }
    Ok(())
}

fn sum_up(row: &Row, found: Vec<Rounds>) -> Measured {
    let ratio = match &found[..] {
        [ours, other] => Some(Ratio::of(ours, other)),
        _ => None,
    };
    let mut results = found.into_iter().map(Rounds::sum_up);
    let ours = results.next().unwrap_or_default();
    Measured {
        row: *row,
        gbit: gbit(row, &ours),
        ours,
        other: results.next(),
        ratio,
    }
}

fn gbit(row: &Row, result: &RowResult) -> f64 {
    result.rate * (row.size.bytes() + 14) as f64 * 8.0 / 1e9
}

fn head(queues: u32) {
    println!("\n{queues} queue{}", if queues == 1 { "" } else { "s" });
    println!(
        "{:>8} {:>8} {:>10} {:>8} | {:>12} {:>8} {:>8} {:>6} | {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}",
        "way",
        "size",
        "frames/s",
        "Gbit/s",
        "instructions",
        "ns",
        "rig ns",
        "calls",
        "hyperc",
        "sends",
        "events",
        "interr",
        "grants",
        "pool"
    );
}

fn print(measured: &Measured, options: &Net) {
    let row = &measured.row;
    line(&name(&row.way), &name(&row.size), row, &measured.ours);
    if let (Some(path), Some(other)) = (&options.drivers, &measured.other) {
        let folder = path.file_name().unwrap_or(path.as_os_str());
        line(&folder.to_string_lossy(), "", row, other);
    }
    if let Some(ratio) = &measured.ratio {
        println!(
            "{:>8} {:>8} {:>10.3} {:>8} | {:>12} {:>8.3}   95 % of {:.3} to {:.3}; ns {:.3} to {:.3}",
            "ratio",
            "",
            ratio.rate.median,
            "",
            ratio
                .instructions
                .map_or_else(|| "-".to_owned(), |number| format!("{number:.3}")),
            ratio.driver_ns.median,
            ratio.rate.low,
            ratio.rate.high,
            ratio.driver_ns.low,
            ratio.driver_ns.high,
        );
    }
}

fn line(first: &str, second: &str, row: &Row, result: &RowResult) {
    let tally = &result.tally;
    println!(
        "{first:>8.8} {second:>8} {:>10.0} {:>8.2} | {:>12} {:>8.0} {:>8.0} {:>6.1} | {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.1} {:>6.2}",
        result.rate,
        gbit(row, result),
        result
            .instructions
            .map_or_else(|| "-".to_owned(), |number| format!("{number:.0}")),
        result.driver_ns,
        result.rig_ns,
        result.calls,
        tally.hypercalls,
        tally.sends,
        tally.events,
        tally.interrupts,
        tally.grants,
        tally.allocations,
    );
}
