//! Virtual CPUs: one host thread each, which sleeps when the executive has nothing to run and is kicked when it has.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

const RUNNING: u32 = 0;
const KICKED: u32 = 1;
const ASLEEP: u32 = 2;

/// `asm/prctl.h`: ARCH_SET_GS.
const ARCH_SET_GS: libc::c_int = 0x1001;

/// The sleep of a virtual CPU, a futex.
pub struct Vcpu {
    state: AtomicU32,
}

impl Vcpu {
    /// A CPU that is awake.
    pub fn new() -> Self {
        Self {
            state: AtomicU32::new(RUNNING),
        }
    }

    /// Sleeps until a kick, also one since the last sleep, or for `limit` (100 ns units).
    pub fn sleep(&self, limit: Option<u64>) {
        let fall_asleep =
            self.state
                .compare_exchange(RUNNING, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        if fall_asleep.is_ok() {
            let timeout = limit.map(|limit| libc::timespec {
                tv_sec: (limit / 10_000_000) as libc::time_t,
                tv_nsec: (limit % 10_000_000 * 100) as libc::c_long,
            });
            let timeout = timeout
                .as_ref()
                .map_or(std::ptr::null(), std::ptr::from_ref);
            self.futex(libc::FUTEX_WAIT, ASLEEP, timeout);
        }
        self.state.swap(RUNNING, Ordering::AcqRel);
    }

    /// Ends the current or the next sleep.
    pub fn kick(&self) {
        if self.state.swap(KICKED, Ordering::AcqRel) == ASLEEP {
            self.futex(libc::FUTEX_WAKE, 1, std::ptr::null());
        }
    }

    fn futex(&self, operation: libc::c_int, value: u32, timeout: *const libc::timespec) {
        let operation = operation | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the futex word lives as long as `self`; the timeout is null or points to the caller's value. Every
        // result means to look again.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.state.as_ptr(),
                operation,
                value,
                timeout,
            );
        }
    }
}

thread_local! {
    static CURRENT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The virtual CPU that the calling thread runs.
#[inline(never)]
pub fn current() -> Option<u32> {
    CURRENT.get()
}

/// Starts the thread of a virtual CPU.
pub fn start(cpu: u32) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("vcpu {cpu}"))
        .spawn(move || {
            let block = std::ptr::from_ref(nt_host::ke::processor_block(cpu));
            // SAFETY: GS is free in 64-bit Linux programs; this thread runs the CPU whose block it points to.
            let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, block) };
            assert_eq!(result, 0, "the GS base cannot be set");
            super::fault::prepare_thread().expect("memory for a signal stack");
            CURRENT.set(Some(cpu));
            nt_host::ke::cpu_main(cpu);
            CURRENT.set(None);
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_kick_before_the_sleep_ends_it() {
        let vcpu = Vcpu::new();
        vcpu.kick();
        vcpu.sleep(None);
    }

    #[test]
    fn a_sleep_ends_at_its_limit() {
        let (vcpu, start) = (Vcpu::new(), Instant::now());
        vcpu.sleep(Some(100_000));
        assert!(start.elapsed() >= Duration::from_millis(10));
    }

    #[test]
    fn a_kick_wakes_a_sleeper() {
        let vcpu = Vcpu::new();
        std::thread::scope(|scope| {
            scope.spawn(|| vcpu.sleep(None));
            std::thread::sleep(Duration::from_millis(5));
            vcpu.kick();
        });
    }
}
