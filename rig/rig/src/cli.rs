//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, error::ErrorKind};
use log::LevelFilter;

use crate::{
    bench::{self, worker::Worker},
    faults::{Faults, name::Fault},
    nbd::Address,
    nic::{Setting, show::Feature},
    scenario::{Scenario, explore::Explore},
};

/// Boots Windows PV drivers on Linux, against a model of Xen, and uses the disks they serve.
#[derive(Debug, Parser)]
#[command(
    name = "rig",
    bin_name = "./x",
    version,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot the drivers and use their disks.
    ///
    /// Without --disk a demonstration disk is made (out/run/disk.img), written at random and compared.
    /// The images of --disk are only read, unless --nbd lets clients write. Where it can, it has a network card, too.
    Run(Run),
    /// Run scenarios by many seeds, and show which seeds fail.
    Explore(Explore),
    /// Measure what the drivers cost.
    #[command(subcommand)]
    Bench(Bench),
    /// A process of `bench` with one machine.
    #[command(hide = true)]
    Worker(Worker),
    /// Let memory, hypercalls, events, xenstored, power or the backend fail, and see what the drivers do.
    Faults(Faults),
    /// Run the cases of rig-selftest.sys: what the rig's kernel functions do against what is documented.
    Selftest(Selftest),
    /// Print the rules of the verifier, which watches every run.
    Rules,
    /// Show what `run --trace` recorded: every event, one request's way through the layers, or a page for a browser.
    Trace(Trace),
}

/// What `bench` measures.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Requests to a disk: speed, instructions and time in drivers, hypercalls, events, grants, latency.
    ///
    /// All sizes, depths, operations, backends and numbers of CPUs, unless options choose some.
    Disk(bench::Disk),
    /// Frames through a network card: speed, instructions and time in drivers, hypercalls, events, grants.
    ///
    /// All sizes, ways and numbers of queues, unless options choose some. Needs no network.
    Net(bench::net::Net),
}

/// Arguments of `selftest`.
#[derive(Args, Clone, Debug)]
pub struct Selftest {
    /// Only the cases whose group or name contains one of these words.
    #[arg(value_name = "WORD")]
    pub words: Vec<String>,
    /// Virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// Folder with rig-selftest.sys and its INF.
    #[arg(long, value_name = "DIR", default_value = "target/selftest")]
    pub drivers: PathBuf,
    /// Show every case, not only what failed.
    #[arg(long, short)]
    pub verbose: bool,
    /// Add a case that is wrong on purpose, to see that it fails.
    #[arg(long)]
    pub self_check: bool,
    /// Only a bug check on purpose, whose callbacks tell what they saw.
    #[arg(long, conflicts_with_all = ["words", "self_check"])]
    pub bug_check: bool,
    /// What else to tell of: off, error, warn, info (what drivers print), debug, trace.
    #[arg(long, value_name = "LEVEL", default_value = "warn", value_parser = level)]
    pub log: LevelFilter,
}

/// Arguments of `trace`.
#[derive(Args, Clone, Debug)]
pub struct Trace {
    /// The trace.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Draw the way of one request through the layers, with times.
    #[arg(long, value_name = "N", conflicts_with = "summary")]
    pub way: Option<u64>,
    /// Write a page for a browser instead: requests over time, and the way of each.
    #[arg(long, value_name = "PAGE", conflicts_with = "summary")]
    pub html: Option<PathBuf>,
    /// How many events there are of each kind, and the slowest requests.
    #[arg(long)]
    pub summary: bool,
    /// Only what belongs to one disk request.
    #[arg(long, value_name = "N", conflicts_with = "way")]
    pub request: Option<u64>,
    /// Only what belongs to a device: xvda, disk0, its virtual device number, or a device of IRPs by its address.
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Only these classes: name, call, kernel, irp, disk, xen, backend.
    #[arg(long = "class", value_name = "CLASS", value_delimiter = ',', value_parser = class)]
    pub classes: Vec<trace::Class>,
    /// Only what happened on a virtual CPU.
    #[arg(long, value_name = "N")]
    pub cpu: Option<u32>,
    /// Only from this time on, in ms.
    #[arg(long, value_name = "MS")]
    pub from: Option<f64>,
    /// Only until this time, in ms.
    #[arg(long, value_name = "MS")]
    pub to: Option<f64>,
    /// Only lines with this text in them.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["way", "html", "summary"])]
    pub grep: Option<String>,
    /// At most this many events, or requests in a page.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Folder with the drivers' debug information, for names of functions.
    #[arg(long, value_name = "DIR", default_value = "dist/x64")]
    pub drivers: PathBuf,
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// A raw disk image to attach as a PV disk; may be given several times.
    #[arg(long = "disk", value_name = "FILE")]
    pub disks: Vec<PathBuf>,
    /// Serve the disks, as Windows sees them, to NBD clients at HOST:PORT or unix:PATH, until Ctrl-C.
    #[arg(long, value_name = "ADDR")]
    pub nbd: Option<Address>,
    /// Attach a PV network card, with a Linux network stack at each end; needs root. A run without arguments has one if it can.
    #[arg(long, conflicts_with = "seed")]
    pub nic: bool,
    /// Queues that the card's backend offers; by default one for each virtual CPU.
    #[arg(long, value_name = "N", conflicts_with = "seed", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub queues: Option<u32>,
    /// The card's MTU.
    #[arg(long, value_name = "BYTES", conflicts_with = "seed", value_parser = clap::value_parser!(u32).range(1280..=65_000))]
    pub mtu: Option<u32>,
    /// What the card's backend does not offer; may be given several times.
    #[arg(long, value_name = "FEATURE", conflicts_with = "seed")]
    pub without: Vec<Feature>,
    /// Put both network stacks into a VLAN: the frames between them have its tag.
    #[arg(long, value_name = "ID", conflicts_with = "seed", value_parser = clap::value_parser!(u16).range(1..=4094))]
    pub vlan: Option<u16>,
    /// An advanced setting of the card's, by the keyword of its INF; may be given several times.
    #[arg(long = "set", value_name = "KEYWORD=VALUE", conflicts_with = "seed")]
    pub settings: Vec<Setting>,
    /// Pause, replug and migrate so many times while the card is used.
    #[arg(long, value_name = "N", requires = "nic", default_value_t = 0)]
    pub rounds: u32,
    /// Leave the card's two network stacks to your own programs (ip netns exec) until Ctrl-C.
    #[arg(long, requires = "nic", conflicts_with = "nbd")]
    pub keep: bool,
    /// Virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// RAM of the guest in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(64..=3840))]
    pub memory: u64,
    /// What to tell of: off, error, warn, info (what the drivers print), debug, trace.
    #[arg(long, value_name = "LEVEL", default_value = "warn", value_parser = level)]
    pub log: LevelFilter,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Record what happens in every layer (docs/TESTING.md says how it is read).
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Record the calls of kernel functions and the IRQLs, too.
    #[arg(long, requires = "trace")]
    pub trace_calls: bool,
    /// Wait for gdb at a bug check, or before the boot, with the drivers' symbols, lines and call stacks.
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "bugcheck"
    )]
    pub gdb: Option<crate::debugger::When>,
    /// Folder with driver packages: .sys and .inf files. Packages that it lacks are taken from dist/x64.
    #[arg(long, value_name = "DIR", default_value = "dist/x64")]
    pub drivers: PathBuf,
    /// Run on one host thread in virtual time, with every choice made by this seed: the same seed does the same again.
    #[arg(long, value_name = "N", conflicts_with = "nbd")]
    pub seed: Option<u64>,
    /// Run a scenario on a machine of its own instead; needs --seed.
    #[arg(long, value_name = "NAME", requires = "seed", conflicts_with_all = ["disks", "json", "memory", "seconds", "gdb"])]
    pub scenario: Option<Scenario>,
    /// Something that goes wrong on the way (./x faults list has the names); may be given several times.
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<Fault>,
    /// Faults that the seed draws.
    #[arg(long = "faults", requires = "seed")]
    pub draw_faults: bool,
    /// How long the random I/O lasts, in the machine's time.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, conflicts_with = "nbd", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub seconds: u64,
}

