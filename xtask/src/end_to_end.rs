//! Whole runs of the rig as a user starts it: the demonstration, Debian's NBD tools against the served disk, bad input.
//!
//! Each check is a function with a name that reads like a sentence; it gets a folder of its own.

mod bad_input;
mod bench;
mod debugger;
mod explore;
mod faults;
mod net;
mod serve;
mod tools;
mod xen;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{drivers, rig, toolchain::root};

/// A check: its name, and what it does.
pub(crate) struct Check {
    pub name: &'static str,
    pub run: fn(&Folder) -> Result<()>,
}

/// What came of the checks: how many passed, and the failures.
pub(crate) struct Outcome {
    pub passed: usize,
    pub failures: Vec<String>,
}

/// Runs and demonstrations.
pub(crate) fn runs() -> Outcome {
    run_all(&[
        Check {
            name: "a run without arguments passes",
            run: demonstration,
        },
        Check {
            name: "a run on two CPUs passes",
            run: demonstration_on_two_cpus,
        },
        Check {
            name: "images that are given are read and not changed",
            run: given_images,
        },
        Check {
            name: "a run is traced and its requests are followed",
            run: traced,
        },
        Check {
            name: "Ctrl-C ends a served disk in order",
            run: serve::interrupted,
        },
    ])
}

/// The seeded machine.
pub(crate) fn explore() -> Outcome {
    run_all(explore::CHECKS)
}

/// Faults and hostile backends.
pub(crate) fn faults() -> Outcome {
    run_all(faults::CHECKS)
}

/// gdb on a machine.
pub(crate) fn debugger() -> Outcome {
    run_all(debugger::CHECKS)
}

/// Debian's tools.
pub(crate) fn tools() -> Outcome {
    run_all(tools::CHECKS)
}

/// Two network stacks through the drivers; why there can be none, if so.
pub(crate) fn net() -> std::result::Result<Outcome, String> {
    net::impossible().map_or_else(|| Ok(run_all(net::CHECKS)), Err)
}

/// The same at full length.
pub(crate) fn net_whole() -> std::result::Result<Outcome, String> {
    net::impossible().map_or_else(|| Ok(run_all(net::WHOLE)), Err)
}

/// Measurements.
pub(crate) fn bench() -> Outcome {
    run_all(bench::CHECKS)
}

/// What must be refused.
pub(crate) fn bad_input() -> Outcome {
    run_all(bad_input::CHECKS)
}

/// A real Xen where it cannot be had.
pub(crate) fn no_xen() -> Outcome {
    run_all(xen::CHECKS)
}

fn run_all(checks: &[Check]) -> Outcome {
    let mut outcome = Outcome {
        passed: 0,
        failures: Vec::new(),
    };
    for check in checks {
        let result = Folder::new(check.name).and_then(|folder| {
            (check.run)(&folder)?;
            folder.remove()
        });
        match result {
            Ok(()) => outcome.passed += 1,
            Err(error) => outcome.failures.push(format!("{}: {error:#}", check.name)),
        }
    }
    outcome
}

/// A folder under out/ for the files of one check; it stays if the check fails.
pub(crate) struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = root().join("out/check").join(name.replace(' ', "-"));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.0).map_err(Into::into)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file in it whose bytes depend on its name and no two sectors of which are alike.
    pub fn image(&self, name: &str, bytes: usize) -> Result<PathBuf> {
        let path = self.path(name);
        let mut state = name
            .bytes()
            .fold(0x9E37_79B9_7F4A_7C15, |state: u64, byte| {
                state.rotate_left(8) ^ u64::from(byte)
            });
        let mut content = Vec::with_capacity(bytes);
        while content.len() < bytes {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            content.extend_from_slice(&state.to_le_bytes());
        }
        content.truncate(bytes);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// A program that has ended.
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
}

/// `rig run` with the built drivers.
pub(crate) fn rig_run() -> Command {
    let mut command = Command::new(rig::program());
    command
        .current_dir(root())
        .arg("run")
        .arg("--drivers")
        .arg(drivers::dist());
    command
}

