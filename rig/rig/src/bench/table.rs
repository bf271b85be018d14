//! The table that a person reads.

use std::path::Path;

use super::{
    Measured,
    result::{Mean, Ratio, Result},
    row::{Row, name},
};

/// The lines above the rows of one kind.
pub fn head(row: &Row) {
    let plural = if row.cpus == 1 { "" } else { "s" };
    println!(
        "\n{} backend, {}s, {} CPU{plural}",
        name(&row.backend),
        name(&row.op),
        row.cpus
    );
    println!(
        "{:21}{:>11} {:>8} | {:>23} {:>8} {:>6} | {:>41} | {:>34}",
        "", "", "", "in drivers, per request", "in rig", "", "per request", "latency, us"
    );
    println!(
        "{:>10} {:>10}{:>11} {:>8} | {:>12} {:>10} {:>8} {:>6} | {:>6} {:>6} {:>6} {:>6} {:>7} {:>5} | {:>6} {:>6} {:>6} {:>6} {:>6}",
        "size",
        "depth",
        "requests/s",
        "MiB/s",
        "instructions",
        "ns",
        "ns",
        "calls",
        "hyperc",
        "sends",
        "events",
        "interr",
        "grants",
        "pool",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max"
    );
}

/// A row's lines: ours, and if there is another set of drivers, that and the ratio.
pub fn row(measured: &Measured, other: Option<&Path>) {
    let row = &measured.row;
    line(
        &row.size.to_string(),
        &row.depth.to_string(),
        row,
        &measured.ours,
    );
    if let (Some(path), Some(result)) = (other, &measured.other) {
        let folder = path.file_name().unwrap_or(path.as_os_str());
        line(&folder.to_string_lossy(), "", row, result);
    }
    if let Some(Ratio {
        rate,
        instructions,
        driver_ns,
    }) = &measured.ratio
    {
        println!(
            "{:>10} {:>10}{:>11.3} {:>8} | {:>12} {:>10.3}   95 % of {:.3} to {:.3}; ns {:.3} to {:.3}",
            "ratio",
            "",
            rate.median,
            "",
            optional(*instructions, 3),
            driver_ns.median,
            rate.low,
            rate.high,
            driver_ns.low,
            driver_ns.high,
        );
    }
}

fn line(first: &str, second: &str, row: &Row, result: &Result) {
    let Result { tally, latency, .. } = result;
    let mib = result.rate * f64::from(row.size.0) / f64::from(1 << 20);
    println!(
        "{first:>10.10} {second:>10}{:>11.0} {:>8.1} | {:>12} {:>10.0} {:>8.0} {:>6.1} | {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>7.1} {:>5.2} | {:>6.0} {:>6.0} {:>6.0} {:>6.0} {:>6.0}",
        result.rate,
        mib,
        optional(result.instructions, 0),
        result.driver_ns,
        result.rig_ns,
        result.calls,
        tally.hypercalls,
        tally.sends,
        tally.events,
        tally.interrupts,
        tally.grants,
        tally.allocations,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max,
    );
}

fn optional(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
}

/// The last line.
pub fn mean(ratio: &Mean, other: &Path) {
    println!(
        "{} to ours, geometric mean of all rows: requests/s {:.3}, instructions {}, ns in drivers {:.3}",
        other.display(),
        ratio.rate,
        optional(ratio.instructions, 3),
        ratio.driver_ns
    );
}
