//! What both benches are asked: which drivers, how thoroughly, and where the results go. And the results.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use super::{
    BenchError, file,
    measure::Asked,
    result::{Mean, Ratio, Result as RowResult, Rounds},
};

/// Arguments of every bench.
#[derive(Args, Clone, Debug)]
pub struct Options {
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
}

impl Options {
    /// The sets of drivers: ours, and the other if there is one.
    pub fn sets(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.ours), self.drivers.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// How thoroughly to measure.
    pub fn effort(&self) -> Effort {
        let (rounds, most) = match (self.quick, self.drivers.is_some()) {
            (true, _) => (2, 2),
            (false, false) => (20, 20),
            (false, true) => (40, 400),
        };
        Effort {
            rounds: self.rounds.unwrap_or(rounds),
            most: self.rounds.unwrap_or(most),
            round: 25,
            least: self.quick,
        }
    }

    /// The file for the results is made before anything is measured for it.
    pub fn output(&self) -> Result<Output, BenchError> {
        Ok(Output(match &self.json {
            Some(path) => Some((path.clone(), File::create(path).map_err(file(path))?)),
            None => None,
        }))
    }
}

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Of each row.
    pub rounds: u32,
    /// At most, until the ratio is known.
    pub most: u32,
    /// Milliseconds of a round.
    pub round: u64,
    /// Whether instructions are counted in as few requests as possible.
    pub least: bool,
}

/// Where the results go.
pub struct Output(Option<(PathBuf, File)>);

impl Output {
    /// Writes them, if they were asked for.
    pub fn write(self, results: &impl Serialize) -> Result<(), BenchError> {
        match self.0 {
            Some((path, mut to)) => serde_json::to_writer_pretty(&mut to, results)
                .map_err(io::Error::from)
                .map_err(file(&path)),
            None => Ok(()),
        }
    }
}

/// The results of all rows.
#[derive(Debug, Serialize)]
pub struct Results<R> {
    version: &'static str,
    /// How instructions are counted.
    instructions: &'static str,
    ours: PathBuf,
    other: Option<PathBuf>,
    /// Of each row, at least.
    rounds: u32,
    rows: Vec<Measured<R>>,
    /// Other to ours over all rows, geometric means.
    ratio: Option<Mean>,
}

impl<R> Results<R> {
    /// Of nothing yet.
    pub fn new(options: &Options) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            instructions: super::INSTRUCTIONS,
            ours: options.ours.clone(),
            other: options.drivers.clone(),
            rounds: options.effort().rounds,
            rows: Vec::new(),
            ratio: None,
        }
    }

    /// One more row.
    pub fn add(&mut self, row: Measured<R>) {
        self.rows.push(row);
        self.ratio = Mean::of(self.rows.iter().filter_map(|row| row.ratio.as_ref()));
    }

    /// Other to ours, if there is another.
    pub fn mean(&self) -> Option<(&Path, &Mean)> {
        self.other.as_deref().zip(self.ratio.as_ref())
    }
}

/// A row, measured.
#[derive(Debug, Serialize)]
pub struct Measured<R> {
    /// What was measured.
    #[serde(flatten)]
    pub row: R,
    /// Of each set of drivers.
    pub rounds: usize,
    /// With our drivers.
    pub ours: RowResult,
    /// With the other set.
    pub other: Option<RowResult>,
    /// Of the other to ours.
    pub ratio: Option<Ratio>,
}

impl<R: Asked> Measured<R> {
    /// The rounds of all sets, ours first.
    pub fn of(row: R, found: Vec<Rounds>) -> Self {
        let ratio = match &found[..] {
            [ours, other] => Some(Ratio::of(ours, other)),
            _ => None,
        };
        let rounds = found.first().map_or(0, |rounds| rounds.rates.len());
        let sum_up = |rounds: Rounds| rounds.sum_up(row.bytes());
        let mut results = found.into_iter().map(sum_up);
        Self {
            rounds,
            ours: results.next().unwrap_or_default(),
            other: results.next(),
            row,
            ratio,
        }
    }
}
