//! The same addresses in every run: Linux' random placement is switched off for a seeded machine's process.
//!
//! What drivers see is at fixed addresses anyway (`platform::memory`); this is for the rig's own memory, in case an order
//! depends on it.

use std::{env, os::unix::process::CommandExt, process::Command};

/// Starts the program anew without random placement, unless it has none. Where that is not allowed the run goes on
/// as it is.
pub fn fix() {
    /// `linux/personality.h`: ask, change nothing.
    const ASK: libc::c_ulong = 0xffff_ffff;
    // SAFETY: asks only.
    let now = unsafe { libc::personality(ASK) };
    if now < 0 || now & libc::ADDR_NO_RANDOMIZE != 0 {
        return;
    }
    // SAFETY: changes where later mappings of this process go, nothing that exists.
    let changed = unsafe { libc::personality((now | libc::ADDR_NO_RANDOMIZE) as libc::c_ulong) };
    let Ok(program) = env::current_exe() else {
        return;
    };
    if changed >= 0 {
        // Returns only when it fails.
        let _ = Command::new(program).args(env::args_os().skip(1)).exec();
    }
}
