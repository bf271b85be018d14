//! What happens in each scenario.

use std::time::Duration;

use backends::block::BlockConfig;
use nt_host::pnp;
use xen_model::toolstack::VbdSpec;

use super::{Load, Offer, PATIENCE, Scenario, Stage, card, claim, scratch};
use crate::{
    disk::{Disk as _, Op},
    exchange::Exchange,
    faults::{
        name::Act,
        play::{LIBXL_PATIENCE, Order},
        trial::{Batch, Got},
    },
    port_disk, wait,
};

/// SYSTEM_POWER_STATE (wdm.h): S1 to S3, and S4.
const SLEEPING: [i32; 4] = [2, 3, 4, 5];

/// The disk that comes and goes.
const GUEST_DISK: u32 = 5;

/// Plays a scenario.
pub(super) fn play(stage: &mut Stage) -> Result<(), String> {
    let disks = stage.images.len() as u32;
    let requests = match stage.scenario {
        Scenario::Boot => 8,
        Scenario::Io => 200,
        Scenario::Unload => 60,
        Scenario::Hotplug | Scenario::Suspend | Scenario::Sleep | Scenario::Resize => 400,
        Scenario::Nic => 150,
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
        Scenario::Resize => (0..3).try_for_each(|_| resize(stage)),
        Scenario::Nic => card::play(stage),
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
        stage.must("the I/O on the new disk ends", |view| {
            view.loads
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
    if !is_new && !stage.faulty {
        stage.must("the disk is let go of", |_| {
            dom0.finish_detach(devid, false)
        })?;
    } else if !stage.until(LIBXL_PATIENCE, |_| dom0.finish_detach(devid, false))? {
        // The backend has not seen the disk when it was new, and ignores it (Linux: `xenbus_probe_node`), or the guest
        // has no driver that could close it.
        dom0.finish_detach(devid, true);
    }
    stage.must("the disk is gone", |view| {
        let mut guests = view.loads.iter().filter(|load| load.index() == GUEST_DISK);
        guests.all(Load::is_done) && port_disk::of_target(GUEST_DISK).is_none() && pnp::settled()
    })?;
    stage.loads.retain(|load| load.index() != GUEST_DISK);
    stage.machine.backend().forget(devid);
    Ok(())
}

/// Everything goes, with I/O under way: by surprise, or as at the end of a run.
pub(super) fn unload(stage: &mut Stage) -> Result<(), String> {
    stage.pause(4000)?;
    stage.loads.iter_mut().for_each(Load::let_go);
    stage.cards.iter_mut().for_each(Exchange::let_go);
    stage.ended = true;
    match stage.random.below(3) {
        0 => stage.say("remove under I/O"),
        1 => {
            stage.say("remove");
            stage.loads.iter_mut().for_each(Load::stop);
            stage.cards.iter_mut().for_each(Exchange::stop);
            stage.must("the I/O ends", |view| view.io_is_done())?;
        }
        _ => {
            stage.say("surprise removal");
            stage.order(Order::Act(Act::SurpriseRemoval))?;
            stage.must("the I/O ends", |view| view.io_is_done())?;
        }
    }
    // Their requests are the machine's now; it ends them.
    stage.loads.clear();
    Ok(())
}

/// The guest is suspended, and goes on as a restored one or as if nothing had been.
fn suspend(stage: &mut Stage) -> Result<(), String> {
    stage.pause(3000)?;
    suspend_now(stage)?;
    let dom0 = stage.machine.dom0().clone();
    stage.unless_failed("the disk is connected again", |_| {
        // A fault may suspend the guest once more, and the path has the domain's number.
        let directory = dom0.backend_path(VbdSpec::disk(0, "").devid);
        let state = dom0.store().read(&format!("{directory}/state"));
        state.as_deref() == Some("4")
    })?;
    Ok(())
}

/// The guest is suspended, once or twice.
pub(super) fn suspend_now(stage: &mut Stage) -> Result<(), String> {
    let act = match stage.random.below(3) {
        0 => Act::SuspendCancelled,
        _ => Act::Suspend,
    };
    stage.say(&format!("{act:?}"));
    stage.order(Order::Act(act))?;
    // Now and then again, while devices connect to their new backends.
    if stage.random.below(3) == 0 {
        stage.pause(400)?;
        stage.say("and again");
        stage.order(Order::Act(Act::Suspend))?;
    }
    Ok(())
}

/// The system sleeps or hibernates, and wakes.
pub(super) fn sleep(stage: &mut Stage) -> Result<(), String> {
    stage.pause(3000)?;
    let state = SLEEPING[stage.random.below(4) as usize];
    let linger = Duration::from_micros(stage.random.below(1000));
    stage.say(&format!("to system power state {state} and back"));
    stage.order(Order::Sleep { state, linger })
}

/// The first disk's image changes its size: the disk follows, and its last block can be used.
fn resize(stage: &mut Stage) -> Result<(), String> {
    stage.pause(3000)?;
    let devid = VbdSpec::disk(0, "").devid;
    let image = stage.machine.backend().image(devid);
    let image = image.ok_or("the first disk has no image")?;
    // Whole blocks of any size, and no less than the load uses.
    let sectors = (super::DISK >> 9) / 2 + 8 * stage.random.below(super::DISK >> 12);
    stage.say(&format!("to {sectors} sectors"));
    image.resize(sectors).map_err(|error| error.to_string())?;
    stage.machine.dom0().bell().ring();
    let blocks = || {
        let disk = port_disk::of_target(0)?;
        let info = disk.info();
        Some((info.blocks * u64::from(info.block_size)) >> 9)
    };
    // The disk says so to the next command.
    let (began, mut step) = (wait::now(), Duration::from_millis(1));
    while blocks() != Some(sectors) {
        let Some(disk) = stage.disk(0)? else {
            return Ok(());
        };
        if wait::now() - began > PATIENCE {
            return match stage.faulty {
                true => Ok(()),
                false => Err(format!("the disk has {:?} sectors of {sectors}", blocks())),
            };
        }
        let batch = Batch::send(&disk, Op::Flush, &[(0, 0)], |_| 0)?;
        stage.must("a flush ends", |_| batch.open() == 0)?;
        batch.take()?;
        stage.until(step, |_| blocks() == Some(sectors))?;
        step = (step * 2).min(Duration::from_secs(1));
    }
    for op in [Op::Write, Op::Read] {
        let Some(disk) = stage.disk(0)? else {
            return Ok(());
        };
        let last = disk.info().blocks - 1;
        let batch = Batch::send(&disk, op, &[(last, 1)], |_| 0x77)?;
        stage.must("the last block is used", |_| batch.open() == 0)?;
        if batch.take()? != [Got::Right] && !stage.faulty {
            return Err(format!("{op:?} of the last block, {last}, failed"));
        }
    }
    Ok(())
}
