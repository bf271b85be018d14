//! `rig selftest`: a machine without Xen, rig-selftest.sys on a root-enumerated device and on a PCI function that
//! raises interrupts, and the table of its verdicts.
//!
//! ```text
//!   rig-selftest.sys ── DbgPrint: "selftest: pass GROUP/CASE" ──▶ the machine's log ──▶ Line ──▶ Table
//! ```

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use nt_host::{cm::Value, pnp, po};
use nt_sys::{PowerActionNone, PowerActionSleep, PowerSystemSleeping3, PowerSystemWorking};

use crate::{
    boot::{self, BootError},
    cli::Selftest,
    interrupter::Interrupter,
    logger,
    packages::{PackageError, Packages},
    platform::{Linux, Settings},
};

/// The hardware ID that the driver's INF binds to.
const HARDWARE_ID: &str = r"Root\RigSelfTest";
/// Where the driver looks for what to run.
const PARAMETERS: &str =
    r"\Registry\Machine\System\CurrentControlSet\Services\rig-selftest\Parameters";
/// What each of the driver's lines starts with.
const PREFIX: &str = "selftest: ";
/// How long one case may take.
const PATIENCE: Duration = Duration::from_secs(30);
const MEMORY_MIB: u64 = 128;
/// Exit code of a process whose guest had a bug check.
const EXIT_BUG_CHECK: i32 = 3;
/// What the driver says to have the system put to sleep and woken up.
const SLEEP: &str = "sleep";

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// The driver.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The INF.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The machine.
    #[error("cannot make the machine: {0}")]
    Machine(#[from] io::Error),
    /// The driver says nothing.
    #[error("nothing was heard of {what} for {} s{states}", PATIENCE.as_secs())]
    Silent {
        /// The case that runs, or what was waited for.
        what: String,
        /// What became of the devices.
        states: String,
    },
}

/// The case that runs now, for the report of a bug check.
static RUNNING: Mutex<String> = Mutex::new(String::new());

/// Runs. Returns whether every case passed; the table was printed either way.
pub fn run(options: &Selftest) -> Result<bool, SelftestError> {
    let packages = Packages::read(&options.drivers)?;
    let (sender, lines) = mpsc::channel();
    let (ended, bug_check) = (sender.clone(), options.bug_check);
    let linux = Linux::new(Settings {
        cpus: options.cpus,
        ram_mib: MEMORY_MIB,
        xen_frames: 16,
        log: Box::new(move |line| match line.split_once(PREFIX) {
            Some((_, what)) => {
                // Nobody listens any more when the machine has been taken down.
                let _ = sender.send(what.to_owned());
            }
            None => log::info!("{line}"),
        }),
        halted: Box::new(move |code| {
            if !bug_check {
                halted(code);
            }
            // The table's reader ends the process.
            let _ = ended.send(format!("bug check {code:#x}"));
            loop {
                thread::park();
            }
        }),
        shut_down: Box::new(|_| ()),
    })?;
    let machine = linux.leak();
    nt_host::init(machine, nt_host::Config::default());
    packages.check()?;
    boot::stage(&packages)?;
    for image in &packages.images {
        let symbols = image.folder.join(&image.name).with_extension("pdb");
        linux.symbols().add(&image.name, &symbols);
    }
    nt_host::cm::write(PARAMETERS, "Words", Value::sz(&options.words.join(" ")));
    nt_host::cm::write(
        PARAMETERS,
        "SelfCheck",
        Value::dword(options.self_check.into()),
    );
    let interrupter = Arc::new(Interrupter::default());
    linux.set_interrupter(&interrupter);
    nt_host::cm::write(
        PARAMETERS,
        "BugCheck",
        Value::dword(options.bug_check.into()),
    );
    let virtual_cpus = machine.start()?;
    let started = Instant::now();
    pnp::add_root_device(HARDWARE_ID);
    pnp::start(vec![interrupter.function()]);

    let plural = if options.cpus == 1 { "" } else { "s" };
    println!("rig-selftest.sys on {} processor{plural}", options.cpus);
    let mut table = Table::new(options.verbose);
    if options.bug_check {
        // MANUALLY_INITIATED_CRASH1, which the driver chose, after its callbacks have said all.
        table.read(&lines, "end")?;
        table.read(&lines, "bug check 0xdeaddead")?;
        table.finish(started.elapsed());
        return Ok(table.failed == 0 && table.passed > 0);
    }
    table.read(&lines, "end")?;
    let (sender, leaks) = mpsc::channel();
    pnp::tear_down(move |leaks| {
        // The receiver waits, or has given up.
        let _ = sender.send(leaks.lines());
    });
    table.read(&lines, "unloaded")?;
    for leak in leaks.recv_timeout(PATIENCE).unwrap_or_default() {
        table.take(Line::Failed("teardown", "nothing is left behind", &leak));
    }
    nt_host::ke::stop();
    for thread in virtual_cpus {
        // A CPU whose thread panicked has said so.
        let _ = thread.join();
    }
    table.finish(started.elapsed());
    Ok(table.failed == 0 && table.passed > 0)
}

