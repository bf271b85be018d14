//! Follows a run: markers on domain 0's line, disasters on Xen's, and silence, which is the third way to fail.
//!
//! ```text
//! @step TEXT                what is under way           @up SECONDS        domain 0 is ready
//! @job begin|ok|fail ID     a job's begin and end       @check ok|fail TEXT   what a step found
//! @note TEXT                what belongs into the report besides     @lost TEXT    domain 0 cannot go on
//! @file NAME … @end         a log (each line after a blank)
//! @bench ours|peer LINE …    a bench's numbers
//! @shell                    a shell reads the line from here on      @done   nothing more will come
//! ```

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::machine::Event;

/// A job's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Name and tier.
    pub id: String,
    /// Whether everything it checked held.
    pub passed: bool,
    /// From its begin to its end.
    pub elapsed: Duration,
    /// What it found: all that held, or the first that did not.
    pub findings: Vec<String>,
    /// What belongs into the report besides: states, features, checksums.
    pub notes: Vec<String>,
}

/// Lines on Xen's console that end a run, and what each means.
const DISASTERS: &[(&str, &str)] = &[
    ("Panic on CPU", "Xen panicked"),
    ("Kernel panic - not syncing", "domain 0 panicked"),
    ("Domain 0 crashed", "domain 0 crashed"),
    ("Hardware Dom0 crashed", "domain 0 crashed"),
    ("Hardware Dom0 shutdown", "domain 0 shut down"),
];

/// How long nothing at all may be said before the run counts as hung.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a new line from anywhere.
    pub silence: Duration,
    /// Altogether.
    pub whole: Duration,
}

/// What was seen so far.
pub struct Session<'a> {
    logs: &'a Path,
    limits: Limits,
    stop: &'a AtomicBool,
    say: &'a dyn Fn(&str),
    step: String,
    job: Option<Running>,
    file: Option<(PathBuf, fs::File)>,
    last: Vec<String>,
    /// What came of the jobs.
    pub verdicts: Vec<Verdict>,
    /// The bench's lines.
    pub bench: Vec<Measured>,
}

/// The job under way.
struct Running {
    id: String,
    began: Instant,
    findings: Vec<String>,
    notes: Vec<String>,
    failure: Option<String>,
}

impl Running {
    fn ended(self, said_ok: bool) -> Verdict {
        let passed = said_ok && self.failure.is_none();
        Verdict {
            id: self.id,
            passed,
            elapsed: self.began.elapsed(),
            findings: if passed {
                self.findings
            } else {
                vec![
                    self.failure
                        .unwrap_or_else(|| "a step failed without saying why".into()),
                ]
            },
            notes: self.notes,
        }
    }
}

/// A line of the bench, by one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// `ours` or `peer`.
    pub side: String,
    /// The job's line, from 1.
    pub line: usize,
    /// Microseconds for all its requests.
    pub us: u64,
}

impl Measured {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        Some(Self {
            side: words.next()?.into(),
            line: words.next()?.parse().ok()?,
            us: words
                .find_map(|word| word.strip_prefix("io_us="))?
                .parse()
                .ok()?,
        })
    }
}

/// The bench as a table: how long each side took for a job's line, and how much of the peer's speed ours is.
pub fn ratios(guest: &str, measured: &[Measured]) -> String {
    // The guest counts lines that do something.
    let lines: Vec<_> = guest
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut text = format!(
        "{:<10} {:>7} {:>6} {:>6} {:>10} {:>10}  speed, ours / peer's\n",
        "request", "bytes", "depth", "count", "ours, us", "peer, us"
    );
    for ours in measured.iter().filter(|one| one.side == "ours") {
        let line = lines.get(ours.line.wrapping_sub(1)).unwrap_or(&"");
        let value = |key: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or("?")
        };
        // The peer reads the same file: its line has the same number, comments counted, so they are matched by order.
        let order = measured
            .iter()
            .filter(|one| one.side == "ours" && one.line < ours.line)
            .count();
        let Some(peer) = measured.iter().filter(|one| one.side == "peer").nth(order) else {
            continue;
        };
        text += &format!(
            "{:<10} {:>7} {:>6} {:>6} {:>10} {:>10}  {:.2}\n",
            value("op"),
            value("chunk"),
            value("depth"),
            value("count"),
            ours.us,
            peer.us,
            peer.us as f64 / ours.us.max(1) as f64
        );
    }
    text
}

