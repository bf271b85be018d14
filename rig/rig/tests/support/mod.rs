//! Cases on the whole machine with the shipped drivers.
//!
//! The executive is one to a process, so each case runs in a process of its own: the test program again, with the name
//! of the case in an environment variable, and only its ignored test `child`, which hands over to [`child`].

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use rig::boot::Plan;
use rig::packages::Packages;
use xen_model::toolstack::GuestSpec;

/// The environment variable that names the case.
const CASE: &str = "RIG_CASE";
/// The size of the disk's image in bytes.
const IMAGE: u64 = 8 << 20;

/// Where `./x build` puts the drivers.
pub fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/x64")
}

/// A small machine without disks, for a case to change.
pub fn plan(packages: &Packages) -> Plan<'_> {
    Plan {
        cpus: 2,
        memory_mib: 128,
        packages,
        trace: None,
        seed: None,
        images: Vec::new(),
        guest: GuestSpec::default(),
        configure: &|_, _| (),
    }
}

/// Writes what the machine has said.
pub fn tell() {
    for line in rig::logger::hidden() {
        eprintln!("{line}");
    }
}

/// Ends the process with the outcome of the case that the environment names, if it names one. `case` gets the name and
/// the path of an empty image.
pub fn child(case: impl FnOnce(&str, &Path) -> Result<(), String>) {
    let Ok(name) = std::env::var(CASE) else {
        return;
    };
    rig::logger::start(log::LevelFilter::Off);
    let image = std::env::temp_dir().join(format!("winpv-{name}-{}.img", std::process::id()));
    std::fs::File::create(&image)
        .and_then(|file| file.set_len(IMAGE))
        .expect("an image");
    let result = case(&name, &image);
    let _ = std::fs::remove_file(&image);
    match result {
        Ok(()) => exit(0),
        Err(why) => {
            tell();
            eprintln!("{why}");
            exit(1);
        }
    }
}

/// Runs a case, which must go well. Without built drivers it is skipped.
pub fn check(name: &str) {
    if !dist().join("xenvbd.sys").exists() {
        eprintln!("SKIPPED: there is no dist/x64/xenvbd.sys; run ./x build");
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(CASE, name)
        .output()
        .expect("a process");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}", output.status);
}
