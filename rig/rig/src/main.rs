//! The rig's program.

use std::process::ExitCode;

use log::LevelFilter;
use rig::{
    bench::{self, worker},
    cli::{self, Bench, Command},
    faults, logger, placement, rules, run,
    scenario::explore,
    selftest, view,
};

fn main() -> ExitCode {
    let passed = match cli::parse().command {
        Command::Run(options) => {
            logger::start(options.log);
            if options.seed.is_some() {
                placement::fix();
            }
            run::run(&options).map_err(|error| error.to_string())
        }
        Command::Explore(options) => {
            placement::fix();
            logger::start(LevelFilter::Off);
            explore::run(&options).map_err(|error| error.to_string())
        }
        Command::Bench(Bench::Disk(options)) => bench::disk(&options)
            .map(|()| true)
            .map_err(|error| error.to_string()),
        Command::Bench(Bench::Net(options)) => bench::net::net(&options)
            .map(|()| true)
            .map_err(|error| error.to_string()),
        Command::Worker(options) => {
            logger::start(LevelFilter::Warn);
            worker::run(&options)
                .map(|()| true)
                .map_err(|error| error.to_string())
        }
        Command::Selftest(options) => {
            logger::start(options.log);
            selftest::run(&options).map_err(|error| error.to_string())
        }
        Command::Faults(options) => {
            logger::start(options.log);
            faults::run(&options).map_err(|error| error.to_string())
        }
        Command::Rules => {
            print!("{}", rules::list());
            Ok(true)
        }
        Command::Trace(options) => view::run(&options)
            .map(|()| true)
            .map_err(|error| error.to_string()),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rig: {error}");
            ExitCode::FAILURE
        }
    }
}
