//! gdb on the drivers: a breakpoint in one, and the stack of a bug check.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use object::{LittleEndian, read::pe::PeFile64};

use super::{
    Check, Folder,
    bad_input::{packages_with, rig_run_without_drivers},
    finish, rig_run,
};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "gdb stops in a driver, and sees functions and lines",
        run: breakpoint,
    },
    Check {
        name: "gdb comes to a bug check, and sees its stack",
        run: bug_check,
    },
];

const LIMIT: Duration = Duration::from_secs(120);

/// A rig that waits for gdb; it ends with this value.
struct Waiting {
    rig: Child,
    commands: PathBuf,
}

impl Waiting {
    fn start(folder: &Folder, command: &mut Command) -> Result<Self> {
        let log = folder.path("errors");
        let mut rig = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let started = Instant::now();
        // "  gdb -p NUMBER -x FILE"
        let commands = loop {
            let text = fs::read_to_string(&log)?;
            if let Some((_, file)) = text.split_once(" -x ")
                && let Some((file, _)) = file.split_once('\n')
            {
                break PathBuf::from(file);
            }
            if rig.try_wait()?.is_some() || started.elapsed() > LIMIT {
                // Ended already, or ended now.
                let _ = rig.kill();
                bail!("it does not wait for gdb:\n{text}");
            }
            thread::sleep(Duration::from_millis(20));
        };
        Ok(Self { rig, commands })
    }

    /// What gdb says to its commands.
    fn gdb(&self, commands: &[&str]) -> Result<String> {
        let mut gdb = Command::new("gdb");
        gdb.args(["-nx", "-batch", "-p", &self.rig.id().to_string(), "-x"]);
        gdb.arg(&self.commands);
        for command in commands {
            gdb.args(["-ex", command]);
        }
        let ended = finish(&mut gdb, LIMIT)?;
        Ok(ended.output + &ended.errors)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.rig.kill();
        let _ = self.rig.wait();
    }
}

fn has(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "no {word:?} in:\n{text}");
    }
    Ok(())
}

fn breakpoint(folder: &Folder) -> Result<()> {
    let image = folder.image("disk.img", 1 << 20)?;
    let waiting = Waiting::start(folder, rig_run().args(["--gdb=boot", "--disk"]).arg(image))?;
    let said = waiting.gdb(&[
        "break xenvbd::connection::Connection::lend",
        "continue",
        "backtrace",
        "list",
        "kill",
    ])?;
    has(
        &said,
        &[
            "hit Breakpoint",
            "xenvbd::connection::Connection::connect () at /winpv/drivers/xenvbd/src/connection.rs:",
            "nt::thread::run<xenvbd::disk",
            "rig/nt-host/src/ke/thread.rs:",
            "fn lend(&mut self",
        ],
    )
}

/// Where in the file the first instruction is.
fn entry_point(bytes: &[u8]) -> Result<usize> {
    let file = PeFile64::parse(bytes)?;
    let header = file.nt_headers().optional_header;
    let rva = header.address_of_entry_point.get(LittleEndian);
    let (offset, _) = file
        .section_table()
        .pe_file_range_at(rva)
        .context("an entry point in a section")?;
    Ok(offset as usize)
}

fn bug_check(folder: &Folder) -> Result<()> {
    let packages = packages_with(folder, "xenvbd.sys", |mut bytes| {
        let entry = entry_point(&bytes)?;
        let code = bytes.get_mut(entry..entry + 2).context("an entry point")?;
        // int 29h: a driver's fast fail.
        code.copy_from_slice(&[0xCD, 0x29]);
        Ok(bytes)
    })?;
    let mut command = rig_run_without_drivers();
    command.args(["--gdb", "--drivers"]).arg(packages);
    let waiting = Waiting::start(folder, &mut command)?;
    let said = waiting.gdb(&["kill"])?;
    has(
        &said,
        &["SIGTRAP", "xenvbd::DriverEntry ()", "at_bug_check ()"],
    )
}
