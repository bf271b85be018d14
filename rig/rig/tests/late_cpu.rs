//! The host may let a virtual CPU's thread wait for its first turn while others run drivers already. For drivers it is
//! there all the same: what is sent to every CPU reaches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nt_host::ke::{ipi, processor, thread};
use rig::platform::{Linux, Settings};

/// CPUs that the call has run on, as bits.
static RAN: AtomicU64 = AtomicU64::new(0);

unsafe extern "win64" fn mark(argument: usize) -> usize {
    RAN.fetch_or(1 << processor::current().number, Ordering::AcqRel);
    argument
}

#[test]
fn a_call_to_all_processors_waits_for_one_that_starts_late() {
    let linux = Linux::new(Settings {
        cpus: 2,
        ram_mib: 64,
        xen_frames: 16,
        log: Box::new(|line| eprintln!("{line}")),
        halted: Box::new(|code| {
            eprintln!("halted with {code:#x}");
            std::process::abort();
        }),
        shut_down: Box::new(|_| {}),
    });
    let linux = linux.unwrap().leak();
    nt_host::init(linux, nt_host::Config::default());
    linux.prepare().unwrap();
    linux.start_cpu(0).unwrap();
    let (send, receive) = channel();
    let call = move || {
        // SAFETY: the function takes any argument on any CPU.
        send.send(unsafe { ipi::KeIpiGenericCall(mark, 7) })
            .unwrap();
    };
    assert!(thread::run(0, call));
    assert_eq!(
        receive.recv_timeout(Duration::from_millis(100)),
        Err(RecvTimeoutError::Timeout)
    );
    linux.start_cpu(1).unwrap();
    assert_eq!(receive.recv_timeout(Duration::from_secs(10)), Ok(7));
    assert_eq!(RAN.load(Ordering::Acquire), 0b11);
}
