//! The job: what the boot module asks for, step by step. Runs in a thread of the executive.
//!
//! ```text
//!   archive: *.inf, *.sys ─> packages, PnP ─> disks
//!            job ─> step, step, … ─> "ok N …" or "fail N …" ─> everything removed, leaks ─> "done passed|failed"
//! ```

mod bench;
mod disk;
mod load;
mod machine;
mod queue;
mod store;
mod transfer;

use alloc::string::{String, ToString};
use core::sync::atomic::Ordering;

use nt_host::ke::wait::delay;
use xen_guest::archive::File;
use xen_guest::step::{self, Step};

use crate::pci::Platform;
use crate::{clock, end, platform, report};

/// 100 ns units in a second.
pub const SECOND: u64 = 10_000_000;
/// How long a wait is without `within=`, in seconds.
const WITHIN: u64 = 60;

/// What a step found: `key=value` pairs, or why it failed.
type Outcome = Result<String, String>;

/// Runs the job and ends the machine.
pub fn run(files: &[File<'static>], pci: Platform) {
    let verdict = match whole(files, pci) {
        Ok(()) => end::Verdict::Passed,
        Err(why) => {
            report!("fail {why}");
            end::Verdict::Failed
        }
    };
    end::now(verdict)
}

/// The whole job. A failure starts with the step's number; 0 is what comes before the first one.
fn whole(files: &[File<'static>], pci: Platform) -> Result<(), String> {
    let job = files
        .iter()
        .find(|file| file.name == "job")
        .ok_or("0 no job in the boot module")?;
    let text = core::str::from_utf8(job.bytes).map_err(|_| "0 the job is no text")?;
    let steps = step::parse(text).map_err(|why| alloc::format!("0 {why}"))?;
    let before = |why| alloc::format!("0 {why}");
    // A job for the kernel alone needs no drivers.
    let drivers = machine::stage(files).map_err(before)?;
    if drivers {
        machine::start(pci);
    }
    let mut last = 0;
    for step in &steps {
        last = step.number;
        let started = clock::interrupt_time();
        let found =
            one(step).map_err(|why| alloc::format!("{} {} {why}", step.number, step.word))?;
        let us = (clock::interrupt_time() - started) / 10;
        let blank = if found.is_empty() { "" } else { " " };
        report!("ok {} {}{blank}{found} us={us}", step.number, step.word);
    }
    if drivers {
        machine::tear_down().map_err(|why| alloc::format!("{} end {why}", last + 1))?;
    }
    Ok(())
}

fn one(step: &Step) -> Outcome {
    match step.word.as_str() {
        "disks" => machine::wait_for_disks(step),
        "gone" => machine::wait_until_gone(step),
        "await" => machine::wait_for_event(step),
        "tree" => machine::tree(step),
        "read" => transfer::read(step),
        "write" => transfer::write(step),
        "verify" => transfer::verify(step),
        "flush" => transfer::flush(step),
        "discard" => transfer::discard(step),
        "load" => load::run(step),
        "bench" => bench::run(step),
        "log" => {
            step.knows(&["level"])?;
            platform::LEVEL.store(step.wanted("level")? as u32, Ordering::Relaxed);
            Ok(String::new())
        }
        "sleep" => {
            step.knows(&["ms"])?;
            delay(step.wanted("ms")?.saturating_mul(10_000));
            Ok(String::new())
        }
        "threads" => machine::threads(step),
        "break" => machine::break_down(step),
        "say" => {
            report!("say {}", step.rest());
            Ok(String::new())
        }
        other => Err(alloc::format!("there is no step {other}")),
    }
}

/// When a step's patience ends, in interrupt time.
fn deadline(step: &Step) -> Result<u64, String> {
    let seconds = step.number("within")?.unwrap_or(WITHIN);
    Ok(clock::interrupt_time().saturating_add(seconds.saturating_mul(SECOND)))
}

/// Looks every 20 ms whether something has happened, until the deadline.
fn wait_until(end: u64, what: &str, mut happened: impl FnMut() -> bool) -> Result<(), String> {
    while !happened() {
        if clock::interrupt_time() > end {
            return Err(what.to_string());
        }
        delay(SECOND / 50);
    }
    Ok(())
}
