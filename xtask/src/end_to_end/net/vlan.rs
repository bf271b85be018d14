//! VLANs: two stacks whose frames have tags, which are beside the frames between NDIS and the driver, and in them on the wire.

use std::process::Command;

use anyhow::{Result, ensure};

use super::super::{Folder, finish, succeed};
use super::settings::Uses;
use super::{Kept, LIMIT, PEER, PEER6, received};

/// Whether one echo request of so many is answered.
fn answered(kept: &Kept, address: &str, count: &str) -> Result<bool> {
    let mut ping = kept.windows("ping");
    ping.args(["-n", "-c", count, "-i", "0.2", "-W", "2", address]);
    let ended = finish(&mut ping, LIMIT)?;
    Ok(ended.output.contains("bytes from"))
}

pub(super) fn tagged(_: &Folder) -> Result<()> {
    // The stack above NDIS asks for tags; an adapter that is in the VLAN puts them in unasked.
    for (setting, asked) in [("VlanID=0", true), ("VlanID=7", false)] {
        let kept = Kept::start(&["--vlan=7", "--set", setting])?;
        for address in [PEER, PEER6] {
            ensure!(answered(&kept, address, "20")?, "{address} is silent");
            received(&kept.iperf3(&["-c", address, "-n", "4M", "--bidir"])?)?;
        }
        let seen = kept.end()?;
        let uses = Uses::read(&seen)?;
        ensure!((uses.of("tx-tag")? > 0) == asked, "{setting}\n{seen}");
        for name in [
            "rx-tag", "lso4", "lso6", "rx-tcp4", "rx-tcp6", "rsc4", "rsc6",
        ] {
            ensure!(uses.of(name)? > 0, "{setting}: {name} is not used\n{seen}");
        }
        let path = crate::toolchain::root().join("out/run/nic-peer.pcap");
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-e", "-c", "50", "-nr"]).arg(path);
        let frames = succeed(tcpdump.arg("vlan 7 and tcp"), LIMIT)?;
        ensure!(frames.contains("vlan 7, p 5"), "no tags:\n{frames}");
    }
    // Another VLAN's frames, and those of any where they are switched off, are not for the card.
    for setting in ["VlanID=8", "*PriorityVLANTag=0"] {
        let kept = Kept::start(&["--vlan=7", "--set", setting])?;
        ensure!(!answered(&kept, PEER, "2")?, "{setting}: the VLAN answers");
        kept.end()?;
    }
    Ok(())
}
