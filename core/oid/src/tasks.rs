//! Offloads as a set: each is work that the transport can leave to the adapter.

use core::ops::{BitAnd, BitOr, BitOrAssign, Not};
use pv_interfaces::vif::OffloadOptions;

/// A set of offloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks(u32);

#[allow(missing_docs)]
impl Tasks {
    pub const NONE: Self = Self(0);

    // Checksums that are filled in.
    pub const TX_IPV4: Self = Self(1 << 0);
    pub const TX_TCP_IPV4: Self = Self(1 << 1);
    pub const TX_UDP_IPV4: Self = Self(1 << 2);
    pub const TX_TCP_IPV6: Self = Self(1 << 3);
    pub const TX_UDP_IPV6: Self = Self(1 << 4);
    // Checksums that are checked.
    pub const RX_IPV4: Self = Self(1 << 5);
    pub const RX_TCP_IPV4: Self = Self(1 << 6);
    pub const RX_UDP_IPV4: Self = Self(1 << 7);
    pub const RX_TCP_IPV6: Self = Self(1 << 8);
    pub const RX_UDP_IPV6: Self = Self(1 << 9);
    // Large sends: TCP in both of NDIS' versions, UDP.
    pub const LSO_V1: Self = Self(1 << 10);
    pub const LSO_V2_IPV4: Self = Self(1 << 11);
    pub const LSO_V2_IPV6: Self = Self(1 << 12);
    pub const USO_IPV4: Self = Self(1 << 13);
    pub const USO_IPV6: Self = Self(1 << 14);
    // Receive segment coalescing.
    pub const RSC_IPV4: Self = Self(1 << 15);
    pub const RSC_IPV6: Self = Self(1 << 16);

    pub const ALL: Self = Self((1 << 17) - 1);
    pub const TX_CHECKSUMS: Self = Self(0x1F);
    pub const RX_CHECKSUMS: Self = Self(0x1F << 5);
    pub const RSC: Self = Self(3 << 15);
    /// What is about IPv4; all else is about IPv6.
    pub const IPV4: Self = Self(
        Self::TX_IPV4.0
            | Self::TX_TCP_IPV4.0
            | Self::TX_UDP_IPV4.0
            | Self::RX_IPV4.0
            | Self::RX_TCP_IPV4.0
            | Self::RX_UDP_IPV4.0
            | Self::LSO_V1.0
            | Self::LSO_V2_IPV4.0
            | Self::USO_IPV4.0
            | Self::RSC_IPV4.0,
    );
    pub const IPV6: Self = Self(Self::ALL.0 & !Self::IPV4.0);

    /// Its number, for an atomic.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Of a number; what is not known is left out.
    pub const fn of_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether one of `others` is in it.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether all of `others` are in it.
    pub const fn has_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// `self` if that is so, else nothing.
    pub const fn only_if(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl BitOr for Tasks {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Tasks {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Tasks {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Tasks {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

/// Offloads of sending, and what VIF calls them.
const TRANSMIT: [(Tasks, u16); 8] = [
    (Tasks::TX_IPV4, OffloadOptions::IPV4_HEADER_CHECKSUM),
    (Tasks::TX_TCP_IPV4, OffloadOptions::IPV4_TCP_CHECKSUM),
    (Tasks::TX_UDP_IPV4, OffloadOptions::IPV4_UDP_CHECKSUM),
    (Tasks::TX_TCP_IPV6, OffloadOptions::IPV6_TCP_CHECKSUM),
    (Tasks::TX_UDP_IPV6, OffloadOptions::IPV6_UDP_CHECKSUM),
    (Tasks::LSO_V1, OffloadOptions::IPV4_LARGE_PACKET),
    (Tasks::LSO_V2_IPV4, OffloadOptions::IPV4_LARGE_PACKET),
    (Tasks::LSO_V2_IPV6, OffloadOptions::IPV6_LARGE_PACKET),
];

/// Offloads of receiving, and what VIF calls them.
const RECEIVE: [(Tasks, u16); 7] = [
    (Tasks::RX_IPV4, OffloadOptions::IPV4_HEADER_CHECKSUM),
    (Tasks::RX_TCP_IPV4, OffloadOptions::IPV4_TCP_CHECKSUM),
    (Tasks::RX_UDP_IPV4, OffloadOptions::IPV4_UDP_CHECKSUM),
    (Tasks::RX_TCP_IPV6, OffloadOptions::IPV6_TCP_CHECKSUM),
    (Tasks::RX_UDP_IPV6, OffloadOptions::IPV6_UDP_CHECKSUM),
    (Tasks::RSC_IPV4, OffloadOptions::IPV4_LARGE_PACKET),
    (Tasks::RSC_IPV6, OffloadOptions::IPV6_LARGE_PACKET),
];

impl Tasks {
    /// What an interface that offers these options does for a sender.
    pub fn of_transmit_options(options: OffloadOptions) -> Self {
        TRANSMIT
            .iter()
            .filter(|(_, option)| options.has(*option))
            .fold(Self::NONE, |tasks, (task, _)| tasks | *task)
    }

    /// The options of VIF for what a sender asks.
    pub fn transmit_options(self) -> u16 {
        options(self, &TRANSMIT)
    }

    /// The options of VIF for what a receiver wants.
    pub fn receive_options(self) -> u16 {
        options(self, &RECEIVE)
    }
}

fn options(tasks: Tasks, table: &[(Tasks, u16)]) -> u16 {
    table
        .iter()
        .filter(|(task, _)| tasks.has(*task))
        .fold(0, |options, (_, option)| options | option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_partition_the_offloads() {
        assert_eq!(Tasks::IPV4 | Tasks::IPV6, Tasks::ALL);
        assert_eq!(Tasks::IPV4 & Tasks::IPV6, Tasks::NONE);
        assert_eq!(!Tasks::NONE, Tasks::ALL);
        assert_eq!(Tasks::of_bits(u32::MAX), Tasks::ALL);
        let ipv6 = Tasks::TX_TCP_IPV6
            | Tasks::TX_UDP_IPV6
            | Tasks::RX_TCP_IPV6
            | Tasks::RX_UDP_IPV6
            | Tasks::LSO_V2_IPV6
            | Tasks::USO_IPV6
            | Tasks::RSC_IPV6;
        assert_eq!(Tasks::IPV6, ipv6);
    }

    #[test]
    fn options_of_a_sender_come_back_as_they_were() {
        for word in 0..=u16::MAX {
            let tasks = Tasks::of_transmit_options(OffloadOptions(word));
            assert_eq!(tasks.transmit_options(), word & 0x00FE, "{word:#x}");
            assert!(!tasks.has(Tasks::RX_CHECKSUMS | Tasks::RSC));
        }
    }

    #[test]
    fn a_receiver_asks_for_what_it_has_been_configured_to() {
        assert_eq!(Tasks::ALL.receive_options(), 0x00FE);
        assert_eq!(Tasks::RSC.receive_options(), 0x0022);
        assert_eq!((Tasks::TX_CHECKSUMS | Tasks::USO_IPV4).receive_options(), 0);
    }
}
