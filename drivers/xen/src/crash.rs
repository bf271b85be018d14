//! What is said when Windows stops: to the toolstack that the guest has crashed, to the logs why and where.
//!
//! The guest runs on for a while to write its dump, so the toolstack is told first.

use crate::{log, module, sched};
use core::fmt::{self, Write};
use nt::{BugCheckCallback, Global, Result, try_box};
use xen_abi::sched::SHUTDOWN_CRASH;

struct Crash {
    _callback: BugCheckCallback,
    /// `KiBugCheckData`: code and four parameters. The address, as a number so that it may be shared.
    data: Option<usize>,
}

static CRASH: Global<Crash> = Global::new();

/// Registers for being called. PASSIVE_LEVEL.
pub fn initialise() -> Result<()> {
    let data = nt::system::export("KiBugCheckData").map(|data| data.as_ptr().expose_provenance());
    let crash = Crash {
        _callback: BugCheckCallback::register(c"XEN", stopped)?,
        data,
    };
    // Loaded once, so the place is free.
    let _ = CRASH.set(try_box(crash)?);
    Ok(())
}

pub fn teardown() {
    // SAFETY: what uses it is the callback, which its drop withdraws.
    drop(unsafe { CRASH.take() });
}

/// A line of the log under construction. What does not fit is left out.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.used..).unwrap_or_default();
        for (slot, byte) in room.iter_mut().zip(text.bytes()) {
            *slot = byte;
        }
        self.used += room.len().min(text.len());
        Ok(())
    }
}

fn say(text: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; 256],
        used: 0,
    };
    // Writing to a Line cannot fail.
    let _ = writeln!(line, "xen|crash: {text}");
    log::write(
        log::CRITICAL,
        line.bytes.get(..line.used).unwrap_or_default(),
    );
}

/// Called at HIGH_LEVEL while the machine is stopping.
fn stopped() {
    sched::SchedShutdownCode(SHUTDOWN_CRASH);
    log::enter_crash();
    if let Some(data) = CRASH.get().and_then(|crash| crash.data) {
        let data = core::ptr::with_exposed_provenance::<[usize; 5]>(data);
        // SAFETY: the kernel's variable holds five numbers.
        let [code, first, second, third, fourth] = unsafe { data.read_volatile() };
        say(format_args!(
            "bug check {code:#010x} ({first:#x}, {second:#x}, {third:#x}, {fourth:#x})"
        ));
    }
    let mut frames = [0; 20];
    let count = nt::system::call_stack(&mut frames);
    for frame in frames.iter().take(count) {
        match module::find(*frame) {
            Some((name, offset)) => say(format_args!(
                "{frame:#018x} {} + {offset:#x}",
                module::text(name)
            )),
            None => say(format_args!("{frame:#018x}")),
        }
    }
}
