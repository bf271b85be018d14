//! The shipped bus driver of network devices: devices that follow xenstore, what their drivers are offered, and what a
//! suspension, a sleep and an emulated network card do to them. Nothing is left over at the end.

#[path = "vif/addresses.rs"]
mod addresses;
#[path = "vif/again.rs"]
mod again;
#[path = "support/frames.rs"]
mod frames;
#[path = "support/guest.rs"]
mod guest;
#[path = "vif/hash.rs"]
mod hash;
#[path = "support/inf.rs"]
mod inf;
#[path = "support/life.rs"]
mod life;
#[path = "vif/multicast.rs"]
mod multicast;
#[path = "support/nics.rs"]
mod nics;
#[path = "vif/settings.rs"]
mod settings;
mod support;
#[path = "vif/tags.rs"]
mod tags;

use std::path::Path;

use backends::net::{Frame, Gso, Nics, Offer};
use frames::{blank, is_right, over_ipv4, plain};
use guest::{boot, packages, shut_down};
use life::{GUEST_PATH, sleep, suspend, until};
use nics::serve;
use nt_host::cm::{self, Value};
use nt_host::pnp::{Row, install};
use pv_interfaces::vif::{
    COMPLETION_OK, ChecksumFlags, EthernetAddress, OffloadOptions, Statistic,
};
use rig::boot::Machine;
use rig::packages::Packages;
use rig::vif::client::VifClient;
use rig::vif::driver as nic;
use support::{check, dist};
use xen_model::Resume;
use xen_model::toolstack::VifSpec;

const SERVICES: &str = r"\Registry\Machine\System\CurrentControlSet\Services";

/// The device of interface 0.
const DEVICE: &str = r"XENVIF\VEN_XP&DEV_NET\0";

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

/// Plugs in interface 0 and waits for its driver and for the connection.
fn connect(machine: &Machine, nics: &Nics) -> Result<(), String> {
    plug(machine, 0)?;
    until("its driver starts", || {
        device(machine, 0).is_some_and(|row| row.started)
    })?;
    until("it is connected", || nics.is_connected(0))
}

/// A TCP segment over IPv4, its checksum that of the pseudo header alone, or whole.
fn tcp(data: usize, is_blank: bool) -> Vec<u8> {
    let frame = over_ipv4(false, data);
    let length = frame.len() - 34;
    match is_blank {
        true => blank(frame, false, length),
        false => frame,
    }
}

/// Frames both ways, of all lengths, in pieces; large ones, and checksums that others complete.
fn packets(machine: &Machine, offer: Offer, version: u16) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    nics.offer(offer);
    connect(machine, &nics)?;
    let mut client = VifClient::open(DEVICE, version)?;
    client.enable(OffloadOptions::IPV4_TCP_CHECKSUM)?;
    for round in 0..3 {
        exchange(machine, &nics, &mut client)?;
        if round == 1 {
            suspend(machine, Resume::Restored)?;
        } else {
            client.disable();
            client.enable(OffloadOptions::IPV4_TCP_CHECKSUM)?;
        }
        until("it is connected again", || nics.is_connected(0))?;
    }
    for statistic in [
        Statistic::TransmitterUnicastPackets,
        Statistic::TransmitterUnicastOctets,
        Statistic::ReceiverUnicastPackets,
        Statistic::ReceiverTcpPackets,
    ] {
        if client.statistic(statistic) == 0 {
            return Err(format!("{statistic:?} is 0"));
        }
    }
    client.disable();
    client.release();
    unplug(machine, 0)
}

