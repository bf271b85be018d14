//! `./x test`: everything a change must pass, stage by stage, with one summary.
//!
//! Every stage runs, whatever happened before it, unless it needs what an earlier one failed to make.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    breaker, drivers, end_to_end, fuzz, image,
    process::{self, Outcome},
    reproduce, rig, selftest,
    toolchain::{Toolchain, root},
    xen,
};

/// The crate of drivers/ that is built for the host: what the drivers' build scripts use.
const HOST_CRATE: &str = "driver-build@";
/// The crates of rig/ that are built for Windows: drivers.
const DRIVER_CRATES: [&str; 2] = ["rig-selftest@", "rig-breaker@"];

/// Options of `./x test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only the stages whose name contains one of these words.
    stages: Vec<String>,
    /// List the stages and end.
    #[arg(long)]
    list: bool,
}

/// What a stage found.
struct Report {
    passed: usize,
    failed: usize,
    /// What to show besides the numbers: a remark, or the output that explains a failure.
    text: String,
}

impl Report {
    fn passed(text: String) -> Self {
        Self {
            passed: 1,
            failed: 0,
            text,
        }
    }

    fn failed(text: String) -> Self {
        Self {
            passed: 0,
            failed: 1,
            text,
        }
    }

    /// A program that only succeeds or fails.
    fn of_program(outcome: Outcome) -> Self {
        if outcome.success {
            Self::passed(String::new())
        } else {
            Self::failed(outcome.output)
        }
    }

    /// A run of cargo's test harness, counted by the lines `test result: …`.
    fn of_harness(outcome: Outcome) -> Self {
        let (mut passed, mut failed) = (0, 0);
        for line in outcome
            .output
            .lines()
            .filter(|line| line.starts_with("test result:"))
        {
            let words: Vec<_> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let number = pair[0].parse::<usize>().unwrap_or(0);
                match pair[1] {
                    "passed;" => passed += number,
                    "failed;" => failed += number,
                    _ => {}
                }
            }
        }
        if outcome.success {
            Self {
                passed,
                failed,
                text: String::new(),
            }
        } else {
            Self {
                passed,
                failed: failed.max(1),
                text: outcome.output,
            }
        }
    }
}

struct Stage {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<Report>,
}

const STAGES: &[Stage] = &[
    Stage {
        name: "format",
        what: "cargo fmt",
        run: format,
    },
    Stage {
        name: "lint host",
        what: "clippy on everything that runs on Linux",
        run: lint_host,
    },
    Stage {
        name: "lint windows",
        what: "clippy on the drivers and the kernel interface",
        run: lint_windows,
    },
    Stage {
        name: "lint kernel",
        what: "clippy on the kernel that runs the drivers on a real Xen",
        run: lint_kernel,
    },
    Stage {
        name: "build",
        what: "the drivers and the rig",
        run: build,
    },
    Stage {
        name: "unit",
        what: "unit, property and rig tests",
        run: unit,
    },
    Stage {
        name: "fuzz",
        what: "any bytes as frames, as a network backend's acts, as requests to an adapter, a minute each",
        run: fuzz,
    },
    Stage {
        name: "images",
        what: "headers, imports, exports, resources of the .sys files",
        run: images,
    },
    Stage {
        name: "reproducible",
        what: "a second build has the same bytes",
        run: reproducible,
    },
    Stage {
        name: "selftest",
        what: "the rig's kernel functions against their documentation, on 1 and 2 CPUs",
        run: self_test,
    },
    Stage {
        name: "runs",
        what: "whole runs of the rig",
        run: || end_to_end(end_to_end::runs),
    },
    Stage {
        name: "explore",
        what: "the same seed twice, and scenarios by many seeds",
        run: || end_to_end(end_to_end::explore),
    },
    Stage {
        name: "faults",
        what: "shortages, errors, lost events, power, hostile backends",
        run: || end_to_end(end_to_end::faults),
    },
    Stage {
        name: "bad input",
        what: "what must be refused in one line",
        run: || end_to_end(end_to_end::bad_input),
    },
    Stage {
        name: "bench",
        what: "what requests cost the drivers, as far as it is exact",
        run: || end_to_end(end_to_end::bench),
    },
    Stage {
        name: "debugger",
        what: "gdb on the drivers",
        run: || end_to_end(end_to_end::debugger),
    },
    Stage {
        name: "tools",
        what: "Debian's NBD tools on the served disk",
        run: || end_to_end(end_to_end::tools),
    },
    Stage {
        name: "net",
        what: "two Linux network stacks through the drivers: ping, iperf3, curl, what happens to cards",
        run: || network(end_to_end::net),
    },
    Stage {
        name: "xen",
        what: "the drivers on a real Xen in QEMU, with Linux's backends",
        run: xen,
    },
    Stage {
        name: "xen bad input",
        what: "a real Xen without QEMU or packages, and QEMU that fails or hangs",
        run: || end_to_end(end_to_end::no_xen),
    },
];

