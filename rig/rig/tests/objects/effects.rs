//! What becomes of what is set: offloads that are indicated, hashes that exclude each other, values that come back.

use backends::net::{Nics, Offer};
use ndis_host::blocks::{Feature, encapsulation, offload_parameters, rss, rss_off};
use ndis_host::{Adapter, Control, Offload};
use nt_sys::ndis::*;
use rig::boot::Machine;
use rig::port_nic;
use xen_model::Resume;

use super::blocks::{block, hash};
use super::life::{suspend, until};
use super::{INVALID_DATA, INVALID_PARAMETER, NOT_SUPPORTED, SUCCESS, ask, expect, tell};

/// NDIS_HASH_IPV4, _TCP_IPV4, _IPV6, _TCP_IPV6 (ntddndis.h).
const TYPES: u32 = 0x1700;

pub fn all(adapter: &'static Adapter) -> Result<(), String> {
    values(adapter)?;
    offloads(adapter)?;
    hashes(adapter)?;
    port_nic::control(adapter, Control::Pause).map_err(|status| format!("pause: {status:#x}"))?;
    // A paused adapter answers as well.
    values(adapter)?;
    offloads(adapter)?;
    hashes(adapter)?;
    let before = adapter.offload();
    port_nic::control(adapter, Control::Restart).map_err(|s| format!("restart: {s:#x}"))?;
    same("a restart", &adapter.offload(), &before)?;
    hashes(adapter)
}

fn number(adapter: &'static Adapter, oid: u32) -> Result<u64, String> {
    let answer = ask(adapter, oid, 8);
    expect(
        &format!("{oid:#010x}"),
        &answer,
        SUCCESS,
        answer.buffer.len(),
    )?;
    let bytes = answer.buffer.iter().rev();
    Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn values(adapter: &'static Adapter) -> Result<(), String> {
    let info = adapter.info();
    let mtu = u64::from(info.mtu);
    for (oid, value) in [
        (OID_GEN_MAXIMUM_FRAME_SIZE, mtu),
        (OID_GEN_MAXIMUM_TOTAL_SIZE, mtu + 14),
        (OID_GEN_TRANSMIT_BLOCK_SIZE, mtu + 18),
        (OID_GEN_RECEIVE_BUFFER_SPACE, 256 * (mtu + 18)),
        (OID_GEN_VENDOR_ID, 0x5853),
        (OID_GEN_MEDIA_CONNECT_STATUS, 0),
        (OID_802_3_MAXIMUM_LIST_SIZE, 32),
    ] {
        let found = number(adapter, oid)?;
        if found != value {
            return Err(format!("{oid:#010x}: {found} and not {value}"));
        }
    }
    let address = ask(adapter, OID_802_3_CURRENT_ADDRESS, 6).buffer;
    if address != info.mac {
        return Err(format!("{address:?} and not {:?}", info.mac));
    }
    for filter in [0_u32, 0x0B, 0x2F, 0x0D] {
        let answer = tell(
            adapter,
            OID_GEN_CURRENT_PACKET_FILTER,
            &filter.to_le_bytes(),
        );
        expect("a filter", &answer, SUCCESS, 0)?;
        if number(adapter, OID_GEN_CURRENT_PACKET_FILTER)? != u64::from(filter) {
            return Err(format!("filter {filter:#x} does not come back"));
        }
    }
    for vlan in [7_u32, 4094, 0] {
        let answer = tell(adapter, OID_GEN_VLAN_ID, &vlan.to_le_bytes());
        expect("a VLAN", &answer, SUCCESS, 0)?;
        if number(adapter, OID_GEN_VLAN_ID)? != u64::from(vlan) {
            return Err(format!("VLAN {vlan} does not come back"));
        }
    }
    // NdisInterruptModerationNotSupported
    let moderation = ask(adapter, OID_GEN_INTERRUPT_MODERATION, 12).buffer;
    match moderation[8..] == [1, 0, 0, 0] {
        true => Ok(()),
        false => Err(format!("interrupt moderation: {moderation:?}")),
    }
}

fn same(what: &str, found: &Offload, expected: &Offload) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} and not {expected:?}")),
    }
}

