//! Toolstack, power button and bus: whoever does to the machine what an [`Act`] says, while others wait for something.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use backends::block::Disks;
use nt_host::pnp::node::State;
use nt_host::pnp::{self, Event};
use xen_model::Resume;
use xen_model::dom0::Dom0;
use xen_model::toolstack::{Command, VbdSpec};

use super::director::Director;
use super::name::Act;
use crate::wait;

/// How long the guest may take to do what it was told.
const OBEDIENCE: Duration = Duration::from_secs(100);

// POWER_ACTION and SYSTEM_POWER_STATE (wdm.h).
const WORKING: i32 = 1;
const SLEEPING3: i32 = 4;
const HIBERNATE: i32 = 5;
const ACTION_NONE: i32 = 0;
const ACTION_SLEEP: i32 = 2;
const ACTION_HIBERNATE: i32 = 3;

/// Plays.
pub struct Play {
    dom0: Arc<Dom0>,
    disks: Disks,
    director: &'static Director,
    took_disk: bool,
}

impl Play {
    /// On this machine, with its one disk.
    pub fn new(dom0: Arc<Dom0>, disks: Disks, director: &'static Director) -> Self {
        Self {
            dom0,
            disks,
            director,
            took_disk: false,
        }
    }

    /// Whether the disk was taken from the guest, one way or another.
    pub fn took_disk(&self) -> bool {
        self.took_disk
    }

    /// Waits until `done`, at most `limit`, and does what the director calls for meanwhile. Returns whether it was done.
    pub fn wait(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, String> {
        let mut end = wait::now() + limit;
        loop {
            while let Some(act) = self.director.next_act() {
                let began = wait::now();
                self.act(act)?;
                // The time for that is the guest's, not the waiter's.
                end += wait::now() - began;
            }
            let mut is_done = false;
            let left = end.saturating_sub(wait::now());
            let ended = wait::until(left, || {
                is_done = done(self);
                is_done || self.director.wants_act()
            });
            if is_done || !ended {
                return Ok(is_done);
            }
        }
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        let devid = VbdSpec::disk(0, "").devid;
        match act {
            Act::Suspend => self.suspend(Resume::Restored),
            Act::SuspendCancelled => self.suspend(Resume::Cancelled),
            Act::Sleep => sleep(SLEEPING3, ACTION_SLEEP),
            Act::Hibernate => sleep(HIBERNATE, ACTION_HIBERNATE),
            Act::Detach => {
                self.took_disk = true;
                self.dom0.detach_disk(devid);
                obeyed("close the disk", || self.dom0.finish_detach(devid, false))
            }
            Act::Vanish => {
                self.took_disk = true;
                self.dom0.finish_detach(devid, true);
                Ok(())
            }
            Act::BackendDeath => {
                self.disks.die(devid);
                self.dom0.bell().ring();
                Ok(())
            }
            Act::SurpriseRemoval => {
                self.took_disk = true;
                let (sender, receiver) = mpsc::channel();
                pnp::post(Event::Call(Box::new(move || {
                    let devices = pnp::node::root().map(pnp::node::subtree);
                    let platform_device = devices.into_iter().flatten().find(|id| {
                        pnp::node::get(*id)
                            .is_some_and(|node| node.service.as_deref() == Some("xenbus"))
                    });
                    if let Some(device) = platform_device {
                        pnp::remove::surprise(device, State::Removed);
                    }
                    // The receiver waits, or has given up.
                    let _ = sender.send(());
                })));
                wait::receive(&receiver, OBEDIENCE)
                    .ok_or_else(|| "the platform device was not removed".to_owned())
            }
        }
    }

    /// A guest that cannot be suspended yet is left alone: the order stands until it looks.
    fn suspend(&self, how: Resume) -> Result<(), String> {
        self.dom0.send(Command::Suspend);
        obeyed("suspend", || self.dom0.xen().is_suspended())?;
        self.dom0.resume_guest(how);
        Ok(())
    }
}

fn obeyed(what: &str, done: impl FnMut() -> bool) -> Result<(), String> {
    if wait::until(OBEDIENCE, done) {
        return Ok(());
    }
    Err(format!(
        "the guest did not {what} within {} s",
        OBEDIENCE.as_secs()
    ))
}

/// Takes the system to a power state and back. A device that refuses calls it off.
fn sleep(state: i32, action: i32) -> Result<(), String> {
    if let Err(why) = transition(state, action)? {
        log::info!("the system stays awake: {why}");
    }
    transition(WORKING, ACTION_NONE)?.map_err(|why| format!("the system did not wake: {why}"))
}

fn transition(state: i32, action: i32) -> Result<Result<(), String>, String> {
    let (sender, receiver) = mpsc::channel();
    pnp::post(Event::Call(Box::new(move || {
        // The receiver waits, or has given up.
        let _ = sender.send(nt_host::po::transition(state, action));
    })));
    wait::receive(&receiver, OBEDIENCE).ok_or_else(|| {
        format!(
            "there was no way to system power state {state} within {} s",
            OBEDIENCE.as_secs()
        )
    })
}
