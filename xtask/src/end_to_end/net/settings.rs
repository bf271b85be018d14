//! The card's advanced settings, by the keywords of its INF, switched off one by one under iperf3: everything arrives,
//! what was switched off is not used any more, and everything else still is. What was used the rig says at the end.

use anyhow::{Context, Result, ensure};

use super::super::Folder;
use super::{Kept, PEER, PEER6, received};

/// What iperf3 does, both ways at once, and the offloads that it uses: of TCP and of UDP over each version.
const TCP4: Traffic = Traffic {
    arguments: &["-c", PEER, "-n", "4M", "--bidir"],
    uses: &["tx-ip4", "tx-tcp4", "lso4", "rx-ip4", "rx-tcp4", "rsc4"],
};
const TCP6: Traffic = Traffic {
    arguments: &["-c", PEER6, "-n", "4M", "--bidir"],
    uses: &["tx-tcp6", "lso6", "rx-tcp6", "rsc6"],
};
const UDP4: Traffic = Traffic {
    arguments: &["-c", PEER, "-u", "-b", "50M", "-n", "500K", "--bidir"],
    uses: &["tx-ip4", "tx-udp4", "rx-ip4", "rx-udp4"],
};
const UDP6: Traffic = Traffic {
    arguments: &["-c", PEER6, "-u", "-b", "50M", "-n", "500K", "--bidir"],
    uses: &["tx-udp6", "rx-udp6"],
};

struct Traffic {
    arguments: &'static [&'static str],
    uses: &'static [&'static str],
}

/// A setting, what goes through the card, and the offloads that are not used then.
const SETTINGS: &[(&str, Traffic, &[&str])] = &[
    ("*IPChecksumOffloadIPv4=0", TCP4, &["tx-ip4", "rx-ip4"]),
    // Linux asks for IPv4's together with TCP's.
    (
        "*TCPChecksumOffloadIPv4=0",
        TCP4,
        &["tx-tcp4", "rx-tcp4", "tx-ip4"],
    ),
    ("*TCPChecksumOffloadIPv4=1", TCP4, &["rx-tcp4"]),
    ("*TCPChecksumOffloadIPv4=2", TCP4, &["tx-tcp4", "tx-ip4"]),
    ("*TCPChecksumOffloadIPv6=0", TCP6, &["tx-tcp6", "rx-tcp6"]),
    ("*UDPChecksumOffloadIPv4=0", UDP4, &["tx-udp4", "rx-udp4"]),
    ("*UDPChecksumOffloadIPv6=0", UDP6, &["tx-udp6", "rx-udp6"]),
    ("NeedChecksumValue=0", TCP4, &[]),
    ("*LsoV2IPv4=0", TCP4, &["lso4"]),
    ("*LsoV2IPv6=0", TCP6, &["lso6"]),
    ("*RscIPv4=0", TCP4, &["rsc4"]),
    ("*RscIPv6=0", TCP6, &["rsc6"]),
    ("LROIPv4=0", TCP4, &["rsc4"]),
    ("LROIPv6=0", TCP6, &["rsc6"]),
];

/// The account of offloads: what stands behind each name.
pub(super) struct Uses<'a>(Vec<(&'a str, u64)>);

impl<'a> Uses<'a> {
    pub(super) fn read(seen: &'a str) -> Result<Self> {
        let mut lines = seen.lines();
        let line = lines.find_map(|line| line.split_once("offloads used: "));
        let (_, line) = line.with_context(|| format!("no account of offloads\n{seen}"))?;
        let pairs = line.split(", ").map(|pair| {
            let (name, count) = pair.split_once(' ')?;
            Some((name, count.parse().ok()?))
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        Ok(Self(pairs.with_context(|| format!("unreadable: {line}"))?))
    }

    pub(super) fn of(&self, name: &str) -> Result<u64> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        let found = found.with_context(|| format!("no offload is called {name}"))?;
        Ok(found.1)
    }
}

pub(super) fn switched_off(_: &Folder) -> Result<()> {
    for (setting, traffic, gone) in SETTINGS {
        one(setting, traffic, gone).with_context(|| format!("with {setting}"))?;
    }
    Ok(())
}

fn one(setting: &str, traffic: &Traffic, gone: &[&str]) -> Result<()> {
    let kept = Kept::start(&["--set", setting])?;
    received(&kept.iperf3(traffic.arguments)?)?;
    let seen = kept.end()?;
    let uses = Uses::read(&seen)?;
    for name in gone {
        ensure!(uses.of(name)? == 0, "{name} is still used\n{seen}");
    }
    for name in traffic.uses.iter().filter(|name| !gone.contains(name)) {
        ensure!(uses.of(name)? > 0, "{name} is not used any more\n{seen}");
    }
    Ok(())
}

/// Frames of two processors' queues, each where the table has their hashes; with one queue, or without scaling, none
/// has a hash.
pub(super) fn spread(_: &Folder) -> Result<()> {
    for (setting, hashed) in [
        (None, true),
        (Some("*RSS=0"), false),
        (Some("*NumRSSQueues=1"), false),
    ] {
        let mut arguments = vec!["--cpus=2", "--queues=2"];
        if let Some(setting) = setting {
            arguments.extend(["--set", setting]);
        }
        let kept = Kept::start(&arguments)?;
        // A connection's hash depends on its port, which is another each time.
        for address in [PEER, PEER6] {
            received(&kept.iperf3(&["-c", address, "-n", "2M", "-P", "8", "--reverse"])?)?;
        }
        let seen = kept.end()?;
        let with_hash = Uses::read(&seen)?.of("hash")?;
        ensure!(
            (with_hash > 0) == hashed,
            "{setting:?}: {with_hash} frames have a hash\n{seen}"
        );
        if !hashed {
            continue;
        }
        for cpu in ["cpu 0: ", "cpu 1: "] {
            let count = number_behind(&seen, cpu).unwrap_or(0);
            ensure!(count > 0, "{cpu}received nothing\n{seen}");
        }
        let astray = seen.lines().find(|line| line.contains("not where"));
        let astray = astray.and_then(|line| {
            let mut parts = line.split("; ");
            let part = parts.find(|part| part.contains("not where"))?;
            part.split(' ').next()?.parse::<u64>().ok()
        });
        // Some may have been under way when the table was set.
        let astray = astray.with_context(|| format!("no account of processors\n{seen}"))?;
        ensure!(astray * 20 < with_hash, "{astray} frames astray\n{seen}");
    }
    Ok(())
}

fn number_behind(text: &str, what: &str) -> Option<u64> {
    let (_, rest) = text.split_once(what)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
