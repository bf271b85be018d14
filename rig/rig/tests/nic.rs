//! Two ordinary Linux network stacks through the shipped network drivers. Without the right to make network namespaces
//! there is nothing to test, which is said.

#[path = "support/guest.rs"]
mod guest;
#[allow(dead_code, reason = "other tests let the machine sleep")]
#[path = "support/life.rs"]
mod life;
#[path = "support/nics.rs"]
mod nics;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use backends::net::{Offer, TapWire};
use guest::{boot, packages, shut_down};
use life::{suspend, until};
use nics::serve;
use rig::boot::Machine;
use rig::nic::ends::End;
use rig::nic::probe::{self, Until};
use rig::nic::totals::Work;
use rig::nic::{Nic, NicError, Options, datagrams};
use rig::vif::client::VifClient;
use rig::vif::driver;
use support::check;
use tap::vnet::Header;
use xen_model::Resume;
use xen_model::toolstack::VifSpec;

/// The device of interface 0.
const DEVICE: &str = r"XENVIF\VEN_XP&DEV_NET\0";
/// As long as frames of the card can be.
const MTU: u32 = 1500;

/// The peer's stack; `None`, and it is said, where there can be none.
fn peer() -> Option<End> {
    match End::peer(MTU) {
        Ok(end) => Some(end),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

/// Passes frames between a stack and a client of the VIF interface until `stop`.
fn bridge(windows: &End, client: &mut VifClient, stop: &AtomicBool) -> Result<(), String> {
    let tap = windows.tap();
    let plain = Header::default();
    let mut buffer = vec![0; 1 << 17];
    while !stop.load(Ordering::Relaxed) {
        let mut frames = Vec::new();
        let text = |error: std::io::Error| error.to_string();
        while frames.len() < 32
            && let Some((_, length)) = tap.read(&mut buffer).map_err(text)?
        {
            frames.push(buffer[..length].to_vec());
        }
        let received = client.take();
        let idle = frames.is_empty() && received.is_empty();
        if !frames.is_empty() {
            client.send(frames, 4096, 0, 0)?;
        }
        for frame in received {
            tap.write(&plain, &[&frame.bytes]).map_err(text)?;
        }
        if idle {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Two stacks over xenvif.sys alone: the one above it does without offloads, the peer has all of them.
fn without_ndis(machine: &Machine) -> Result<(), String> {
    let Some(peer) = peer() else { return Ok(()) };
    driver::bind();
    let nics = serve(machine);
    let dom0 = machine.dom0();
    let wire = TapWire::new(Arc::clone(peer.tap()), dom0.bell(), Box::new(|_| ()));
    nics.attach(0, Box::new(wire.map_err(|error| error.to_string())?));
    let spec = VifSpec::new(0);
    let mac = spec.mac;
    dom0.attach_vif(spec);
    // Nobody is above a device that has not started.
    until("its driver starts", || {
        let mut devices = machine.devices().into_iter();
        devices.any(|row| row.instance == DEVICE && row.started)
    })?;
    until("it is connected", || nics.is_connected(0))?;
    let mut client = VifClient::open(DEVICE, 10)?;
    client.enable(0)?;
    let windows = End::windows(mac, MTU).map_err(|error| error.to_string())?;
    let stop = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let bridge = scope.spawn(|| bridge(&windows, &mut client, &stop));
        let talked = talk(machine, &windows, &peer);
        stop.store(true, Ordering::Relaxed);
        let bridged = bridge.join().map_err(|_| "the bridge panicked".to_owned());
        talked.and(bridged?)
    });
    let traffic = nics.traffic(0);
    client.disable();
    client.release();
    dom0.detach_vif(0);
    dom0.finish_vif_detach(0, true);
    until("the device goes", || {
        machine.devices().iter().all(|row| row.instance != DEVICE)
    })?;
    result?;
    match traffic
        .iter()
        .any(|queue| queue.sent > 0 && queue.received > 0)
    {
        true => Ok(()),
        false => Err(format!("the queues carried {traffic:?}")),
    }
}

/// A card between two stacks; `None`, and it is said, where there can be none.
fn plug(machine: &Machine, offer: Offer, mtu: Option<u32>) -> Result<Option<Nic>, String> {
    let options = Options {
        offer,
        mtu,
        cpus: 2,
        captures: None,
        vlan: None,
        settings: Vec::new(),
    };
    match Nic::plug(machine, &options) {
        Err(NicError::Net(error)) => {
            eprintln!("SKIPPED: {error}");
            Ok(None)
        }
        plugged => plugged.map(Some).map_err(|error| error.to_string()),
    }
}

/// Two stacks over xennet.sys and xenvif.sys, with the backend's `offer`.
fn whole(machine: &Machine, offer: Offer, mtu: Option<u32>) -> Result<(), String> {
    let Some(mut nic) = plug(machine, offer, mtu)? else {
        return Ok(());
    };
    let talked = talk(machine, nic.windows(), nic.peer())
        .and_then(|()| if offer.control { hashed(&nic) } else { Ok(()) });
    let (totals, traffic) = (nic.totals(), nic.traffic());
    let unplugged = nic.unplug(machine).map_err(|error| error.to_string());
    talked.map_err(|why| format!("{why}; {totals:?}, {traffic:?}"))?;
    unplugged?;
    match traffic.iter().all(|queue| queue.sent > 0) {
        true => Ok(()),
        false => Err(format!("the queues carried {traffic:?}; {totals:?}")),
    }
}

/// After a migration frames have hashes as before, and are on the processors that the table has for them.
fn hashed(nic: &Nic) -> Result<(), String> {
    let before = nic.totals();
    for address in nic.windows().addresses() {
        let until = Until::Bytes(1 << 20);
        probe::transfer(nic.peer(), nic.windows(), address, until, true)
            .map_err(|error| error.to_string())?;
    }
    let after = nic.totals();
    let hashes = after.works.of(Work::Hash) - before.works.of(Work::Hash);
    let astray = after.astray - before.astray;
    match hashes > 0 && astray == 0 {
        true => Ok(()),
        false => Err(format!("{hashes} frames with hashes, {astray} astray")),
    }
}

/// Whether Linux leaves large datagrams to a TAP device: since 6.2.
fn linux_leaves_datagrams() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(2))
}

/// Large datagrams go to the card as they are and arrive in pieces; with its settings off, Linux cuts them before.
fn large_datagrams(machine: &Machine) -> Result<(), String> {
    let Some(mut nic) = plug(machine, Offer::default(), None)? else {
        return Ok(());
    };
    let text = |error: NicError| error.to_string();
    for is_on in [true, false] {
        for address in nic.peer().addresses() {
            for shape in [(40_000, 1400), (60_000, 1000), (1500, 1400)] {
                let (windows, peer) = (nic.windows(), nic.peer());
                datagrams::send(windows, peer, address, shape, 3)
                    .map_err(|error| format!("{shape:?} to {address}: {error}"))?;
            }
        }
        let totals = nic.unplug(machine).map_err(text)?;
        let used = [Work::Uso4, Work::Uso6].map(|work| totals.works.of(work) > 0);
        if used != [is_on && linux_leaves_datagrams(); 2] {
            return Err(format!("offered: {is_on}; {totals:?}"));
        }
        if is_on {
            for keyword in ["*UsoIPv4", "*UsoIPv6"] {
                ndis_host::set_keyword(keyword, "0");
            }
            nic.replug(machine).map_err(text)?;
        }
    }
    Ok(())
}

/// What any two stacks can do with each other, before and after a migration.
fn talk(machine: &Machine, windows: &End, peer: &End) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    for round in 0..2 {
        for (from, to) in [(windows, peer), (peer, windows)] {
            for address in to.addresses() {
                for bytes in [0, 56, 1472, 20_000] {
                    let ping = probe::ping(from, address, bytes, 2).map_err(text)?;
                    if ping.answered == 0 {
                        return Err(format!("round {round}: no answer with {bytes} bytes"));
                    }
                }
                let until = Until::Bytes(3 << 20);
                probe::transfer(from, to, address, until, true).map_err(text)?;
            }
        }
        if round == 0 {
            suspend(machine, Resume::Restored)?;
        }
    }
    Ok(())
}

fn case(name: &str, image: &Path) -> Result<(), String> {
    let mut packages = packages()?;
    if name == "nic-without-ndis" {
        // The test's own driver is the one of network devices.
        packages.leave_out("xennet");
    }
    let machine = boot(&packages, image)?;
    match name {
        "nic-without-ndis" => without_ndis(&machine)?,
        "nic-whole" => whole(&machine, Offer::default(), None)?,
        "nic-datagrams" => large_datagrams(&machine)?,
        "nic-jumbo" => whole(&machine, Offer::default(), Some(9000))?,
        "nic-plain-backend" => whole(&machine, Offer::bare(), None)?,
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
fn two_stacks_talk_through_the_bus_driver_alone() {
    check("nic-without-ndis");
}

#[test]
fn two_stacks_talk_through_both_drivers() {
    check("nic-whole");
}

#[test]
fn large_datagrams_are_cut_by_the_card() {
    check("nic-datagrams");
}

#[test]
fn two_stacks_talk_in_long_frames() {
    check("nic-jumbo");
}

#[test]
fn two_stacks_talk_through_a_backend_that_offers_nothing() {
    check("nic-plain-backend");
}
