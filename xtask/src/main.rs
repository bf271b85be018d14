//! The project's own commands, started by `./x`.
//!
//! Each command is one module; `run` and `build` are what a user needs, `test` is what a change must pass.

mod breaker;
mod clean;
mod drivers;
mod end_to_end;
mod fuzz;
mod image;
mod inf;
mod panics;
mod process;
mod reproduce;
mod rig;
mod seal;
mod selftest;
mod test;
mod toolchain;
mod xen;
mod xen_guest;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// winpv: Xen's Windows PV drivers in Rust, and a rig on Linux that runs them.
#[derive(Parser)]
#[command(name = "x", bin_name = "./x", disable_help_subcommand = true)]
#[command(
    after_help = "./x setup brings the toolchain and the tests' tools without building anything.\n\
    Output: dist/x64/ (the drivers), out/ (logs, the demonstration disk), target/ (cargo's)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the drivers and the rig, boot the drivers in it, and use the disk they serve.
    ///
    /// Without arguments: makes a small disk image, boots, does verified I/O, compares the image, and says what it saw.
    /// Arguments go to the rig; `./x run --help` lists them (--disk, --nbd, --cpus, --log, --json, --drivers).
    #[command(disable_help_flag = true)]
    Run {
        /// Arguments for the rig.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run scenarios by many seeds, and show which seeds fail and how to see them again.
    ///
    /// Arguments go to the rig; `./x explore --help` lists them (--scenario, --seeds, --first, --cpus, --jobs).
    #[command(disable_help_flag = true)]
    Explore {
        /// Arguments for the rig.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the drivers and the rig, and measure what the drivers cost: `./x bench disk`.
    ///
    /// Arguments go to the rig; `./x bench disk --help` lists them (--drivers, --json, --quick, and which rows).
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments for the rig.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Let memory, hypercalls, events, xenstored, power or the backend fail, and see what the drivers do.
    ///
    /// Arguments go to the rig; `./x faults --help` lists them (list, run, alloc, hypercall, event, store, act, hostile).
    #[command(disable_help_flag = true)]
    Faults {
        /// Arguments for the rig.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the self-test driver and run its cases in the rig: the kernel functions against their documentation.
    ///
    /// Words choose cases; `./x selftest --help` lists the options.
    #[command(disable_help_flag = true)]
    Selftest {
        /// Arguments for the rig.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print the rules of the rig's verifier, which watches every run.
    Rules {
        /// Instead, build a driver that breaks them, and check that each breach is found and named.
        #[arg(long = "break")]
        breaks: bool,
    },
    /// Show what `./x run --trace FILE` recorded: events, one request's way through the layers, a page for a browser.
    #[command(disable_help_flag = true)]
    Trace {
        /// Arguments for the rig; `./x trace --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the drivers into dist/x64: .sys, .inf and .pdb.
    Build,
    /// Check the whole project: format, lints, tests, images, reproducible build, end-to-end runs.
    ///
    /// The last line is "N passed, N failed"; the exit code is 0 when nothing failed.
    Test(test::Options),
    /// Build the kernel that runs the drivers as a guest of a real Xen, and its boot module for a job.
    ///
    /// Writes target/xen-guest/: xen-guest.elf (xl's kernel= of a PVH domain), xen-guest-hvm.elf (firmware_override= of an
    /// HVM one) and job.cpio (ramdisk=, or bios_path_override=). docs/XEN.md has the job's steps.
    XenGuest {
        /// The job: a file with a step per line.
        job: PathBuf,
    },
    /// Run the drivers on a real Xen in QEMU, with Linux's backends, job by job.
    ///
    /// No hardware virtualisation is needed. Debian's packages of Xen are fetched by name, once; nothing of Xen is installed.
    /// Logs are in out/xen/.
    Xen(xen::Options),
    /// Let libFuzzer look for images and INF files at which the rig's loader or parser stumbles.
    Fuzz(fuzz::Options),
    /// Check the driver images in dist/x64 (a stage of `test`).
    CheckImages,
    /// Remove everything that was built: target/, dist/, out/.
    Clean,
    /// Show this help.
    Help,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { arguments } => rig::run("run", rig::Profile::Fast, &arguments),
        Command::Explore { arguments } => rig::run("explore", rig::Profile::Fast, &arguments),
        Command::Selftest { arguments } => selftest::run(&arguments),
        Command::Bench { arguments } => rig::bench(&arguments),
        Command::Faults { arguments } => rig::run("faults", rig::Profile::Checked, &arguments),
        Command::Rules { breaks: false } => rig::rules(),
        Command::Rules { breaks: true } => breaker::check(),
        Command::Trace { arguments } => rig::trace(&arguments),
        Command::Build => drivers::build_and_say(),
        Command::Test(options) => return test::run(&options),
        Command::XenGuest { job } => xen_guest::build_and_say(&job),
        Command::Xen(options) => xen::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::CheckImages => image::check_all_and_say(),
        Command::Clean => clean::run(),
        Command::Help => {
            use clap::CommandFactory;
            Cli::command().print_long_help().map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("x: {error:#}");
            ExitCode::FAILURE
        }
    }
}
