//! One scenario over and over, each time in a process of its own with another fault.
//!
//! ```text
//!   a run without faults ──► what was met ──► faults to try ──► runs, several at a time ──► verdicts
//!                                                 ▲───── places first met in those ────┘
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use super::director::{Met, Site};
use super::name::{Act, EventFate, Fault, Place, Step, StoreFate, Turn, value_name};
use super::refusal;
use super::trial::{Outcome, Scenario};
use super::{Faults, Round};
use crate::platform::symbols::Symbols;

/// How long a run may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(240);
/// Places that lack memory in one run at most.
const TOGETHER: usize = 3;
/// Lines of a failed run's output that are shown.
const SHOWN: usize = 60;

/// What goes wrong in a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory.
    Alloc,
    /// Hypercalls.
    Hypercall,
    /// Events, both ways.
    Event,
    /// Requests to xenstored.
    Store,
    /// Everything that happens to the whole machine.
    Act,
}

/// The first turns, one in the middle and the last.
fn turns(count: u64) -> BTreeSet<u64> {
    [1, 2, 3, count / 2, count]
        .into_iter()
        .filter(|turn| (1..=count).contains(turn))
        .collect()
}

impl Kind {
    /// The faults to try, given what a run met.
    fn faults(self, met: &Met) -> Vec<Fault> {
        match self {
            Self::Alloc => met
                .sites
                .iter()
                .flat_map(|(&stack, site)| site.faults(stack))
                .collect(),
            Self::Hypercall => met
                .hypercalls
                .iter()
                .flat_map(|(name, &count)| {
                    let each = refusal::names(name).iter();
                    each.flat_map(move |error| {
                        turns(count)
                            .into_iter()
                            .map(move |turn| (name, *error, turn))
                    })
                })
                // The same reading that a name on the command line gets.
                .filter_map(|(name, error, turn)| {
                    format!("hypercall:{name}:{error}@{turn}").parse().ok()
                })
                .collect(),
            Self::Event => (1..=met.events)
                .flat_map(|turn| {
                    EventFate::value_variants()
                        .iter()
                        .map(move |fate| Fault::Event(*fate, Turn::Nth(turn)))
                })
                .chain((1..=met.kicks).flat_map(|turn| {
                    [EventFate::Lose, EventFate::Late]
                        .map(|fate| Fault::Kick(fate, Turn::Nth(turn)))
                }))
                .collect(),
            Self::Store => (1..=met.store)
                .flat_map(|turn| {
                    ["EAGAIN", "ENOMEM", "EACCES", "EIO", "late", "never"]
                        .into_iter()
                        .filter_map(|fate| fate.parse::<StoreFate>().ok())
                        .map(move |fate| Fault::Store(fate, Turn::Nth(turn)))
                })
                .collect(),
            // Between two requests to xenstored much happens: events, and memory that is asked for.
            Self::Act => {
                let steps = [
                    (Step::Store, met.store),
                    (Step::Event, met.events),
                    (Step::Kick, met.kicks),
                    (Step::Hypercall, met.hypercalls.values().sum()),
                    (Step::Alloc, met.allocations),
                ];
                let each = steps.into_iter().flat_map(|(step, count)| {
                    // All requests; of the others as many as there are requests.
                    let apart = count.div_ceil(met.store.max(1)).max(1);
                    (1..=count)
                        .step_by(apart as usize)
                        .map(move |turn| (step, turn))
                });
                each.flat_map(|(step, turn)| {
                    let acts = Act::value_variants().iter();
                    acts.map(move |act| Fault::Act(*act, step, turn))
                })
                .collect()
            }
        }
    }
}

/// Every so-and-so-many-th, so that `limit` remain.
fn spread(faults: Vec<Fault>, limit: Option<u64>) -> Vec<Fault> {
    let Some(limit) = limit
        .map(|limit| limit as usize)
        .filter(|limit| *limit < faults.len())
    else {
        return faults;
    };
    let count = faults.len();
    (0..limit)
        .map(|index| faults[index * count / limit].clone())
        .collect()
}

/// Faults by name.
fn names(faults: &[Fault]) -> String {
    let names: Vec<_> = faults.iter().map(Fault::to_string).collect();
    names.join(" and ")
}

/// Faults as options.
fn options(faults: &[Fault]) -> Vec<String> {
    faults
        .iter()
        .map(|fault| format!("--fault={fault}"))
        .collect()
}

/// A sweep.
pub struct Sweep {
    kind: Kind,
    scenario: Scenario,
    jobs: u64,
    limit: Option<u64>,
    /// What the runs and their repetition have in common.
    machine: Vec<String>,
    drivers: PathBuf,
    program: PathBuf,
    symbols: Symbols,
    bar: ProgressBar,
    state: Mutex<State>,
    /// Something was queued, or the last run under way has ended.
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// What goes wrong together in the runs to come.
    queue: VecDeque<Vec<Fault>>,
    under_way: u64,
    sites: BTreeMap<u64, Site>,
    /// How often each outcome came.
    outcomes: BTreeMap<String, u64>,
    tried: u64,
    failed: u64,
    /// Faults whose turn never came.
    missed: u64,
}