/// What ended the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Domain 0 has nothing more to say.
    Done,
    /// The second serial line is a shell now.
    Shell,
}

impl<'a> Session<'a> {
    /// A session whose logs go to `logs`; `say` hears each step; `stop` ends it.
    pub fn new(
        logs: &'a Path,
        limits: Limits,
        stop: &'a AtomicBool,
        say: &'a dyn Fn(&str),
    ) -> Self {
        Self {
            logs,
            limits,
            stop,
            say,
            step: "Xen's start".into(),
            job: None,
            file: None,
            last: Vec::new(),
            verdicts: Vec::new(),
            bench: Vec::new(),
        }
    }

    /// Follows the machine to its end. An error says which step it was, and the last lines.
    pub fn follow(&mut self, events: &Receiver<Event>) -> Result<End> {
        let started = Instant::now();
        let mut heard = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                bail!("stopped while: {}", self.step);
            }
            match events.recv_timeout(Duration::from_millis(200)) {
                Ok(Event::Xen(line)) => {
                    heard = Instant::now();
                    self.console(&line)?;
                }
                Ok(Event::Dom0(line)) => {
                    heard = Instant::now();
                    if let Some(end) = self.dom0(&line)? {
                        return Ok(end);
                    }
                }
                Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.trouble("QEMU ended"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if heard.elapsed() > self.limits.silence {
                let text = format!("nothing was heard for {} s", self.limits.silence.as_secs());
                return Err(self.trouble(&text));
            }
            if started.elapsed() > self.limits.whole {
                let text = format!("the run took longer than {} s", self.limits.whole.as_secs());
                return Err(self.trouble(&text));
            }
        }
    }

    fn console(&mut self, line: &str) -> Result<()> {
        self.remember(line);
        if let Some((_, meaning)) = DISASTERS.iter().find(|(text, _)| line.contains(text)) {
            return Err(self.trouble(meaning));
        }
        Ok(())
    }