fn change(adapter: &'static Adapter, changes: &[(Feature, u8)]) -> Result<(), String> {
    let bytes = offload_parameters(changes);
    let answer = tell(adapter, OID_TCP_OFFLOAD_PARAMETERS, &bytes);
    expect(&format!("{changes:?}"), &answer, SUCCESS, 0)
}

/// Everything on, one off, nothing changed, on again: each time what is indicated is what was asked.
fn offloads(adapter: &'static Adapter) -> Result<(), String> {
    let answer = tell(adapter, OID_OFFLOAD_ENCAPSULATION, &encapsulation());
    expect("an encapsulation", &answer, SUCCESS, 0)?;
    let hardware = adapter.info().hardware;
    same("all on", &adapter.offload(), &hardware)?;
    type Off = fn(&mut Offload);
    let features: [(Feature, u8, Off); 10] = [
        (Feature::Ip4Checksum, 4, |off| {
            (off.tx.ip4, off.rx.ip4) = (false, false)
        }),
        (Feature::Tcp4Checksum, 4, |off| {
            (off.tx.tcp4, off.rx.tcp4) = (false, false)
        }),
        (Feature::Udp4Checksum, 4, |off| {
            (off.tx.udp4, off.rx.udp4) = (false, false)
        }),
        (Feature::Tcp6Checksum, 4, |off| {
            (off.tx.tcp6, off.rx.tcp6) = (false, false)
        }),
        (Feature::Udp6Checksum, 4, |off| {
            (off.tx.udp6, off.rx.udp6) = (false, false)
        }),
        (Feature::LsoV1, 2, |off| off.lso_v1 = None),
        (Feature::LsoV2v4, 2, |off| off.lso_v2_4 = None),
        (Feature::LsoV2v6, 2, |off| off.lso_v2_6 = None),
        (Feature::Rscv4, 2, |off| off.rsc4 = false),
        (Feature::Rscv6, 2, |off| off.rsc6 = false),
    ];
    for (feature, on, off) in features {
        change(adapter, &[(feature, 1)])?;
        let mut expected = hardware.clone();
        off(&mut expected);
        same(&format!("{feature:?} off"), &adapter.offload(), &expected)?;
        change(adapter, &[])?;
        same("no change", &adapter.offload(), &expected)?;
        change(adapter, &[(feature, on)])?;
        same(&format!("{feature:?} on"), &adapter.offload(), &hardware)?;
    }
    // One direction of a checksum.
    change(adapter, &[(Feature::Udp4Checksum, 2)])?;
    let found = adapter.offload();
    if !found.tx.udp4 || found.rx.udp4 {
        return Err(format!("sending alone: {found:?}"));
    }
    change(adapter, &[(Feature::Udp4Checksum, 4)])?;
    // A value without meaning, among others that have one: nothing changes.
    let mut bytes = offload_parameters(&[(Feature::Tcp4Checksum, 1)]);
    bytes[8] = 5;
    let answer = tell(adapter, OID_TCP_OFFLOAD_PARAMETERS, &bytes);
    expect("a value without meaning", &answer, INVALID_DATA, 0)?;
    // IPsec, which there is not.
    bytes[8] = 0;
    bytes[10] = 2;
    let answer = tell(adapter, OID_TCP_OFFLOAD_PARAMETERS, &bytes);
    expect("IPsec", &answer, NOT_SUPPORTED, 0)?;
    same("what was refused", &adapter.offload(), &hardware)?;
    // Frames of LLC/SNAP.
    let mut other = encapsulation();
    other[8] = 16;
    let answer = tell(adapter, OID_OFFLOAD_ENCAPSULATION, &other);
    expect("other frames", &answer, INVALID_PARAMETER, 0)?;
    same("other frames", &adapter.offload(), &hardware)
}

