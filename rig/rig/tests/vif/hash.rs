//! The Toeplitz hash: programmed by the control ring, handed up with packets, and what chooses their queue.

use std::ptr::null;

use backends::net::{Frame, FrameHash, Nics, Offer};
use nt_sys::nt_success;
use pv_interfaces::vif::*;
use rig::boot::Machine;
use xen_model::Resume;

use crate::life::{suspend, until};
use crate::{DEVICE, connect, nic, serve, unplug};
use rig::vif::client::{About, VifClient};

/// Microsoft, "Verifying the RSS Hash Calculation".
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];
/// Of the same page: source, destination, ports, and the hash of all of it.
type Flow = ([u8; 4], [u8; 4], u16, u16, u32);
const FLOWS: [Flow; 5] = [
    (
        [66, 9, 149, 187],
        [161, 142, 100, 80],
        2794,
        1766,
        0x51cc_c178,
    ),
    (
        [199, 92, 111, 2],
        [65, 69, 140, 83],
        14230,
        4739,
        0xc626_b0ea,
    ),
    (
        [24, 19, 198, 95],
        [12, 22, 207, 184],
        12898,
        38024,
        0x5c2b_394a,
    ),
    (
        [38, 27, 205, 30],
        [209, 142, 163, 6],
        48228,
        2217,
        0xafc7_327f,
    ),
    (
        [153, 39, 163, 191],
        [202, 188, 127, 2],
        44251,
        1303,
        0x10e8_28a2,
    ),
];
/// IPv4, with TCP and without.
const TYPES: u32 = 1 << HASH_TYPE_IPV4 | 1 << HASH_TYPE_IPV4_TCP;
/// Processors by hash.
const MAPPING: [u8; 4] = [1, 0, 0, 1];

/// A TCP segment of a flow, without data.
fn segment((source, destination, from, to, _): Flow) -> Vec<u8> {
    let mut frame = vec![0x00, 0x16, 0x3E, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    frame.extend(from.to_be_bytes());
    frame.extend(to.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 0xFF, 0xFF, 0, 0, 0, 0]);
    frame
}

fn set_algorithm(client: &VifClient, algorithm: u32) -> i32 {
    client.call(move |table, this| {
        // SAFETY: the provider's method.
        unsafe { (table.receiver_set_hash_algorithm)(this, algorithm) }
    })
}

fn set_parameters(client: &VifClient) -> i32 {
    client.call(|table, this| {
        // SAFETY: the provider's method, and a key.
        unsafe { (table.receiver_update_hash_parameters)(this, TYPES, KEY.as_ptr()) }
    })
}

fn set_mapping(client: &VifClient, processors: &'static [u8]) -> i32 {
    client.call(move |table, this| {
        let numbers: Vec<_> = processors
            .iter()
            .map(|number| ProcessorNumber {
                group: 0,
                number: *number,
                reserved: 0,
            })
            .collect();
        let count = numbers.len() as u32;
        // SAFETY: the provider's method, and as many processors.
        unsafe { (table.update_hash_mapping)(this, numbers.as_ptr(), count) }
    })
}

fn capabilities(client: &VifClient) -> (i32, u32) {
    client.call(|table, this| {
        let mut types = 0;
        // SAFETY: the provider's method, and a place for the types.
        let status = unsafe { (table.receiver_query_hash_capabilities)(this, &mut types) };
        (status, types)
    })
}

fn need(what: &str, status: i32) -> Result<(), String> {
    match nt_success(status) {
        true => Ok(()),
        false => Err(format!("{what}: {status:#x}")),
    }
}

/// Two queues, each with the packets that the mapping gives it, also after a migration.
/// Waits until frames have hashes: the new backend is told of that once it is connected.
fn hashes(machine: &Machine, nics: &Nics, client: &VifClient) -> Result<(), String> {
    let (mut sent, mut arrived) = (0, 0);
    until("frames have hashes again", || {
        let frames = client.take();
        arrived += frames.len();
        let hashed = frames
            .iter()
            .any(|frame| frame.hash.algorithm == HASH_ALGORITHM_TOEPLITZ);
        if !hashed && arrived == sent {
            let frame = Frame {
                bytes: segment(FLOWS[0]),
                ..Frame::default()
            };
            nics.send(machine.dom0(), 0, frame);
            sent += 1;
        }
        hashed
    })
}