/// The end by a bug check: what led to it, and out.
fn halted(code: u32) {
    for line in logger::hidden() {
        eprintln!("{line}");
    }
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    eprintln!("FAILED: bug check {code:#x} in {running}");
    std::process::exit(EXIT_BUG_CHECK);
}

/// Puts the system to sleep, unless a driver refuses, and wakes it up.
fn sleep() {
    let sleep = || match po::transition(PowerSystemSleeping3, PowerActionSleep) {
        Ok(()) => {
            if let Err(why) = po::transition(PowerSystemWorking, PowerActionNone) {
                log::warn!("{why}");
            }
        }
        Err(why) => log::info!("no sleep: {why}"),
    };
    pnp::post(pnp::Event::Call(Box::new(sleep)));
}

/// What the driver says.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Run(&'a str),
    Passed(&'a str, &'a str),
    Failed(&'a str, &'a str, &'a str),
    Skipped(&'a str, &'a str, &'a str),
    Other(&'a str),
}

impl<'a> Line<'a> {
    /// Reads `VERB GROUP/CASE[: TEXT]`.
    fn read(line: &'a str) -> Self {
        let Some((verb, rest)) = line.split_once(' ') else {
            return Self::Other(line);
        };
        let (name, text) = rest.split_once(": ").unwrap_or((rest, ""));
        let Some((group, case)) = name.split_once('/') else {
            return Self::Other(line);
        };
        match verb {
            "run" => Self::Run(rest),
            "pass" => Self::Passed(group, case),
            "fail" => Self::Failed(group, case, text),
            "skip" => Self::Skipped(group, case, text),
            _ => Self::Other(line),
        }
    }
}

/// The verdicts, a line for each group.
struct Table {
    verbose: bool,
    group: String,
    in_group: [usize; 3],
    /// What is shown below the group's line.
    details: Vec<String>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Table {
    fn new(verbose: bool) -> Self {
        Self {
            verbose,
            group: String::new(),
            in_group: [0; 3],
            details: Vec::new(),
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    /// Takes the driver's lines until it says `last`.
    fn read(&mut self, lines: &mpsc::Receiver<String>, last: &str) -> Result<(), SelftestError> {
        loop {
            let Ok(line) = lines.recv_timeout(PATIENCE) else {
                let running = RUNNING
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let what = if running.is_empty() {
                    last.to_owned()
                } else {
                    running
                };
                let states = pnp::tree().iter().map(|row| format!("\n  {row}")).collect();
                return Err(SelftestError::Silent { what, states });
            };
            if line == last {
                return Ok(());
            }
            if line == SLEEP {
                sleep();
                continue;
            }
            self.take(Line::read(&line));
        }
    }

    fn take(&mut self, line: Line) {
        let (index, group, mark, case, text) = match line {
            Line::Run(name) => {
                log::info!("{name}");
                *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
                return;
            }
            Line::Other(what) => {
                log::info!("{what}");
                return;
            }
            Line::Passed(group, case) => (0, group, "ok", case, ""),
            Line::Failed(group, case, text) => (1, group, "FAILED", case, text),
            Line::Skipped(group, case, text) => (2, group, "skipped", case, text),
        };
        if self.group != group {
            self.end_group();
            self.group = group.to_owned();
        }
        self.in_group[index] += 1;
        if index == 1 || self.verbose {
            let separator = if text.is_empty() { "" } else { ": " };
            let case = case.replace('_', " ");
            self.details
                .push(format!("    {mark:<8} {case}{separator}{text}"));
        }
    }

    fn end_group(&mut self) {
        let [passed, failed, skipped] = std::mem::take(&mut self.in_group);
        if passed + failed + skipped == 0 {
            return;
        }
        let mut line = format!("{:<16} {passed:>4} passed", self.group);
        for (count, what) in [(failed, "failed"), (skipped, "skipped")] {
            if count != 0 {
                line.push_str(&format!(" {count:>4} {what}"));
            }
        }
        println!("{line}");
        for detail in self.details.drain(..) {
            println!("{detail}");
        }
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }

    fn finish(&mut self, elapsed: Duration) {
        self.end_group();
        println!(
            "{} passed, {} failed, {} skipped in {:.1} s",
            self.passed,
            self.failed,
            self.skipped,
            elapsed.as_secs_f64()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_verb_a_name_and_a_text() {
        assert_eq!(Line::read("pass dpcs/order"), Line::Passed("dpcs", "order"));
        assert_eq!(
            Line::read("fail dpcs/order: 1: 2, expected 3"),
            Line::Failed("dpcs", "order", "1: 2, expected 3")
        );
        assert_eq!(Line::read("hello world"), Line::Other("hello world"));
    }

    #[test]
    fn a_failed_case_counts_as_one() {
        let mut table = Table::new(false);
        table.take(Line::Passed("a", "one"));
        table.take(Line::Failed("a", "two", "why"));
        table.take(Line::Passed("b", "three"));
        table.finish(Duration::ZERO);
        assert_eq!((table.passed, table.failed, table.skipped), (2, 1, 0));
    }
}
