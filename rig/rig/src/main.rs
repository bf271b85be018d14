//! The rig's program.

use std::process::ExitCode;

use clap::Parser;
use rig::{
    cli::{Cli, Command},
    logger, run,
};

fn main() -> ExitCode {
    let Command::Run(options) = Cli::parse().command;
    logger::start(options.log);
    match run::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rig: {error}");
            ExitCode::FAILURE
        }
    }
}
