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
mod measure;
pub mod net;
pub mod options;
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

use measure::{Asked, measure};
use options::{Options, Results};
use row::{Backend, Filter, Op, Row, Size};
use subject::{Kind, Subject, SubjectError};
use worker::{Ask, Measure};

/// Bytes of the image behind the file backend, which fits the host's page cache.
const IMAGE: u64 = 64 << 20;
/// Where those images are made.
const FOLDER: &str = "out/bench";

/// The seed of machines that count instructions.
const SEED: u64 = 1;

/// Arguments of `bench disk`.
#[derive(Args, Clone, Debug)]
pub struct Disk {
    /// What every bench is asked.
    #[command(flatten)]
    pub options: Options,
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
    /// iperf3 cannot be used.
    #[error("iperf3: {0}")]
    Iperf(String),
    /// The image or the report.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

impl Asked for Row {
    fn ask(self, measure: Measure) -> Ask {
        Ask::Disk(self, measure)
    }

    fn cpus(self) -> u32 {
        self.cpus
    }

    fn seeded(self) -> Kind<'static> {
        Kind::Seeded(SEED)
    }

    fn bytes(self) -> usize {
        self.size.0 as usize
    }

    /// Where a hypervisor handles debug exceptions each step takes 25 us.
    fn sample(self, least: bool) -> Option<u64> {
        let most = match (self.size.0, least) {
            (..=4096, false) => 32,
            (..=4096, true) | (..=65536, false) => 8,
            _ => 2,
        };
        let requests = u64::from(self.depth).clamp(most / 4, most).max(1);
        // The drivers do the same whatever is behind the backend.
        (self.backend == Backend::Null).then_some(requests)
    }
}

/// Said in the report and below the table.
const INSTRUCTIONS: &str = "instructions: counted by single-stepping through the drivers on a seeded machine, in \
    a sample of each row's requests; those of memcpy and its like, which images import, are not among them";

/// Measures, printing rows as they are done.
pub fn disk(disk: &Disk) -> Result<(), BenchError> {
    let filter = Filter {
        backends: disk.backends.clone(),
        cpus: disk.cpus.clone(),
        ops: disk.ops.clone(),
        sizes: disk.sizes.clone(),
        depths: disk.depths.clone(),
    };
    let options = &disk.options;
    let output = options.output()?;
    let effort = options.effort();
    let mut results = Results::new(options);
    let rows = filter.rows();
    for group in rows.chunk_by(|a, b| a.cpus == b.cpus) {
        let mut subjects = Vec::new();
        for (index, drivers) in options.sets().enumerate() {
            let image = image(index)?;
            let kind = Kind::Fast(&image.0);
            let started = Subject::start(drivers, &options.ours, group[0].cpus, kind)?;
            subjects.push((started, image));
        }
        let mut last = None;
        for row in group {
            if last.replace((row.backend, row.op)) != Some((row.backend, row.op)) {
                table::head(row);
            }
            let mut machines: Vec<_> = subjects.iter_mut().map(|(subject, _)| subject).collect();
            let measured = measure(&mut machines, &options.ours, *row, effort)?;
            table::row(&measured, options.drivers.as_deref());
            results.add(measured);
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
        match effort.most > effort.rounds {
            true => " or more, until ratios are known to 1 %",
            false => "",
        }
    );
    table::mean(&results);
    output.write(&results)
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
