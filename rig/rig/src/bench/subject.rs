//! The other end of a [`worker`](super::worker): a process with a booted machine, asked over its pipes.

use std::{
    env,
    ffi::OsStr,
    fmt::Display,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::{
    measure::Asked,
    net::iperf::Streams,
    result::{Exact, RateRound, TimeRound},
    worker::{Answer, Ask, Measure},
};

/// Why a machine gives no answers.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It could not be started, or its pipes broke.
    #[error("a machine with {}: {reason}", drivers.display())]
    Process {
        /// Its drivers.
        drivers: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// It ended.
    #[error("the machine with {} has ended: {what}", drivers.display())]
    Ended {
        /// Its drivers.
        drivers: PathBuf,
        /// How.
        what: String,
    },
    /// It could not do what it was asked.
    #[error("{row}, with {}: {what}", drivers.display())]
    Failed {
        /// Its drivers.
        drivers: PathBuf,
        /// What it was asked to measure.
        row: String,
        /// Why not.
        what: String,
    },
}

/// What kind of machine.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// A thread for each virtual CPU, and this image behind the file backend.
    Fast(&'a Path),
    /// One thread, every choice by this seed, and no file backend.
    Seeded(u64),
    /// A thread for each virtual CPU, and a network card.
    Card,
    /// One thread, every choice by this seed, and a network card.
    SeededCard(u64),
    /// A thread for each virtual CPU, and a network card between two Linux network stacks.
    Stacks,
}

/// A machine in a process of its own. Dropped, it is ended at once.
pub struct Subject {
    drivers: PathBuf,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Subject {
    /// Boots a machine with these drivers, and `ours` for the packages that they lack.
    pub fn start(drivers: &Path, ours: &Path, cpus: u32, kind: Kind) -> Result<Self, SubjectError> {
        let fail = |reason| SubjectError::Process {
            drivers: drivers.to_owned(),
            reason,
        };
        let missing = || fail(io::Error::other("it has no pipe"));
        let seed = match kind {
            Kind::Fast(_) | Kind::Card | Kind::Stacks => String::new(),
            Kind::Seeded(seed) | Kind::SeededCard(seed) => seed.to_string(),
        };
        let mut child = Command::new(env::current_exe().map_err(fail)?)
            .arg("worker")
            .arg("--drivers")
            .arg(drivers)
            .arg("--ours")
            .arg(ours)
            .args(["--cpus", &cpus.to_string()])
            .args(match kind {
                Kind::Fast(image) => vec![OsStr::new("--image"), image.as_os_str()],
                Kind::Seeded(_) => vec![OsStr::new("--seed"), OsStr::new(&seed)],
                Kind::Card => vec![OsStr::new("--nic")],
                Kind::Stacks => vec![OsStr::new("--stacks")],
                Kind::SeededCard(_) => {
                    vec![OsStr::new("--nic"), OsStr::new("--seed"), OsStr::new(&seed)]
                }
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let to = child.stdin.take().ok_or_else(missing)?;
        let from = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let mut subject = Self {
            drivers: drivers.to_owned(),
            child,
            to: Some(to),
            from,
        };
        match subject.hear()? {
            Answer::Ready => Ok(subject),
            other => Err(subject.ended(format!("it said {other:?} first"))),
        }
    }

    /// Its drivers.
    pub fn drivers(&self) -> &Path {
        &self.drivers
    }

    fn ended(&self, what: String) -> SubjectError {
        SubjectError::Ended {
            drivers: self.drivers.clone(),
            what,
        }
    }

    fn hear(&mut self) -> Result<Answer, SubjectError> {
        let mut line = String::new();
        let read = self.from.read_line(&mut line);
        let broken = |reason| SubjectError::Process {
            drivers: self.drivers.clone(),
            reason,
        };
        if read.map_err(broken)? == 0 {
            let status = self.child.wait().map_err(broken)?;
            return Err(self.ended(status.to_string()));
        }
        serde_json::from_str(&line).map_err(|error| broken(error.into()))
    }

    fn ask(&mut self, row: &impl Display, ask: Ask) -> Result<Answer, SubjectError> {
        let broken = |reason| SubjectError::Process {
            drivers: self.drivers.clone(),
            reason,
        };
        if let Some(to) = &mut self.to {
            let mut line = serde_json::to_string(&ask).map_err(|error| broken(error.into()))?;
            line.push('\n');
            // A machine that has ended says how when it is heard.
            let _ = to.write_all(line.as_bytes());
        }
        match self.hear()? {
            Answer::Failed(what) => Err(SubjectError::Failed {
                drivers: self.drivers.clone(),
                row: row.to_string(),
                what,
            }),
            answer => Ok(answer),
        }
    }

    /// A round at full speed.
    pub fn rate(&mut self, row: impl Asked, milliseconds: u64) -> Result<RateRound, SubjectError> {
        match self.ask(&row, row.ask(Measure::Rate(milliseconds)))? {
            Answer::Rate(round) => Ok(round),
            other => Err(self.ended(format!("it said {other:?}"))),
        }
    }

    /// A round in which drivers and rig are told apart.
    pub fn time(&mut self, row: impl Asked, milliseconds: u64) -> Result<TimeRound, SubjectError> {
        match self.ask(&row, row.ask(Measure::Time(milliseconds)))? {
            Answer::Time(round) => Ok(round),
            other => Err(self.ended(format!("it said {other:?}"))),
        }
    }

    /// What so many requests take, a request.
    pub fn instructions(&mut self, row: impl Asked, requests: u64) -> Result<Exact, SubjectError> {
        match self.ask(&row, row.ask(Measure::Instructions(requests)))? {
            Answer::Instructions(exact) => Ok(exact),
            other => Err(self.ended(format!("it said {other:?}"))),
        }
    }

    /// Bits a second that iperf3 moves.
    pub fn streams(&mut self, streams: Streams, seconds: u64) -> Result<f64, SubjectError> {
        match self.ask(&streams, Ask::Streams(streams, seconds))? {
            Answer::Streams(rate) => Ok(rate),
            other => Err(self.ended(format!("it said {other:?}"))),
        }
    }

    /// Takes the machine down. The verifier may have found something.
    pub fn end(mut self) -> Result<(), SubjectError> {
        self.to = None;
        let status = self.child.wait();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.ended(status.to_string())),
            Err(reason) => Err(self.ended(reason.to_string())),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // After an orderly end there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
