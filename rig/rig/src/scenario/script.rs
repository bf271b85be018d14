//! What happens in each scenario.

use std::{sync::mpsc, time::Duration};

use backends::block::BlockConfig;
use nt_host::pnp::{self, Event, node::State};
use xen_model::{
    Resume,
    toolstack::{Command, VbdSpec},
};

use super::{Load, Offer, Scenario, Stage, claim, scratch};
use crate::port_disk;

// POWER_ACTION and SYSTEM_POWER_STATE (wdm.h).
const WORKING: i32 = 1;
const SLEEPING: [i32; 3] = [2, 3, 4];
const HIBERNATE: i32 = 5;
const ACTION_NONE: i32 = 0;
const ACTION_SLEEP: i32 = 2;
const ACTION_HIBERNATE: i32 = 3;

/// How long a toolstack waits for a backend before it takes the keys away (libxl: `LIBXL_DESTROY_TIMEOUT`).
const LIBXL_PATIENCE: Duration = Duration::from_secs(10);
/// The disk that comes and goes.
const GUEST_DISK: u32 = 5;

/// Plays a scenario.
pub(super) fn play(stage: &mut Stage) -> Result<(), String> {
    let disks = stage.images.len() as u32;
    let requests = match stage.scenario {
        Scenario::Boot => 8,
        Scenario::Io => 200,
        Scenario::Unload => 60,
        Scenario::Hotplug | Scenario::Suspend | Scenario::Sleep => 400,
    };
    for index in 0..disks {
        stage.load(index, requests)?;
    }
    match stage.scenario {
        Scenario::Boot | Scenario::Io => Ok(()),
        Scenario::Hotplug => (0..3).try_for_each(|_| plug(stage)),
        Scenario::Unload => unload(stage),
        Scenario::Suspend => (0..3).try_for_each(|_| suspend(stage)),
        Scenario::Sleep => (0..2).try_for_each(|_| sleep(stage)),
    }
}

/// A disk comes, is used or not, and goes.
fn plug(stage: &mut Stage) -> Result<(), String> {
    stage.pause(3000)?;
    stage.say("attach");
    let image = scratch()?;
    let mut config = BlockConfig::new(GUEST_DISK, claim(&image)?.image);
    Offer::draw(&mut stage.random).apply(&mut config);
    let devid = config.vbd.devid;
    let dom0 = stage.machine.dom0().clone();
    let attached = stage.machine.backend().attach(&dom0, config);
    attached.map_err(|error| error.to_string())?;
    // Sometimes it goes before the guest has made much of it.
    let used = stage.random.below(4) != 0;
    if used {
        stage.load(GUEST_DISK, 100)?;
    }
    stage.pause(2000)?;
    stage.say("detach");
    // While I/O is under way, or when it is done.
    if stage.random.below(2) == 0 {
        let is_guest = |load: &Load| load.index() == GUEST_DISK;
        stage.must("the I/O on the new disk ends", |_, loads| {
            loads
                .iter()
                .filter(|load| is_guest(load))
                .all(Load::is_done)
        })?;
    }
    let guests = stage
        .loads
        .iter_mut()
        .filter(|load| load.index() == GUEST_DISK);
    guests.for_each(Load::let_go);
    let state = format!("{}/state", dom0.backend_path(devid));
    let is_new = dom0.store().read(&state).as_deref() == Some("1");
    dom0.detach_disk(devid);
    if !is_new {
        stage.must("the disk is let go of", |_, _| {
            dom0.finish_detach(devid, false)
        })?;
    } else if !stage.until(LIBXL_PATIENCE, |_, _| dom0.finish_detach(devid, false))? {
        // The backend has not seen the disk when it was new, and ignores it (Linux: `xenbus_probe_node`).
        dom0.finish_detach(devid, true);
    }
    stage.must("the disk is gone", |_, loads| {
        let mut guests = loads.iter().filter(|load| load.index() == GUEST_DISK);
        guests.all(Load::is_done) && port_disk::of_target(GUEST_DISK).is_none() && pnp::settled()
    })?;
    stage.loads.retain(|load| load.index() != GUEST_DISK);
    stage.machine.backend().forget(devid);
    Ok(())
}

/// Everything goes, with I/O under way: by surprise, or as at the end of a run.
fn unload(stage: &mut Stage) -> Result<(), String> {
    stage.pause(4000)?;
    stage.loads.iter_mut().for_each(Load::let_go);
    stage.ended = true;
    match stage.random.below(3) {
        0 => stage.say("remove under I/O"),
        1 => {
            stage.say("remove");
            stage.loads.iter_mut().for_each(Load::stop);
            stage.must("the I/O ends", |_, loads| loads.iter().all(Load::is_done))?;
        }
        _ => {
            stage.say("surprise removal");
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
            stage.must("the platform device is removed", |_, _| {
                receiver.try_recv().is_ok()
            })?;
            stage.must("the I/O ends", |_, loads| loads.iter().all(Load::is_done))?;
        }
    }
    // Their requests are the machine's now; it ends them.
    stage.loads.clear();
    Ok(())
}

/// The guest is suspended, and goes on as a restored one or as if nothing had been.
fn suspend(stage: &mut Stage) -> Result<(), String> {
    stage.pause(3000)?;
    stage.say("suspend");
    let dom0 = stage.machine.dom0().clone();
    dom0.send(Command::Suspend);
    stage.must("the guest suspends", |_, _| dom0.xen().is_suspended())?;
    let how = match stage.random.below(3) {
        0 => Resume::Cancelled,
        _ => Resume::Restored,
    };
    stage.say(&format!("resume: {how:?}"));
    if !dom0.resume_guest(how) {
        return Err("the guest was not suspended any more".to_owned());
    }
    let devid = VbdSpec::disk(0, "").devid;
    let key = format!("{}/state", dom0.backend_path(devid));
    stage.must("the disk is connected again", |_, _| {
        dom0.store().read(&key).as_deref() == Some("4")
    })
}

/// The system sleeps or hibernates, and wakes.
fn sleep(stage: &mut Stage) -> Result<(), String> {
    stage.pause(3000)?;
    let (state, action) = match stage.random.below(4) {
        3 => (HIBERNATE, ACTION_HIBERNATE),
        n => (SLEEPING[n as usize], ACTION_SLEEP),
    };
    stage.say(&format!("to system power state {state}"));
    transition(stage, state, action)?;
    stage.pause(1000)?;
    stage.say("wake");
    transition(stage, WORKING, ACTION_NONE)
}

fn transition(stage: &mut Stage, state: i32, action: i32) -> Result<(), String> {
    let (sender, receiver) = mpsc::channel();
    pnp::post(Event::Call(Box::new(move || {
        // The receiver waits, or has given up.
        let _ = sender.send(nt_host::po::transition(state, action));
    })));
    let mut answer = None;
    stage.must(&format!("the system is in power state {state}"), |_, _| {
        answer = receiver.try_recv().ok();
        answer.is_some()
    })?;
    answer.unwrap_or_else(|| Err("no answer".to_owned()))
}
