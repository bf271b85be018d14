//! What is received: NDIS' packet filter, the interface's three filter levels, and the multicast list.
//!
//! ```text
//!   filter bit        unicast    multicast  broadcast
//!   DIRECTED          MATCHING
//!   MULTICAST                    MATCHING
//!   ALL_MULTICAST                ALL
//!   BROADCAST                               ALL
//!   PROMISCUOUS       ALL        ALL        ALL
//!   none of them      NONE       NONE       NONE
//! ```

use crate::status::{Failure, INVALID_DATA, INVALID_PARAMETER, Status};
use pv_interfaces::vif::{EthernetAddress, FILTER_ALL, FILTER_MATCHING, FILTER_NONE};

/// `NDIS_PACKET_TYPE_DIRECTED` (ntddndis.h).
pub const DIRECTED: u32 = 0x01;
/// `NDIS_PACKET_TYPE_MULTICAST`.
pub const MULTICAST: u32 = 0x02;
/// `NDIS_PACKET_TYPE_ALL_MULTICAST`.
pub const ALL_MULTICAST: u32 = 0x04;
/// `NDIS_PACKET_TYPE_BROADCAST`.
pub const BROADCAST: u32 = 0x08;
/// `NDIS_PACKET_TYPE_PROMISCUOUS`.
pub const PROMISCUOUS: u32 = 0x20;

/// The bits a filter may have, for the general attributes too.
pub const SUPPORTED: u32 = DIRECTED | MULTICAST | ALL_MULTICAST | BROADCAST | PROMISCUOUS;

/// Addresses that the multicast list holds at most.
pub const MAX_MULTICAST: usize = 32;
/// Bytes of an Ethernet address.
pub const ADDRESS: usize = 6;

/// A packet filter, of bits that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter(u32);

/// The levels of an interface, each a FILTER_* of VIF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Levels {
    pub unicast: u32,
    pub multicast: u32,
    pub broadcast: u32,
}

impl Filter {
    /// `None` if a bit is not supported.
    pub const fn new(bits: u32) -> Option<Self> {
        match bits & !SUPPORTED {
            0 => Some(Self(bits)),
            _ => None,
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let bits = bytes.try_into().map_err(|_| Failure::length(4))?;
        Self::new(u32::from_le_bytes(bits)).ok_or(INVALID_PARAMETER)
    }

    /// Its bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    const fn has(self, bit: u32) -> bool {
        self.0 & (bit | PROMISCUOUS) != 0
    }

    /// What the interface is to be told.
    pub const fn levels(self) -> Levels {
        let all = self.0 & PROMISCUOUS != 0;
        Levels {
            unicast: match (all, self.has(DIRECTED)) {
                (true, _) => FILTER_ALL,
                (false, true) => FILTER_MATCHING,
                (false, false) => FILTER_NONE,
            },
            multicast: match (self.has(ALL_MULTICAST), self.has(MULTICAST)) {
                (true, _) => FILTER_ALL,
                (false, true) => FILTER_MATCHING,
                (false, false) => FILTER_NONE,
            },
            broadcast: match self.has(BROADCAST) {
                true => FILTER_ALL,
                false => FILTER_NONE,
            },
        }
    }

    /// The widest filter that these levels serve.
    pub const fn of_levels(levels: Levels) -> Self {
        let mut bits = 0;
        if levels.unicast != FILTER_NONE {
            bits |= DIRECTED;
        }
        if levels.multicast != FILTER_NONE {
            bits |= MULTICAST;
        }
        if levels.multicast == FILTER_ALL {
            bits |= ALL_MULTICAST;
        }
        if levels.broadcast != FILTER_NONE {
            bits |= BROADCAST;
        }
        if levels.unicast == FILTER_ALL
            && levels.multicast == FILTER_ALL
            && levels.broadcast == FILTER_ALL
        {
            bits |= PROMISCUOUS;
        }
        Self(bits)
    }
}

/// The multicast addresses that shall be received, in place of all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multicast {
    addresses: [EthernetAddress; MAX_MULTICAST],
    length: usize,
}

