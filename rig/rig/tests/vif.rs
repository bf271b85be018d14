//! The shipped bus driver of network devices: devices that follow xenstore, what their drivers are offered, and what a
//! suspension, a sleep and an emulated network card do to them. Nothing is left over at the end.

#[path = "support/life.rs"]
mod life;
#[path = "support/nic.rs"]
mod nic;
mod support;

use std::path::Path;

use backends::block::BlockConfig;
use life::{GUEST_PATH, sleep, suspend, until};
use nt_host::cm;
use nt_host::pnp::Row;
use rig::boot::{self, Machine, Plan};
use rig::image::Claim;
use rig::packages::Packages;
use support::{check, dist};
use xen_model::Resume;
use xen_model::toolstack::{GuestSpec, VifSpec};

const SERVICES: &str = r"\Registry\Machine\System\CurrentControlSet\Services";

/// The device of interface `number`, if there is one.
fn device(machine: &Machine, number: u32) -> Option<Row> {
    let instance = format!(r"XENVIF\VEN_XP&DEV_NET\{number}");
    let mut rows = machine.devices().into_iter();
    rows.find(|row| row.instance == instance)
}

/// The recorded address of interface `number`.
fn address(number: u32) -> Option<String> {
    cm::read(
        &format!(r"{SERVICES}\xenvif\Addresses"),
        &number.to_string(),
    )?
    .as_string()
}

fn plug(machine: &Machine, number: u32) -> Result<(), String> {
    machine.dom0().attach_vif(VifSpec::new(number));
    until(&format!("device {number} appears"), || {
        device(machine, number).is_some()
    })
}

fn unplug(machine: &Machine, number: u32) -> Result<(), String> {
    machine.dom0().detach_vif(number);
    machine.dom0().finish_vif_detach(number, true);
    until(&format!("device {number} goes"), || {
        device(machine, number).is_none() && address(number).is_none()
    })
}

/// Whether the toolstack can see the driver.
fn is_introduced(machine: &Machine) -> bool {
    let mut store = machine.dom0().store();
    let drivers = format!("{GUEST_PATH}/drivers");
    let entries = store.list(&drivers);
    let lines: Vec<_> = entries
        .iter()
        .filter_map(|entry| store.read(&format!("{drivers}/{entry}")))
        .filter(|line| line.starts_with("Xen_Project XENVIF 9."))
        .collect();
    let hotplug = store.read(&format!("{GUEST_PATH}/feature/hotplug/vif"));
    lines.len() == 1 && hotplug.as_deref() == Some("1")
}

/// Interfaces come and go, and only what is one becomes a device.
fn come_and_go(machine: &Machine) -> Result<(), String> {
    let dom0 = machine.dom0();
    for (key, value) in [
        ("x/mac", "00:16:3e:00:00:09"),
        ("7/state", "1"),
        ("8/mac", "00:16:3e"),
    ] {
        dom0.store()
            .write(&format!("{GUEST_PATH}/device/vif/{key}"), value);
    }
    dom0.bell().ring();
    for round in 0..3 {
        plug(machine, 0)?;
        plug(machine, 10)?;
        if !is_introduced(machine) {
            return Err("the toolstack does not see the driver".to_owned());
        }
        let row = device(machine, 10).ok_or("device 10 has gone")?;
        let ids: Vec<_> = (1..=5)
            .rev()
            .map(|revision| format!(r"XENVIF\VEN_XP0001&DEV_NET&REV_0900000{revision}"))
            .chain(["XENDEVICE".to_owned()])
            .collect();
        if row.hardware_ids != ids || row.description != "XP0001 XENVIF 10" {
            return Err(format!("round {round}: {row:?}"));
        }
        if address(10).as_deref() != Some("00:16:3e:00:00:0a") {
            return Err(format!("its address is {:?}", address(10)));
        }
        unplug(machine, 0)?;
        if device(machine, 10).is_none() {
            return Err("another device went as well".to_owned());
        }
        unplug(machine, 10)?;
    }
    match (device(machine, 7), device(machine, 8)) {
        (None, None) => Ok(()),
        odd => Err(format!("devices without an address: {odd:?}")),
    }
}

