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
use crate::{drivers, rig, toolchain::root};

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
        name: "INF files whose sections are missing or need each other",
        run: inf_files,
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
        name: "options that contradict each other",
        run: contradictions,
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
    command.current_dir(root()).arg("run");
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

/// The examples of the fuzz target that are wrong, and an odd encoding.
fn inf_files(folder: &Folder) -> Result<()> {
    let corpus = root().join("fuzz/corpus/inf");
    let utf16 = |text: &str| -> Vec<u8> {
        let units = [0xfeff].into_iter().chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    };
    let circle = fs::read_to_string(corpus.join("needs-in-a-circle.inf"))?;
    let files = [
        ("needs-in-a-circle.inf", None, ["line 21", "in turn"]),
        ("includes-another.inf", None, ["line 16", "machine.inf"]),
        ("needs-nothing.inf", None, ["line 16", "[Nothing]"]),
        ("utf16.inf", Some(utf16(&circle)), ["line 21", "in turn"]),
        (
            "no-mark.inf",
            Some(utf16(&circle)[2..].to_vec()),
            ["line 1", "NUL"],
        ),
        (
            "odd.inf",
            Some(utf16(&circle)[..101].to_vec()),
            ["odd number", "bytes"],
        ),
    ];
    for (name, bytes, words) in files {
        let packages = folder.path(name);
        fs::create_dir(&packages)?;
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => fs::read(corpus.join(name))?,
        };
        fs::write(packages.join(name), bytes)?;
        refuses_packages(&packages, &[name, words[0], words[1]])?;
    }
    Ok(())
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
        refuses(rig_run().args(arguments), &[word])?;
    }
    Ok(())
}

/// What cannot be meant, in every command: refused in a line that names both.
fn contradictions(folder: &Folder) -> Result<()> {
    let cases: &[(&str, &[&str])] = &[
        ("run --seed=1 --nbd=127.0.0.1:0", &["--seed", "--nbd"]),
        ("run --scenario=io", &["--seed"]),
        (
            "run --scenario=io --seed=1 --disk=a.img",
            &["--scenario", "--disk"],
        ),
        (
            "run --scenario=io --seed=1 --memory=512",
            &["--scenario", "--memory"],
        ),
        (
            "run --scenario=io --seed=1 --seconds=9",
            &["--scenario", "--seconds"],
        ),
        ("run --scenario=io --seed=1 --gdb", &["--scenario", "--gdb"]),
        ("run --nbd=127.0.0.1:0 --seconds=9", &["--nbd", "--seconds"]),
        ("run --trace-calls", &["--trace"]),
        (
            "run --json=out/same --trace=out/same",
            &["--json", "--trace", "same"],
        ),
        ("explore --seeds=0", &["--seeds"]),
        (
            "explore --first=18446744073709551615 --seeds=2",
            &["--first", "--seeds"],
        ),
        (
            "faults alloc --parallel --seed=3",
            &["--parallel", "--seed"],
        ),
        ("faults hostile --list --jobs=2", &["--list", "--jobs"]),
        ("trace a --from=9 --to=3", &["--from", "--to"]),
        ("trace a --request=3 --way=4", &["--request", "--way"]),
        ("selftest --cpus=0", &["--cpus"]),
        ("brew coffee", &["brew"]),
    ];
    for (arguments, words) in cases {
        let mut command = Command::new(rig::program());
        command.current_dir(root()).args(arguments.split(' '));
        refuses(&mut command, words).with_context(|| format!("rig {arguments}"))?;
    }
    // One file by two names.
    fs::write(folder.path("a.img"), [0; 4096])?;
    let mut command = rig_run();
    command.arg("--disk").arg(folder.path("a.img"));
    command.arg("--disk").arg(folder.path("./a.img"));
    refuses(&mut command, &["a.img", "twice"])
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
