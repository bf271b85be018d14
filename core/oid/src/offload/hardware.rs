//! What an adapter could do at all: what its interface offers, and what the driver does by itself.

use super::Revision;
use crate::tasks::Tasks;
use pv_interfaces::vif::OffloadOptions;

/// The most that a send can have of UDP's payload: IPv4's length, less its header and UDP's.
const MAX_UDP_PAYLOAD: u32 = 65535 - 20 - 8;

/// What an adapter could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    tasks: Tasks,
    /// Largest large send over TCP, over UDP; in bytes.
    pub(super) large: u32,
    pub(super) udp: u32,
    pub(super) revision: Revision,
}

impl Hardware {
    /// Of an interface with the answers of `TransmitterQueryOffloadOptions` and `TransmitterQueryLargePacketSize` for
    /// IPv4 and IPv6. `cuts`: whether the driver cuts what the interface does not, which UDP always is.
    pub fn new(options: OffloadOptions, large: [u32; 2], cuts: bool, revision: Revision) -> Self {
        let mut tasks = Tasks::of_transmit_options(options) | Tasks::RX_CHECKSUMS | Tasks::RSC;
        let [ipv4, ipv6] = large;
        if ipv4 == 0 {
            tasks = tasks & !(Tasks::LSO_V1 | Tasks::LSO_V2_IPV4);
        }
        if ipv6 == 0 {
            tasks = tasks & !Tasks::LSO_V2_IPV6;
        }
        if cuts {
            tasks |= Tasks::USO_IPV4 | Tasks::USO_IPV6;
        }
        if !revision.has_udp_segmentation() {
            tasks = tasks & !(Tasks::USO_IPV4 | Tasks::USO_IPV6);
        }
        // One size for both: tests of Windows' hardware lab compare the two.
        let large = match (ipv4, ipv6) {
            (0, size) | (size, 0) => size,
            (ipv4, ipv6) => ipv4.min(ipv6),
        };
        Self {
            tasks,
            large,
            udp: MAX_UDP_PAYLOAD,
            revision,
        }
    }

    /// The offloads there are.
    pub fn tasks(&self) -> Tasks {
        self.tasks
    }

    /// Bytes of TCP's payload in a large send, at most; 0 without one.
    pub fn maximum_large_send(&self) -> u32 {
        self.large
    }

    /// Bytes of UDP's payload in a large send, at most.
    pub fn maximum_udp_send(&self) -> u32 {
        self.udp
    }
}
