//! An interface's IP addresses: the toolstack is told of them, and the network after a migration.

use std::net::IpAddr;

use backends::net::Nics;
use nt_host::netio::{self, Interface};
use pv_interfaces::vif::*;
use rig::boot::Machine;
use rig::vif::client::VifClient;
use xen_model::Resume;

use crate::life::{GUEST_PATH, suspend, until};
use crate::{DEVICE, connect, nic, serve, unplug};

/// Interface 0's.
pub const MAC: [u8; 6] = [0x00, 0x16, 0x3E, 0, 0, 0];
const V4: [u8; 4] = [192, 0, 2, 7];
const V6: [u16; 8] = [0x2001, 0xDB8, 0, 0, 0, 0, 0, 0x17];

/// An interface of the system with these addresses.
pub fn interface(luid: u64, permanent: [u8; 6], addresses: Vec<(IpAddr, u8)>) -> Interface {
    Interface {
        luid,
        index: luid as u32,
        guid: (luid as u32, 0, 0, [0; 8]),
        alias: "Café 2".to_owned(),
        description: "Xen PV Network Device".to_owned(),
        address: permanent,
        permanent,
        connector: true,
        up: true,
        mtu: 1500,
        speed: 1_000_000_000,
        addresses,
    }
}

fn attributes(machine: &Machine) -> Vec<(String, String)> {
    let mut store = machine.dom0().store();
    let mut found = Vec::new();
    for name in [
        "name", "mac/0", "mac/1", "ipv4/0", "ipv4/1", "ipv6/0", "ipv6/1",
    ] {
        let value = store.read(&format!("{GUEST_PATH}/attr/vif/0/{name}"));
        found.extend(value.map(|value| (name.to_owned(), value)));
    }
    found
}

fn expect(machine: &Machine, expected: &[(&str, &str)]) -> Result<(), String> {
    let told = until("the toolstack is told", || {
        let found = attributes(machine);
        found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .eq(expected.iter().copied())
    });
    told.map_err(|why| format!("{why}: {:?}", attributes(machine)))
}

/// Announcements of the two addresses that the backend has seen, three of each.
fn announced(nics: &Nics) -> Result<(), String> {
    let (mut arp, mut advertisements) = (0, 0);
    until("the addresses are announced", || {
        for frame in nics.take(0) {
            let bytes = &frame.bytes;
            let is_ours = bytes[6..12] == MAC;
            let v6: Vec<u8> = V6.iter().flat_map(|group| group.to_be_bytes()).collect();
            arp += usize::from(
                is_ours && bytes[12..14] == [8, 6] && bytes[28..32] == V4 && bytes[38..42] == V4,
            );
            advertisements += usize::from(
                is_ours && bytes[12..14] == [0x86, 0xDD] && bytes[54] == 136 && bytes[62..78] == v6,
            );
        }
        arp >= 3 && advertisements >= 3
    })
}

pub fn told(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    connect(machine, &nics)?;
    let client = VifClient::open(DEVICE, 10)?;
    client.enable(0)?;
    expect(machine, &[("mac/0", "00:16:3e:00:00:00")])?;
    let addresses = vec![(IpAddr::from(V4), 24), (IpAddr::from(V6), 64)];
    // Another card's are its own.
    netio::set(interface(
        1,
        [2; 6],
        vec![(IpAddr::from([198, 51, 100, 1]), 24)],
    ));
    netio::set(interface(2, MAC, addresses));
    let all = [
        ("name", "Café 2"),
        ("mac/0", "00:16:3e:00:00:00"),
        ("ipv4/0", "192.0.2.7"),
        ("ipv6/0", "2001:0db8:0000:0000:0000:0000:0000:0017"),
    ];
    expect(machine, &all)?;
    for _ in 0..2 {
        nics.take(0);
        suspend(machine, Resume::Restored)?;
        until("it is connected again", || nics.is_connected(0))?;
        announced(&nics)?;
        expect(machine, &all)?;
    }
    client.call(|table, this| {
        let group = EthernetAddress([1, 0, 0x5E, 0, 0, 0xFB]);
        // SAFETY: the provider's method, and one address.
        unsafe { (table.mac_set_multicast_addresses)(this, &group, 1) }
    });
    netio::set(interface(2, MAC, vec![(IpAddr::from([192, 0, 2, 8]), 24)]));
    let less = [
        ("name", "Café 2"),
        ("mac/0", "00:16:3e:00:00:00"),
        ("mac/1", "01:00:5e:00:00:fb"),
        ("ipv4/0", "192.0.2.8"),
    ];
    expect(machine, &less)?;
    client.disable();
    client.release();
    unplug(machine, 0)?;
    expect(machine, &[])
}
