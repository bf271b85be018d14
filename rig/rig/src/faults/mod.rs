//! `rig faults`: what the drivers do when memory, hypercalls, events, xenstored, power or the backend fail them.
//!
//! | file | |
//! |---|---|
//! | [`name`] | how faults are called |
//! | [`director`] | counts, and lets the faults strike |
//! | [`draw`] | a plan by a seed |
//! | [`refusal`] | the errors that hypercalls may have |
//! | [`play`] | the toolstack, the power button and the bus |
//! | [`trial`] | one scenario in this process |
//! | [`sweep`] | one scenario in many processes, a fault in each |
//! | [`hostile`], [`hostile_nic`] | backends that lie, each beside an honest one |

pub mod director;
pub mod draw;
pub mod hostile;
pub mod hostile_nic;
pub mod name;
pub mod play;
pub mod refusal;
pub mod sweep;
pub mod trial;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use log::LevelFilter;

use crate::cli::level;
use name::Fault;
use sweep::{Kind, Sweep};
use trial::{Scenario, Trial, TrialError};

/// Arguments of `faults`.
#[derive(Args, Clone, Debug)]
pub struct Faults {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Folder with the driver packages: .sys and .inf files.
    #[arg(long, global = true, value_name = "DIR", default_value = "dist/x64")]
    pub drivers: PathBuf,
    /// Virtual CPUs.
    #[arg(long, global = true, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// The seed of every choice that a run makes, in virtual time.
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Run on host threads, in the host's time.
    #[arg(long, global = true, conflicts_with = "seed")]
    pub parallel: bool,
    /// What to tell of: off, error, warn, info (what the drivers print), debug, trace.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "off", value_parser = level)]
    pub log: LevelFilter,
}

/// What to do with faults.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show the names of faults.
    List,
    /// Run a scenario once, with the faults named.
    Run {
        /// What is done.
        #[arg(long, value_name = "NAME", default_value = "boot")]
        scenario: Scenario,
        /// What goes wrong; may be given several times.
        #[arg(long = "fault", value_name = "FAULT")]
        faults: Vec<Fault>,
        /// Also write what came of it as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Fail each place where a driver asks for memory in turn, until no new one is met.
    Alloc(Round),
    /// Fail hypercalls, each with the errors it may have.
    Hypercall(Round),
    /// Lose and delay events, and send some for no reason.
    Event(Round),
    /// Let requests to xenstored fail, dawdle or vanish.
    Store(Round),
    /// Suspend, sleep, detach, vanish, let the backend die, at any step.
    Act(Round),
    /// Let backends lie, each in a machine with an honest disk or interface beside the hostile one.
    Hostile {
        /// Only the behaviours whose names contain one of these words.
        words: Vec<String>,
        /// List the behaviours and end.
        #[arg(long)]
        list: bool,
        /// Runs at a time; by default as many as there are processors.
        #[arg(long, value_name = "N", conflicts_with = "list", value_parser = clap::value_parser!(u64).range(1..=256))]
        jobs: Option<u64>,
    },
    /// Let a backend behave like that, once.
    Lie {
        /// The behaviour's name.
        name: String,
    },
}

/// How a sweep goes.
#[derive(Args, Clone, Debug)]
pub struct Round {
    /// What is done in each run.
    #[arg(long, value_name = "NAME", default_value = "boot")]
    pub scenario: Scenario,
    /// Runs at a time; by default as many as there are processors.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=256))]
    pub jobs: Option<u64>,
    /// At most so many faults, spread over all there are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// A trial could not be made.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// A sweep could not be made.
    #[error("{0}")]
    Sweep(String),
    /// The report.
    #[error("--json {}: {reason}", path.display())]
    Json {
        /// Where it was to go.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// Runs. Returns whether all was well.
pub fn run(options: &Faults) -> Result<bool, FaultsError> {
    let (kind, round) = match &options.command {
        Command::List => {
            print!("{}", include_str!("list.txt"));
            return Ok(true);
        }
        Command::Run {
            scenario,
            faults,
            json,
        } => return run_once(options, *scenario, faults, json.as_ref()),
        Command::Alloc(round) => (Kind::Alloc, round),
        Command::Hypercall(round) => (Kind::Hypercall, round),
        Command::Event(round) => (Kind::Event, round),
        Command::Store(round) => (Kind::Store, round),
        Command::Act(round) => (Kind::Act, round),
        Command::Hostile { list: true, .. } => {
            hostile::names().iter().for_each(|name| println!("{name}"));
            return Ok(true);
        }
        Command::Hostile { words, jobs, .. } => {
            return sweep::hostile(words, *jobs, options).map_err(FaultsError::Sweep);
        }
        Command::Lie { name } => return lie(name, options),
    };
    let sweep = Sweep::new(kind, round, options).map_err(FaultsError::Sweep)?;
    sweep.run().map_err(FaultsError::Sweep)
}

fn lie(name: &str, options: &Faults) -> Result<bool, FaultsError> {
    match hostile::run(name, &options.drivers)? {
        Some(outcome) => Ok(tell(&outcome)),
        None => Err(FaultsError::Sweep(format!(
            "{name:?} is no behaviour; ./x faults hostile --list shows them"
        ))),
    }
}

/// Prints the verdict.
fn tell(outcome: &trial::Outcome) -> bool {
    match &outcome.failure {
        None => println!("OK: {}", outcome.device),
        Some(why) => {
            for line in crate::logger::hidden() {
                eprintln!("{line}");
            }
            println!("FAILED: {why}");
        }
    }
    outcome.failure.is_none()
}

fn run_once(
    options: &Faults,
    scenario: Scenario,
    faults: &[Fault],
    json: Option<&PathBuf>,
) -> Result<bool, FaultsError> {
    let outcome = trial::run(Trial {
        scenario,
        faults: faults.to_vec(),
        cpus: options.cpus,
        seed: (!options.parallel).then_some(options.seed),
        drivers: options.drivers.clone(),
    })?;
    if let Some(path) = json {
        let written = File::create(path)
            .and_then(|file| serde_json::to_writer(file, &outcome).map_err(io::Error::from));
        written.map_err(|reason| FaultsError::Json {
            path: path.clone(),
            reason,
        })?;
    }
    for name in &outcome.met.struck {
        println!("struck   {name}");
    }
    if outcome.met.struck.len() < faults.len() {
        println!("         the other faults never had their turn");
    }
    Ok(tell(&outcome))
}
