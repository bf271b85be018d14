//! Each object, asked for with every room, and set with every length.

use ndis_host::{Adapter, OidRequest};
use nt_sys::ndis::*;
use rig::port_nic;

use super::blocks::block;
use super::{
    BUFFER_TOO_SHORT, INVALID_DATA, INVALID_LENGTH, INVALID_PARAMETER, MULTICAST_FULL,
    NOT_SUPPORTED, SUCCESS, ask, expect, tell,
};

/// Bytes of room that are tried beyond what an answer has.
const BEYOND: usize = 10;

/// Counters: 8 bytes, or 4 where there is no room for more (Learn, "General Statistics OIDs").
const COUNTERS: [u32; 21] = [
    OID_GEN_XMIT_OK,
    OID_GEN_RCV_OK,
    OID_GEN_XMIT_ERROR,
    OID_GEN_RCV_ERROR,
    OID_GEN_RCV_NO_BUFFER,
    OID_GEN_RCV_CRC_ERROR,
    OID_GEN_DIRECTED_BYTES_XMIT,
    OID_GEN_DIRECTED_FRAMES_XMIT,
    OID_GEN_MULTICAST_BYTES_XMIT,
    OID_GEN_MULTICAST_FRAMES_XMIT,
    OID_GEN_BROADCAST_BYTES_XMIT,
    OID_GEN_BROADCAST_FRAMES_XMIT,
    OID_GEN_DIRECTED_BYTES_RCV,
    OID_GEN_DIRECTED_FRAMES_RCV,
    OID_GEN_MULTICAST_BYTES_RCV,
    OID_GEN_MULTICAST_FRAMES_RCV,
    OID_GEN_BROADCAST_BYTES_RCV,
    OID_GEN_BROADCAST_FRAMES_RCV,
    OID_802_3_RCV_ERROR_ALIGNMENT,
    OID_802_3_XMIT_ONE_COLLISION,
    OID_802_3_XMIT_MORE_COLLISIONS,
];

/// Everything else that can be asked for, and the length of its answer.
const VALUES: [(u32, usize); 27] = [
    (OID_GEN_HARDWARE_STATUS, 4),
    (OID_GEN_MEDIA_SUPPORTED, 4),
    (OID_GEN_MEDIA_IN_USE, 4),
    (OID_GEN_PHYSICAL_MEDIUM, 4),
    (OID_GEN_PHYSICAL_MEDIUM_EX, 4),
    (OID_GEN_CURRENT_LOOKAHEAD, 4),
    (OID_GEN_MAXIMUM_LOOKAHEAD, 4),
    (OID_GEN_MAXIMUM_FRAME_SIZE, 4),
    (OID_GEN_MAXIMUM_TOTAL_SIZE, 4),
    (OID_GEN_RECEIVE_BLOCK_SIZE, 4),
    (OID_GEN_TRANSMIT_BLOCK_SIZE, 4),
    (OID_GEN_RECEIVE_BUFFER_SPACE, 4),
    (OID_GEN_TRANSMIT_BUFFER_SPACE, 4),
    (OID_GEN_MAC_OPTIONS, 4),
    (OID_GEN_MEDIA_CONNECT_STATUS, 4),
    (OID_GEN_VENDOR_ID, 4),
    (OID_GEN_VENDOR_DRIVER_VERSION, 4),
    (OID_GEN_DRIVER_VERSION, 2),
    (OID_GEN_MAXIMUM_SEND_PACKETS, 4),
    (OID_GEN_CURRENT_PACKET_FILTER, 4),
    (OID_GEN_TRANSMIT_QUEUE_LENGTH, 4),
    (OID_GEN_VLAN_ID, 4),
    (OID_GEN_STATISTICS, 152),
    (OID_GEN_INTERRUPT_MODERATION, 12),
    (OID_TCP_RSC_STATISTICS, 40),
    (OID_802_3_PERMANENT_ADDRESS, 6),
    (OID_802_3_CURRENT_ADDRESS, 6),
];

