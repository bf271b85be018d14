//! Programs that know nothing of this project use the served disk: libnbd, QEMU, fio, and the makers of
//! file systems.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{Check, Folder, same, serve::Served, succeed};

const LIMIT: Duration = Duration::from_secs(120);

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "nbdinfo sees every disk with its size",
        run: nbdinfo,
    },
    Check {
        name: "qemu-img copies an image out of and into the disk",
        run: convert,
    },
    Check {
        name: "qemu-io reads the patterns it wrote",
        run: patterns,
    },
    Check {
        name: "fio verifies random I/O of mixed sizes",
        run: fio_one_cpu,
    },
    Check {
        name: "fio verifies on two CPUs over several connections",
        run: fio_two_cpus,
    },
    Check {
        name: "an ext4 file system made through nbdfuse is sound",
        run: ext4,
    },
    Check {
        name: "a file copied into NTFS through nbdfuse is in the image",
        run: ntfs,
    },
];

fn nbdinfo(folder: &Folder) -> Result<()> {
    let (first, second) = (
        folder.image("a.img", 4 << 20)?,
        folder.image("b.img", 1 << 20)?,
    );
    let served = Served::start(&[&first, &second], &[])?;
    let list = succeed(
        Command::new("nbdinfo").arg("--list").arg(&served.uri),
        LIMIT,
    )?;
    for words in [
        "export=\"disk0\"",
        "export=\"disk1\"",
        "export-size: 4194304",
        "export-size: 1048576",
    ] {
        ensure!(list.contains(words), "no {words} in\n{list}");
    }
    served.stop().map(drop)
}

fn convert(folder: &Folder) -> Result<()> {
    let source = folder.image("source.img", 64 << 20)?;
    let disk = folder.path("disk.img");
    fs::File::create(&disk)?.set_len(64 << 20)?;
    let back = folder.path("back.img");
    let served = Served::start(&[&disk], &[])?;
    let qemu = |arguments: &[&str], from: &Path, to: &Path| {
        let mut command = Command::new("qemu-img");
        command
            .arg("convert")
            .args(arguments)
            .args(["-f", "raw", "-O", "raw"])
            .arg(from)
            .arg(to);
        succeed(&mut command, LIMIT)
    };
    let uri = Path::new(&served.uri);
    qemu(&["-n"], &source, uri)?;
    qemu(&[], uri, &back)?;
    served.stop()?;
    same(&source, &back)?;
    same(&source, &disk)
}

fn patterns(folder: &Folder) -> Result<()> {
    let disk = folder.path("disk.img");
    fs::File::create(&disk)?.set_len(16 << 20)?;
    let served = Served::start(&[&disk], &[])?;
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]);
    for step in [
        "write -P 0x11 0 64k",
        "write -P 0x22 512 512",
        "write -f -P 0x33 1M 2M",
        "write -z 2M 512k",
        "flush",
        "read -P 0x11 0 512",
        "read -P 0x22 512 512",
        "read -P 0x11 1024 63k",
        "read -P 0x33 1M 1M",
        "read -P 0 2M 512k",
        "aio_write -P 0x44 4M 1M",
        "aio_write -P 0x55 5M 1M",
        "aio_flush",
        "read -P 0x44 4M 1M",
        "read -P 0x55 5M 1M",
    ] {
        command.args(["-c", step]);
    }
    let output = succeed(command.arg(&served.uri), LIMIT)?;
    ensure!(!output.contains("verification failed"), "{output}");
    served.stop()?;
    let image = fs::read(&disk)?;
    ensure!(
        image[512..1024].iter().all(|byte| *byte == 0x22),
        "the image does not hold what was written"
    );
    Ok(())
}

fn fio_one_cpu(folder: &Folder) -> Result<()> {
    fio(folder, &["--cpus=1"], 1)
}

fn fio_two_cpus(folder: &Folder) -> Result<()> {
    fio(folder, &["--cpus=2"], 4)
}