fn exchange(machine: &Machine, nics: &Nics, client: &mut VifClient) -> Result<(), String> {
    let dom0 = machine.dom0();
    // What came before the last disconnection, and what the ends have sent each other since.
    nics.take(0);
    client.take();
    let frames: Vec<_> = (14..=1514)
        .step_by(50)
        .map(|length| plain(length, 1))
        .collect();
    for piece in [9, 700, 4096] {
        let status = client.send(frames.clone(), piece, 0, 0)?;
        if status.iter().any(|status| *status != COMPLETION_OK) {
            return Err(format!("frames were not sent: {status:?}"));
        }
        let mut sent = nics.take(0);
        sent.sort_by_key(|frame| frame.bytes.len());
        let mut expected = frames.clone();
        for frame in &mut expected {
            frame.resize(frame.len().max(60), 0);
        }
        if !sent.iter().map(|frame| &frame.bytes).eq(&expected) {
            return Err(format!("{} frames arrived, or others", sent.len()));
        }
    }
    // A checksum that the backend completes, and one that it does not.
    client.send(
        vec![tcp(1000, true)],
        512,
        OffloadOptions::IPV4_TCP_CHECKSUM,
        0,
    )?;
    let sent = nics.take(0);
    let frame = sent.first().ok_or("no segment arrived")?;
    if frame.bytes != tcp(1000, frame.blank) {
        return Err("a segment's checksum is neither blank nor right".to_owned());
    }
    let large = OffloadOptions::IPV4_LARGE_PACKET | OffloadOptions::IPV4_TCP_CHECKSUM;
    let offered = client.call(|table, this| {
        let mut options = OffloadOptions(0);
        // SAFETY: the provider's method, and a place for the options.
        unsafe { (table.transmitter_query_offload_options)(this, &mut options) };
        options.0
    });
    if offered & large == large {
        client.send(vec![tcp(40_000, true)], 3000, large, 1400)?;
        let sent = nics.take(0);
        let frame = sent.first().ok_or("no large send arrived")?;
        let gso = Gso {
            size: 1400,
            v6: false,
        };
        if frame.gso != Some(gso) || !frame.blank || frame.bytes != tcp(40_000, true) {
            return Err(format!("a large send is {:?}", frame.gso));
        }
    }

    for frame in &frames {
        let frame = Frame {
            bytes: frame.clone(),
            ..Frame::default()
        };
        nics.send(dom0, 0, frame);
    }
    until("all frames arrive", || client.count() == frames.len())?;
    let mut received: Vec<_> = client.take().into_iter().map(|frame| frame.bytes).collect();
    received.sort_by_key(Vec::len);
    if received != frames {
        return Err("other frames arrived".to_owned());
    }
    let segment = Frame {
        bytes: tcp(1000, true),
        blank: true,
        validated: true,
        ..Frame::default()
    };
    nics.send(dom0, 0, segment);
    until("a segment arrives", || client.count() == 1)?;
    let received = client.take();
    if received[0].bytes != tcp(1000, false)
        || received[0].flags & ChecksumFlags::TCP_SUCCEEDED == 0
    {
        return Err(format!("a segment has flags {:#x}", received[0].flags));
    }
    let segment = Frame {
        bytes: tcp(10_000, true),
        blank: true,
        validated: true,
        gso: Some(Gso {
            size: 1400,
            v6: false,
        }),
        hash: None,
    };
    nics.send(dom0, 0, segment);
    // Eight segments, as the client takes no large ones.
    until("all segments arrive", || client.count() == 8)?;
    let received = client.take();
    let data: Vec<_> = received
        .iter()
        .flat_map(|it| &it.bytes[54..])
        .copied()
        .collect();
    if data != tcp(10_000, true)[54..] || !received.iter().all(|it| is_right(&it.bytes, false)) {
        return Err("the segments are not those of the large frame".to_owned());
    }
    let odd = received.iter().find(|it| it.mss != 0 || it.tci != 0);
    odd.map_or(Ok(()), |odd| {
        Err(format!("a segment says {} {}", odd.mss, odd.tci))
    })
}

