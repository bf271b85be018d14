//! What happens to a running guest: suspension, sleep, and waiting for what follows.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use rig::boot::Machine;
use xen_model::Resume;
use xen_model::toolstack::Command;

/// The guest's directory in xenstore.
pub const GUEST_PATH: &str = "/local/domain/1";
/// Only what hangs takes longer.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return Err(format!("not within {PATIENCE:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Has the guest suspended, and goes on.
pub fn suspend(machine: &Machine, how: Resume) -> Result<(), String> {
    let dom0 = machine.dom0();
    dom0.send(Command::Suspend);
    until("the guest suspends", || dom0.xen().is_suspended())?;
    if !dom0.is_acknowledged() {
        return Err("the order was not acknowledged".to_owned());
    }
    if !dom0.resume_guest(how) {
        return Err("the guest was not suspended".to_owned());
    }
    until("suspension is offered again", || {
        let key = format!("{GUEST_PATH}/control/feature-suspend");
        dom0.store().read(&key).as_deref() == Some("1")
    })
}

/// Takes the machine to a system power state and back.
pub fn sleep(state: i32) -> Result<(), String> {
    // PowerActionSleep, or PowerActionShutdown from PowerSystemShutdown on; PowerSystemWorking.
    let action = if state < 6 { 2 } else { 4 };
    for (state, action) in [(state, action), (1, 0)] {
        let (sender, receiver) = mpsc::channel();
        nt_host::ke::thread::run(0, move || {
            // The receiver may have given up.
            let _ = sender.send(nt_host::po::transition(state, action));
        });
        receiver
            .recv_timeout(PATIENCE)
            .map_err(|_| format!("no way to state {state}"))??;
    }
    Ok(())
}
