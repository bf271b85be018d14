//! `NDIS_OFFLOAD_PARAMETERS` (ntddndis.h): offloads switched on and off one by one.
//!
//! Each field is a byte in which 0 leaves everything as it is. Fields of what the adapter does not have at all (IPsec,
//! TCP connections, encapsulated packets, UDP coalescing) may ask that it be off.

use crate::block::Block;
use crate::status::{Failure, INVALID_DATA, NOT_SUPPORTED};
use crate::tasks::Tasks;

// Offsets (ntddndis.h of the WDK; up to revision 3 also mingw-w64's).
pub(crate) const IPV4_CHECKSUM: usize = 4;
pub(crate) const TCP_IPV4_CHECKSUM: usize = 5;
pub(crate) const UDP_IPV4_CHECKSUM: usize = 6;
pub(crate) const TCP_IPV6_CHECKSUM: usize = 7;
pub(crate) const UDP_IPV6_CHECKSUM: usize = 8;
pub(crate) const LSO_V1: usize = 9;
pub(crate) const IPSEC_V1: usize = 10;
pub(crate) const LSO_V2_IPV4: usize = 11;
pub(crate) const LSO_V2_IPV6: usize = 12;
pub(crate) const TCP_CONNECTION_IPV4: usize = 13;
pub(crate) const TCP_CONNECTION_IPV6: usize = 14;
/// `NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE` and the like: for NDIS.
#[cfg(test)]
pub(crate) const FLAGS: usize = 16;
pub(crate) const IPSEC_V2: usize = 20;
pub(crate) const IPSEC_V2_IPV4: usize = 21;
pub(crate) const RSC_IPV4: usize = 22;
pub(crate) const RSC_IPV6: usize = 23;
/// 0 leaves, 1 NDIS_OFFLOAD_SET_ON, 2 NDIS_OFFLOAD_SET_OFF: the other way round than all the others.
pub(crate) const ENCAPSULATED: usize = 24;
pub(crate) const USO_IPV4: usize = 32;
pub(crate) const USO_IPV6: usize = 33;
pub(crate) const UDP_RSC: usize = 34;

/// `NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1` (NDIS 6.0) to `_6` (6.89). Revision 4 (6.50) adds an encapsulation's UDP port.
pub(crate) const SIZES: [usize; 6] = [20, 22, 26, 32, 34, 35];

/// The checksums: field, task of sending, task of receiving.
const CHECKSUMS: [(usize, Tasks, Tasks); 5] = [
    (IPV4_CHECKSUM, Tasks::TX_IPV4, Tasks::RX_IPV4),
    (TCP_IPV4_CHECKSUM, Tasks::TX_TCP_IPV4, Tasks::RX_TCP_IPV4),
    (UDP_IPV4_CHECKSUM, Tasks::TX_UDP_IPV4, Tasks::RX_UDP_IPV4),
    (TCP_IPV6_CHECKSUM, Tasks::TX_TCP_IPV6, Tasks::RX_TCP_IPV6),
    (UDP_IPV6_CHECKSUM, Tasks::TX_UDP_IPV6, Tasks::RX_UDP_IPV6),
];

/// What is off or on: 1 off, 2 on (`NDIS_OFFLOAD_PARAMETERS_LSOV1_*`, `_LSOV2_*`, `_RSC_*`, `_USO_*`).
const SWITCHES: [(usize, Tasks); 7] = [
    (LSO_V1, Tasks::LSO_V1),
    (LSO_V2_IPV4, Tasks::LSO_V2_IPV4),
    (LSO_V2_IPV6, Tasks::LSO_V2_IPV6),
    (RSC_IPV4, Tasks::RSC_IPV4),
    (RSC_IPV6, Tasks::RSC_IPV6),
    (USO_IPV4, Tasks::USO_IPV4),
    (USO_IPV6, Tasks::USO_IPV6),
];

/// What there is not: field, the value that means off, the highest value that means anything.
const ABSENT: [(usize, u8, u8); 7] = [
    (IPSEC_V1, 1, 4),
    (TCP_CONNECTION_IPV4, 1, 2),
    (TCP_CONNECTION_IPV6, 1, 2),
    (IPSEC_V2, 1, 4),
    (IPSEC_V2_IPV4, 1, 4),
    (ENCAPSULATED, 2, 2),
    (UDP_RSC, 1, 2),
];

/// OID_TCP_OFFLOAD_PARAMETERS, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    on: Tasks,
    off: Tasks,
    /// The fields that are known here.
    pub(crate) read: usize,
}

impl Parameters {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let block = Block::read(bytes, &SIZES)?;
        let (mut on, mut off) = (Tasks::NONE, Tasks::NONE);
        for (field, transmit, receive) in CHECKSUMS {
            let (enabled, disabled) = match block.u8(field) {
                0 => continue,
                // NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED, _TX_ENABLED_RX_DISABLED, _RX_ENABLED_TX_DISABLED,
                // _TX_RX_ENABLED.
                1 => (Tasks::NONE, transmit | receive),
                2 => (transmit, receive),
                3 => (receive, transmit),
                4 => (transmit | receive, Tasks::NONE),
                _ => return Err(INVALID_DATA),
            };
            on |= enabled;
            off |= disabled;
        }
        for (field, task) in SWITCHES {
            match block.u8(field) {
                0 => {}
                1 => off |= task,
                2 => on |= task,
                _ => return Err(INVALID_DATA),
            }
        }
        for (field, absent, highest) in ABSENT {
            match block.u8(field) {
                0 => {}
                value if value == absent => {}
                value if value > highest => return Err(INVALID_DATA),
                _ => return Err(NOT_SUPPORTED),
            }
        }
        Ok(Self {
            on,
            off,
            read: block.length(),
        })
    }

    /// What shall be on.
    pub fn on(&self) -> Tasks {
        self.on
    }

    /// What shall be off. All else stays as it is.
    pub fn off(&self) -> Tasks {
        self.off
    }

    /// For each field that switches something on, what it would be content with.
    pub(super) fn demands(&self) -> impl Iterator<Item = Tasks> {
        let checksums = CHECKSUMS
            .into_iter()
            .map(|(_, transmit, receive)| transmit | receive);
        let switches = SWITCHES.into_iter().map(|(_, task)| task);
        let on = self.on;
        checksums
            .chain(switches)
            .map(move |tasks| tasks & on)
            .filter(|demanded| *demanded != Tasks::NONE)
    }
}
