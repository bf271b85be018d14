//! `rig explore`: a scenario by many seeds, each in a process of its own; the seeds that fail, and how to see them again.
//!
//! The processes are forked off this one, which has one thread and has read the drivers.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read, Seek},
    ops::Range,
    os::fd::AsRawFd,
    path::PathBuf,
    process, thread,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Job, Scenario, Wrong};
use crate::{
    faults::name::Fault,
    logger,
    packages::{PackageError, Packages},
};

/// How long one seed may take: CPU time, and in all, for a machine that sleeps where nobody can wake it. The host may do
/// other work.
const LIMIT: Duration = Duration::from_secs(120);
const LIMIT_IN_ALL: Duration = Duration::from_secs(1800);
/// Failures that are shown in full.
const SHOWN: usize = 5;
/// Lines of a failed run's output that are shown.
const LINES: usize = 12;

/// Arguments of `explore`.
#[derive(Args, Clone, Debug)]
pub struct Explore {
    /// What is done; all of them, in turn, if none is named.
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<Scenario>,
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub first: u64,
    /// Virtual CPUs of each machine.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// Machines at a time; by default as many as there are processors.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: Option<u32>,
    /// Let things go wrong, as each seed draws them: memory, hypercalls, events, xenstored, power, suspension, the disk.
    #[arg(long = "faults")]
    pub draw_faults: bool,
    /// Something that goes wrong with every seed (./x faults list has the names); may be given several times.
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<Fault>,
    /// Folder with the driver packages: .sys and .inf files.
    #[arg(long, value_name = "DIR", default_value = "dist/x64")]
    pub drivers: PathBuf,
}

/// Why exploring ends early.
#[derive(Debug, thiserror::Error)]
pub enum ExploreError {
    /// The packages.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The system.
    #[error("cannot start a machine's process: {0}")]
    Process(#[from] io::Error),
}

/// A machine's process.
struct Child {
    pid: libc::pid_t,
    seed: u64,
    output: File,
    started: Instant,
}

/// A seed that failed.
struct Failure {
    seed: u64,
    why: String,
    output: String,
}

/// Explores. Returns whether every seed was well.
pub fn run(options: &Explore) -> Result<bool, ExploreError> {
    let mut packages = Packages::read(&options.drivers)?;
    let wrong = Wrong {
        faults: options.faults.clone(),
        drawn: options.draw_faults,
    };
    if wrong.is_some() {
        packages.make_hasty();
    }
    let scenarios = match &options.scenarios[..] {
        [] => <Scenario as clap::ValueEnum>::value_variants(),
        named => named,
    };
    let started = Instant::now();
    let mut failed = 0;
    for &scenario in scenarios {
        let began = Instant::now();
        let failures = explore(options, scenario, &packages, &wrong)?;
        failed += failures.len();
        println!(
            "{:<8} {} seeds, {} failed, {:.1} s",
            scenario.name(),
            options.seeds,
            failures.len(),
            began.elapsed().as_secs_f64()
        );
        for (index, failure) in failures.iter().enumerate() {
            println!("  seed {}: {}", failure.seed, failure.why);
            if index < SHOWN {
                print!("{}", failure.output);
            }
            let names = wrong.names(failure.seed);
            if !names.is_empty() {
                println!("    faults: {}", names.join(" "));
            }
            println!(
                "    ./x run --scenario {} --seed {} --cpus {}{}",
                scenario.name(),
                failure.seed,
                options.cpus,
                again(options)
            );
        }
    }
    let verdict = if failed == 0 { "OK" } else { "FAILED" };
    println!(
        "{verdict}: {} runs, {failed} failed, in {:.1} s",
        options.seeds * scenarios.len() as u64,
        started.elapsed().as_secs_f64()
    );
    Ok(failed == 0)
}

/// The options of the command that does it again, for what goes wrong.
fn again(options: &Explore) -> String {
    let named = options
        .faults
        .iter()
        .map(|fault| format!(" --fault {fault}"));
    let drawn = options.draw_faults.then(|| " --faults".to_owned());
    named.chain(drawn).collect()
}

fn explore(
    options: &Explore,
    scenario: Scenario,
    packages: &Packages,
    wrong: &Wrong,
) -> Result<Vec<Failure>, ExploreError> {
    let processors = || thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let jobs = options.jobs.unwrap_or_else(processors) as usize;
    let mut seeds: Range<u64> = options.first..options.first.saturating_add(options.seeds);
    let bar = ProgressBar::new(options.seeds);
    // Without a thread of its own: this process forks.
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(scenario.name());
    let mut running: Vec<Child> = Vec::new();
    let mut failures = Vec::new();
    loop {
        while running.len() < jobs
            && let Some(seed) = seeds.next()
        {
            running.push(start(options, scenario, seed, packages, wrong)?);
        }
        if running.is_empty() {
            break;
        }
        let mut quiet = true;
        let mut index = 0;
        while let Some(child) = running.get_mut(index) {
            let Some(end) = child.end()? else {
                index += 1;
                continue;
            };
            quiet = false;
            bar.inc(1);
            if let Err(why) = end {
                let output = child.tail()?;
                failures.push(Failure {
                    seed: child.seed,
                    why,
                    output,
                });
                bar.set_message(format!("{} failed", failures.len()));
            }
            running.swap_remove(index);
        }
        if quiet {
            thread::sleep(Duration::from_millis(1));
        }
    }
    bar.finish_and_clear();
    failures.sort_by_key(|failure| failure.seed);
    Ok(failures)
}

/// Forks a process that runs one seed.
fn start(
    options: &Explore,
    scenario: Scenario,
    seed: u64,
    packages: &Packages,
    wrong: &Wrong,
) -> io::Result<Child> {
    let output = tempfile::tempfile()?;
    // SAFETY: this process has one thread, so the child's memory is whole.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            for descriptor in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
                // SAFETY: both descriptors are open, and this process is the child alone.
                unsafe { libc::dup2(output.as_raw_fd(), descriptor) };
            }
            let verdict = super::run(Job {
                scenario,
                seed,
                cpus: options.cpus,
                packages,
                wrong: wrong.clone(),
                trace: None,
            });
            let code = verdict.map_or_else(
                |why| {
                    logger::hidden().iter().for_each(|line| eprintln!("{line}"));
                    eprintln!("FAILED: {why}");
                    1
                },
                |_| 0,
            );
            process::exit(code)
        }
        _ => Ok(Child {
            pid,
            seed,
            output,
            started: Instant::now(),
        }),
    }
}