/// The user's choice of an address, as Windows keeps it, takes the place of the permanent one.
fn own_address(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    connect(machine, &nics)?;
    let key = install::software_key(DEVICE).ok_or("no software key")?;
    for (text, expected) in [
        ("020000000007", [2, 0, 0, 0, 0, 7]),
        ("02:00:00:00:00:08", [2, 0, 0, 0, 0, 8]),
        // That of a group is no station's.
        ("030000000007", [0, 0x16, 0x3E, 0, 0, 0]),
    ] {
        cm::write(&key, "NetworkAddress", Value::sz(text));
        unplug(machine, 0)?;
        connect(machine, &nics)?;
        let client = VifClient::open(DEVICE, 10)?;
        let addresses = client.call(|table, this| {
            let mut both = [EthernetAddress([0; 6]); 2];
            let [current, permanent] = &mut both;
            // SAFETY: the provider's method, and a place for the address.
            unsafe { (table.mac_query_current_address)(this, current) };
            // SAFETY: as above.
            unsafe { (table.mac_query_permanent_address)(this, permanent) };
            both.map(|address| address.0)
        });
        client.release();
        if addresses != [expected, [0, 0x16, 0x3E, 0, 0, 0]] {
            return Err(format!("with {text} the addresses are {addresses:02x?}"));
        }
    }
    cm::write(&key, "NetworkAddress", Value::sz("0200000000"));
    unplug(machine, 0)?;
    machine.dom0().attach_vif(VifSpec::new(0));
    until("a device with an odd address does not start", || {
        device(machine, 0).is_some_and(|row| row.state.starts_with("failed"))
    })
}

/// The link goes down and comes up again with another speed, and the client is told.
fn link(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    connect(machine, &nics)?;
    let client = VifClient::open(DEVICE, 10)?;
    client.enable(0)?;
    let speed = || {
        client.call(|table, this| {
            let mut speed = 0;
            // SAFETY: the provider's method, and a place for the speed.
            unsafe {
                (table.mac_query_state)(
                    this,
                    std::ptr::null_mut(),
                    &mut speed,
                    std::ptr::null_mut(),
                );
            }
            speed
        })
    };
    let write = |key: &str, value: &str| {
        let dom0 = machine.dom0();
        dom0.store()
            .write(&format!("{GUEST_PATH}/device/vif/0/{key}"), value);
        dom0.bell().ring();
    };
    if speed() != 100_000_000_000 {
        return Err(format!("the speed is {}", speed()));
    }
    write("disconnect", "1");
    until("the link goes down", || speed() == 0)?;
    write("speed", "250m");
    write("disconnect", "0");
    until("the link comes up", || speed() == 250_000_000)?;
    if client.link_changes() < 2 {
        return Err(format!(
            "the client heard of {} changes",
            client.link_changes()
        ));
    }
    client.disable();
    client.release();
    unplug(machine, 0)
}

