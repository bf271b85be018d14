//! The shipped network drivers below the NDIS host: frames both ways, with everything that can be said of them; pauses,
//! and adapters that go while frames are under way.

#[path = "support/adapter.rs"]
mod adapter;
#[path = "support/frames.rs"]
mod frames;
#[path = "support/guest.rs"]
mod guest;
#[path = "support/life.rs"]
mod life;
#[path = "support/nics.rs"]
mod nics;
#[path = "support/protocol.rs"]
mod protocol;
mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use adapter::running;
use backends::net::{Frame, Gso, Nics};
use frames::{blank, is_right, over_ipv4, plain};
use guest::{boot_with, packages, shut_down};
use life::{sleep, suspend, until};
use ndis_host::{Adapter, Checksum, Control, Layout, Segmentation, State, Tag};
use nics::serve;
use protocol::{Client, Received};
use rig::boot::Machine;
use rig::faults::director::Director;
use rig::faults::name::{Fault, Place, Turn};
use rig::port_nic;
use rig::vif::driver;
use support::check;
use xen_model::Resume;
use xen_model::toolstack::VifSpec;

/// NDIS_PACKET_TYPE_DIRECTED, _MULTICAST, _BROADCAST.
const FILTER: u32 = 0x0B;

/// Plugs an interface in and waits for its adapter.
fn plug(machine: &Machine, nics: &Nics, number: u32) -> Result<&'static Adapter, String> {
    machine.dom0().attach_vif(VifSpec::new(number));
    let adapter = running(number)?;
    until("it is connected", || nics.is_connected(number))?;
    Ok(adapter)
}

fn unplug(machine: &Machine, adapter: &Adapter, number: u32) -> Result<(), String> {
    machine.dom0().detach_vif(number);
    machine.dom0().finish_vif_detach(number, true);
    until("the adapter goes", || adapter.is_gone())
}

/// How frames lie in memory.
fn layouts() -> [Layout; 4] {
    [
        Layout::default(),
        Layout {
            offset: 6,
            pieces: vec![20, 0, 3, 1],
            apart: true,
        },
        Layout {
            offset: 30,
            pieces: vec![10, 10, 10, 0, 9, 700],
            apart: false,
        },
        Layout {
            offset: 0,
            pieces: vec![0, 0, 13, 1, 1, 1, 600],
            apart: true,
        },
    ]
}

/// Frames of all lengths, however they lie in memory, both ways.
fn frames(machine: &Machine) -> Result<(), String> {
    let nics = serve(machine);
    let adapter = plug(machine, &nics, 0)?;
    let client = Client::open(adapter, FILTER)?;
    let lengths = || (14..=1514).step_by(50);
    for round in 0..4 {
        for layout in layouts() {
            nics.take(0);
            let frames: Vec<_> = lengths().map(|length| plain(length, round)).collect();
            client.send(&frames, &layout, |_| ())?;
            let mut sent: Vec<_> = nics.take(0).into_iter().map(|frame| frame.bytes).collect();
            sent.sort_by_key(Vec::len);
            let padded = frames.iter().map(|frame| {
                let mut frame = frame.clone();
                frame.resize(frame.len().max(60), 0);
                frame
            });
            if !sent.iter().cloned().eq(padded) {
                return Err(format!("{} frames arrived, or others", sent.len()));
            }
            for frame in &frames {
                let bytes = frame.clone();
                let frame = Frame {
                    bytes,
                    ..Frame::default()
                };
                nics.send(machine.dom0(), 0, frame);
            }
            let mut received = client.wait_for(frames.len())?;
            received.sort_by_key(|frame| frame.bytes.len());
            if !received.iter().map(|frame| &frame.bytes).eq(&frames) {
                return Err("other frames arrived".to_owned());
            }
        }
        match round {
            0 => {
                port_nic::control(adapter, Control::Pause).map_err(|s| format!("{s:#x}"))?;
                port_nic::control(adapter, Control::Restart).map_err(|s| format!("{s:#x}"))?;
            }
            1 => suspend(machine, Resume::Restored)?,
            2 => sleep(nt_sys::PowerSystemSleeping3)?,
            _ => {}
        }
        until("it is connected again", || {
            nics.is_connected(0) && adapter.state() == State::Running
        })?;
    }
    drop(client);
    unplug(machine, adapter, 0)
}