pub fn spread(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    connect(machine, &nics)?;
    let mut client = VifClient::open(DEVICE, 10)?;
    client.enable(0)?;
    let offered = capabilities(&client);
    if offered != (0, 0b1_1110) {
        return Err(format!("the backend offers {offered:x?}"));
    }
    need("algorithm", set_algorithm(&client, HASH_ALGORITHM_TOEPLITZ))?;
    need("parameters", set_parameters(&client))?;
    need("mapping", set_mapping(&client, &MAPPING))?;
    if nt_success(set_mapping(&client, &[0, 1, 2])) {
        return Err("more processors than queues are taken".to_owned());
    }
    for _ in 0..2 {
        for flow in FLOWS {
            let frame = Frame {
                bytes: segment(flow),
                ..Frame::default()
            };
            nics.send(machine.dom0(), 0, frame);
        }
        until("all segments arrive", || client.count() == FLOWS.len())?;
        for frame in client.take() {
            let flow = FLOWS.iter().find(|flow| segment(**flow) == frame.bytes);
            let (.., hash) = *flow.ok_or("another segment arrives")?;
            let expected = PacketHash {
                algorithm: HASH_ALGORITHM_TOEPLITZ,
                kind: HASH_TYPE_IPV4_TCP,
                value: hash,
            };
            // The first processor of the mapping has queue 0.
            let queue = u32::from(MAPPING[hash as usize % MAPPING.len()] == 0);
            if frame.hash != expected || frame.index != queue {
                return Err(format!(
                    "a segment has {:x?}, in queue {}, not {hash:x} in {queue}",
                    frame.hash, frame.index
                ));
            }
        }
        let about = About {
            hash: PacketHash {
                algorithm: HASH_ALGORITHM_TOEPLITZ,
                kind: HASH_TYPE_IPV4_TCP,
                value: 0x1234_5678,
            },
            ..About::default()
        };
        nics.take(0);
        client.send_as(vec![segment(FLOWS[0])], 4096, about)?;
        let said = nics.take(0).first().and_then(|frame| frame.hash);
        let expected = FrameHash {
            kind: 1,
            value: 0x1234_5678,
        };
        if said != Some(expected) {
            return Err(format!("the backend is told {said:x?} of a packet"));
        }
        suspend(machine, Resume::Restored)?;
        until("it is connected again", || nics.is_connected(0))?;
        hashes(machine, &nics, &client)?;
    }
    need("no hash", set_algorithm(&client, HASH_ALGORITHM_NONE))?;
    nics.send(
        machine.dom0(),
        0,
        Frame {
            bytes: segment(FLOWS[0]),
            ..Frame::default()
        },
    );
    until("a segment arrives", || client.count() == 1)?;
    if client.take()[0].hash != PacketHash::default() {
        return Err("a hash that nobody wants".to_owned());
    }
    client.disable();
    client.release();
    unplug(machine, 0)
}

/// Without a control ring a client that wants no hash is served as ever.
pub fn without_control_ring(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    nics.offer(Offer {
        control: false,
        ..Offer::default()
    });
    connect(machine, &nics)?;
    let client = VifClient::open(DEVICE, 10)?;
    for algorithm in [HASH_ALGORITHM_NONE, HASH_ALGORITHM_UNSPECIFIED] {
        need("no hash", set_algorithm(&client, algorithm))?;
    }
    client.enable(0)?;
    let refused = [
        set_algorithm(&client, HASH_ALGORITHM_TOEPLITZ),
        capabilities(&client).0,
    ];
    // STATUS_NOT_SUPPORTED.
    if refused != [0xC000_00BB_u32 as i32; 2] {
        return Err(format!("a hash is not refused: {refused:x?}"));
    }
    let status = client.call(|table, this| {
        // SAFETY: the provider's method; there is no key.
        unsafe { (table.receiver_update_hash_parameters)(this, TYPES, null()) }
    });
    if nt_success(status) {
        return Err("a key that is none is taken".to_owned());
    }
    client.disable();
    client.release();
    unplug(machine, 0)
}
