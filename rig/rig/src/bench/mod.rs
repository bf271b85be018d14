//! `bench disk`: what the drivers cost, and beside them another set of drivers.
//!
//! ```text
//!   bench ──┬── worker: 1 CPU, ours      a process each, since a process has one machine; one of them works at a time
//!           ├── worker: 1 CPU, other
//!           └── …                        rounds: ours, other, ours, other …
//! ```
//! What is exact (instructions, hypercalls) is compared as it is. Times are those of many short rounds, of which the
//! quarter counts that the machine's other work disturbed least. A ratio is the median of the ratios of rounds that
//! followed each other; there are as many as it takes to know it to one percent, within reason.

pub mod load;
pub mod net;
pub mod result;
pub mod row;
mod subject;
mod table;
pub mod worker;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use result::{Exact, Mean, Ratio, Result as RowResult};
use row::{Backend, Filter, Op, Row, Size};
use subject::{Asked, Kind, Subject, SubjectError};

/// Bytes of the image behind the file backend, which fits the host's page cache.
const IMAGE: u64 = 64 << 20;
/// Where those images are made.
const FOLDER: &str = "out/bench";

/// The seed of machines that count instructions.
const SEED: u64 = 1;

/// Arguments of `bench disk`.
#[derive(Args, Clone, Debug)]
pub struct Disk {
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
    /// Only this size: 512, 4k, 64k, 1m or another multiple of 512. This and the next may be given several times.
    #[arg(long = "size", value_name = "SIZE")]
    pub sizes: Vec<Size>,
    /// Only this number of requests in flight.
    #[arg(long = "depth", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=128))]
    pub depths: Vec<u32>,
    /// Only reads or writes.
    #[arg(long = "op", value_name = "OP")]
    pub ops: Vec<Op>,
    /// Only this backend: null, or a file in the page cache.
    #[arg(long = "backend", value_name = "BACKEND")]
    pub backends: Vec<Backend>,
    /// Only this number of virtual CPUs.
    #[arg(long = "cpus", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub cpus: Vec<u32>,
}

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A machine.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The image or the report.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: u32,
    /// At most, until the ratio is known.
    most: u32,
    /// Milliseconds of a round.
    round: u64,
    /// Whether instructions are counted in as few requests as possible.
    least: bool,
}

impl Effort {
    /// Of a quick look or a measurement, with a given number of rounds, and to compare.
    fn new(quick: bool, given: Option<u32>, compares: bool) -> Self {
        let (rounds, most) = match (quick, compares) {
            (true, _) => (2, 2),
            (false, false) => (20, 20),
            (false, true) => (40, 400),
        };
        Self {
            rounds: given.unwrap_or(rounds),
            most: given.unwrap_or(most),
            round: 25,
            least: quick,
        }
    }

    /// Requests in which instructions are counted. Where a hypervisor handles debug exceptions each step takes 25 us.
    fn sample(self, row: &Row) -> u64 {
        let most = match (row.size.0, self.least) {
            (..=4096, false) => 32,
            (..=4096, true) | (..=65536, false) => 8,
            _ => 2,
        };
        u64::from(row.depth).clamp(most / 4, most).max(1)
    }
}

/// The report.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    /// How instructions are counted.
    instructions: &'static str,
    ours: PathBuf,
    other: Option<PathBuf>,
    rounds: u32,
    rows: Vec<Measured>,
    /// Other to ours over all rows, geometric means.
    ratio: Option<Mean>,
}

/// A row, measured.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    row: Row,
    /// Of each set of drivers.
    rounds: usize,
    ours: RowResult,
    other: Option<RowResult>,
    ratio: Option<Ratio>,
}

/// Said in the report and below the table.
const INSTRUCTIONS: &str = "instructions: counted by single-stepping through the drivers on a seeded machine, in \
    a sample of each row's requests; those of memcpy and its like, which images import, are not among them";

/// Measures, printing rows as they are done.
pub fn disk(options: &Disk) -> Result<(), BenchError> {
    let filter = Filter {
        backends: options.backends.clone(),
        cpus: options.cpus.clone(),
        ops: options.ops.clone(),
        sizes: options.sizes.clone(),
        depths: options.depths.clone(),
    };
    let json = match &options.json {
        Some(path) => Some((path, File::create(path).map_err(file(path))?)),
        None => None,
    };
    let effort = Effort::new(options.quick, options.rounds, options.drivers.is_some());
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        instructions: INSTRUCTIONS,
        ours: options.ours.clone(),
        other: options.drivers.clone(),
        rounds: effort.rounds,
        rows: Vec::new(),
        ratio: None,
    };
    let rows = filter.rows();
    for group in rows.chunk_by(|a, b| a.cpus == b.cpus) {
        let mut subjects = Vec::new();
        for (index, drivers) in [Some(&options.ours), options.drivers.as_ref()]
            .into_iter()
            .flatten()
            .enumerate()
        {
            let image = image(index)?;
            let started =
                Subject::start(drivers, &options.ours, group[0].cpus, Kind::Fast(&image.0))?;
            subjects.push((started, image));
        }
        let mut last = None;
        for row in group {
            if last.replace((row.backend, row.op)) != Some((row.backend, row.op)) {
                table::head(row);
            }
            let measured = measure(&mut subjects, &options.ours, row, effort)?;
            table::row(&measured, options.drivers.as_deref());
            report.rows.push(measured);
        }
        for (subject, _image) in subjects {
            subject.end()?;
        }
    }
    println!("{INSTRUCTIONS}");
    println!(
        "times: of the best quarter of {} rounds of {} ms{}; ns are those of virtual CPUs, measured in rounds of their \
         own, less what measuring takes and what the host did meanwhile; latency: of all rounds",
        effort.rounds,
        effort.round,
        match options.drivers.is_some() && effort.most > effort.rounds {
            true => " or more, until ratios are known to 1 %",
            false => "",
        }
    );
    report.ratio = Mean::of(report.rows.iter().filter_map(|row| row.ratio.as_ref()));
    if let (Some(ratio), Some(other)) = (&report.ratio, &options.drivers) {
        table::mean(ratio, other);
    }
    if let Some((path, mut to)) = json {
        serde_json::to_writer_pretty(&mut to, &report)
            .map_err(io::Error::from)
            .map_err(file(path))?;
    }
    Ok(())
}

