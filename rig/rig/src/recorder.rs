//! Writes what happens in the machine to the file of `--trace`.
//!
//! Each virtual CPU fills a buffer of its own, other threads share one; a full buffer goes to the file as a whole. A
//! seeded machine, which does one thing at a time, fills one buffer in order.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use nt_host::{ke, trace};
use trace::{Event, Recorder, record};

use crate::platform::Linux;

/// Words of a buffer that is written: 512 KiB.
const FULL: usize = 1 << 16;

struct Writer {
    machine: &'static Linux,
    /// By CPU; the last one is everybody else's.
    buffers: Vec<Mutex<Vec<u64>>>,
    file: Mutex<File>,
}

static WRITER: OnceLock<Writer> = OnceLock::new();

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records events of `classes` in `file` from now on; once in a process.
pub fn start(
    machine: &'static Linux,
    mut file: File,
    classes: u32,
    seed: Option<u64>,
) -> io::Result<()> {
    let cpus = nt_host::Platform::cpus(machine);
    file.write_all(&bytes(&record::header(cpus, seed)))?;
    let count = if seed.is_some() { 1 } else { cpus as usize + 1 };
    let writer = Writer {
        machine,
        buffers: (0..count).map(|_| Mutex::default()).collect(),
        file: Mutex::new(file),
    };
    if WRITER.set(writer).is_ok()
        && let Some(writer) = WRITER.get()
    {
        trace::start(writer, classes);
    }
    Ok(())
}

/// Writes what is still in the buffers; events after this are lost.
pub fn finish() -> io::Result<()> {
    trace::stop();
    let Some(writer) = WRITER.get() else {
        return Ok(());
    };
    for buffer in &writer.buffers {
        // A thread that a bug check stopped may have its buffer locked for good.
        if let Ok(mut words) = buffer.try_lock() {
            writer.write(&mut words)?;
        }
    }
    lock(&writer.file).flush()
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Writer {
    fn write(&self, words: &mut Vec<u64>) -> io::Result<()> {
        let result = lock(&self.file).write_all(&bytes(words));
        words.clear();
        result
    }
}

impl Recorder for Writer {
    fn record(&self, event: &Event<'_>) {
        let cpu = nt_host::Platform::current_cpu(self.machine);
        let thread = cpu.map_or(0, |cpu| u64::from(ke::thread::number_on(cpu)));
        let index = cpu.map_or(usize::MAX, |cpu| cpu as usize);
        let last = self.buffers.len() - 1;
        let mut words = lock(&self.buffers[index.min(last)]);
        let time = self.machine.nanoseconds();
        record::put(&mut words, event, time, cpu, thread);
        if words.len() >= FULL && self.write(&mut words).is_err() {
            // A full disk ends the trace, not the run; the file shows it.
            trace::stop();
        }
    }
}