    fn dom0(&mut self, line: &str) -> Result<Option<End>> {
        let Some(marker) = line.strip_prefix('@') else {
            match &mut self.file {
                Some((path, file)) => {
                    let line = line.strip_prefix(' ').unwrap_or(line);
                    writeln!(file, "{line}")
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
                None => self.remember(line),
            }
            return Ok(None);
        };
        let (word, rest) = marker.split_once(' ').unwrap_or((marker, ""));
        match word {
            "step" => {
                self.step = match &self.job {
                    Some(job) => format!("{}: {rest}", job.id),
                    None => rest.into(),
                };
                (self.say)(&self.step);
            }
            "job" => self.job(rest),
            "check" => {
                let (held, text) = rest.split_once(' ').unwrap_or((rest, ""));
                if let Some(job) = &mut self.job {
                    if held == "ok" {
                        job.findings.push(text.into());
                    } else {
                        job.failure.get_or_insert_with(|| text.to_owned());
                    }
                }
            }
            "note" => {
                if let Some(job) = &mut self.job {
                    job.notes.push(rest.trim().into());
                }
            }
            "file" => self.open(rest)?,
            "bench" => self.bench.extend(Measured::parse(rest)),
            "end" => self.file = None,
            "lost" => return Err(self.trouble(&format!("domain 0 cannot go on: {rest}"))),
            "shell" => return Ok(Some(End::Shell)),
            "done" => return Ok(Some(End::Done)),
            _ => {}
        }
        Ok(None)
    }

    fn job(&mut self, rest: &str) {
        let (word, id) = rest.split_once(' ').unwrap_or((rest, ""));
        if word == "begin" {
            self.step = format!("{id}: its begin");
            self.job = Some(Running {
                id: id.into(),
                began: Instant::now(),
                findings: Vec::new(),
                notes: Vec::new(),
                failure: None,
            });
            return;
        }
        if let Some(job) = self.job.take() {
            self.verdicts.push(job.ended(word == "ok"));
        }
        self.step = "the next job".into();
    }

    /// A log from domain 0; its name stays below the folder of logs.
    fn open(&mut self, name: &str) -> Result<()> {
        let name: String = name
            .split('/')
            .filter(|part| !part.is_empty() && *part != "..")
            .collect::<Vec<_>>()
            .join("/");
        let path = self.logs.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let file =
            fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        self.file = Some((path, file));
        Ok(())
    }

    fn remember(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.last.len() == 8 {
            self.last.remove(0);
        }
        self.last.push(line.into());
    }

    fn trouble(&mut self, what: &str) -> anyhow::Error {
        if let Some(mut job) = self.job.take() {
            job.failure = Some(format!("{what} during {}", self.step));
            self.verdicts.push(job.ended(false));
        }
        anyhow::anyhow!(
            "{what} during \"{}\"; the log is {}; its last lines:\n  {}",
            self.step,
            self.logs.join("console.log").display(),
            self.last.join("\n  ")
        )
    }
}

/// How much of what a job found its line of the table shows; the report has all of it.
const FOUND: usize = 100;

/// The verdicts as a table, and whether all passed. A failure is shown whole.
pub fn table(verdicts: &[Verdict]) -> (String, bool) {
    let width = verdicts.iter().map(|v| v.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for verdict in verdicts {
        let word = if verdict.passed { "ok" } else { "FAILED" };
        let found = verdict.findings.join("; ");
        let shown: String = match verdict.passed && found.chars().count() > FOUND {
            true => found.chars().take(FOUND).chain("…".chars()).collect(),
            false => found,
        };
        text += &format!(
            "{:<width$}  {word:<6} {:>4.0} s  {shown}\n",
            verdict.id,
            verdict.elapsed.as_secs_f64(),
        );
    }
    (text, verdicts.iter().all(|verdict| verdict.passed))
}

/// The whole of what a run showed, for its folder: Xen's own first lines, and of each job what it found and noted.
pub fn report(console: &str, verdicts: &[Verdict]) -> String {
    let banner = console
        .lines()
        .filter(|line| line.contains("Xen version") || line.contains("Latest ChangeSet"));
    let mut text: String = banner.flat_map(|line| [line, "\n"]).collect();
    for verdict in verdicts {
        let word = if verdict.passed { "ok" } else { "FAILED" };
        text += &format!("\n{} {word}\n", verdict.id);
        for line in verdict.notes.iter().chain(&verdict.findings) {
            text += &format!("  {line}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const QUICK: Limits = Limits {
        silence: Duration::from_millis(300),
        whole: Duration::from_secs(5),
    };

    /// Plays these lines to a session: those that begin with `X ` come from Xen.
    fn play(lines: &[&str], limits: Limits) -> Result<(Result<End>, Vec<Verdict>, String)> {
        let logs = tempfile::tempdir()?;
        let stop = AtomicBool::new(false);
        let (sender, events) = mpsc::channel();
        for line in lines {
            sender.send(match line.strip_prefix("X ") {
                Some(line) => Event::Xen(line.into()),
                None => Event::Dom0((*line).into()),
            })?;
        }
        // A closed channel is QEMU's end.
        drop(sender);
        let mut session = Session::new(logs.path(), limits, &stop, &|_| {});
        let end = session.follow(&events);
        let verdicts = session.verdicts.clone();
        let file = fs::read_to_string(logs.path().join("a/b.log")).unwrap_or_default();
        Ok((end, verdicts, file))
    }

    #[test]
    fn jobs_end_with_what_they_found() -> Result<()> {
        let lines = [
            "@up 10",
            "@job begin read.pvh",
            "@step xl create",
            "@note xvda offers barriers ",
            "@check ok equal",
            "@job ok read.pvh",
            "@job begin write.pvh",
            "@check ok one",
            "@check fail not equal",
            "@file ../a/b.log",
            " @done",
            " more",
            "@end",
            "@job fail write.pvh",
            "@done",
        ];
        let (end, verdicts, file) = play(&lines, QUICK)?;
        assert_eq!(end.ok(), Some(End::Done));
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts[0].passed);
        assert_eq!(verdicts[0].findings, ["equal"]);
        assert_eq!(verdicts[0].notes, ["xvda offers barriers"]);
        assert_eq!(
            report("(XEN) Xen version 4.17.7 (Debian)\nother", &verdicts[..1]),
            "(XEN) Xen version 4.17.7 (Debian)\n\nread.pvh ok\n  xvda offers barriers\n  equal\n"
        );
        assert!(!verdicts[1].passed);
        assert_eq!(verdicts[1].findings, ["not equal"]);
        assert_eq!(file, "@done\nmore\n");
        assert!(!table(&verdicts).1);
        Ok(())
    }

    #[test]
    fn a_panic_of_domain_0_ends_the_run_with_its_step_and_its_last_lines() -> Result<()> {
        let lines = [
            "@job begin read.pvh",
            "@step xl create",
            "X [  3.1] Kernel panic - not syncing: no init",
        ];
        let (end, verdicts, _) = play(&lines, QUICK)?;
        let text = end.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            text.contains("domain 0 panicked during \"read.pvh: xl create\""),
            "{text}"
        );
        assert!(
            text.contains("console.log") && text.contains("no init"),
            "{text}"
        );
        assert!(!verdicts[0].passed);
        Ok(())
    }

    #[test]
    fn silence_ends_the_run() -> Result<()> {
        // The sender lives until the session has ended: a closed channel would be QEMU's end.
        let stop = AtomicBool::new(false);
        let (sender, events) = mpsc::channel();
        sender.send(Event::Dom0("@step xenstored".into()))?;
        let logs = tempfile::tempdir()?;
        let mut session = Session::new(logs.path(), QUICK, &stop, &|_| {});
        let error = session.follow(&events).err().map(|error| error.to_string());
        assert!(
            error.is_some_and(
                |text| text.contains("nothing was heard") && text.contains("xenstored")
            )
        );
        drop(sender);
        Ok(())
    }

    #[test]
    fn the_end_of_qemu_and_a_lost_domain_0_are_named() -> Result<()> {
        let (end, ..) = play(&["@step modules"], QUICK)?;
        assert!(
            end.is_err_and(|error| error.to_string().contains("QEMU ended during \"modules\""))
        );
        let (end, ..) = play(&["@lost xenstored did not start"], QUICK)?;
        assert!(end.is_err_and(|error| error.to_string().contains("xenstored did not start")));
        Ok(())
    }

    #[test]
    fn the_bench_compares_line_by_line() {
        let measured: Vec<_> = [
            "ours 2 requests=10 bytes=40960 io_us=200 us=210",
            "peer 3 requests=10 bytes=40960 io_us=100",
            "nonsense",
        ]
        .iter()
        .filter_map(|line| Measured::parse(line))
        .collect();
        assert_eq!(measured.len(), 2);
        let table = ratios(
            "# two lines\ndisks count=1\nbench op=read chunk=4096 depth=1 count=10\n",
            &measured,
        );
        assert!(
            table
                .lines()
                .last()
                .is_some_and(|line| line.starts_with("read") && line.ends_with("0.50")),
            "{table}"
        );
    }

    #[test]
    fn a_job_whose_end_says_ok_after_a_failed_check_failed() -> Result<()> {
        let (_, verdicts, _) = play(
            &[
                "@job begin a.pvh",
                "@check fail x",
                "@job ok a.pvh",
                "@done",
            ],
            QUICK,
        )?;
        assert!(!verdicts[0].passed);
        Ok(())
    }
}
