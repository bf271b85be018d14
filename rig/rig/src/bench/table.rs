//! The tables that a person reads: what those of both benches have in common, and that of `bench disk`.

use std::{borrow::Cow, path::Path};

use super::{
    options::{Measured, Results},
    result::{Ratio, Result},
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
        "{} {:>6} {:>6} {:>6} {:>6} {:>7} {:>5} | {:>6} {:>6} {:>6} {:>6} {:>6}",
        heads(["size", "depth", "requests/s", "MiB/s"]),
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

/// A row's lines.
pub fn row(measured: &Measured<Row>, other: Option<&Path>) {
    let row = &measured.row;
    let names = [row.size.to_string(), row.depth.to_string()];
    lines(names, measured, other, |result| {
        let Result { tally, latency, .. } = result;
        let mib = result.bytes / f64::from(1 << 20);
        format!(
            "{} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>7.1} {:>5.2} | {:>6.0} {:>6.0} {:>6.0} {:>6.0} {:>6.0}",
            figures(result, &format!("{mib:.1}")),
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
        )
    });
}

/// The heads of the first columns: two for what a row is, two for its speed, and those of drivers and rig.
pub fn heads([first, second, rate, speed]: [&str; 4]) -> String {
    format!(
        "{first:>10} {second:>10}{rate:>11} {speed:>8} | {:>12} {:>10} {:>8} {:>6} |",
        "instructions", "ns", "ns", "calls"
    )
}

/// What is below these heads, but for what the row is.
pub fn figures(result: &Result, speed: &str) -> String {
    format!(
        "{:>11.0} {speed:>8} | {:>12} {:>10.0} {:>8.0} {:>6.1} |",
        result.rate,
        optional(result.instructions, 0),
        result.driver_ns,
        result.rig_ns,
        result.calls,
    )
}

/// A row's lines: ours, and if there is another set of drivers, that and the ratio.
pub fn lines<R>(
    [first, second]: [String; 2],
    measured: &Measured<R>,
    other: Option<&Path>,
    line: impl Fn(&Result) -> String,
) {
    println!("{first:>10.10} {second:>10}{}", line(&measured.ours));
    if let (Some(path), Some(result)) = (other, &measured.other) {
        println!("{:>10.10} {:>10}{}", folder(path), "", line(result));
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

/// The name of another set of drivers.
pub fn folder(path: &Path) -> Cow<'_, str> {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
}

fn optional(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
}

/// The last line, if there is another set of drivers.
pub fn mean<R>(results: &Results<R>) {
    if let Some((other, ratio)) = results.mean() {
        println!(
            "{} to ours, geometric mean of all rows: requests/s {:.3}, instructions {}, ns in drivers {:.3}",
            other.display(),
            ratio.rate,
            optional(ratio.instructions, 3),
            ratio.driver_ns
        );
    }
}
