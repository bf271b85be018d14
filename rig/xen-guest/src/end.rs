//! The end of a run.

use core::sync::atomic::{AtomicBool, Ordering};

use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};

use crate::{console, cpu, xen};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every step of the job did what it should.
    Passed,
    /// A step failed.
    Failed,
    /// A driver broke a rule.
    BugCheck,
    /// The kernel itself failed.
    Broken,
}

/// The end is a reboot. In the control domain it always is: then the machine reboots, and QEMU ends.
static REBOOTS: AtomicBool = AtomicBool::new(false);

/// Makes the end a reboot.
pub fn reboot() {
    REBOOTS.store(true, Ordering::Release);
}

/// Says how the run ended, and powers off.
pub fn now(verdict: Verdict) -> ! {
    static ENDED: AtomicBool = AtomicBool::new(false);
    if ENDED.swap(true, Ordering::AcqRel) {
        cpu::stop_for_ever();
    }
    let word = match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed | Verdict::BugCheck | Verdict::Broken => "failed",
    };
    let reason = match verdict {
        _ if REBOOTS.load(Ordering::Acquire) => SHUTDOWN_REBOOT,
        Verdict::Passed | Verdict::Failed => SHUTDOWN_POWEROFF,
        Verdict::BugCheck | Verdict::Broken => SHUTDOWN_CRASH,
    };
    console::last_line(format_args!("done {word}"));
    xen::shutdown(reason)
}