impl Multicast {
    /// No address.
    pub const EMPTY: Self = Self {
        addresses: [EthernetAddress([0; ADDRESS]); MAX_MULTICAST],
        length: 0,
    };

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        if !bytes.len().is_multiple_of(ADDRESS) {
            return Err(Failure::length(bytes.len().next_multiple_of(ADDRESS)));
        }
        let mut list = Self::EMPTY;
        list.length = bytes.len() / ADDRESS;
        if list.length > MAX_MULTICAST {
            return Err(Failure {
                needed: (MAX_MULTICAST * ADDRESS) as u32,
                ..Failure::of(Status::MULTICAST_FULL)
            });
        }
        for (place, bytes) in list.addresses.iter_mut().zip(bytes.as_chunks().0) {
            *place = EthernetAddress(*bytes);
            // The bit that makes it the address of a group (IEEE 802.3, 3.2.3).
            if place.0[0] & 1 == 0 {
                return Err(INVALID_DATA);
            }
        }
        Ok(list)
    }

    /// The addresses.
    pub fn addresses(&self) -> &[EthernetAddress] {
        self.addresses.get(..self.length).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_is_known_or_refused() {
        for bits in 0..=0x3FFFF_u32 {
            let filter = Filter::parse(&bits.to_le_bytes());
            match bits & !0x2F {
                0 => assert_eq!(filter.map(Filter::bits), Ok(bits)),
                _ => assert_eq!(filter, Err(INVALID_PARAMETER), "{bits:#x}"),
            }
        }
        for length in (0..9).filter(|length| *length != 4) {
            assert_eq!(Filter::parse(&[0; 9][..length]), Err(Failure::length(4)));
        }
    }

    #[test]
    fn levels_pass_what_the_filter_names_and_no_more() {
        let levels = |bits| {
            let levels = Filter::new(bits).unwrap().levels();
            (levels.unicast, levels.multicast, levels.broadcast)
        };
        assert_eq!(levels(0), (0, 0, 0));
        assert_eq!(levels(DIRECTED), (1, 0, 0));
        assert_eq!(levels(MULTICAST), (0, 1, 0));
        assert_eq!(levels(ALL_MULTICAST), (0, 2, 0));
        assert_eq!(levels(MULTICAST | ALL_MULTICAST), (0, 2, 0));
        assert_eq!(levels(BROADCAST), (0, 0, 2));
        assert_eq!(levels(PROMISCUOUS), (2, 2, 2));
        assert_eq!(levels(DIRECTED | MULTICAST | BROADCAST), (1, 1, 2));
    }

    #[test]
    fn levels_and_filters_say_the_same() {
        for bits in (0..=SUPPORTED).filter(|bits| bits & !SUPPORTED == 0) {
            let levels = Filter::new(bits).unwrap().levels();
            let back = Filter::of_levels(levels);
            assert_eq!(back.levels(), levels, "{bits:#x}");
            assert_eq!(back.bits() & bits, bits, "{bits:#x}: nothing is lost");
        }
        let half = Levels {
            unicast: FILTER_ALL,
            multicast: FILTER_MATCHING,
            broadcast: FILTER_NONE,
        };
        assert_eq!(Filter::of_levels(half).bits(), DIRECTED | MULTICAST);
    }

    #[test]
    fn a_multicast_list_has_whole_addresses_of_groups_and_not_too_many() {
        let bytes: Vec<u8> = (0..240)
            .map(|i| if i % 6 == 0 { 1 } else { i as u8 })
            .collect();
        for length in 0..=bytes.len() {
            let list = Multicast::parse(&bytes[..length]);
            if !length.is_multiple_of(6) {
                assert_eq!(list, Err(Failure::length(length.div_ceil(6) * 6)));
            } else if length > 192 {
                let failure = list.unwrap_err();
                assert_eq!(
                    (failure.status, failure.needed),
                    (Status::MULTICAST_FULL, 192)
                );
            } else {
                let list = list.unwrap();
                assert_eq!(list.addresses().len(), length / 6);
                for (address, bytes) in list.addresses().iter().zip(bytes.chunks(6)) {
                    assert_eq!(address.0, bytes);
                }
            }
        }
        assert_eq!(
            Multicast::parse(&[1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0]),
            Err(INVALID_DATA)
        );
    }
}
