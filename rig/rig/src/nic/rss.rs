//! Receive side scaling as TCP/IP asks for it: a key, what is hashed, and a table of the processor for each hash.
//! Microsoft Learn, "Receive Side Scaling", OID_GEN_RECEIVE_SCALE_PARAMETERS.

use ndis_host::{Adapter, blocks};
use nt_sys::ndis::{
    NDIS_HASH_IPV4, NDIS_HASH_IPV6, NDIS_HASH_TCP_IPV4, NDIS_HASH_TCP_IPV6,
    OID_GEN_RECEIVE_SCALE_PARAMETERS,
};

use crate::port_nic;

/// Entries of the table: as many as Windows uses.
const ENTRIES: u32 = 128;
/// Bytes of a key.
const KEY: usize = 40;
/// What is hashed.
const TYPES: u32 = NDIS_HASH_IPV4 | NDIS_HASH_TCP_IPV4 | NDIS_HASH_IPV6 | NDIS_HASH_TCP_IPV6;

/// The table; an empty one where there is nothing to spread.
#[derive(Clone, Debug, Default)]
pub(super) struct Scaling(Vec<u8>);

impl Scaling {
    /// Has an adapter spread what it receives over as many of the machine's processors as it has queues. The status
    /// that it refuses with, if it does.
    pub fn set(adapter: &'static Adapter, cpus: u32) -> Result<Self, i32> {
        let spread = adapter.info().rss_queues.min(cpus);
        if spread < 2 {
            return Ok(Self::default());
        }
        let table: Vec<u8> = (0..ENTRIES).map(|entry| (entry % spread) as u8).collect();
        let parameters = blocks::rss(&key(), &table, TYPES);
        port_nic::set(adapter, OID_GEN_RECEIVE_SCALE_PARAMETERS, &parameters)?;
        Ok(Self(table))
    }

    /// The processor for a hash.
    pub fn processor(&self, hash: u32) -> Option<u32> {
        let entry = (hash as usize).checked_rem(self.0.len())?;
        self.0.get(entry).map(|number| u32::from(*number))
    }
}

/// A key without a pattern: top bytes of multiples of 2^32 divided by the golden ratio.
fn key() -> [u8; KEY] {
    std::array::from_fn(|at| ((at as u32 + 1).wrapping_mul(0x9E37_79B9) >> 24) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_spread_by_their_low_bits() {
        assert_eq!(Scaling::default().processor(7), None);
        let scaling = Scaling(vec![0, 1, 2, 0]);
        let found: Vec<_> = (0..6).filter_map(|hash| scaling.processor(hash)).collect();
        assert_eq!(found, [0, 1, 2, 0, 0, 1]);
        assert_eq!(scaling.processor(u32::MAX), Some(0));
    }

    #[test]
    fn every_window_of_the_key_is_another() {
        let key = key();
        for (index, window) in key.windows(4).enumerate() {
            assert!(!key[index + 1..].windows(4).any(|other| other == window));
        }
    }
}