/// What came of a run.
struct Run {
    status: Option<ExitStatus>,
    outcome: Option<Outcome>,
    output: String,
}

impl Sweep {
    /// Prepares.
    pub fn new(kind: Kind, round: &Round, options: &Faults) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|why| format!("this program: {why}"))?;
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let symbols = Symbols::default();
        let entries = fs::read_dir(&options.drivers)
            .map_err(|why| format!("{}: {why}", options.drivers.display()))?;
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            if path.extension().is_some_and(|extension| extension == "sys")
                && let Some(name) = path.file_name().and_then(|name| name.to_str())
            {
                symbols.add(name, &path.with_extension("pdb"));
            }
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Ok(Self {
            kind,
            scenario: round.scenario,
            jobs: round.jobs.unwrap_or(cores),
            limit: round.limit,
            machine: [
                format!("--cpus={}", options.cpus),
                match options.parallel {
                    true => "--parallel".to_owned(),
                    false => format!("--seed={}", options.seed),
                },
                format!("--scenario={}", value_name(&round.scenario)),
            ]
            .into(),
            drivers: options.drivers.clone(),
            program,
            symbols,
            bar,
            state: Mutex::default(),
            news: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line, above the bar where there is one.
    fn say(&self, line: String) {
        if self.bar.is_hidden() {
            println!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Runs everything. Returns whether all was well.
    pub fn run(&self) -> Result<bool, String> {
        let began = Instant::now();
        let first = self.trial(&[])?;
        let met = match first.outcome {
            Some(Outcome {
                failure: None, met, ..
            }) => met,
            _ => {
                return Err(format!(
                    "the scenario fails without any fault:\n{}",
                    first.output
                ));
            }
        };
        let faults = spread(self.kind.faults(&met), self.limit);
        println!(
            "met      {} places that ask for memory, {} hypercalls, {} events and {} kicks, {} requests to xenstored",
            met.sites.len(),
            met.hypercalls.values().sum::<u64>(),
            met.events,
            met.kicks,
            met.store
        );
        self.bar.set_length(faults.len() as u64);
        {
            let mut state = self.state();
            state.sites = met.sites;
            state.queue = faults.into_iter().map(|fault| vec![fault]).collect();
        }
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| self.work());
            }
        });
        self.bar.finish_and_clear();
        let state = self.state();
        for (outcome, count) in &state.outcomes {
            println!("{count:>7}  {outcome}");
        }
        if state.missed > 0 {
            println!("{:>7}  the fault's turn never came", state.missed);
        }
        let (tried, failed) = (state.tried, state.failed);
        println!(
            "{}: {} faults of kind {:?} in scenario {}, {failed} failed, {:.0} s",
            if failed == 0 { "OK" } else { "FAILED" },
            tried,
            self.kind,
            value_name(&self.scenario),
            began.elapsed().as_secs_f64()
        );
        Ok(failed == 0)
    }

    /// One worker: takes faults until there are none and none can come.
    fn work(&self) {
        loop {
            let faults = {
                let mut state = self.state();
                loop {
                    if let Some(faults) = state.queue.pop_front() {
                        state.under_way += 1;
                        break faults;
                    }
                    if state.under_way == 0 {
                        return;
                    }
                    state = self
                        .news
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            };
            let run = self.trial(&faults);
            let mut state = self.state();
            match run {
                Ok(run) => self.judge(&mut state, &faults, &run),
                Err(why) => {
                    state.failed += 1;
                    self.say(format!("FAILED   {}: {why}", names(&faults)));
                }
            }
            state.tried += 1;
            state.under_way -= 1;
            self.bar.inc(1);
            if self.bar.is_hidden() && state.tried.is_multiple_of(100) {
                println!("         {} tried", state.tried);
            }
            self.bar.set_message(format!("{} failed", state.failed));
            self.news.notify_all();
        }
    }

    fn judge(&self, state: &mut State, faults: &[Fault], run: &Run) {
        let good = run.status.is_some_and(|status| status.success());
        if let Some(outcome) = &run.outcome {
            if self.kind == Kind::Alloc && self.limit.is_none() {
                for (hash, site) in &outcome.met.sites {
                    // Met only because something else went wrong: so that goes wrong again.
                    if !state.sites.contains_key(hash) && faults.len() < TOGETHER {
                        for also in site.faults(*hash) {
                            state.queue.push_back([faults, &[also]].concat());
                            self.bar.inc_length(1);
                        }
                    }
                    state.sites.entry(*hash).or_insert_with(|| site.clone());
                }
            }
            if good && outcome.met.struck.len() < faults.len() {
                state.missed += 1;
                return;
            }
            if good {
                *state.outcomes.entry(outcome.device.clone()).or_default() += 1;
                return;
            }
        }
        state.failed += 1;
        let how = match run.status {
            None => format!("did not end within {} s", LIMIT.as_secs()),
            Some(status) if status.code() == Some(3) => "ended in a bug check".to_owned(),
            Some(status) => status.to_string(),
        };
        self.say(format!("FAILED   {}: {how}", names(faults)));
        for fault in faults {
            let (Fault::Alloc { place, .. } | Fault::Part { place, .. }) = fault else {
                continue;
            };
            let Place::Stack(stack) = place else { continue };
            let Some(site) = state.sites.get(stack) else {
                continue;
            };
            self.bar
                .println(format!("  {} lacks memory at", site.function));
            for (image, offset) in &site.frames {
                let name = self.symbols.find(image, *offset).unwrap_or_default();
                self.say(format!("    {image}+{offset:#x} {name}"));
            }
        }
        let lines: Vec<_> = run.output.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            self.say(format!("  | {line}"));
        }
        self.say(format!(
            "  again: ./x faults run {} {}",
            self.machine.join(" "),
            options(faults).join(" ")
        ));
    }

    /// One run.
    fn trial(&self, faults: &[Fault]) -> Result<Run, String> {
        let report = tempfile::NamedTempFile::new().map_err(|why| format!("a report: {why}"))?;
        let mut command = Command::new(&self.program);
        command
            .args(["faults", "run"])
            .args(&self.machine)
            .arg("--drivers")
            .arg(&self.drivers)
            .arg("--json")
            .arg(report.path());
        command.args(options(faults));
        let (status, text) = supervise(&mut command)?;
        let outcome = fs::read(report.path())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Run {
            status,
            outcome,
            output: text,
        })
    }
}

