//! What happens to a network card while it is used: the toolstack takes it out and plugs it in, NDIS pauses and restarts
//! it, the guest is migrated. Every frame has come back each time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ndis_host::{Control, State};
use xen_model::{Resume, toolstack::Command};

use super::{Nic, NicError, stuck};
use crate::{boot::Machine, port_nic, wait};

/// Only what hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two things that happen, so that frames are under way.
const PAUSE: Duration = Duration::from_millis(100);

/// One of each, so many times, or until `stop`. Returns how many rounds there were.
pub fn run(
    machine: &Machine,
    nic: &mut Nic,
    rounds: u32,
    stop: &AtomicBool,
) -> Result<u32, NicError> {
    for round in 0..rounds {
        if stop.load(Ordering::Relaxed) {
            return Ok(round);
        }
        wait::pass(PAUSE);
        pause(machine, nic)?;
        wait::pass(PAUSE);
        nic.unplug(machine)?;
        nic.replug(machine)?;
        wait::pass(PAUSE);
        migrate(machine, nic)?;
    }
    Ok(rounds)
}

/// Pauses the adapter and restarts it.
fn pause(machine: &Machine, nic: &Nic) -> Result<(), NicError> {
    let Some(adapter) = nic.adapter() else {
        return Err(stuck(machine, "there was no adapter to pause"));
    };
    for (what, state) in [
        (Control::Pause, State::Paused),
        (Control::Restart, State::Running),
    ] {
        if port_nic::control(adapter, what).is_err() || adapter.state() != state {
            return Err(stuck(machine, "the adapter was not paused and restarted"));
        }
    }
    Ok(())
}

/// Suspends the guest and restores it elsewhere, where the backend is a new one.
fn migrate(machine: &Machine, nic: &Nic) -> Result<(), NicError> {
    let dom0 = machine.dom0();
    dom0.send(Command::Suspend);
    if !wait::until(PATIENCE, || dom0.xen().is_suspended()) {
        return Err(stuck(machine, "the guest did not suspend itself"));
    }
    dom0.resume_guest(Resume::Restored);
    let back = || {
        let key = "/local/domain/1/control/feature-suspend";
        nic.is_connected() && dom0.store().read(key).as_deref() == Some("1")
    };
    match wait::until(PATIENCE, back) {
        true => Ok(()),
        false => Err(stuck(
            machine,
            "the card was not connected after a migration",
        )),
    }
}