/// Checksums, large sends of each kind, tags.
fn offloads(machine: &Machine) -> Result<(), String> {
    let nics = serve(machine);
    let adapter = plug(machine, &nics, 0)?;
    let client = Client::open(adapter, FILTER)?;
    for udp in [false, true] {
        let whole = over_ipv4(udp, 1000);
        let length = whole.len() - 34;
        let asked = Checksum {
            ip_version: 4,
            ip_header: true,
            tcp: !udp,
            udp,
            transport_offset: 34,
        };
        let frame = blank(whole.clone(), udp, length);
        client.send(&[frame], &Layout::default(), |it| it.set_checksum(asked))?;
        let sent = nics.take(0);
        let frame = sent.first().ok_or("no packet arrived")?;
        if frame.bytes.len() != whole.len() || !is_right(&frame.bytes, frame.blank) {
            return Err("a checksum is neither blank nor right".to_owned());
        }
    }
    for (segmentation, udp) in [
        (
            Segmentation::LsoV1 {
                mss: 1400,
                tcp_offset: 34,
            },
            false,
        ),
        (
            Segmentation::LsoV2 {
                mss: 1400,
                tcp_offset: 34,
                ip_version: 4,
            },
            false,
        ),
        (
            Segmentation::Uso {
                mss: 1400,
                udp_offset: 34,
                ip_version: 4,
            },
            true,
        ),
    ] {
        let whole = over_ipv4(udp, 40_000);
        let frame = blank(whole.clone(), udp, 0);
        client.send(&[frame], &Layout::default(), |it| {
            it.set_segmentation(segmentation)
        })?;
        let sent = nics.take(0);
        let header = if udp { 42 } else { 54 };
        let data: Vec<_> = sent
            .iter()
            .flat_map(|it| &it.bytes[header..])
            .copied()
            .collect();
        if data != whole[header..] {
            return Err(format!(
                "{segmentation:?}: {} frames with other data",
                sent.len()
            ));
        }
        if !sent
            .iter()
            .all(|it| it.gso.is_some() || it.bytes.len() <= header + 1400)
        {
            return Err(format!("{segmentation:?}: a frame is too long"));
        }
        let gso = Gso {
            size: 1400,
            v6: false,
        };
        if !udp && sent.iter().any(|it| it.gso.is_some_and(|said| said != gso)) {
            return Err(format!("{segmentation:?}: {:?}", sent[0].gso));
        }
        if !sent
            .iter()
            .all(|it| it.gso.is_some() || is_right(&it.bytes, it.blank))
        {
            return Err(format!("{segmentation:?}: a checksum is wrong"));
        }
    }
    // A tag is put in, and taken out.
    let tag = Tag {
        priority: 5,
        cfi: false,
        vlan: 7,
    };
    client.send(&[plain(100, 0)], &Layout::default(), |it| it.set_8021q(tag))?;
    let sent = nics.take(0);
    let tagged = &sent.first().ok_or("no tagged frame arrived")?.bytes;
    if tagged[12..18] != [0x81, 0, 0xA0, 7, 0x88, 0xB5] {
        return Err(format!("the tag is {:x?}", &tagged[12..18]));
    }
    let frame = Frame {
        bytes: tagged.clone(),
        ..Frame::default()
    };
    nics.send(machine.dom0(), 0, frame);
    let received = client.wait_for(1)?;
    let Received {
        bytes, tag: found, ..
    } = &received[0];
    if *bytes != plain(100, 0) || *found != Some(tag) {
        return Err(format!("{} bytes with the tag {found:?}", bytes.len()));
    }
    drop(client);
    unplug(machine, adapter, 0)
}

/// What cannot be a frame is refused, and nothing else with it.
fn refusals(machine: &Machine) -> Result<(), String> {
    let nics = serve(machine);
    let adapter = plug(machine, &nics, 0)?;
    let client = Client::open(adapter, FILTER)?;
    for (length, expected) in [
        (1, false),
        (13, false),
        (14, true),
        (1514, true),
        (1519, false),
        (60_000, false),
    ] {
        nics.take(0);
        let good = plain(200, 9);
        let status = client.outcome(&[plain(length, 1), good.clone()], &Layout::default())?;
        if (status[0] == 0) != expected || status[1] != 0 {
            return Err(format!("a frame of {length} bytes ends with {status:x?}"));
        }
        let arrived = nics.take(0);
        if arrived.len() != 1 + usize::from(expected)
            || arrived.last().is_none_or(|it| it.bytes != good)
        {
            return Err(format!(
                "{} frames arrived behind one of {length} bytes",
                arrived.len()
            ));
        }
    }
    drop(client);
    unplug(machine, adapter, 0)
}