/// Scaling, or the hash alone: one of them, or neither.
fn hashes(adapter: &'static Adapter) -> Result<(), String> {
    if adapter.info().rss_queues < 2 {
        return Err("the backend has several queues, and there is no scaling".to_owned());
    }
    let key: [u8; 40] = core::array::from_fn(|at| at as u8);
    let scale = rss(&key, &[0, 1, 0, 1], TYPES);
    let expect_set =
        |what: &str, oid, bytes: &[u8], status| expect(what, &tell(adapter, oid, bytes), status, 0);
    let (scaling, alone) = (OID_GEN_RECEIVE_SCALE_PARAMETERS, OID_GEN_RECEIVE_HASH);
    expect_set("scaling", scaling, &scale, SUCCESS)?;
    let answer = ask(adapter, alone, 60).buffer;
    let information = u32::from_le_bytes([answer[8], answer[9], answer[10], answer[11]]);
    if answer[20..] != key || information != TYPES | 1 || answer[4] != 0 {
        return Err(format!("while scaling: {answer:?}"));
    }
    expect_set(
        "the hash beside scaling",
        alone,
        &hash(TYPES, &key),
        NOT_SUPPORTED,
    )?;
    // All of it unchanged: NDIS_RSS_PARAM_FLAG_*.
    let mut unchanged = block(0x89, 2, 40);
    unchanged[4] = 1 | 2 | 4 | 8;
    expect_set("nothing new", scaling, &unchanged, SUCCESS)?;
    // Types that nobody hashes, no types, another function, a short key, a table of three.
    for bad in [
        rss(&key, &[0, 1], 0x4000),
        rss(&key, &[0, 1], 0),
        rss(&key, &[0, 1], TYPES | 2),
    ] {
        expect_set("what cannot be hashed", scaling, &bad, INVALID_PARAMETER)?;
    }
    for bad in [
        rss(&key[..39], &[0, 1], TYPES),
        rss(&key, &[0, 1, 0], TYPES),
    ] {
        expect_set("a bad key or table", scaling, &bad, INVALID_DATA)?;
    }
    let answer = ask(adapter, alone, 60).buffer;
    if answer[20..] != key {
        return Err("a request that was refused has changed the key".to_owned());
    }
    expect_set("the end of scaling", scaling, &rss_off(), SUCCESS)?;
    expect_set("the hash alone", alone, &hash(TYPES, &key), SUCCESS)?;
    expect_set("scaling beside the hash", scaling, &scale, NOT_SUPPORTED)?;
    let answer = ask(adapter, alone, 60).buffer;
    if answer[4] != 1 {
        return Err(format!("the hash alone: {answer:?}"));
    }
    expect_set("the end of the hash", alone, &block(0x80, 1, 20), SUCCESS)?;
    expect_set("scaling again", scaling, &scale, SUCCESS)?;
    expect_set("its end", scaling, &rss_off(), SUCCESS)
}

/// The guest goes to a host with a backend that can less, and back.
pub fn migrated(machine: &Machine, adapter: &'static Adapter, nics: &Nics) -> Result<(), String> {
    let answer = tell(adapter, OID_OFFLOAD_ENCAPSULATION, &encapsulation());
    expect("an encapsulation", &answer, SUCCESS, 0)?;
    let whole = adapter.offload();
    same("all on", &whole, &adapter.info().hardware)?;
    let mut poor = whole.clone();
    (poor.lso_v1, poor.lso_v2_4, poor.lso_v2_6) = (None, None, None);
    for _ in 0..2 {
        nics.offer(Offer {
            gso4: false,
            gso6: false,
            ..Offer::default()
        });
        suspend(machine, Resume::Restored)?;
        until("large sends are over", || adapter.offload() == poor)?;
        // What the backend cannot do nobody can ask for; that it was wished before is kept.
        let bytes = offload_parameters(&[(Feature::LsoV2v4, 2)]);
        let answer = tell(adapter, OID_TCP_OFFLOAD_PARAMETERS, &bytes);
        expect("a large send", &answer, NOT_SUPPORTED, 0)?;
        nics.offer(Offer::default());
        suspend(machine, Resume::Restored)?;
        until("large sends are back", || adapter.offload() == whole)?;
    }
    Ok(())
}
