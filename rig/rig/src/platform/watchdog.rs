//! Finds a seeded machine that does not get on: a driver that spins without calling anybody.
//!
//! A timer of the process's own CPU time interrupts its one thread; no other thread exists. A host that is busy with
//! something else, or a machine that waits for what to do, is not stuck. What the timer changes is only when the machine
//! ends.

use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fault;
use super::seeded::{self, World};

/// Seconds of CPU time without a turn after which the machine is stuck.
const LIMIT: libc::time_t = 20;

/// Turns at the last look.
static SEEN: AtomicU64 = AtomicU64::new(u64::MAX);

/// Looks at the world from now on.
pub fn start(world: &World) -> io::Result<()> {
    SEEN.store(world.turns(), Ordering::Relaxed);
    // SAFETY: all zeroes are a valid value of this C structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = look as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the action is initialised; the handler has the signature that SA_SIGINFO asks for.
    if unsafe { libc::sigaction(libc::SIGPROF, &raw const action, null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let every = libc::timeval {
        tv_sec: LIMIT,
        tv_usec: 0,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: the timer is a value of ours.
    match unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn look(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(world) = seeded::world() else { return };
    let turns = world.turns();
    if SEEN.swap(turns, Ordering::Relaxed) == turns {
        // SAFETY: the kernel passes the interrupted thread's context, which nothing else uses.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        fault::stuck(context, LIMIT as u64);
    }
}