/// The protocol keeps what it has received while the adapter pauses, or goes.
fn kept(machine: &Machine) -> Result<(), String> {
    let nics = serve(machine);
    for round in 0..4 {
        let adapter = plug(machine, &nics, 0)?;
        let client = Client::open(adapter, FILTER)?;
        client.keep(true);
        for index in 0..40 {
            let frame = Frame {
                bytes: plain(100 + index, round),
                ..Frame::default()
            };
            nics.send(machine.dom0(), 0, frame);
        }
        client.wait_for(40)?;
        match round {
            0 | 1 => {
                let outcome = port_nic::control(adapter, Control::Pause);
                outcome.map_err(|status| format!("the pause ends with {status:#x}"))?;
            }
            _ => {}
        }
        drop(client);
        unplug(machine, adapter, 0)?;
    }
    Ok(())
}

/// Whoever is above keeps what it can get, and frames go on arriving: those that it may not keep, it has to copy.
fn hoard(machine: &Machine) -> Result<(), String> {
    let nics = serve(machine);
    let adapter = plug(machine, &nics, 0)?;
    let client = Client::open(adapter, FILTER)?;
    client.keep(true);
    for round in 0..40 {
        for index in 0..40 {
            let frame = Frame {
                bytes: plain(100 + index, round),
                ..Frame::default()
            };
            nics.send(machine.dom0(), 0, frame);
        }
        let mut received = client.wait_for(40)?;
        received.sort_by_key(|frame| frame.bytes.len());
        if !(received.iter().zip(100..)).all(|(it, length)| it.bytes == plain(length, round)) {
            return Err(format!("other frames arrived in round {round}"));
        }
    }
    drop(client);
    unplug(machine, adapter, 0)
}

/// Where xennet.sys asks for a list for a frame: hashes of stacks, from one process for the next.
fn places() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("xennet-places")
}

/// Gives the interface 40 frames.
fn give(machine: &Machine, nics: &Nics, seed: u8) {
    for index in 0..40 {
        let frame = Frame {
            bytes: plain(100 + index, seed),
            ..Frame::default()
        };
        nics.send(machine.dom0(), 0, frame);
    }
}

/// Calls for a list, by the hashes of their stacks.
fn asked(director: &Director) -> Vec<(u64, u64)> {
    let sites = director.met().sites.into_iter();
    let own = sites.filter(|(_, site)| site.function == "NdisAllocateNetBufferAndNetBufferList");
    own.map(|(hash, site)| (hash, site.met)).collect()
}

/// Finds out where lists are asked for.
fn find_places(machine: &Machine, director: &Director) -> Result<(), String> {
    let nics = serve(machine);
    let adapter = plug(machine, &nics, 0)?;
    let client = Client::open(adapter, FILTER)?;
    director.arm();
    give(machine, &nics, 0);
    client.wait_for(40)?;
    director.disarm();
    let lines: String = asked(director)
        .iter()
        .map(|(hash, _)| format!("{hash}\n"))
        .collect();
    std::fs::write(places(), lines).map_err(|error| error.to_string())?;
    drop(client);
    unplug(machine, adapter, 0)
}

/// Lists cannot be had at those places.
fn without_lists() -> Result<Vec<Fault>, String> {
    let found = std::fs::read_to_string(places()).map_err(|error| error.to_string())?;
    let faults = found.lines().map(|line| {
        let place = Place::Stack(line.parse().map_err(|_| format!("no hash: {line}"))?);
        let turn = Turn::All;
        Ok(Fault::Alloc { place, turn })
    });
    faults.collect()
}

