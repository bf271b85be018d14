//! `./x xen` where it cannot work: no QEMU, packages that cannot be fetched, a QEMU that fails or hangs. Nothing is booted;
//! the image is there from the stage before.

use std::{
    env, fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Check, Folder, finish};
use crate::{toolchain::root, xen};

/// The drivers and the guest kernel are built before QEMU starts.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "a real Xen without QEMU",
        run: no_qemu,
    },
    Check {
        name: "a real Xen whose packages cannot be fetched",
        run: no_packages,
    },
    Check {
        name: "a real Xen whose QEMU fails",
        run: failing_qemu,
    },
    Check {
        name: "a real Xen whose QEMU hangs, and Ctrl-C",
        run: hanging_qemu,
    },
];

/// `./x xen hello` with this folder before all others in the search path, and its own logs.
fn command(folder: &Folder, programs: &Path) -> Result<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = [programs.to_owned()]
        .into_iter()
        .chain(env::split_paths(&path));
    let mut command = Command::new(env::current_exe().context("this program")?);
    command
        .current_dir(root())
        .args(["xen", "hello", "--logs"])
        .arg(folder.path("logs"))
        .env("PATH", env::join_paths(all)?);
    // One that fails, or hangs, is not asked for its version.
    let qemu = programs.join(xen::QEMU);
    if qemu.exists() {
        command.env(xen::CHOSEN, qemu);
    }
    Ok(command)
}

/// A program of this name, a shell script.
fn script(folder: &Folder, name: &str, text: &str) -> Result<PathBuf> {
    let programs = folder.path("bin");
    fs::create_dir_all(&programs)?;
    let path = programs.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(programs)
}

/// It must fail with a message that has these words.
fn refuses(command: &mut Command, words: &[&str]) -> Result<()> {
    let ended = finish(command, LIMIT)?;
    ensure!(
        ended.status.code().is_some_and(|code| code != 0),
        "{}:\n{}{}",
        ended.status,
        ended.output,
        ended.errors
    );
    for word in words {
        ensure!(
            ended.errors.contains(word),
            "no {word:?} in: {}",
            ended.errors
        );
    }
    Ok(())
}

fn no_qemu(folder: &Folder) -> Result<()> {
    let programs = folder.path("bin");
    fs::create_dir_all(&programs)?;
    let mut command = command(folder, &programs)?;
    command.env("PATH", &programs);
    refuses(&mut command, &["there is no qemu-system-x86_64 here"])
}

fn no_packages(folder: &Folder) -> Result<()> {
    if xen::missing().is_some() {
        // Then it is that message which is shown; see above.
        return Ok(());
    }
    let programs = script(folder, "apt-get", "echo E: no route to host >&2; exit 100")?;
    let cache = folder.path("cache");
    refuses(
        command(folder, &programs)?.env("XDG_CACHE_HOME", &cache),
        &["making Xen's image", "no route to host"],
    )?;
    let left = fs::read_dir(cache.join("winpv")).map_or(0, Iterator::count);
    ensure!(left == 0, "{left} folders are left in the cache");
    Ok(())
}

fn failing_qemu(folder: &Folder) -> Result<()> {
    if xen::missing().is_some() {
        return Ok(());
    }
    let programs = script(folder, xen::QEMU, "echo no such machine >&2; exit 1")?;
    refuses(
        &mut command(folder, &programs)?,
        &["QEMU ended at its start", "no such machine", "qemu.log"],
    )
}

fn hanging_qemu(folder: &Folder) -> Result<()> {
    if xen::missing().is_some() {
        return Ok(());
    }
    let number = folder.path("number");
    let text = format!(
        "echo $$ >{0}.new; mv {0}.new {0}; exec sleep 600",
        number.display()
    );
    let programs = script(folder, xen::QEMU, &text)?;
    let mut child = command(folder, &programs)?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let until = |is_so: &mut dyn FnMut() -> Result<bool>| -> Result<bool> {
        let began = Instant::now();
        while !is_so()? {
            if began.elapsed() > LIMIT {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    };
    let started = until(&mut || Ok(number.exists() || child.try_wait()?.is_some()))?;
    // As the terminal does for Ctrl-C.
    let asked = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()?;
    let ended = until(&mut || Ok(child.try_wait()?.is_some()))?;
    if !(started && asked.success() && ended) {
        child.kill()?;
        child.wait()?;
        bail!("started: {started}, asked: {asked}, ended: {ended}");
    }
    let mut errors = String::new();
    if let Some(mut stream) = child.stderr.take() {
        stream.read_to_string(&mut errors)?;
    }
    ensure!(!child.wait()?.success(), "it succeeded");
    ensure!(errors.contains("stopped while QEMU started"), "{errors}");
    let qemu = fs::read_to_string(&number).context("QEMU did not start")?;
    let left = Path::new("/proc").join(qemu.trim());
    ensure!(!left.exists(), "process {} is left", qemu.trim());
    Ok(())
}
