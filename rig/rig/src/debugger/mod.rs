//! `--gdb`: a debugger that attaches to the rig sees the drivers as it sees any program: functions, lines, call stacks.
//!
//! ```text
//!   xenvbd.pdb ── lines ──┐
//!                         ├─▶ object: an ELF file in memory, at the image's address ──▶ jit ──▶ gdb
//!   xenvbd.sys ── frames ─┘
//! ```
//! gdb reads neither .pdb nor .pdata, but it asks each process for code that was made at run time. The machine waits for
//! it before the boot, or when it has ended by a bug check, with the stack as it was.

mod frames;
mod jit;
mod lines;
mod object;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use crate::platform::symbols::Symbols;

/// When the machine waits for gdb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Before the boot.
    Boot,
    /// At a bug check.
    Bugcheck,
}

/// Set when gdb is wanted.
static WANTED: OnceLock<When> = OnceLock::new();

/// Has gdb told of every image from now on.
pub fn enable(when: When) {
    WANTED.get_or_init(|| when);
}

/// Whether gdb may come.
pub fn is_wanted() -> bool {
    WANTED.get().is_some()
}

/// How long it waits. A debugger that comes later finds nothing to debug.
const PATIENCE: Duration = Duration::from_secs(600);
/// gdb's commands, where the project's other output is.
const COMMANDS: &str = "out/run/gdb.commands";

/// What gdb is told first: the rig emulates privileged instructions by signals, which are nobody's business, and the
/// images name their sources as the build did (docs/BUILD.md).
fn commands(when: When, root: &Path) -> String {
    let root = root.display();
    let start = format!(
        "set pagination off\n\
         set confirm off\n\
         set breakpoint pending on\n\
         handle SIGSEGV SIGILL SIGUSR2 nostop noprint pass\n\
         set substitute-path /winpv {root}\n"
    );
    match when {
        When::Boot => start,
        // The process traps in the thread that had the bug check.
        When::Bugcheck => start + "continue\nbacktrace\n",
    }
}

/// Makes an image known to gdb, if one is wanted: it is loaded at `base`, and `symbols` knows of it. An image without usable
/// debug information has call stacks at least.
pub fn announce(image: &str, base: u64, symbols: &Symbols) {
    if !is_wanted() {
        return;
    }
    let Some(pdb) = symbols.file(image) else {
        return;
    };
    let Some(bytes) = nt_host::pe::modules::file(image) else {
        return;
    };
    let tell = || match object::make(image, base, &bytes, &pdb, &symbols.all(image)) {
        Ok(object) => jit::register(object),
        Err(error) => log::warn!("gdb learns nothing of {image}: {error}"),
    };
    // Images are loaded by NT threads, whose stacks are as small as Windows' are.
    thread::scope(|scope| {
        scope.spawn(tell);
    });
}

/// The machine is there; a debugger that is to see the whole boot is waited for.
pub fn before_boot() -> io::Result<()> {
    match WANTED.get() {
        Some(When::Boot) => wait(When::Boot),
        _ => Ok(()),
    }
}

/// The machine has ended by a bug check on this thread.
pub fn at_bug_check() {
    if is_wanted()
        && let Err(error) = wait(When::Bugcheck)
    {
        eprintln!("gdb: {error}");
    }
}

/// Waits until gdb has attached, and says how it does.
fn wait(when: When) -> io::Result<()> {
    let root = std::env::current_dir()?;
    let file = PathBuf::from(COMMANDS);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&file, commands(when, &root))?;
    jit::let_anyone_attach()?;
    let what = match when {
        When::Boot => "before the boot; set breakpoints (break xenvbd::…), then continue",
        When::Bugcheck => "in the bug check",
    };
    eprintln!(
        "gdb: waiting {what}\n  gdb -p {} -x {}",
        process::id(),
        root.join(&file).display()
    );
    let started = Instant::now();
    while tracer()? == 0 {
        if started.elapsed() > PATIENCE {
            eprintln!("gdb: nobody came in {} s", PATIENCE.as_secs());
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    if when == When::Bugcheck {
        jit::trap();
    }
    Ok(())
}

/// The process that debugs this thread, since gdb attaches to one after the other; 0 if none does (proc(5): `TracerPid`).
fn tracer() -> io::Result<u32> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(line
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0))
}
