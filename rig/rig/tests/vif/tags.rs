//! 802.1Q tags: put into frames that are sent, and taken out of those that are received.

use backends::net::Frame;
use pv_interfaces::vif::OffloadOptions;
use rig::boot::Machine;

use crate::life::until;
use crate::{DEVICE, connect, nic, plain, serve, unplug};
use rig::vif::client::{About, VifClient};

/// Priority 5, VLAN 100.
const TCI: u16 = 5 << 13 | 100;

/// The frame with its tag.
fn tagged(frame: &[u8]) -> Vec<u8> {
    let tag = [0x81, 0x00, (TCI >> 8) as u8, TCI as u8];
    [&frame[..12], &tag, &frame[12..]].concat()
}

pub fn both_ways(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    connect(machine, &nics)?;
    let mut client = VifClient::open(DEVICE, 10)?;
    for (options, tci) in [(OffloadOptions::TAG_MANIPULATION, TCI), (0, 0)] {
        client.enable(options)?;
        for length in [60, 1000, 1514] {
            let frame = plain(length, 7);
            let about = About {
                options,
                tci,
                ..About::default()
            };
            nics.take(0);
            client.send_as(vec![frame.clone()], 100, about)?;
            let expected = if tci == 0 {
                frame.clone()
            } else {
                tagged(&frame)
            };
            if nics
                .take(0)
                .iter()
                .map(|frame| &frame.bytes)
                .ne([&expected])
            {
                return Err(format!(
                    "a frame of {length} bytes is sent with another tag"
                ));
            }
            let sent = Frame {
                bytes: tagged(&frame),
                ..Frame::default()
            };
            nics.send(machine.dom0(), 0, sent);
            until("a tagged frame arrives", || client.count() == 1)?;
            let got = client.take();
            let expected = if tci == 0 { tagged(&frame) } else { frame };
            if got[0].bytes != expected || got[0].tci != tci {
                return Err(format!("a frame arrives with tag {:#x}", got[0].tci));
            }
        }
        client.disable();
    }
    client.release();
    unplug(machine, 0)
}
