//! An adapter as one of the system's network interfaces, which netio.sys tells drivers of: from its initialisation to its
//! halt, with the state of its link.

use alloc::string::String;

use nt_host::cm;
use nt_host::netio::{self, Interface};

use crate::adapter::Adapter;

/// IF_TYPE_ETHERNET_CSMACD in the uppermost bits, then an index (ifdef.h: NET_LUID).
pub fn luid(index: u32) -> u64 {
    6 << 48 | u64::from(index) << 24
}

/// The numbers of a GUID in braces.
fn guid(text: &str) -> Option<(u32, u16, u16, [u8; 8])> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = |from: usize, to: usize| u64::from_str_radix(digits.get(from..to)?, 16).ok();
    let rest = number(16, 32)?.to_be_bytes();
    Some((
        number(0, 8)? as u32,
        number(8, 12)? as u16,
        number(12, 16)? as u16,
        rest,
    ))
}

/// Says what the adapter is now; the addresses that it has stay.
pub fn show(adapter: &Adapter) {
    let (info, link) = (adapter.info(), adapter.link());
    let luid = luid(adapter.index);
    let known = netio::interfaces();
    let addresses = known
        .into_iter()
        .find(|known| known.luid == luid)
        .map(|known| known.addresses);
    let text = |name| {
        let value = cm::read(&adapter.software_key, name);
        value
            .and_then(|value| value.as_string())
            .unwrap_or_default()
    };
    netio::set(Interface {
        luid,
        index: adapter.index,
        guid: guid(&text("NetCfgInstanceId")).unwrap_or_default(),
        alias: match adapter.index {
            1 => String::from("Ethernet"),
            index => alloc::format!("Ethernet {index}"),
        },
        description: text("DriverDesc"),
        address: info.mac,
        permanent: info.permanent_mac,
        connector: true,
        up: link.connected,
        mtu: info.mtu,
        speed: link.bits_per_second,
        addresses: addresses.unwrap_or_default(),
    });
}

/// The adapter is no interface any more.
pub fn hide(adapter: &Adapter) {
    netio::remove(luid(adapter.index));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_read_as_windows_stores_it() {
        assert_eq!(
            guid("{4D36E972-E325-11CE-BFC1-08002BE10318}"),
            Some((
                0x4d36_e972,
                0xe325,
                0x11ce,
                [0xbf, 0xc1, 0x08, 0x00, 0x2b, 0xe1, 0x03, 0x18]
            ))
        );
        assert_eq!(guid("{4D36E972}"), None);
    }
}