/// Runs a process to its end or to the limit, without a status then; what it printed.
fn supervise(command: &mut Command) -> Result<(Option<ExitStatus>, String), String> {
    let mut output = tempfile::tempfile().map_err(|why| format!("a log: {why}"))?;
    let handle = || output.try_clone().map_err(|why| format!("a log: {why}"));
    command
        .stdin(Stdio::null())
        .stdout(handle()?)
        .stderr(handle()?);
    let mut child = command.spawn().map_err(|why| format!("a run: {why}"))?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if began.elapsed() < LIMIT => thread::sleep(Duration::from_millis(10)),
            _ => {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let mut text = String::new();
    let read = std::io::Seek::rewind(&mut output).and_then(|()| {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes)?;
        text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(())
    });
    read.map_err(|why| format!("a log: {why}"))?;
    Ok((status, text))
}

/// Runs every behaviour of hostile backends whose name contains one of the words. Returns whether all was well.
pub fn hostile(words: &[String], jobs: Option<u64>, options: &Faults) -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|why| format!("this program: {why}"))?;
    let wanted = |name: &String| words.is_empty() || words.iter().any(|word| name.contains(word));
    let queue: VecDeque<_> = super::hostile::names().into_iter().filter(wanted).collect();
    if queue.is_empty() {
        return Err("no behaviour has such a name; --list shows them".to_owned());
    }
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let (began, count) = (Instant::now(), queue.len());
    let (queue, failed) = (Mutex::new(queue), Mutex::new(0));
    let work = || {
        let next = || {
            queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
        };
        while let Some(name) = next() {
            let mut command = Command::new(&program);
            command
                .args(["faults", "lie", &name])
                .arg("--drivers")
                .arg(&options.drivers);
            let (good, text) = match supervise(&mut command) {
                Ok((status, text)) => (status.is_some_and(|status| status.success()), text),
                Err(why) => (false, why),
            };
            let last = text.lines().last().unwrap_or_default();
            if good {
                println!("{name:<34} {last}");
                continue;
            }
            *failed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            let lines: Vec<_> = text.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN)..].join("\n  | ");
            println!("{name:<34} FAILED\n  | {shown}\n  again: ./x faults lie {name}");
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(cores) {
            scope.spawn(work);
        }
    });
    let failed: u64 = *failed.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{}: {count} hostile behaviours, {failed} failed, {:.0} s",
        if failed == 0 { "OK" } else { "FAILED" },
        began.elapsed().as_secs_f64()
    );
    Ok(failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_leaves_faults_from_everywhere() {
        let faults: Vec<_> = (1..=10)
            .map(|turn| Fault::Event(EventFate::Lose, Turn::Nth(turn)))
            .collect();
        let few = spread(faults.clone(), Some(3));
        assert_eq!(
            few,
            [faults[0].clone(), faults[3].clone(), faults[6].clone()]
        );
        assert_eq!(spread(faults.clone(), Some(10)), faults);
        assert_eq!(spread(faults.clone(), None), faults);
    }
}