/// The toolstack takes an interface away, and everybody goes along.
fn eject(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    for _ in 0..3 {
        connect(machine, &nics)?;
        machine.dom0().detach_vif(0);
        until("the device is ejected", || {
            !nics.is_connected(0) && device(machine, 0).is_none()
        })?;
        until("the backend has closed", || {
            machine.dom0().finish_vif_detach(0, false)
        })?;
    }
    Ok(())
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
    let _nics = serve(machine);
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
        if offered != ["CACHE 1-2", "STORE 2", "SUSPEND 1", "VIF 8-10"] {
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
    let line = "HKLM,SYSTEM\\CurrentControlSet\\Services\\XEN\\ForceUnplug,NICS,0x00010001,0\r\n";
    inf::add_lines(packages, "xenbus.inf", "Xen_Unplug", line)
}

fn case(name: &str, image: &Path) -> Result<(), String> {
    if name.starts_with("vif:") {
        let outcome =
            rig::faults::hostile::run(name, &dist()).map_err(|error| error.to_string())?;
        return outcome
            .and_then(|outcome| outcome.failure)
            .map_or(Ok(()), Err);
    }
    let mut packages = packages()?;
    // Tests of the VIF interface have a client of their own above it.
    packages.leave_out("xennet");
    if name == "emulated-nic" {
        keep_emulated_nics(&mut packages)?;
    }
    let machine = boot(&packages, image)?;
    match name {
        "vif-come-and-go" => come_and_go(&machine)?,
        "vif-driver" => driver(&machine)?,
        "emulated-nic" => emulated(&machine)?,
        "vif-packets" => packets(&machine, Offer::default(), 10)?,
        "vif-plain-backend" => packets(&machine, Offer::bare(), 9)?,
        "vif-version-8" => packets(&machine, Offer::default(), 8)?,
        "vif-hash" => hash::spread(&machine)?,
        "vif-no-control-ring" => hash::without_control_ring(&machine)?,
        "vif-multicast" => multicast::groups(&machine)?,
        "vif-addresses" => addresses::told(&machine)?,
        "vif-settings" => settings::moved(&machine)?,
        "vif-layout" => settings::laid_out(&machine)?,
        "vif-checksums" => settings::validated(&machine)?,
        "vif-tags" => tags::both_ways(&machine)?,
        "vif-address" => own_address(&machine)?,
        "vif-link" => link(&machine)?,
        "vif-eject" => eject(&machine)?,
        "vif-at-once" => again::at_once(&machine)?,
        "vif-restored" => {
            nic::bind();
            let nics = serve(&machine);
            connect(&machine, &nics)?;
            for _ in 0..3 {
                suspend(&machine, Resume::Restored)?;
                until("the driver introduces itself", || is_introduced(&machine))?;
                plug(&machine, 1)?;
                unplug(&machine, 1)?;
                device(&machine, 0).ok_or("device 0 has gone")?;
                until("it is connected again", || nics.is_connected(0))?;
            }
        }
        "vif-sleep" => {
            nic::bind();
            let nics = serve(&machine);
            connect(&machine, &nics)?;
            sleep(4)?;
            until("it is connected again", || nics.is_connected(0))?;
            until("the driver introduces itself", || is_introduced(&machine))?;
            plug(&machine, 1)?;
            unplug(&machine, 1)?;
        }
        _ => return Err(format!("no case {name}")),
    }
    shut_down(machine)
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
fn frames_go_both_ways() {
    check("vif-packets");
}

#[test]
fn frames_go_through_a_backend_that_offers_nothing() {
    check("vif-plain-backend");
}

#[test]
fn a_client_of_version_8_is_called_as_it_expects() {
    check("vif-version-8");
}

#[test]
fn packets_are_spread_by_the_hash_that_the_client_wants() {
    check("vif-hash");
}

#[test]
fn a_backend_without_a_control_ring_has_no_hash() {
    check("vif-no-control-ring");
}

#[test]
fn the_backend_passes_the_groups_that_the_client_wants() {
    check("vif-multicast");
}

#[test]
fn the_toolstack_and_the_network_are_told_of_addresses() {
    check("vif-addresses");
}

#[test]
fn the_settings_of_an_emulated_card_become_the_devices() {
    check("vif-settings");
}

#[test]
fn received_frames_lie_as_the_settings_and_the_client_want() {
    check("vif-layout");
}

#[test]
fn checksums_of_sent_frames_are_counted_where_that_is_set() {
    check("vif-checksums");
}

#[test]
fn tags_are_put_in_and_taken_out() {
    check("vif-tags");
}

#[test]
fn a_device_has_the_address_that_its_user_wants() {
    check("vif-address");
}

#[test]
fn the_client_hears_of_the_link() {
    check("vif-link");
}

#[test]
fn an_interface_that_the_toolstack_takes_is_ejected() {
    check("vif-eject");
}

#[test]
fn an_interface_that_comes_back_at_once_has_a_device_again() {
    check("vif-at-once");
}

#[test]
fn a_migrated_guest_keeps_its_interfaces() {
    check("vif-restored");
}

#[test]
fn a_machine_that_slept_keeps_its_interfaces() {
    check("vif-sleep");
}