/// What the driver of a device is offered, and the request for an unplug that stands as long as the device works.
fn driver(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let requests = || {
        let key = format!(r"{SERVICES}\XEN\Unplug");
        cm::read(&key, "NICS").and_then(|value| value.as_dword())
    };
    for _ in 0..3 {
        plug(machine, 0)?;
        until("its driver starts", || {
            device(machine, 0).is_some_and(|row| row.started)
        })?;
        until("an unplug is asked for", || requests() == Some(1))?;
        let mut offered: Vec<_> = machine
            .interfaces()
            .into_iter()
            .filter(|(instance, _)| instance.starts_with("XENVIF"))
            .map(|(_, interface)| interface)
            .collect();
        offered.sort();
        if offered != ["CACHE 1-2", "STORE 2", "SUSPEND 1"] {
            return Err(format!("offered: {offered:?}"));
        }
        unplug(machine, 0)?;
        until("no unplug is asked for", || requests() == Some(0))?;
    }
    Ok(())
}

/// An emulated network card is there: the device waits for the boot that takes it away.
fn emulated(machine: &Machine) -> Result<(), String> {
    nic::bind();
    machine.dom0().attach_vif(VifSpec::new(0));
    until("the device asks for a reboot", || {
        device(machine, 0).is_some_and(|row| row.state.contains("0xc00002d2"))
    })?;
    let request = cm::read(&format!(r"{SERVICES}\XEN\Unplug"), "NICS");
    if request.and_then(|value| value.as_dword()) != Some(1) {
        return Err("the next boot does not unplug it".to_owned());
    }
    unplug(machine, 0)
}

/// Has the installation say that this boot leaves the emulated network cards alone.
fn keep_emulated_nics(packages: &mut Packages) -> Result<(), String> {
    const SECTION: &str = "[Xen_Unplug]\r\n";
    const LINE: &str =
        "HKLM,SYSTEM\\CurrentControlSet\\Services\\XEN\\ForceUnplug,NICS,0x00010001,0\r\n";
    let mut infs = packages.infs.iter_mut();
    let inf = infs
        .find(|inf| inf.name == "xenbus.inf")
        .ok_or("no xenbus.inf")?;
    let text = String::from_utf8(inf.bytes.to_vec()).map_err(|error| error.to_string())?;
    if !text.contains(SECTION) {
        return Err("xenbus.inf has no such section".to_owned());
    }
    inf.bytes = text
        .replace(SECTION, &format!("{SECTION}{LINE}"))
        .into_bytes();
    Ok(())
}

fn case(name: &str, image: &Path) -> Result<(), String> {
    let mut packages = Packages::read(&dist()).map_err(|error| error.to_string())?;
    if name == "emulated-nic" {
        keep_emulated_nics(&mut packages)?;
    }
    let machine = boot::boot(Plan {
        cpus: 2,
        memory_mib: 128,
        packages: &packages,
        trace: None,
        seed: None,
        images: vec![Claim::new(image).map_err(|error| error.to_string())?],
        guest: GuestSpec::default(),
        configure: &|_: u32, _: &mut BlockConfig| {},
    })
    .map_err(|error| error.to_string())?;
    match name {
        "vif-come-and-go" => come_and_go(&machine)?,
        "vif-driver" => driver(&machine)?,
        "emulated-nic" => emulated(&machine)?,
        "vif-restored" => {
            nic::bind();
            plug(&machine, 0)?;
            for _ in 0..3 {
                suspend(&machine, Resume::Restored)?;
                until("the driver introduces itself", || is_introduced(&machine))?;
                plug(&machine, 1)?;
                unplug(&machine, 1)?;
                device(&machine, 0).ok_or("device 0 has gone")?;
            }
        }
        "vif-sleep" => {
            nic::bind();
            plug(&machine, 0)?;
            sleep(4)?;
            until("the driver introduces itself", || is_introduced(&machine))?;
            plug(&machine, 1)?;
            unplug(&machine, 1)?;
        }
        _ => return Err(format!("no case {name}")),
    }
    let findings = machine.shut_down();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings.join("\n"))
    }
}

/// Not a test of its own: what each test runs in a process.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    support::child(case);
}

#[test]
fn devices_come_and_go_with_xenstore() {
    check("vif-come-and-go");
}

#[test]
fn the_driver_of_a_device_is_offered_what_it_needs() {
    check("vif-driver");
}

#[test]
fn a_device_waits_for_the_boot_without_the_emulated_one() {
    check("emulated-nic");
}

#[test]
fn a_migrated_guest_keeps_its_interfaces() {
    check("vif-restored");
}

#[test]
fn a_machine_that_slept_keeps_its_interfaces() {
    check("vif-sleep");
}