/// All of that, and what the others come to.
pub fn all(adapter: &'static Adapter) -> Result<(), String> {
    for (oid, length) in VALUES {
        value(adapter, oid, length)?;
    }
    for oid in COUNTERS {
        counter(adapter, oid)?;
    }
    // Their lengths are the driver's to say.
    for oid in [OID_GEN_SUPPORTED_LIST, OID_GEN_VENDOR_DESCRIPTION] {
        let needed = ask(adapter, oid, 0).needed as usize;
        value(adapter, oid, needed)?;
    }
    let hashes = adapter.info().rss_queues != 0;
    match hashes {
        true => value(adapter, OID_GEN_RECEIVE_HASH, 60)?,
        false => {
            let answer = ask(adapter, OID_GEN_RECEIVE_HASH, 60);
            expect("a hash that there is not", &answer, NOT_SUPPORTED, 0)?;
        }
    }
    value(adapter, OID_802_3_MAXIMUM_LIST_SIZE, 4)?;
    listed(adapter, hashes)?;
    sets(adapter)?;
    multicast(adapter)?;
    unknown(adapter)
}

fn value(adapter: &'static Adapter, oid: u32, length: usize) -> Result<(), String> {
    for room in 0..length + BEYOND {
        let answer = ask(adapter, oid, room);
        let what = format!("{oid:#010x} in {room}");
        if room < length {
            expect(&what, &answer, BUFFER_TOO_SHORT, length)?;
        } else {
            expect(&what, &answer, SUCCESS, length)?;
            if answer.buffer.len() != length {
                return Err(format!("{what}: {} bytes", answer.buffer.len()));
            }
        }
    }
    Ok(())
}

fn counter(adapter: &'static Adapter, oid: u32) -> Result<(), String> {
    for room in 0..8 + BEYOND {
        let answer = ask(adapter, oid, room);
        let what = format!("{oid:#010x} in {room}");
        let (status, written) = match room {
            ..4 => (BUFFER_TOO_SHORT, 0),
            4..8 => (SUCCESS, 4),
            8.. => (SUCCESS, 8),
        };
        expect(&what, &answer, status, 8)?;
        if answer.buffer.len() != written {
            return Err(format!("{what}: {} bytes", answer.buffer.len()));
        }
    }
    Ok(())
}

/// What is in the list has an answer or can be set; scaling is in it only where there is some.
fn listed(adapter: &'static Adapter, hashes: bool) -> Result<(), String> {
    let list = ask(adapter, OID_GEN_SUPPORTED_LIST, 4096).buffer;
    let list: Vec<u32> = list
        .as_chunks()
        .0
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes))
        .collect();
    if list.contains(&OID_GEN_RECEIVE_SCALE_PARAMETERS) != hashes {
        return Err(format!("scaling in the list, with {hashes}"));
    }
    for oid in list {
        let asked = ask(adapter, oid, 4096).status;
        let told = tell(adapter, oid, &[]).status;
        // A set without content is wrong for each of them but the multicast list, and says so.
        let settable = [INVALID_LENGTH, SUCCESS].contains(&told);
        if asked != SUCCESS && !settable {
            return Err(format!(
                "{oid:#010x} is listed: {asked:#010x}, {told:#010x}"
            ));
        }
    }
    Ok(())
}