/// Without memory for lists frames are dropped, and their pages go back; with memory the next ones arrive.
fn scarce(machine: &Machine, director: &Director) -> Result<(), String> {
    let nics = serve(machine);
    let adapter = plug(machine, &nics, 0)?;
    let client = Client::open(adapter, FILTER)?;
    let refused = || asked(director).iter().map(|(_, met)| met).sum::<u64>();
    director.arm();
    // More than there are pages.
    for round in 1..=20 {
        give(machine, &nics, 1);
        until("they are dropped", || {
            refused() + client.received() as u64 >= round * 40
        })?;
    }
    director.disarm();
    let arrived = client.wait_for(0)?.len();
    if arrived > 400 {
        return Err(format!("{arrived} frames arrived without memory"));
    }
    give(machine, &nics, 2);
    let mut received = client.wait_for(40)?;
    received.sort_by_key(|frame| frame.bytes.len());
    if !(received.iter().zip(100..)).all(|(it, length)| it.bytes == plain(length, 2)) {
        return Err("other frames arrived afterwards".to_owned());
    }
    drop(client);
    unplug(machine, adapter, 0)
}

/// The system shuts down while frames go both ways, and those above keep some: nothing waits for anything.
fn shutdown(machine: &Machine) -> Result<(), String> {
    const POWER_SYSTEM_SHUTDOWN: i32 = 6;
    let nics = serve(machine);
    let adapter = plug(machine, &nics, 0)?;
    let client = Client::open(adapter, FILTER)?;
    client.keep(true);
    let stop = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let frames: Vec<_> = (60..90).map(|length| plain(length, 3)).collect();
                // Sent or refused: each comes back.
                client.outcome(&frames, &Layout::default())?;
                for bytes in frames {
                    let frame = Frame {
                        bytes,
                        ..Frame::default()
                    };
                    nics.send(machine.dom0(), 0, frame);
                }
            }
            Ok::<_, String>(())
        });
        let ended = until("frames arrive", || client.received() >= 300)
            .and_then(|()| sleep(POWER_SYSTEM_SHUTDOWN));
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join().map_err(|_| "the sender panicked")?;
        ended.and(sent)
    });
    ended?;
    drop(client);
    unplug(machine, adapter, 0)
}

fn case(name: &str, image: &Path) -> Result<(), String> {
    let packages = packages()?;
    match name {
        "xennet-oldest" => ndis_host::set_version(30),
        // The first that knows large sends over UDP.
        "xennet-offloads" => ndis_host::set_version(83),
        _ => {}
    }
    let director = match name {
        "xennet-places" => Some(Director::new(Vec::new())),
        "xennet-scarce" => Some(Director::new(without_lists()?)),
        _ => None,
    };
    let machine = boot_with(&packages, image, director)?;
    match name {
        "xennet-frames" | "xennet-oldest" => frames(&machine)?,
        "xennet-offloads" => offloads(&machine)?,
        "xennet-refusals" => refusals(&machine)?,
        "xennet-kept" => kept(&machine)?,
        "xennet-hoard" => hoard(&machine)?,
        "xennet-vif9" | "xennet-vif8" => {
            driver::bind_below(if name == "xennet-vif9" { 9 } else { 8 });
            frames(&machine)?;
        }
        "xennet-places" => find_places(&machine, director.ok_or("no director")?)?,
        "xennet-scarce" => scarce(&machine, director.ok_or("no director")?)?,
        "xennet-shutdown" => shutdown(&machine)?,
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
fn frames_arrive_as_they_were_through_pause_suspension_and_sleep() {
    check("xennet-frames");
}

#[test]
fn frames_arrive_below_the_oldest_ndis() {
    check("xennet-oldest");
}

#[test]
fn checksums_large_sends_and_tags_are_what_was_asked_for() {
    check("xennet-offloads");
}

#[test]
fn what_cannot_be_a_frame_is_refused_alone() {
    check("xennet-refusals");
}

#[test]
fn a_pause_or_an_unplug_waits_for_frames_that_are_kept() {
    check("xennet-kept");
}

#[test]
fn frames_go_over_version_9_of_the_interface() {
    check("xennet-vif9");
}

#[test]
fn frames_go_over_version_8_of_the_interface() {
    check("xennet-vif8");
}

#[test]
fn frames_without_memory_for_their_lists_go_back() {
    check("xennet-places");
    check("xennet-scarce");
}

#[test]
fn a_shutdown_does_not_wait_for_frames_that_are_kept() {
    check("xennet-shutdown");
}

#[test]
fn a_protocol_that_keeps_everything_starves_nobody() {
    check("xennet-hoard");
}
