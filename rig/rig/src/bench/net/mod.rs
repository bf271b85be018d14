//! `bench net`: what frames cost the drivers, and beside them another set of drivers.

pub mod iperf;
pub mod load;
pub mod row;
mod table;

use clap::Args;
use serde::Serialize;

use super::{
    BenchError, INSTRUCTIONS, SEED,
    measure::{Asked, measure},
    options::{Options, Results},
    subject::{Kind, Subject},
    table::mean,
    worker::{Ask, Measure},
};
use row::{Row, Size, Way};

/// Arguments of `bench net`.
#[derive(Args, Clone, Debug)]
pub struct Net {
    /// What every bench is asked.
    #[command(flatten)]
    pub options: Options,
    /// Only this size: 64, 1500, 9000 or large (64 KiB of TCP). This and the next may be given several times.
    #[arg(long = "size", value_name = "SIZE")]
    pub sizes: Vec<Size>,
    /// Only this way: send, receive or both.
    #[arg(long = "way", value_name = "WAY")]
    pub ways: Vec<Way>,
    /// Only this number of queues, each with a virtual CPU.
    #[arg(long = "queues", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub queues: Vec<u32>,
    /// Only what iperf3 makes of the card between two Linux network stacks. Else that comes last, unless a size is chosen.
    #[arg(long, conflicts_with = "sizes")]
    pub iperf3: bool,
}

/// The report.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    frames: Results<Row>,
    /// TCP by iperf3.
    iperf3: Vec<iperf::Measured>,
}

impl Asked for Row {
    fn ask(self, measure: Measure) -> Ask {
        Ask::Net(self, measure)
    }

    fn cpus(self) -> u32 {
        self.queues
    }

    fn seeded(self) -> Kind<'static> {
        Kind::SeededCard(SEED)
    }

    /// With Ethernet's header.
    fn bytes(self) -> usize {
        self.size.bytes() + 14
    }

    fn sample(self, _: bool) -> Option<u64> {
        Some(if self.size == Size::Large { 4 } else { 32 })
    }
}

/// Measures, printing rows as they are done.
pub fn net(net: &Net) -> Result<(), BenchError> {
    let options = &net.options;
    let output = options.output()?;
    let mut results = Results::new(options);
    let rows = match net.iperf3 {
        true => Vec::new(),
        false => row::rows(&net.queues, &net.ways, &net.sizes),
    };
    for group in rows.chunk_by(|a, b| a.queues == b.queues) {
        let queues = group[0].queues;
        let start = |drivers| Subject::start(drivers, &options.ours, queues, Kind::Card);
        let mut subjects = options.sets().map(start).collect::<Result<Vec<_>, _>>()?;
        table::head(queues);
        for row in group {
            let mut machines: Vec<_> = subjects.iter_mut().collect();
            let measured = measure(&mut machines, &options.ours, *row, options.effort())?;
            table::row(&measured, options.drivers.as_deref());
            results.add(measured);
        }
        for subject in subjects {
            subject.end()?;
        }
    }
    if !rows.is_empty() {
        println!("{INSTRUCTIONS}");
        println!(
            "copies: calls of memcpy and memmove by the drivers, and their bytes; by be: copies that the backend makes \
             from or to the guest's pages\na large frame counts as one; both: frames of both ways together"
        );
        mean(&results);
    }
    let iperf3 = match iperf::missing() {
        _ if !net.sizes.is_empty() => Vec::new(),
        Some(reason) if net.iperf3 => return Err(BenchError::Iperf(reason)),
        Some(reason) => {
            println!("\niperf3: skipped: {reason}");
            Vec::new()
        }
        None => iperf::run(options, &net.queues, &net.ways)?,
    };
    output.write(&Report {
        frames: results,
        iperf3,
    })
}
