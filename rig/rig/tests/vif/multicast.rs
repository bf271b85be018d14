//! The backend's filter of multicast packets: it knows the client's list, and is off while the client wants all of them.

use std::collections::BTreeSet;

use backends::net::{Frame, Nics};
use nt_sys::nt_success;
use pv_interfaces::vif::*;
use rig::boot::Machine;
use xen_model::Resume;

use crate::life::{suspend, until};
use crate::{DEVICE, connect, nic, serve, unplug};
use rig::vif::client::VifClient;

fn group(last: u8) -> [u8; 6] {
    [0x33, 0x33, 0, 0, 0, last]
}

fn set_groups(client: &VifClient, last: &[u8]) -> Result<(), String> {
    let groups: Vec<_> = last
        .iter()
        .map(|last| EthernetAddress(group(*last)))
        .collect();
    let status = client.call(move |table, this| {
        let count = groups.len() as u32;
        // SAFETY: the provider's method, and as many addresses.
        unsafe { (table.mac_set_multicast_addresses)(this, groups.as_ptr(), count) }
    });
    match nt_success(status) {
        true => Ok(()),
        false => Err(format!("MacSetMulticastAddresses: {status:#x}")),
    }
}

fn set_level(client: &VifClient, level: u32) {
    client.call(move |table, this| {
        // SAFETY: the provider's method.
        unsafe { (table.mac_set_filter_level)(this, ADDRESS_MULTICAST, level) }
    });
}

fn passes(nics: &Nics, last: Option<&[u8]>) -> Result<(), String> {
    let wanted = last.map(|last| {
        last.iter()
            .map(|last| group(*last))
            .collect::<BTreeSet<_>>()
    });
    until(&format!("the backend passes {last:?}"), || {
        nics.groups(0) == wanted
    })
}

pub fn groups(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    connect(machine, &nics)?;
    let client = VifClient::open(DEVICE, 10)?;
    client.enable(0)?;
    // All are wanted.
    passes(&nics, None)?;
    set_groups(&client, &[1, 2])?;
    set_level(&client, FILTER_MATCHING);
    passes(&nics, Some(&[1, 2]))?;
    set_groups(&client, &[2, 3])?;
    passes(&nics, Some(&[2, 3]))?;
    suspend(machine, Resume::Restored)?;
    until("it is connected again", || nics.is_connected(0))?;
    passes(&nics, Some(&[2, 3]))?;
    let send = |last: u8| {
        let mut bytes = group(last).to_vec();
        bytes.extend([2, 0, 0, 0, 0, 1, 0x88, 0xB5, last]);
        bytes.resize(60, 0);
        let frame = Frame {
            bytes,
            ..Frame::default()
        };
        nics.send(machine.dom0(), 0, frame);
    };
    (0..5).for_each(send);
    until("the frames of both groups arrive", || client.count() == 2)?;
    let mut last: Vec<_> = client.take().iter().map(|frame| frame.bytes[14]).collect();
    last.sort_unstable();
    if last != [2, 3] {
        return Err(format!("frames of groups {last:?} arrive"));
    }
    // More groups than the backend keeps: it must not filter then.
    set_groups(&client, &(0..80).collect::<Vec<_>>())?;
    passes(&nics, None)?;
    set_level(&client, FILTER_ALL);
    set_groups(&client, &[])?;
    passes(&nics, None)?;
    client.disable();
    client.release();
    unplug(machine, 0)
}