/// Stages that take long, and run only if they are named.
const LONG_STAGES: &[Stage] = &[Stage {
    name: "net-whole",
    what: "1 GiB by curl, a hundred rounds of pause, replug and migration under iperf3",
    run: || network(end_to_end::net_whole),
}];

/// Runs the stages and says what came of them.
pub(crate) fn run(options: &Options) -> ExitCode {
    if options.list {
        for stage in STAGES {
            println!("{:<14} {}", stage.name, stage.what);
        }
        for stage in LONG_STAGES {
            println!("{:<14} {} (only by its whole name)", stage.name, stage.what);
        }
        return ExitCode::SUCCESS;
    }
    let wanted = |stage: &&Stage| {
        options.stages.is_empty()
            || options
                .stages
                .iter()
                .any(|word| stage.name.contains(word.as_str()))
    };
    let started = Instant::now();
    let (mut passed, mut failed, mut ran) = (0, 0, 0);
    let named = |stage: &&Stage| options.stages.iter().any(|word| stage.name == word);
    let short = STAGES.iter().filter(wanted);
    for stage in short.chain(LONG_STAGES.iter().filter(named)) {
        let began = Instant::now();
        let report = (stage.run)().unwrap_or_else(|error| Report::failed(format!("{error:#}\n")));
        passed += report.passed;
        failed += report.failed;
        ran += 1;
        print(stage, &report, began.elapsed());
    }
    if ran == 0 {
        println!("no stage has such a name; ./x test --list names them");
        return ExitCode::FAILURE;
    }
    println!("{:.0} s", started.elapsed().as_secs_f64());
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(stage: &Stage, report: &Report, elapsed: Duration) {
    let verdict = if report.failed == 0 { "ok" } else { "FAILED" };
    let remark = if report.failed == 0 {
        report.text.trim()
    } else {
        ""
    };
    println!(
        "{:<14} {verdict:<6} {:>4} passed {:>3} failed {:>5.0} s  {remark}",
        stage.name,
        report.passed,
        report.failed,
        elapsed.as_secs_f64(),
    );
    if report.failed != 0 {
        println!("---- {}: out/log has the whole of it", stage.name);
        print!("{}", report.text);
        println!("----");
    }
}

fn format() -> Result<Report> {
    let mut command = Toolchain::current().cargo("fmt");
    process::run("format", command.args(["--all", "--check"])).map(Report::of_program)
}

fn lint_host() -> Result<Report> {
    let mut command = Toolchain::current().cargo("clippy");
    process::run(
        "lint host",
        command.args(["--all-targets", "--", "-Dwarnings"]),
    )
    .map(Report::of_program)
}

fn lint_windows() -> Result<Report> {
    let mut command = Toolchain::current().cargo_for_windows("clippy");
    // The drivers' own profile: without unwinding, as they are built.
    command.args(["--profile", "driver"]);
    for name in crates_in("nt")?.into_iter().chain(crates_in("drivers")?) {
        if !name.starts_with(HOST_CRATE) {
            command.args(["--package", &name]);
        }
    }
    for name in crates_in("rig")? {
        if is_driver(&name) {
            command.args(["--package", &name]);
        }
    }
    process::run("lint windows", command.args(["--", "-Dwarnings"])).map(Report::of_program)
}

/// Whether a crate of rig/, as cargo names it with its version, is a driver.
fn is_driver(name: &str) -> bool {
    DRIVER_CRATES.iter().any(|driver| name.starts_with(driver))
}

fn lint_kernel() -> Result<Report> {
    let mut command = Toolchain::current().cargo_for_kernel("clippy");
    process::run("lint kernel", command.args(["--", "-Dwarnings"])).map(Report::of_program)
}

fn unit() -> Result<Report> {
    let mut command = Toolchain::current().cargo("test");
    command.arg("--no-fail-fast");
    for folder in ["abi", "core", "rig"] {
        for name in crates_in(folder)? {
            if !is_driver(&name) {
                command.args(["--package", &name]);
            }
        }
    }
    // Of the kernel interface, what has no kernel below it.
    command.args([
        "--package",
        "nt-sys",
        "--package",
        "nt",
        "--package",
        "ndis",
    ]);
    command.args(["--package", "driver-build", "--package", "xtask"]);
    process::run("unit", &mut command).map(Report::of_harness)
}

fn fuzz() -> Result<Report> {
    let Some(found) = fuzz::stage()? else {
        return Ok(Report {
            passed: 0,
            failed: 0,
            text: "SKIPPED: there is no g++".to_owned(),
        });
    };
    let failures: Vec<_> = found
        .iter()
        .filter_map(|target| target.failure.as_deref())
        .collect();
    Ok(Report {
        passed: found.len() - failures.len(),
        failed: failures.len(),
        text: failures.join("\n"),
    })
}

fn build() -> Result<Report> {
    breaker::build()?;
    rig::build_everything(rig::Profile::Checked)?;
    Ok(Report::passed(String::new()))
}

fn images() -> Result<Report> {
    let problems = image::check_all()?;
    let failed = problems.len();
    Ok(Report {
        passed: drivers::DRIVERS.len().saturating_sub(failed),
        failed,
        text: problems.join("\n") + "\n",
    })
}

fn reproducible() -> Result<Report> {
    reproduce::check().map(Report::passed)
}

fn self_test() -> Result<Report> {
    let found = selftest::check()?;
    Ok(Report {
        passed: found.passed,
        failed: found.failed,
        text: found.text,
    })
}

fn network(checks: fn() -> std::result::Result<end_to_end::Outcome, String>) -> Result<Report> {
    Ok(match checks() {
        Ok(outcome) => of_checks(outcome),
        Err(why) => Report {
            passed: 0,
            failed: 0,
            text: format!("SKIPPED: {why}"),
        },
    })
}

fn end_to_end(checks: fn() -> end_to_end::Outcome) -> Result<Report> {
    Ok(of_checks(checks()))
}

fn of_checks(outcome: end_to_end::Outcome) -> Report {
    Report {
        passed: outcome.passed,
        failed: outcome.failures.len(),
        text: outcome
            .failures
            .iter()
            .map(|failure| format!("{failure}\n"))
            .collect(),
    }
}

fn xen() -> Result<Report> {
    Ok(match xen::stage()? {
        xen::Stage::Ran {
            passed,
            failed,
            table,
        } => Report {
            passed,
            failed,
            text: if failed == 0 { String::new() } else { table },
        },
        xen::Stage::Skipped(why) => Report {
            passed: 0,
            failed: 0,
            text: format!("SKIPPED: {why}"),
        },
    })
}

/// The crates of a folder of the workspace, as cargo's `--package` takes them; each has its folder's name.
fn crates_in(folder: &str) -> Result<Vec<String>> {
    let path = root().join(folder);
    let entries = fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            let name = entry.file_name();
            // With its version: other people's crates may have the same name.
            names.push(format!("{}@{}", name.display(), env!("CARGO_PKG_VERSION")));
        }
    }
    names.sort();
    Ok(names)
}
