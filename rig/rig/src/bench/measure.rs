//! Measures one row, with all sets of drivers in turn.

use std::{fmt::Display, path::Path};

use super::{
    BenchError,
    options::{Effort, Measured},
    result::{Exact, Ratio, Rounds},
    subject::{Kind, Subject, SubjectError},
    worker::{Ask, Measure},
};

/// A row of one of the tables.
pub trait Asked: Copy + Display {
    /// What a worker is asked about it.
    fn ask(self, measure: Measure) -> Ask;
    /// Virtual CPUs of its machine.
    fn cpus(self) -> u32;
    /// The seeded machine that counts instructions.
    fn seeded(self) -> Kind<'static>;
    /// Bytes that a request moves.
    fn bytes(self) -> usize;
    /// Requests in which instructions are counted, or as few as possible; `None` if that says nothing new.
    fn sample(self, least: bool) -> Option<u64>;
}

/// One row, all subjects in turn.
pub fn measure<R: Asked>(
    subjects: &mut [&mut Subject],
    ours: &Path,
    row: R,
    effort: Effort,
) -> Result<Measured<R>, BenchError> {
    let mut found = rounds(subjects, row, effort)?;
    if let Some(requests) = row.sample(effort.least) {
        for (subject, rounds) in subjects.iter().zip(&mut found) {
            rounds.exact = Some(count(subject.drivers(), ours, row, requests)?);
        }
    }
    Ok(Measured::of(row, found))
}

/// The rounds of one row.
fn rounds(
    subjects: &mut [&mut Subject],
    row: impl Asked,
    effort: Effort,
) -> Result<Vec<Rounds>, BenchError> {
    let mut results: Vec<_> = subjects.iter().map(|_| Rounds::default()).collect();
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
        let mut pairs: Vec<_> = subjects.iter_mut().zip(&mut results).collect();
        if !round.is_multiple_of(2) {
            pairs.reverse();
        }
        for (subject, rounds) in &mut pairs {
            rounds.rates.push(subject.rate(row, effort.round)?);
        }
        for (subject, rounds) in &mut pairs {
            rounds.times.push(subject.time(row, effort.round / 2)?);
        }
    }
    Ok(results)
}

/// Instructions of a request, and what it needs. A seeded machine counts them: the same drivers take the same number of
/// instructions, whatever else the host does meanwhile. Each row has one of its own.
fn count(
    drivers: &Path,
    ours: &Path,
    row: impl Asked,
    requests: u64,
) -> Result<Exact, SubjectError> {
    let mut subject = Subject::start(drivers, ours, row.cpus(), row.seeded())?;
    let exact = subject.instructions(row, requests)?;
    subject.end()?;
    Ok(exact)
}
