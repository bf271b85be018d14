//! Drivers written here, in Rust, on the machine: what the I/O, PnP and port drivers do with them.
//!
//! The executive is one to a process, so each case runs in a process of its own: this test program again, with the
//! name of the case in an environment variable. A case's thread is an NT thread; its driver's routines are called
//! through the same tables as those of a loaded image.

#![allow(
    non_upper_case_globals,
    reason = "the names are those of the kernel's headers"
)]

mod function;
mod irps;
mod miniport;
#[path = "../support/miniport.rs"]
mod port;
mod registry;
mod wire;
#[allow(dead_code, reason = "the tests use different parts of it")]
#[path = "../support/net_miniport.rs"]
mod wire_miniport;

use std::process::{Command, exit};
use std::sync::mpsc::channel;
use std::time::Duration;

use nt_host::ke::thread;
use nt_host::pnp;
use rig::platform::{Linux, Settings};

const CASE: &str = "RIG_DEVICES_CASE";
const EXIT_BUG_CHECK: i32 = 7;
/// Virtual CPUs of the machine.
const CPUS: u32 = 2;

/// A case, and what its report contains when it is to end in one.
type Case = (&'static str, fn(), Option<&'static str>);

/// Every case.
const CASES: &[Case] = &[
    ("registry", registry::run, None),
    ("irps go down and up by the rules", irps::sound, None),
    (
        "an irp completed twice",
        irps::completed_twice,
        Some("is no IRP, or one that was freed"),
    ),
    (
        "pending without a mark",
        irps::pending_without_mark,
        Some("returned STATUS_PENDING without IoMarkIrpPending"),
    ),
    (
        "an irp that is lost",
        irps::lost,
        Some("returned without having completed the IRP"),
    ),
    (
        "no stack location left",
        irps::no_location,
        Some("0x00000035"),
    ),
    ("a device from start to removal", function::life, None),
    ("a device that fails to start", function::failing, None),
    ("a surprising removal", function::surprise, None),
    ("a device while the system sleeps", function::sleep, None),
    ("a disk while the system sleeps", miniport::sleep, None),
    ("a disk behind a miniport", miniport::disk, None),
    ("a miniport that is busy", miniport::busy, None),
    ("a miniport that loses a request", miniport::lossy, None),
    (
        "a request completed twice",
        miniport::completed_twice,
        Some("which was completed before"),
    ),
    ("frames over a wire", wire::frames, None),
    ("a wire that pauses and sleeps", wire::pauses, None),
    ("many frames over a wire", wire::many, None),
];

/// Runs as the program of a case, when it is one.
fn child() {
    let Ok(name) = std::env::var(CASE) else {
        return;
    };
    let (_, run, _) = *CASES.iter().find(|(case, ..)| *case == name).unwrap();
    let settings = Settings {
        cpus: CPUS,
        ram_mib: 64,
        xen_frames: 16,
        log: Box::new(|line| println!("{line}")),
        halted: Box::new(|_| exit(EXIT_BUG_CHECK)),
        shut_down: Box::new(|_| {}),
    };
    let linux = Linux::new(settings).unwrap().leak();
    let exports = rig::boot::exports();
    nt_host::init(
        linux,
        nt_host::Config {
            exports,
            ..Default::default()
        },
    );
    linux.start().unwrap();
    run();
    exit(0);
}

/// Runs `body` as an NT thread on CPU 0 and returns what it returns.
fn on_thread<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (send, receive) = channel();
    assert!(thread::run(0, move || drop(send.send(body()))));
    receive
        .recv_timeout(Duration::from_secs(30))
        .expect("the thread ends in time")
}

/// Waits until the PnP manager has nothing to do.
fn settle() {
    for _ in 0..1000 {
        if pnp::settled() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the PnP manager does not come to rest");
}

/// Removes everything; returns what was left behind.
fn tear_down() -> Vec<String> {
    let (send, receive) = channel();
    pnp::tear_down(move |leaks| drop(send.send(leaks.lines())));
    receive
        .recv_timeout(Duration::from_secs(30))
        .expect("everything is removed in time")
}

#[test]
fn each_case_ends_as_it_should() {
    child();
    for (case, _, report) in CASES {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--nocapture", "--test-threads=1"])
            .env(CASE, case)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let code = if report.is_some() { EXIT_BUG_CHECK } else { 0 };
        assert_eq!(output.status.code(), Some(code), "{case}: {text}\n{errors}");
        assert!(
            text.contains(report.unwrap_or_default()),
            "{case}: {text}\n{errors}"
        );
    }
}
