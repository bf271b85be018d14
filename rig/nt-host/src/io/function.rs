//! What a request asks for, in words: its major function, and for PnP and power the minor one (wdm.h: `IRP_MN_*`).

use alloc::format;
use alloc::string::String;

use nt_sys::{IRP_MJ_PNP, IRP_MJ_POWER};

const PNP: [&str; 0x1a] = [
    "START_DEVICE",
    "QUERY_REMOVE_DEVICE",
    "REMOVE_DEVICE",
    "CANCEL_REMOVE_DEVICE",
    "STOP_DEVICE",
    "QUERY_STOP_DEVICE",
    "CANCEL_STOP_DEVICE",
    "QUERY_DEVICE_RELATIONS",
    "QUERY_INTERFACE",
    "QUERY_CAPABILITIES",
    "QUERY_RESOURCES",
    "QUERY_RESOURCE_REQUIREMENTS",
    "QUERY_DEVICE_TEXT",
    "FILTER_RESOURCE_REQUIREMENTS",
    "minor 0x0e",
    "READ_CONFIG",
    "WRITE_CONFIG",
    "EJECT",
    "SET_LOCK",
    "QUERY_ID",
    "QUERY_PNP_DEVICE_STATE",
    "QUERY_BUS_INFORMATION",
    "DEVICE_USAGE_NOTIFICATION",
    "SURPRISE_REMOVAL",
    "QUERY_LEGACY_BUS_INFORMATION",
    "DEVICE_ENUMERATED",
];
const POWER: [&str; 4] = ["WAIT_WAKE", "POWER_SEQUENCE", "SET_POWER", "QUERY_POWER"];

/// The name of a minor function of PnP or power, without `IRP_MN_`.
pub fn minor_name(major: u8, minor: u8) -> Option<&'static str> {
    let names: &[&str] = match major {
        IRP_MJ_PNP => &PNP,
        IRP_MJ_POWER => &POWER,
        _ => return None,
    };
    names.get(usize::from(minor)).copied()
}

/// A request in words.
pub fn label(major: u8, minor: u8) -> String {
    match minor_name(major, minor) {
        Some(name) => format!("IRP_MN_{name}"),
        None => format!("IRP_MJ {major:#04x}/{minor:#04x}"),
    }
}
