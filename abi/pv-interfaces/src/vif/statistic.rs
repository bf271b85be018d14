//! The counters that QueryStatistic knows.

macro_rules! statistics {
    ($($name:ident,)*) => {
        /// XENVIF_VIF_STATISTIC. Octets count the Ethernet header, with a tag, and no checksum of the frame.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Statistic {
            $($name,)*
        }

        /// All of them, by number.
        pub const STATISTICS: &[Statistic] = &[$(Statistic::$name,)*];
    };
}

statistics! {
    TransmitterPacketsDropped,
    TransmitterBackendErrors,
    TransmitterFrontendErrors,
    TransmitterUnicastPackets,
    TransmitterUnicastOctets,
    TransmitterMulticastPackets,
    TransmitterMulticastOctets,
    TransmitterBroadcastPackets,
    TransmitterBroadcastOctets,
    ReceiverPacketsDropped,
    ReceiverBackendErrors,
    ReceiverFrontendErrors,
    ReceiverUnicastPackets,
    ReceiverUnicastOctets,
    ReceiverMulticastPackets,
    ReceiverMulticastOctets,
    ReceiverBroadcastPackets,
    ReceiverBroadcastOctets,
    TransmitterTaggedPackets,
    TransmitterLlcSnapPackets,
    TransmitterIpv4Packets,
    TransmitterIpv6Packets,
    TransmitterTcpPackets,
    TransmitterUdpPackets,
    TransmitterGsoPackets,
    TransmitterIpv4ChecksumSucceeded,
    TransmitterIpv4ChecksumFailed,
    TransmitterIpv4ChecksumNotValidated,
    TransmitterTcpChecksumSucceeded,
    TransmitterTcpChecksumFailed,
    TransmitterTcpChecksumNotValidated,
    TransmitterUdpChecksumSucceeded,
    TransmitterUdpChecksumFailed,
    TransmitterUdpChecksumNotValidated,
    ReceiverTaggedPackets,
    ReceiverLlcSnapPackets,
    ReceiverIpv4Packets,
    ReceiverIpv6Packets,
    ReceiverTcpPackets,
    ReceiverUdpPackets,
    ReceiverGsoPackets,
    ReceiverIpv4ChecksumSucceeded,
    ReceiverIpv4ChecksumFailed,
    ReceiverIpv4ChecksumNotValidated,
    ReceiverTcpChecksumSucceeded,
    ReceiverTcpChecksumFailed,
    ReceiverTcpChecksumNotValidated,
    ReceiverUdpChecksumSucceeded,
    ReceiverUdpChecksumFailed,
    ReceiverUdpChecksumNotValidated,
}

const _: () = assert!(STATISTICS.len() == 50);

impl Statistic {
    /// The counter with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        let index = usize::try_from(number).ok()?;
        STATISTICS.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_have_their_numbers() {
        for (number, statistic) in [
            (0, Statistic::TransmitterPacketsDropped),
            (9, Statistic::ReceiverPacketsDropped),
            (17, Statistic::ReceiverBroadcastOctets),
            (18, Statistic::TransmitterTaggedPackets),
            (24, Statistic::TransmitterGsoPackets),
            (33, Statistic::TransmitterUdpChecksumNotValidated),
            (34, Statistic::ReceiverTaggedPackets),
            (40, Statistic::ReceiverGsoPackets),
            (49, Statistic::ReceiverUdpChecksumNotValidated),
        ] {
            assert_eq!(statistic as u32, number);
            assert_eq!(Statistic::from_number(number), Some(statistic));
        }
        assert_eq!(Statistic::from_number(50), None);
        assert_eq!(Statistic::from_number(u32::MAX), None);
    }
}