/// What can be set: a good value, and whether a longer one is as good.
fn sets(adapter: &'static Adapter) -> Result<(), String> {
    let number = |number: u32| number.to_le_bytes().to_vec();
    let goods = [
        (OID_GEN_CURRENT_PACKET_FILTER, number(0x0B), false),
        (OID_GEN_CURRENT_LOOKAHEAD, number(256), false),
        (OID_GEN_VLAN_ID, number(0), false),
        (
            OID_OFFLOAD_ENCAPSULATION,
            ndis_host::blocks::encapsulation(),
            true,
        ),
        (OID_TCP_OFFLOAD_PARAMETERS, block(0x80, 1, 20), true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(0x80, 2, 22), true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(0x80, 3, 26), true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(0x80, 4, 32), true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(0x80, 5, 34), true),
        (OID_PM_PARAMETERS, block(0x80, 1, 16), true),
        (OID_PM_PARAMETERS, block(0x80, 2, 20), true),
    ];
    for (oid, good, longer) in goods {
        for length in 0..good.len() + 40 {
            let mut bytes = good.clone();
            bytes.resize(length, 0x5A);
            let answer = tell(adapter, oid, &bytes);
            let fits = length == good.len() || longer && length > good.len();
            let what = format!("{oid:#010x} with {length} of {}", good.len());
            if fits {
                expect(&what, &answer, SUCCESS, 0)?;
                if answer.read as usize != good.len() {
                    return Err(format!("{what}: {} read", answer.read));
                }
            } else if answer.status != INVALID_LENGTH
                || answer.needed as usize == length
                || answer.needed as usize > good.len()
            {
                return Err(format!(
                    "{what}: {:#010x}, {} needed",
                    answer.status, answer.needed
                ));
            }
        }
    }
    // What there is nothing to set of.
    for (oid, length, status) in [
        (OID_GEN_INTERRUPT_MODERATION, 12, INVALID_DATA),
        (OID_GEN_LINK_PARAMETERS, 32, NOT_SUPPORTED),
    ] {
        let whole = block(0x80, 1, length);
        for length in 0..whole.len() {
            let answer = tell(adapter, oid, &whole[..length]);
            let what = format!("{oid:#010x} with {length}");
            expect(&what, &answer, INVALID_LENGTH, whole.len())?;
        }
        expect(
            &format!("{oid:#010x}"),
            &tell(adapter, oid, &whole),
            status,
            0,
        )?;
    }
    for bits in [0x10, 0x40, 0x80, 0x8000, 0x8000_0000_u32] {
        let answer = tell(adapter, OID_GEN_CURRENT_PACKET_FILTER, &bits.to_le_bytes());
        expect(&format!("filter {bits:#x}"), &answer, INVALID_PARAMETER, 0)?;
    }
    let answer = tell(adapter, OID_GEN_VLAN_ID, &4095_u32.to_le_bytes());
    expect("a VLAN that cannot be", &answer, INVALID_DATA, 0)
}

fn multicast(adapter: &'static Adapter) -> Result<(), String> {
    let groups: Vec<u8> = (0..34_u8).flat_map(|n| [1, 0, 0x5E, 0, 0, n]).collect();
    for length in (0..=groups.len()).rev() {
        let answer = tell(adapter, OID_802_3_MULTICAST_LIST, &groups[..length]);
        let what = format!("{length} bytes of groups");
        match length {
            _ if length % 6 != 0 => {
                expect(&what, &answer, INVALID_LENGTH, length.next_multiple_of(6))?;
            }
            ..=192 => {
                expect(&what, &answer, SUCCESS, 0)?;
                let list = ask(adapter, OID_802_3_MULTICAST_LIST, 400);
                if list.buffer != groups[..length] {
                    return Err(format!("{what}: {:?}", list.buffer));
                }
            }
            _ => expect(&what, &answer, MULTICAST_FULL, 192)?,
        }
    }
    let answer = tell(adapter, OID_802_3_MULTICAST_LIST, &[2, 0, 0, 0, 0, 0]);
    expect("an address of one station", &answer, INVALID_DATA, 0)
}

fn unknown(adapter: &'static Adapter) -> Result<(), String> {
    for oid in [0, 1, 0x0001_0107, 0x0101_0108, 0xFC01_0210, 0xFFFF_FFFF] {
        for length in [0, 4, 64] {
            let what = format!("{oid:#010x} with {length}");
            expect(&what, &ask(adapter, oid, length), NOT_SUPPORTED, 0)?;
            let answer = tell(adapter, oid, &vec![0; length]);
            expect(&what, &answer, NOT_SUPPORTED, 0)?;
        }
    }
    for oid in VALUES.iter().map(|(oid, _)| *oid).chain(COUNTERS) {
        let method = OidRequest::method(oid, &[0; 8], 64);
        let answer = port_nic::request(adapter, method);
        expect(&format!("method {oid:#010x}"), &answer, NOT_SUPPORTED, 0)?;
    }
    Ok(())
}