fn fio(folder: &Folder, arguments: &[&str], jobs: u32) -> Result<()> {
    let size = 64 << 20;
    let disk = folder.path("disk.img");
    fs::File::create(&disk)?.set_len(size)?;
    let served = Served::start(&[&disk], arguments)?;
    let each = size / u64::from(jobs);
    let mut command = Command::new("fio");
    command
        .current_dir(folder.path(""))
        .args([
            "--name=verify",
            "--ioengine=nbd",
            "--rw=randrw",
            "--bsrange=4k-256k",
            "--iodepth=16",
        ])
        .args([
            "--verify=crc32c",
            "--verify_fatal=1",
            "--time_based",
            "--runtime=6",
        ])
        .args([format!("--uri={}", served.uri), format!("--numjobs={jobs}")])
        .args([
            format!("--size={each}"),
            format!("--offset_increment={each}"),
        ]);
    let output = succeed(&mut command, LIMIT)?;
    ensure!(output.contains("err= 0"), "{output}");
    served.stop().map(drop)
}

fn ext4(folder: &Folder) -> Result<()> {
    let Some(disk) = through_nbdfuse(folder, make_ext4)? else {
        return Ok(());
    };
    succeed(Command::new("e2fsck").args(["-f", "-n"]).arg(&disk), LIMIT).map(drop)
}

/// mkntfs and ntfscp write parts of blocks, which the disk takes whole only.
fn ntfs(folder: &Folder) -> Result<()> {
    let Some(disk) = through_nbdfuse(folder, make_ntfs)? else {
        return Ok(());
    };
    let output = Command::new("ntfscat")
        .args([disk.as_path(), Path::new("copied")])
        .output()
        .context("cannot start ntfscat")?;
    ensure!(
        output.stdout == fs::read(folder.path("original"))?,
        "the image's file differs from the one that was copied"
    );
    Ok(())
}

/// Serves a disk on two CPUs, mounts it as a file, and has `make` use that. The image, when nothing serves it any more;
/// `None` where there is no FUSE.
fn through_nbdfuse(
    folder: &Folder,
    make: fn(&Path, &Folder) -> Result<()>,
) -> Result<Option<PathBuf>> {
    if !Path::new("/dev/fuse").exists() {
        // A container without it; what nbdfuse would add is the kernel's page cache above the same requests.
        return Ok(None);
    }
    let disk = folder.path("disk.img");
    fs::File::create(&disk)?.set_len(64 << 20)?;
    let served = Served::start(&[&disk], &["--cpus=2"])?;
    let mount = folder.path("nbd");
    fs::create_dir(&mount)?;
    let mut fuse = Command::new("nbdfuse")
        .arg(&mount)
        .arg(&served.uri)
        .spawn()
        .context("cannot start nbdfuse")?;
    let result = made(&mount).and_then(|device| make(&device, folder));
    // Both must go, whatever came of it: first the mount, then the disk under it.
    let unmounted = Command::new("fusermount3")
        .arg("-u")
        .arg(&mount)
        .status()
        .is_ok_and(|status| status.success())
        || Command::new("fusermount")
            .arg("-u")
            .arg(&mount)
            .status()
            .is_ok_and(|status| status.success());
    if !unmounted {
        fuse.kill()?;
    }
    fuse.wait()?;
    result?;
    served.stop()?;
    Ok(Some(disk))
}

/// The file that nbdfuse shows, once it does.
fn made(mount: &Path) -> Result<PathBuf> {
    let device = mount.join("nbd");
    for _ in 0..100 {
        if device.exists() {
            return Ok(device);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("nbdfuse shows no disk after 10 s")
}

fn make_ntfs(device: &Path, folder: &Folder) -> Result<()> {
    let original = folder.path("original");
    let bytes: Vec<u8> = (0..3_000_001u32).map(|n| (n % 253) as u8).collect();
    fs::write(&original, bytes)?;
    succeed(
        Command::new("mkntfs")
            .args(["--force", "--quick", "--quiet"])
            .arg(device),
        LIMIT,
    )?;
    succeed(
        Command::new("ntfscp")
            .arg("--force")
            .args([device, original.as_path()])
            .arg("copied"),
        LIMIT,
    )
    .map(drop)
}

fn make_ext4(device: &Path, folder: &Folder) -> Result<()> {
    let tree = folder.path("tree");
    fs::create_dir_all(tree.join("deep/er"))?;
    for number in 0..40u32 {
        fs::write(
            tree.join(format!("deep/er/file{number}")),
            vec![number as u8; number as usize * 4099],
        )?;
    }
    succeed(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .arg(&tree)
            .arg(device),
        LIMIT,
    )?;
    succeed(Command::new("e2fsck").args(["-f", "-n"]).arg(device), LIMIT).map(drop)
}