/// The arguments of this process. What is wrong with them is said in one line, and ends the process with exit code 2.
pub fn parse() -> Cli {
    let wrong = |what: &str| -> ! {
        eprintln!("rig: {what}; --help lists what there is");
        std::process::exit(2)
    };
    match Cli::try_parse() {
        Ok(cli) => match cli.contradiction() {
            None => cli,
            Some(what) => wrong(what),
        },
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => wrong(&first_paragraph(&error.to_string())),
        },
    }
}

/// The first paragraph of a message of clap's, without its mark, as one line.
fn first_paragraph(message: &str) -> String {
    let lines = message.lines().take_while(|line| !line.is_empty());
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let text = words.join(" ");
    text.strip_prefix("error: ")
        .map(str::to_owned)
        .unwrap_or(text)
}

impl Cli {
    /// Values that cannot be meant together; which options exclude each other, the arguments themselves say.
    fn contradiction(&self) -> Option<&'static str> {
        match &self.command {
            Command::Run(run) if run.json.is_some() && run.json == run.trace => {
                Some("--json and --trace name the same file")
            }
            Command::Explore(explore) if explore.first.checked_add(explore.seeds).is_none() => {
                Some("--first and --seeds go beyond the last seed")
            }
            Command::Trace(trace)
                if trace.from.zip(trace.to).is_some_and(|(from, to)| from > to) =>
            {
                Some("--from is later than --to")
            }
            _ => None,
        }
    }
}

/// A level by its name.
pub fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| "a level is off, error, warn, info, debug or trace".to_owned())
}

fn class(text: &str) -> Result<trace::Class, String> {
    use trace::Class;
    match text {
        "name" => Ok(Class::Name),
        "call" => Ok(Class::Call),
        "kernel" => Ok(Class::Kernel),
        "irp" => Ok(Class::Irp),
        "disk" => Ok(Class::Disk),
        "xen" => Ok(Class::Xen),
        "backend" => Ok(Class::Backend),
        "net" => Ok(Class::Net),
        _ => Err("a class is name, call, kernel, irp, disk, xen, backend or net".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &str) -> String {
        let cli = Cli::try_parse_from(arguments.split(' '));
        match cli {
            Ok(cli) => cli.contradiction().expect(arguments).to_owned(),
            Err(error) => first_paragraph(&error.to_string()),
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (arguments, line) in [
            (
                "rig run --seed 1 --nbd 127.0.0.1:0",
                "the argument '--seed <N>' cannot be used with '--nbd <ADDR>'",
            ),
            (
                "rig run --scenario io",
                "the following required arguments were not provided: --seed <N>",
            ),
            ("rig trace a --from 3 --to 2", "--from is later than --to"),
        ] {
            assert_eq!(refused(arguments), line);
        }
        let many = refused("rig run --cpus none");
        assert!(
            many.starts_with("invalid value 'none' for '--cpus <N>'"),
            "{many}"
        );
        assert!(!many.contains('\n'));
    }
}
