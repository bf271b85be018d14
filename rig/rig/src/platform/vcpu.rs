//! Virtual CPUs: one host thread each, which sleeps when the executive has nothing to run and is kicked when it has.
//!
//! Interrupts and thread switches happen where a driver calls the executive. One that loops without a call is
//! interrupted by a signal, which a watcher sends to a CPU that has not polled for a while.

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nt_host::ke;
use nt_host::verifier::time::Watcher;

use super::{Linux, fault};

const RUNNING: u32 = 0;
const KICKED: u32 = 1;
const ASLEEP: u32 = 2;

/// `asm/prctl.h`: ARCH_SET_GS.
const ARCH_SET_GS: libc::c_int = 0x1001;

/// The sleep of a virtual CPU, a futex.
pub struct Vcpu {
    state: AtomicU32,
    /// The host thread, 0 while there is none.
    thread: AtomicI32,
    /// It waits inside of the hypervisor.
    rests: AtomicBool,
    /// How long it looks whether it is kicked before it sleeps.
    patience: Duration,
}

/// Short pauses between two looks.
const LOOKS: u32 = 16;
/// About what it takes to wake a thread: most pauses of a busy disk are shorter.
const PATIENCE: Duration = Duration::from_micros(20);

impl Vcpu {
    /// A CPU that is awake, of a machine with `cpus` of them.
    pub fn new(cpus: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        // Domain 0 needs a core, too.
        let alone = cores > cpus as usize;
        Self {
            state: AtomicU32::new(RUNNING),
            thread: AtomicI32::new(0),
            rests: AtomicBool::new(false),
            patience: if alone { PATIENCE } else { Duration::ZERO },
        }
    }

    /// Interrupts the CPU's thread if it is awake.
    fn nudge(&self) {
        let thread = self.thread.load(Ordering::Acquire);
        if thread != 0 && self.state.load(Ordering::Acquire) != ASLEEP {
            // SAFETY: takes no argument.
            let process = unsafe { libc::getpid() };
            // SAFETY: takes numbers only. A thread that has ended meanwhile is an error without effect.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, fault::NUDGE) };
        }
    }

    /// Waits inside of the hypervisor for a moment.
    pub fn rest(&self) {
        self.rests.store(true, Ordering::Relaxed);
        std::thread::yield_now();
        self.rests.store(false, Ordering::Relaxed);
    }

    /// For how many nanoseconds its thread has run; 0 while there is none.
    fn ran(&self) -> u64 {
        match self.thread.load(Ordering::Acquire) {
            0 => 0,
            // linux/posix-timers.h: MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED).
            thread => ran((!thread << 3) | 6),
        }
    }

    /// Sleeps until a kick, also one since the last sleep, or for `limit` (100 ns units).
    pub fn sleep(&self, limit: Option<u64>) {
        if self.patience != Duration::ZERO {
            self.look();
        }
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

    /// Waits for a kick without sleeping, for a while.
    fn look(&self) {
        let start = Instant::now();
        while self.state.load(Ordering::Acquire) == RUNNING && start.elapsed() < self.patience {
            for _ in 0..LOOKS {
                std::hint::spin_loop();
            }
            // Who would kick may wait for this very core.
            std::thread::yield_now();
        }
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

/// What a clock of a thread's running time says, in nanoseconds; 0 for a thread that has ended.
pub fn ran(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to a place of ours.
    match unsafe { libc::clock_gettime(clock, &raw mut time) } {
        0 => time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64,
        _ => 0,
    }
}

thread_local! {
    static CURRENT: Cell<Option<u32>> = const { Cell::new(None) };
    /// The CPU whose block the GS base points to.
    static GS: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The virtual CPU that the calling thread runs.
#[inline(never)]
pub fn current() -> Option<u32> {
    CURRENT.get()
}

/// Makes the calling thread, a seeded machine's, that of another virtual CPU, or of none.
pub fn be(cpu: Option<u32>) {
    if let Some(cpu) = cpu
        && GS.replace(Some(cpu)) != Some(cpu)
    {
        set_gs(cpu);
    }
    CURRENT.set(cpu);
}

fn set_gs(cpu: u32) {
    let block = std::ptr::from_ref(ke::processor_block(cpu));
    // SAFETY: GS is free in 64-bit Linux programs; this thread runs the CPU whose block it points to.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, block) };
    assert_eq!(result, 0, "the GS base cannot be set");
}

/// How often the watcher looks.
const WATCH: Duration = Duration::from_millis(2);
/// After how many looks without a poll a CPU with nothing pending is interrupted too, so that threads take turns.
const LONG: u32 = 10;

/// Starts the watcher of the virtual CPUs.
pub fn watch(machine: &'static Linux) -> io::Result<()> {
    let watch = move || {
        let mut seen = vec![(0, 0); machine.vcpus.len()];
        let mut watchers: Vec<_> = machine
            .vcpus
            .iter()
            .map(|_| (Watcher::default(), 0))
            .collect();
        loop {
            std::thread::sleep(WATCH);
            let waits = machine.is_suspended();
            for (cpu, (vcpu, (watcher, before))) in
                (0..).zip(machine.vcpus.iter().zip(&mut watchers))
            {
                let now = vcpu.ran();
                let ran = now.saturating_sub(std::mem::replace(before, now));
                let counts = !waits && !vcpu.rests.load(Ordering::Relaxed);
                if watcher.look(cpu, if counts { ran } else { 0 }) {
                    vcpu.nudge();
                }
            }
            for (cpu, (vcpu, (polls, looks))) in (0..).zip(machine.vcpus.iter().zip(&mut seen)) {
                let block = ke::processor_block(cpu);
                let now = block.polls.load(Ordering::Relaxed);
                *looks = if now == *polls { *looks + 1 } else { 0 };
                *polls = now;
                if *looks >= LONG || (*looks > 0 && block.pending.load(Ordering::Relaxed) != 0) {
                    vcpu.nudge();
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("watcher".to_owned())
        .spawn(watch)?;
    Ok(())
}

/// Starts the thread of a virtual CPU.
pub fn start(machine: &'static Linux, cpu: u32) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("vcpu {cpu}"))
        .spawn(move || {
            set_gs(cpu);
            fault::prepare_thread().expect("memory for a signal stack");
            CURRENT.set(Some(cpu));
            let thread = &machine.vcpus[cpu as usize].thread;
            // SAFETY: takes no argument.
            thread.store(unsafe { libc::gettid() }, Ordering::Release);
            ke::cpu_main(cpu);
            thread.store(0, Ordering::Release);
            CURRENT.set(None);
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kick_before_the_sleep_ends_it() {
        let vcpu = Vcpu::new(1);
        vcpu.kick();
        vcpu.sleep(None);
    }

    #[test]
    fn a_sleep_ends_at_its_limit() {
        let (vcpu, start) = (Vcpu::new(1), Instant::now());
        vcpu.sleep(Some(100_000));
        assert!(start.elapsed() >= Duration::from_millis(10));
    }

    #[test]
    fn a_kick_wakes_a_sleeper() {
        let vcpu = Vcpu::new(1);
        std::thread::scope(|scope| {
            scope.spawn(|| vcpu.sleep(None));
            std::thread::sleep(Duration::from_millis(5));
            vcpu.kick();
        });
    }
}
