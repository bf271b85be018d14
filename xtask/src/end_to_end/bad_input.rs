//! What a user or a client can get wrong: one line that names it, a failing exit where it ends the run, no panic.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{Check, Folder, finish, rig_run, serve::Served, succeed};
use crate::{drivers, rig};

const LIMIT: Duration = Duration::from_secs(60);

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "an image that is missing, empty, odd or a folder",
        run: images,
    },
    Check {
        name: "a driver that is no image",
        run: not_an_image,
    },
    Check {
        name: "a driver for another machine",
        run: another_machine,
    },
    Check {
        name: "a driver with an unknown import",
        run: unknown_import,
    },
    Check {
        name: "a folder without drivers",
        run: no_drivers,
    },
    Check {
        name: "an NBD address that is taken",
        run: busy_address,
    },
    Check {
        name: "arguments that make no sense",
        run: arguments,
    },
    Check {
        name: "a trace that is none, cut off or has no such request",
        run: traces,
    },
    Check {
        name: "NBD clients that vanish, lie and send garbage",
        run: clients,
    },
];

/// The rig must fail with one line that contains all these words.
fn refuses(command: &mut Command, words: &[&str]) -> Result<()> {
    let ended = finish(command, LIMIT)?;
    let errors = ended.errors.trim_end();
    ensure!(!ended.status.success(), "it succeeded:\n{}", ended.output);
    ensure!(
        ended.status.code().is_some(),
        "it was killed: {}\n{errors}",
        ended.status
    );
    ensure!(errors.lines().count() == 1, "not one line:\n{errors}");
    ensure!(!errors.contains("panicked"), "{errors}");
    for word in words {
        ensure!(errors.contains(word), "no {word:?} in: {errors}");
    }
    Ok(())
}

fn images(folder: &Folder) -> Result<()> {
    let missing = folder.path("missing.img");
    let empty = folder.path("empty.img");
    fs::write(&empty, [])?;
    let odd = folder.path("odd.img");
    fs::write(&odd, [0; 1025])?;
    let nested = folder.path("folder");
    fs::create_dir(&nested)?;
    for (path, words) in [
        (&missing, "no such file"),
        (&empty, "empty"),
        (&odd, "1025 bytes are not a multiple of 512"),
        (&nested, "not a file"),
    ] {
        let name = path.display().to_string();
        refuses(rig_run().arg("--disk").arg(path), &[&name, words])?;
    }
    Ok(())
}

/// A copy of the packages in which one driver is something else.
pub(super) fn packages_with(
    folder: &Folder,
    name: &str,
    change: impl FnOnce(Vec<u8>) -> Result<Vec<u8>>,
) -> Result<PathBuf> {
    let copy = folder.path("drivers");
    fs::create_dir(&copy)?;
    for entry in fs::read_dir(drivers::dist())? {
        let path = entry?.path();
        fs::copy(
            &path,
            copy.join(path.file_name().context("a file has a name")?),
        )?;
    }
    let changed = change(fs::read(copy.join(name))?)?;
    fs::write(copy.join(name), changed)?;
    Ok(copy)
}

fn refuses_packages(packages: &Path, words: &[&str]) -> Result<()> {
    refuses(
        rig_run_without_drivers().arg("--drivers").arg(packages),
        words,
    )
}

pub(super) fn rig_run_without_drivers() -> Command {
    let mut command = Command::new(crate::rig::program());
    command.current_dir(crate::toolchain::root()).arg("run");
    command
}

fn not_an_image(folder: &Folder) -> Result<()> {
    let packages = packages_with(
        folder,
        "xenvbd.sys",
        |_| Ok(b"#!/bin/sh\nexit 0\n".to_vec()),
    )?;
    refuses_packages(&packages, &["xenvbd.sys", "not a PE image"])
}

fn another_machine(folder: &Folder) -> Result<()> {
    let packages = packages_with(folder, "xenbus.sys", |mut bytes| {
        let header = bytes
            .get(0x3C..0x40)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes);
        let machine = header.context("no PE header")? as usize + 4;
        // IMAGE_FILE_MACHINE_ARM64.
        bytes[machine..machine + 2].copy_from_slice(&0xAA64u16.to_le_bytes());
        Ok(bytes)
    })?;
    refuses_packages(&packages, &["xenbus.sys", "0xaa64"])
}

fn unknown_import(folder: &Folder) -> Result<()> {
    let packages = packages_with(folder, "xen.sys", |mut bytes| {
        let name = b"KeBugCheckEx\0";
        let at = bytes
            .windows(name.len())
            .position(|window| window == name)
            .context("no such import")?;
        bytes[at..at + name.len()].copy_from_slice(b"KeBrewCoffee\0");
        Ok(bytes)
    })?;
    refuses_packages(&packages, &["xen.sys", "KeBrewCoffee", "ntoskrnl.exe"])
}

