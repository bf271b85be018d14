//! What the verifier says about a driver that breaks a rule: a bug check report that names the rule, and an exit.
//!
//! The executive is one to a process, so each case runs in a process of its own: this test program again, with the
//! name of the case in an environment variable.

use std::process::{Command, exit};
use std::ptr::null_mut;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;
use std::time::Duration;

use nt_host::ke::event::Event;
use nt_host::ke::wait::Timeout;
use nt_host::ke::{dpc, irql, mutex, spinlock, thread, wait};
use nt_host::mm::pool;
use nt_sys::{KDPC, KMUTEX};
use rig::platform::{Linux, Settings};

const CASE: &str = "RIG_BREACH_CASE";
const EXIT_BUG_CHECK: i32 = 7;

/// Cases, and what their reports contain.
const CASES: [(&str, &str); 9] = [
    (
        "raises down",
        "0x00000009: ntoskrnl.exe KfRaiseIrql from IRQL 2 to 0",
    ),
    (
        "lowers up",
        "0x0000000a: ntoskrnl.exe KeLowerIrql from IRQL 0 to 2",
    ),
    (
        "waits at dispatch",
        "calls KeWaitForSingleObject at IRQL 2; it may be called at IRQL <= 1",
    ),
    ("locks twice", "0x0000000f"),
    ("releases what it does not hold", "0x00000010"),
    (
        "returns from a dpc at passive",
        "returns from a DPC routine at IRQL 0",
    ),
    ("releases another's mutex", "0x00000011"),
    ("frees twice", "which was freed before"),
    (
        "writes what it freed",
        "was written at +0x5 after it was freed",
    ),
];

fn lock() -> *mut usize {
    Box::leak(Box::new(AtomicUsize::new(0))).as_ptr()
}

unsafe extern "win64" fn lower(
    _: *mut KDPC,
    _: *mut std::ffi::c_void,
    _: *mut std::ffi::c_void,
    _: *mut std::ffi::c_void,
) {
    irql::KeLowerIrql(0);
}

fn run(case: &str) {
    let lock = lock();
    match case {
        "raises down" => {
            irql::KfRaiseIrql(2);
            irql::KfRaiseIrql(0);
        }
        "lowers up" => irql::KeLowerIrql(2),
        "waits at dispatch" => {
            irql::KfRaiseIrql(2);
            let object = Box::leak(Box::new(Event::new(true))).object();
            // SAFETY: the event is leaked.
            unsafe {
                wait::KeWaitForSingleObject(object.as_ptr().cast(), 0, 0, 0, std::ptr::null())
            };
        }
        "locks twice" => {
            for _ in 0..2 {
                // SAFETY: the lock is leaked.
                unsafe { spinlock::KeAcquireSpinLockRaiseToDpc(lock) };
            }
        }
        "releases what it does not hold" => {
            irql::KfRaiseIrql(2);
            // SAFETY: the lock is leaked; that it is not held is the case.
            unsafe { spinlock::KeReleaseSpinLock(lock, 0) };
        }
        "returns from a dpc at passive" => {
            // SAFETY: a KDPC is numbers and pointers.
            let storage: &'static mut KDPC = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
            let dpc: *mut KDPC = storage;
            // SAFETY: the DPC is leaked.
            unsafe { dpc::KeInitializeDpc(dpc, Some(lower), null_mut()) };
            // SAFETY: the DPC is leaked.
            unsafe { dpc::KeInsertQueueDpc(dpc, null_mut(), null_mut()) };
        }
        "releases another's mutex" => {
            // SAFETY: a KMUTEX is numbers and pointers.
            let storage: &'static mut KMUTEX = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
            let object: *mut KMUTEX = storage;
            // SAFETY: the mutex is leaked.
            unsafe { mutex::KeInitializeMutex(object, 0) };
            // SAFETY: the mutex is leaked; that it is not owned is the case.
            unsafe { mutex::KeReleaseMutex(object, 0) };
        }
        "frees twice" => {
            let memory = pool::allocate(40, *b"Test").unwrap().as_ptr().cast();
            // SAFETY: allocated above.
            unsafe { pool::ExFreePool(memory) };
            // SAFETY: that it was freed is the case; the pool only looks at its own header.
            unsafe { pool::ExFreePool(memory) };
        }
        "writes what it freed" => {
            let memory = pool::allocate(2000, *b"Test").unwrap();
            pool::try_free(memory, None).unwrap();
            // SAFETY: the block is the pool's, which no other thread uses here; that it is written is the case.
            unsafe { memory.as_ptr().wrapping_add(5).write(0) };
            while pool::allocate(2000, *b"Test").is_some() {}
        }
        other => panic!("no case {other}"),
    }
}

/// Runs as the program of a case, when it is one.
fn child() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let settings = Settings {
        cpus: 1,
        ram_mib: 16,
        xen_frames: 16,
        log: Box::new(|line| println!("{line}")),
        halted: Box::new(|_| exit(EXIT_BUG_CHECK)),
        shut_down: Box::new(|_| {}),
    };
    let linux = Linux::new(settings).unwrap().leak();
    nt_host::init(linux, nt_host::Config::default());
    linux.start().unwrap();
    let (send, receive) = channel();
    assert!(thread::run(0, move || {
        run(&case);
        Event::new(true).wait(Timeout::after(1_000_000));
        send.send(()).unwrap();
    }));
    receive.recv_timeout(Duration::from_secs(10)).unwrap();
    exit(0);
}

#[test]
fn each_breach_ends_the_machine_and_says_why() {
    child();
    for (case, expected) in CASES {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--nocapture", "--test-threads=1"])
            .env(CASE, case)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains(expected),
            "{case}: {text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(EXIT_BUG_CHECK), "{case}: {text}");
    }
}
