//! The machine that the tests share.

use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use nt_host::ke::thread;
use rig::platform::{Linux, Settings};

/// Virtual CPUs of the test machine.
pub const CPUS: u32 = 3;

static MACHINE: OnceLock<Mutex<()>> = OnceLock::new();

/// The machine, for one test at a time.
pub fn machine() -> MutexGuard<'static, ()> {
    let lock = MACHINE.get_or_init(|| {
        let settings = Settings {
            cpus: CPUS,
            ram_mib: 64,
            xen_frames: 16,
            log: Box::new(|line| eprintln!("{line}")),
            halted: Box::new(|code| {
                eprintln!("halted with {code:#x}");
                std::process::abort();
            }),
            shut_down: Box::new(|_| {}),
        };
        let linux = Linux::new(settings).unwrap().leak();
        nt_host::init(linux, nt_host::Config::default());
        linux.start().unwrap();
        Mutex::new(())
    });
    lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs `body` as an NT thread on `cpu` and returns what it returns.
pub fn on_cpu<R: Send + 'static>(cpu: u32, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (send, receive) = channel();
    assert!(thread::run(cpu, move || send.send(body()).unwrap()));
    receive
        .recv_timeout(Duration::from_secs(20))
        .expect("the thread ends in time")
}
