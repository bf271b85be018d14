//! Runs a program with its output in a log and one living line on the terminal.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, IsTerminal, Write},
    process::{Command, Stdio},
    sync::{
        LazyLock,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::toolchain::root;

/// What a finished program left.
pub(crate) struct Outcome {
    /// Whether it exited with 0.
    pub success: bool,
    /// Everything it wrote, both streams, in the order of arrival.
    pub output: String,
}

/// Runs `command`; the log is out/log/`name`.log.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<Outcome> {
    let folder = root().join("out/log");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{}.log", name.replace(' ', "-")));
    let mut log =
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(log, "# {command:?}")?;

    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let (sender, lines) = mpsc::channel::<String>();
    let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
        child.stdout.take().map(|s| Box::new(s) as _),
        child.stderr.take().map(|s| Box::new(s) as _),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                // A closed channel means nobody waits for this output any more.
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        });
    }
    drop(sender);

    let bar = spinner(name);
    let mut output = String::new();
    let mut pulse = Pulse::new();
    loop {
        match lines.recv_timeout(pulse.left()) {
            Ok(line) => {
                log.write_all(line.as_bytes())?;
                bar.set_message(format!("{name}: {}", line.trim()));
                output.push_str(&line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        pulse.beat(name, output.lines().next_back().unwrap_or_default());
    }
    let status = child.wait()?;
    bar.finish_and_clear();
    Ok(Outcome {
        success: status.success(),
        output,
    })
}

/// As `run`; a program that fails is an error with its output shown.
pub(crate) fn expect(name: &str, command: &mut Command) -> Result<Outcome> {
    let outcome = run(name, command)?;
    if !outcome.success {
        eprint!("{}", outcome.output);
        anyhow::bail!("{name} failed");
    }
    Ok(outcome)
}

/// Shows where there is no terminal that a long program goes on: a line now and then.
struct Pulse {
    start: Instant,
    next: Instant,
}

impl Pulse {
    const PERIOD: Duration = Duration::from_secs(20);

    fn new() -> Self {
        let start = Instant::now();
        Self {
            start,
            next: start + Self::PERIOD,
        }
    }

    /// The time until the next line is due.
    fn left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    fn beat(&mut self, name: &str, last: &str) {
        if !self.left().is_zero() {
            return;
        }
        self.next = Instant::now() + Self::PERIOD;
        if !std::io::stderr().is_terminal() {
            let seconds = self.start.elapsed().as_secs();
            eprintln!("{name}: {seconds} s  {}", last.trim());
        }
    }
}

/// Several programs may run at a time, each with a line of its own.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A line on the terminal that shows that something goes on; nothing where there is no terminal.
pub(crate) fn spinner(name: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = BARS.add(ProgressBar::new_spinner().with_message(name.to_owned()));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
