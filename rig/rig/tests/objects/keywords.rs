//! Advanced settings, as the registry has them when the adapter is made.

use ndis_host::Adapter;
use ndis_host::blocks::{Feature, encapsulation, offload_parameters};
use nt_sys::ndis::*;
use rig::packages::Packages;

use super::{INVALID_DATA, NOT_SUPPORTED, SUCCESS, ask, expect, inf, tell};

/// Settings that differ from their defaults; the last one is nonsense.
const SETTINGS: [(&str, &str); 10] = [
    ("*IPChecksumOffloadIPv4", "0"),
    ("*TCPChecksumOffloadIPv4", "1"),
    ("*UDPChecksumOffloadIPv6", "2"),
    ("*LSOV2IPv4", "0"),
    ("LROIPv4", "0"),
    ("*RscIPv6", "0"),
    ("*RSS", "0"),
    ("*PriorityVLANTag", "1"),
    ("*JumboPacket", "1514"),
    ("*UDPChecksumOffloadIPv4", "9"),
];

/// Has the installation write them to the software keys of adapters.
pub fn turn_off(packages: &mut Packages) -> Result<(), String> {
    let lines: String = SETTINGS
        .iter()
        .map(|(name, value)| format!("HKR,,{name},0,\"{value}\"\r\n"))
        .collect();
    inf::add_lines(packages, "xennet.inf", "XenNet_Ndi", &lines)
}

pub fn are_off(adapter: &'static Adapter) -> Result<(), String> {
    let info = adapter.info();
    let mut expected = info.hardware.clone();
    (expected.tx.ip4, expected.rx.ip4) = (false, false);
    expected.rx.tcp4 = false;
    expected.tx.udp6 = false;
    (expected.lso_v1, expected.lso_v2_4) = (None, None);
    (expected.rsc4, expected.rsc6) = (false, false);
    let all = &info.hardware;
    if !(all.tx.ip4 && all.rx.tcp4 && all.lso_v2_4.is_some() && all.rsc4 && all.rsc6) {
        return Err(format!("the settings have changed the hardware: {all:?}"));
    }
    let is = |what: &str| {
        let found = adapter.offload();
        match found == expected {
            true => Ok(()),
            false => Err(format!("{what}: {found:?} and not {expected:?}")),
        }
    };
    is("at first")?;
    let answer = tell(adapter, OID_OFFLOAD_ENCAPSULATION, &encapsulation());
    expect("an encapsulation", &answer, SUCCESS, 0)?;
    is("after an encapsulation")?;
    if info.mtu != 1500 || info.rss_queues != 0 {
        return Err(format!("{info:?}"));
    }
    // NDIS_MAC_OPTION_8021P_PRIORITY, and not _8021Q_VLAN; no VLAN can be joined.
    let options = ask(adapter, OID_GEN_MAC_OPTIONS, 4).buffer;
    if options != 0xCD_u32.to_le_bytes() {
        return Err(format!("MAC options {options:?}"));
    }
    let answer = tell(adapter, OID_GEN_VLAN_ID, &7_u32.to_le_bytes());
    expect("a VLAN", &answer, INVALID_DATA, 0)?;
    let answer = ask(adapter, OID_GEN_RECEIVE_HASH, 60);
    expect("the hash", &answer, NOT_SUPPORTED, 0)?;
    // A request has the last word.
    let on = [
        (Feature::Ip4Checksum, 4),
        (Feature::Tcp4Checksum, 4),
        (Feature::Udp6Checksum, 4),
        (Feature::LsoV1, 2),
        (Feature::LsoV2v4, 2),
        (Feature::Rscv4, 2),
        (Feature::Rscv6, 2),
    ];
    let answer = tell(
        adapter,
        OID_TCP_OFFLOAD_PARAMETERS,
        &offload_parameters(&on),
    );
    expect("all on", &answer, SUCCESS, 0)?;
    match adapter.offload() == info.hardware {
        true => Ok(()),
        false => Err(format!("all on: {:?}", adapter.offload())),
    }
}