fn no_drivers(folder: &Folder) -> Result<()> {
    let empty = folder.path("nothing");
    fs::create_dir(&empty)?;
    refuses_packages(&empty, &["nothing", "no .inf or .sys files"])?;
    refuses_packages(&folder.path("nowhere"), &["nowhere", "No such file"])
}

fn busy_address(_: &Folder) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    refuses(rig_run().args(["--nbd", &address]), &[&address, "in use"])
}

fn arguments(_: &Folder) -> Result<()> {
    for (arguments, word) in [
        (&["--cpus=0"][..], "--cpus"),
        (&["--cpus=many"], "--cpus"),
        (&["--nbd=nowhere"], "HOST:PORT"),
        (&["--log=loud"], "level"),
        (
            &["--json=/nonexistent/report.json"],
            "/nonexistent/report.json",
        ),
    ] {
        let ended = finish(rig_run().args(arguments), LIMIT)?;
        ensure!(!ended.status.success(), "{arguments:?} succeeded");
        ensure!(
            ended.errors.contains(word) && !ended.errors.contains("panicked"),
            "{}",
            ended.errors
        );
    }
    Ok(())
}

fn traces(folder: &Folder) -> Result<()> {
    let show = |file: &Path| {
        let mut command = Command::new(rig::program());
        command.arg("trace").arg(file);
        command
    };
    let text = folder.path("text");
    fs::write(&text, "What happened?")?;
    refuses(&mut show(&text), &["text", "not a trace"])?;
    // The file's start: its mark, version 1, one CPU, no seed, four words of 0 (rig/trace/src/record.rs).
    let mut bytes = b"winpvtrc".to_vec();
    for word in [1, 1, u64::MAX, 0, 0, 0, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let empty = folder.path("empty");
    fs::write(&empty, &bytes)?;
    refuses(show(&empty).args(["--way", "3"]), &["request 3"])?;
    bytes.extend_from_slice(&[0; 5]);
    let cut = folder.path("cut");
    fs::write(&cut, &bytes)?;
    refuses(&mut show(&cut), &["damaged"])?;
    refuses(&mut show(&folder.path("missing")), &["missing"])
}

/// The client's part up to the first request: `IHAVEOPT`, NBD_OPT_EXPORT_NAME of the default disk.
fn connect(uri: &str) -> Result<TcpStream> {
    let address = uri.strip_prefix("nbd://").context("a TCP address")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.read_exact(&mut [0; 18])?;
    stream.write_all(&[0, 0, 0, 3])?;
    stream.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0")?;
    stream.read_exact(&mut [0; 10])?;
    Ok(stream)
}

fn request(command: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(command.to_be_bytes());
    bytes.extend(7u64.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn clients(folder: &Folder) -> Result<()> {
    let image = folder.image("disk.img", 4 << 20)?;
    let before = fs::read(&image)?;
    let served = Served::start(&[&image], &[])?;

    // In the middle of a write: its data never comes.
    let mut client = connect(&served.uri)?;
    client.write_all(&request(1, 0, 65536))?;
    client.write_all(&[0xAA; 1000])?;
    drop(client);

    // With many reads that nobody waits for.
    let mut client = connect(&served.uri)?;
    for number in 0..64 {
        client.write_all(&request(0, number * 65536 % (3 << 20), 65536))?;
    }
    drop(client);

    // Beyond the end: an error reply, and the connection goes on.
    let mut client = connect(&served.uri)?;
    for offset in [4 << 20, u64::MAX - 511] {
        client.write_all(&request(0, offset, 512))?;
        let mut reply = [0; 16];
        client.read_exact(&mut reply)?;
        ensure!(
            reply[4..8] == 22u32.to_be_bytes(),
            "no EINVAL for a read at {offset}"
        );
    }

    // Garbage, before and after the handshake.
    let mut garbage = connect(&served.uri)?;
    garbage.write_all(&[0x5A; 4096])?;
    let address = served.uri.trim_start_matches("nbd://");
    TcpStream::connect(address)?.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    if !matches!(garbage.read(&mut [0; 16]), Ok(0) | Err(_)) {
        bail!("garbage was answered");
    }

    let copy = folder.path("copy.img");
    succeed(Command::new("nbdcopy").arg(&served.uri).arg(&copy), LIMIT)?;
    served.stop()?;
    ensure!(
        fs::read(&copy)? == before && fs::read(&image)? == before,
        "the disk has changed"
    );
    Ok(())
}
