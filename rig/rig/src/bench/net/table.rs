//! The table of `bench net`.

use std::path::Path;

use super::{
    super::{
        options::Measured,
        row::name,
        table::{figures, heads, lines},
    },
    row::Row,
};

/// The lines above the rows of one machine.
pub fn head(queues: u32) {
    println!("\n{queues} queue{}", if queues == 1 { "" } else { "s" });
    println!(
        "{:21}{:>11} {:>8} | {:>23} {:>8} {:>6} | {:>41} | {:>21}",
        "", "", "", "in drivers, per frame", "in rig", "", "per frame", "copies, per frame"
    );
    println!(
        "{} {:>6} {:>6} {:>6} {:>6} {:>7} {:>5} | {:>6} {:>7} {:>6}",
        heads(["way", "size", "frames/s", "Gbit/s"]),
        "hyperc",
        "sends",
        "events",
        "interr",
        "grants",
        "pool",
        "calls",
        "bytes",
        "by be"
    );
}

/// A row's lines.
pub fn row(measured: &Measured<Row>, other: Option<&Path>) {
    let row = &measured.row;
    let names = [name(&row.way), name(&row.size)];
    lines(names, measured, other, |result| {
        let gbit = result.bytes * 8.0 / 1e9;
        let tally = &result.tally;
        let copied = result.copied.unwrap_or_default();
        format!(
            "{} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>7.1} {:>5.2} | {:>6.1} {:>7.0} {:>6.1}",
            figures(result, &format!("{gbit:.2}")),
            tally.hypercalls,
            tally.sends,
            tally.events,
            tally.interrupts,
            tally.grants,
            tally.allocations,
            copied.calls,
            copied.bytes,
            tally.backend_copies,
        )
    });
}