/// Runs a program to its end, at most so long.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> Result<Ended> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let read = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                // What could be read until then is what there is to show.
                let _ = stream.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let output = read(child.stdout.take().map(|stream| Box::new(stream) as _));
    let errors = read(child.stderr.take().map(|stream| Box::new(stream) as _));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            let (output, errors) = (
                output.join().unwrap_or_default(),
                errors.join().unwrap_or_default(),
            );
            bail!(
                "{name} did not end within {} s\n{output}{errors}",
                limit.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(20));
    };
    Ok(Ended {
        status,
        output: output.join().unwrap_or_default(),
        errors: errors.join().unwrap_or_default(),
    })
}

/// Runs a program that must succeed.
pub(crate) fn succeed(command: &mut Command, limit: Duration) -> Result<String> {
    let ended = finish(command, limit)?;
    ensure!(
        ended.status.success(),
        "{command:?} failed: {}\n{}{}",
        ended.status,
        ended.output,
        ended.errors
    );
    Ok(ended.output)
}

const RUN: Duration = Duration::from_secs(120);

fn demonstration(folder: &Folder) -> Result<()> {
    let json = folder.path("report.json");
    let output = succeed(rig_run().arg("--seconds=2").arg("--json").arg(&json), RUN)?;
    ensure!(
        output
            .trim_end()
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("OK: 1 disk")),
        "{output}"
    );
    let report = fs::read_to_string(&json)?;
    ensure!(report.contains("\"passed\": true"), "{report}");
    Ok(())
}

fn demonstration_on_two_cpus(_: &Folder) -> Result<()> {
    succeed(rig_run().args(["--cpus=2", "--seconds=2"]), RUN).map(drop)
}

fn given_images(folder: &Folder) -> Result<()> {
    let (first, second) = (
        folder.image("first.img", 8 << 20)?,
        folder.image("second.img", 3 << 20)?,
    );
    let before = (fs::read(&first)?, fs::read(&second)?);
    let output = succeed(
        rig_run()
            .args(["--seconds=1", "--disk"])
            .arg(&first)
            .arg("--disk")
            .arg(&second),
        RUN,
    )?;
    ensure!(output.contains("OK: 2 disks"), "{output}");
    ensure!(
        before == (fs::read(&first)?, fs::read(&second)?),
        "an image has changed"
    );
    Ok(())
}

/// Every request of a trace ends, and one of them is followed through every layer, in a terminal and in a page.
fn traced(folder: &Folder) -> Result<()> {
    let (image, trace) = (folder.image("disk.img", 1 << 20)?, folder.path("run.trace"));
    succeed(
        rig_run()
            .arg("--seconds=1")
            .arg("--disk")
            .arg(&image)
            .arg("--trace")
            .arg(&trace),
        RUN,
    )?;
    let view = |arguments: &[&str]| {
        let mut command = Command::new(rig::program());
        succeed(command.arg("trace").arg(&trace).args(arguments), RUN)
    };
    let summary = view(&["--summary"])?;
    ensure!(summary.contains(" requests ended, 0 are open"), "{summary}");
    let reads = view(&[
        "--device=xvda",
        "--class=disk",
        "--grep=READ(10)",
        "--limit=1",
    ])?;
    let request = reads
        .split_once("request ")
        .and_then(|(_, rest)| rest.split_once(':'))
        .with_context(|| format!("no read: {reads}"))?
        .0;
    let way = view(&["--way", request])?;
    for word in [
        "READ(10) of xvda",
        "HwStartIo",
        "takes read",
        "answers okay",
        "xenbus.sys!",
        "completed: success",
    ] {
        ensure!(way.contains(word), "no {word:?} in:\n{way}");
    }
    let page = folder.path("page.html");
    let path = page.to_str().context("a name")?;
    view(&["--html", path])?;
    let page = fs::read_to_string(&page)?;
    ensure!(
        page.contains(&format!("\"request\":{request},")),
        "the page lacks request {request}"
    );
    Ok(())
}

/// Compares two files byte for byte.
pub(crate) fn same(a: &Path, b: &Path) -> Result<()> {
    ensure!(
        fs::read(a)? == fs::read(b)?,
        "{} and {} differ",
        a.display(),
        b.display()
    );
    Ok(())
}