/// The rounds of one row, all subjects in turn.
fn rounds(
    subjects: &mut [&mut Subject],
    row: &impl Asked,
    effort: Effort,
) -> Result<Vec<result::Rounds>, BenchError> {
    let mut results: Vec<_> = subjects.iter().map(|_| result::Rounds::default()).collect();
    // What the drivers allocate once, they allocate now.
    for subject in &mut *subjects {
        subject.rate(row, effort.round)?;
    }
    for round in 0..effort.most {
        if round >= effort.rounds
            && let [ours, other] = &results[..]
            && Ratio::of(ours, other).is_known()
        {
            break;
        }
        // A B, B A: what comes first is nobody's advantage.
        let order = |pairs: &mut Vec<_>| {
            if !round.is_multiple_of(2) {
                pairs.reverse();
            }
        };
        let mut pairs: Vec<_> = subjects.iter_mut().zip(&mut results).collect();
        order(&mut pairs);
        for (subject, rounds) in &mut pairs {
            rounds.rates.push(subject.rate(row, effort.round)?);
        }
        for (subject, rounds) in &mut pairs {
            rounds.times.push(subject.time(row, effort.round / 2)?);
        }
    }
    Ok(results)
}

/// One row, all subjects in turn.
fn measure(
    subjects: &mut [(Subject, Image)],
    ours: &Path,
    row: &Row,
    effort: Effort,
) -> Result<Measured, BenchError> {
    let mut machines: Vec<_> = subjects.iter_mut().map(|(subject, _)| subject).collect();
    let mut results = rounds(&mut machines, row, effort)?;
    // The drivers do the same whatever is behind the backend.
    if row.backend == Backend::Null {
        for ((subject, _), rounds) in subjects.iter_mut().zip(&mut results) {
            rounds.exact = Some(count(subject.drivers(), ours, row, effort.sample(row))?);
        }
    }
    let ratio = match &results[..] {
        [ours, other] => Some(Ratio::of(ours, other)),
        _ => None,
    };
    let rounds = results.first().map_or(0, |rounds| rounds.rates.len());
    let mut results = results.into_iter().map(result::Rounds::sum_up);
    Ok(Measured {
        row: *row,
        rounds,
        ours: results.next().unwrap_or_default(),
        other: results.next(),
        ratio,
    })
}

/// Instructions of a request, and what it needs. A seeded machine counts them: the same drivers take the same number of
/// instructions, whatever else the host does meanwhile. Each row has one of its own.
fn count(drivers: &Path, ours: &Path, row: &Row, requests: u64) -> Result<Exact, SubjectError> {
    let mut subject = Subject::start(drivers, ours, row.cpus, Kind::Seeded(SEED))?;
    let exact = subject.instructions(row, requests)?;
    subject.end()?;
    Ok(exact)
}

/// An image for the file backend, removed when dropped.
struct Image(PathBuf);

impl Drop for Image {
    fn drop(&mut self) {
        // What cannot be removed is made anew the next time.
        let _ = fs::remove_file(&self.0);
    }
}

fn image(index: usize) -> Result<Image, BenchError> {
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder).map_err(file(folder))?;
    let path = folder.join(format!("{}-{index}.img", std::process::id()));
    let image = Image(path.clone());
    // Written, not only made that long: holes are read faster than data.
    let mut block = vec![0u8; 1 << 20];
    block
        .iter_mut()
        .zip(0..)
        .for_each(|(byte, i)| *byte = (i % 251) as u8);
    let mut to = File::create(&path).map_err(file(&path))?;
    for _ in 0..IMAGE / block.len() as u64 {
        io::Write::write_all(&mut to, &block).map_err(file(&path))?;
    }
    Ok(image)
}

fn file(path: &Path) -> impl Fn(io::Error) -> BenchError {
    let path = path.to_owned();
    move |reason| BenchError::File {
        path: path.clone(),
        reason,
    }
}
