//! Lines on standard error, and the last ones kept for the report of a bug check.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{Mutex, PoisonError},
};

use log::{LevelFilter, Log, Metadata, Record};

/// Lines kept.
const KEPT: usize = 200;

struct Logger {
    level: LevelFilter,
    kept: Mutex<VecDeque<String>>,
}

static LOGGER: std::sync::OnceLock<Logger> = std::sync::OnceLock::new();

/// Shows lines up to `level` from now on; once in a process.
pub fn start(level: LevelFilter) {
    let logger = LOGGER.get_or_init(|| Logger {
        level,
        kept: Mutex::default(),
    });
    if log::set_logger(logger).is_ok() {
        // What is not shown is still kept, down to what drivers print.
        log::set_max_level(level.max(LevelFilter::Info));
    }
}

/// The last lines that were not shown, oldest first.
pub fn hidden() -> Vec<String> {
    let Some(logger) = LOGGER.get() else {
        return Vec::new();
    };
    logger
        .kept
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .drain(..)
        .collect()
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= self.level.max(LevelFilter::Info)
    }

    fn log(&self, record: &Record) {
        // Other crates' talk is of interest to their authors.
        if !record.target().starts_with("rig") {
            return;
        }
        if record.level() <= self.level {
            // One write for a line, so that lines of several threads stay whole. Nobody to tell if it fails.
            let line = format!(
                "{:<5} {}\n",
                record.level().as_str().to_lowercase(),
                record.args()
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(record.args().to_string());
    }

    fn flush(&self) {}
}