impl Child {
    /// How it has ended, if it has.
    fn end(&mut self) -> io::Result<Option<Result<(), String>>> {
        let mut status = 0;
        // SAFETY: the status is ours, and so is the child.
        let ended = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
        match ended {
            -1 => return Err(io::Error::last_os_error()),
            0 if self.started.elapsed() < LIMIT_IN_ALL && self.cpu_time() < LIMIT => {
                return Ok(None);
            }
            0 => {
                // SAFETY: the child is ours and has not been waited for.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
                // SAFETY: as above.
                unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
                let seconds = LIMIT.as_secs();
                return Ok(Some(Err(format!("no end within {seconds} s of CPU time"))));
            }
            _ => {}
        }
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            return Ok(Some(Err(format!("ended by signal {signal}"))));
        }
        Ok(Some(match libc::WEXITSTATUS(status) {
            0 => Ok(()),
            _ => Err(self.verdict()?),
        }))
    }

    /// The CPU time it has taken; none if it has just ended.
    fn cpu_time(&self) -> Duration {
        let mut clock = 0;
        // SAFETY: the place for the clock is ours.
        if unsafe { libc::clock_getcpuclockid(self.pid, &raw mut clock) } != 0 {
            return Duration::ZERO;
        }
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the place for the time is ours.
        match unsafe { libc::clock_gettime(clock, &raw mut time) } {
            0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
            _ => Duration::ZERO,
        }
    }

    fn text(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.output.rewind()?;
        self.output.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The line that says what was wrong.
    fn verdict(&mut self) -> io::Result<String> {
        let text = self.text()?;
        let bug_check = text.lines().find(|line| line.contains("*** bug check"));
        let last = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("FAILED: "));
        Ok(bug_check.or(last).unwrap_or("no verdict").to_owned())
    }

    /// The end of its output, indented.
    fn tail(&mut self) -> io::Result<String> {
        let text = self.text()?;
        let lines: Vec<_> = text.lines().collect();
        let from = lines.iter().position(|line| line.contains("*** bug check"));
        let from = from.unwrap_or(lines.len().saturating_sub(LINES));
        let mut tail = String::new();
        for line in lines[from..].iter().take(LINES) {
            // Writing to a string does not fail.
            let _ = writeln!(tail, "    | {line}");
        }
        Ok(tail)
    }
}
