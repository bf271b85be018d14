//! The counters of an interface. They begin with the device and are never reset.

use crate::rx::Drops;
use core::sync::atomic::{AtomicU64, Ordering};
use packet::receive::{Check, Checks};
use packet::{Kind, Layout, Transport, Version};
use pv_interfaces::vif::{STATISTICS, Statistic};

/// The counters.
#[derive(Debug)]
pub struct Statistics([AtomicU64; STATISTICS.len()]);

/// Counters of checksums: of IPv4's headers, of TCP, of UDP; each for right ones, wrong ones, and those not looked at.
pub type ChecksumCounters = [[Statistic; 3]; 3];

/// Of packets that are sent.
pub const SENT: ChecksumCounters = [
    [
        Statistic::TransmitterIpv4ChecksumSucceeded,
        Statistic::TransmitterIpv4ChecksumFailed,
        Statistic::TransmitterIpv4ChecksumNotValidated,
    ],
    [
        Statistic::TransmitterTcpChecksumSucceeded,
        Statistic::TransmitterTcpChecksumFailed,
        Statistic::TransmitterTcpChecksumNotValidated,
    ],
    [
        Statistic::TransmitterUdpChecksumSucceeded,
        Statistic::TransmitterUdpChecksumFailed,
        Statistic::TransmitterUdpChecksumNotValidated,
    ],
];

/// Of packets that are received.
pub const RECEIVED: ChecksumCounters = [
    [
        Statistic::ReceiverIpv4ChecksumSucceeded,
        Statistic::ReceiverIpv4ChecksumFailed,
        Statistic::ReceiverIpv4ChecksumNotValidated,
    ],
    [
        Statistic::ReceiverTcpChecksumSucceeded,
        Statistic::ReceiverTcpChecksumFailed,
        Statistic::ReceiverTcpChecksumNotValidated,
    ],
    [
        Statistic::ReceiverUdpChecksumSucceeded,
        Statistic::ReceiverUdpChecksumFailed,
        Statistic::ReceiverUdpChecksumNotValidated,
    ],
];

/// What a packet is counted as.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub kind: Kind,
    pub length: u32,
    tagged: bool,
    llc: bool,
    version: Option<Version>,
    tcp: bool,
    udp: bool,
    large: bool,
}

impl Facts {
    /// Of a frame as it is on the wire.
    pub fn of(kind: Kind, layout: &Layout, length: u32, large: bool) -> Self {
        Self {
            kind,
            length,
            tagged: layout.tag.is_some(),
            llc: layout.llc.length != 0,
            version: layout.ip.map(|ip| ip.version),
            tcp: matches!(layout.transport, Some(Transport::Tcp { .. })),
            udp: matches!(layout.transport, Some(Transport::Udp { .. })),
            large,
        }
    }
}

impl Statistics {
    /// All 0.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; STATISTICS.len()])
    }

    /// Counts one more. Any IRQL.
    pub fn count(&self, statistic: Statistic) {
        self.add(statistic, 1);
    }

    fn add(&self, statistic: Statistic, by: u64) {
        if let Some(counter) = self.0.get(statistic as usize) {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Packets were dropped before anybody looked into them.
    pub fn dropped(&self, drops: Drops) {
        self.add(Statistic::ReceiverBackendErrors, drops.backend);
        self.add(Statistic::ReceiverFrontendErrors, drops.frontend);
        self.add(
            Statistic::ReceiverPacketsDropped,
            drops.backend + drops.frontend,
        );
    }

    /// A counter.
    pub fn get(&self, statistic: Statistic) -> u64 {
        let counter = self.0.get(statistic as usize);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// A packet was sent.
    pub fn sent(&self, facts: &Facts) {
        use Statistic::*;
        let (packets, octets) = match facts.kind {
            Kind::Unicast => (TransmitterUnicastPackets, TransmitterUnicastOctets),
            Kind::Multicast => (TransmitterMulticastPackets, TransmitterMulticastOctets),
            Kind::Broadcast => (TransmitterBroadcastPackets, TransmitterBroadcastOctets),
        };
        self.count(packets);
        self.add(octets, facts.length.into());
        self.protocols(
            facts,
            [
                TransmitterTaggedPackets,
                TransmitterLlcSnapPackets,
                TransmitterIpv4Packets,
                TransmitterIpv6Packets,
                TransmitterTcpPackets,
                TransmitterUdpPackets,
                TransmitterGsoPackets,
            ],
        );
    }

    /// A packet was received, and is handed on.
    pub fn received(&self, facts: &Facts) {
        use Statistic::*;
        let (packets, octets) = match facts.kind {
            Kind::Unicast => (ReceiverUnicastPackets, ReceiverUnicastOctets),
            Kind::Multicast => (ReceiverMulticastPackets, ReceiverMulticastOctets),
            Kind::Broadcast => (ReceiverBroadcastPackets, ReceiverBroadcastOctets),
        };
        self.count(packets);
        self.add(octets, facts.length.into());
        self.protocols(
            facts,
            [
                ReceiverTaggedPackets,
                ReceiverLlcSnapPackets,
                ReceiverIpv4Packets,
                ReceiverIpv6Packets,
                ReceiverTcpPackets,
                ReceiverUdpPackets,
                ReceiverGsoPackets,
            ],
        );
    }

    /// Counts what was found of a packet's checksums.
    pub fn checked(&self, checks: &Checks, counters: &ChecksumCounters) {
        let checks = [checks.ip, checks.tcp, checks.udp];
        for (check, [good, bad, unseen]) in checks.into_iter().zip(counters) {
            match check {
                Check::Absent => {}
                Check::Good => self.count(*good),
                Check::Bad => self.count(*bad),
                Check::NotValidated => self.count(*unseen),
            }
        }
    }

    fn protocols(&self, facts: &Facts, counters: [Statistic; 7]) {
        let is = [
            facts.tagged,
            facts.llc,
            facts.version == Some(Version::V4),
            facts.version == Some(Version::V6),
            facts.tcp,
            facts.udp,
            facts.large,
        ];
        for (statistic, _) in counters.into_iter().zip(is).filter(|(_, is)| *is) {
            self.count(statistic);
        }
    }
}
