//! The shipped bus driver through what a guest's life brings: suspension, sleep, devices that come and go. After each of
//! them the disk still works, and nothing is left over at the end.

#[path = "xenbus/cache.rs"]
mod cache;
#[path = "support/guest.rs"]
mod guest;
#[path = "support/life.rs"]
mod life;
mod support;

use std::path::Path;
use std::sync::mpsc;

use guest::{boot, packages, shut_down};
use life::{GUEST_PATH, PATIENCE, sleep, suspend, until};
use rig::boot::{self, Machine, Plan};
use rig::disk::{Disk, Io, Op};
use support::{check, plan};
use xen_model::Resume;
use xen_model::toolstack::GuestSpec;

/// The disk's number in xenstore.
const XVDA: u32 = 51712;

/// Writes some blocks and reads them back.
fn use_disk(machine: &Machine, seed: u8) -> Result<(), String> {
    let disk = &machine.disks()[0];
    let bytes = disk.info().block_size as usize;
    for block in 0..32u64 {
        let mut buffer = disk.buffer(bytes).ok_or("no memory")?;
        for piece in rig::disk::Buffer::pieces(&mut buffer) {
            piece.fill(seed ^ block as u8);
        }
        let (sender, receiver) = mpsc::channel();
        for op in [Op::Write, Op::Read] {
            let sender = sender.clone();
            disk.submit(Io {
                op,
                block,
                blocks: 1,
                buffer: Some(buffer),
                done: Box::new(move |result, buffer| {
                    // The receiver may have given up.
                    let _ = sender.send((result.is_ok(), buffer));
                }),
            });
            let answer = receiver.recv_timeout(PATIENCE);
            let (good, returned) = answer.map_err(|_| format!("block {block} is lost"))?;
            if !good {
                return Err(format!("block {block} failed"));
            }
            buffer = returned.ok_or("the buffer did not come back")?;
        }
        let as_written = rig::disk::Buffer::pieces(&mut buffer)
            .iter()
            .all(|piece| piece.iter().all(|&byte| byte == seed ^ block as u8));
        if !as_written {
            return Err(format!("block {block} is not what was written"));
        }
    }
    Ok(())
}

/// A class of devices appears in xenstore and goes again.
fn come_and_go(machine: &Machine) -> Result<(), String> {
    let has_child = || {
        machine
            .devices()
            .iter()
            .any(|row| row.to_string().contains("DEV_VKBD"))
    };
    let dom0 = machine.dom0();
    let class = format!("{GUEST_PATH}/device/vkbd");
    for _ in 0..3 {
        dom0.store().write(&format!("{class}/0/state"), "1");
        dom0.bell().ring();
        until("the child appears", has_child)?;
        dom0.store().remove(&class);
        dom0.bell().ring();
        until("the child goes", || !has_child())?;
    }
    Ok(())
}

/// Xen has a domain that no toolstack built, as a PVH domain 0: there is no xenstore page, and frame 0 is none.
fn without_store() -> Result<(), String> {
    let guest = GuestSpec {
        store: false,
        ..GuestSpec::default()
    };
    let packages = packages()?;
    let machine = boot::boot(Plan {
        guest,
        ..plan(&packages)
    })
    .map_err(|error| error.to_string())?;
    let refused = || {
        let devices = machine.devices();
        let mut platform = devices
            .iter()
            .filter(|row| row.service.as_deref() == Some("xenbus"));
        platform.any(|row| !row.started && row.state.contains("0xc000000e"))
    };
    until("xenbus.sys refuses to start", refused).map_err(|why| {
        let rows: Vec<_> = machine.devices().iter().map(ToString::to_string).collect();
        format!("{why}: {}", rows.join("; "))
    })?;
    shut_down(machine)
}

fn case(name: &str, image: &Path) -> Result<(), String> {
    if name == "without-store" {
        return without_store();
    }
    let machine = boot(&packages()?, image)?;
    use_disk(&machine, 0x55)?;
    match name {
        "restored" => {
            for round in 0..3 {
                let before = machine.dom0().backend_path(XVDA);
                suspend(&machine, Resume::Restored)?;
                use_disk(&machine, round)?;
                // A restored domain has another number, so its disks are elsewhere.
                if machine
                    .dom0()
                    .store()
                    .read(&format!("{before}/state"))
                    .is_some()
                {
                    return Err(format!("{before} is still there"));
                }
            }
        }
        "cancelled" => {
            for round in 0..3 {
                suspend(&machine, Resume::Cancelled)?;
                use_disk(&machine, round)?;
            }
        }
        "sleep" => {
            sleep(4)?;
            use_disk(&machine, 0x33)?;
        }
        "come-and-go" => come_and_go(&machine)?,
        "cache" => cache::freed_in_steps(&machine)?,
        _ => return Err(format!("no case {name}")),
    }
    use_disk(&machine, 0xAA)?;
    shut_down(machine)
}

/// Not a test of its own: what each test runs in a process.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    support::child(case);
}

#[test]
fn a_migrated_guest_goes_on() {
    check("restored");
}

#[test]
fn a_suspension_that_is_called_off_changes_nothing() {
    check("cancelled");
}

#[test]
fn a_machine_that_slept_goes_on() {
    check("sleep");
}

#[test]
fn children_come_and_go_with_their_class() {
    check("come-and-go");
}

#[test]
fn a_cache_frees_its_objects_in_steps() {
    check("cache");
}

#[test]
fn a_domain_without_xenstore_is_refused() {
    check("without-store");
}
