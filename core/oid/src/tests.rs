//! Every object with every length, and numbers against Microsoft's metadata. What is about one block is beside it.

mod exercise;
mod inf;
mod lengths;
mod oracle;

use crate::filter::Filter;
use crate::keyword::Settings;
use crate::query::{Facts, Version};
use crate::statistics::Coalescing;
use crate::vlan::Tagging;
use proptest::prelude::*;
use pv_interfaces::vif::{EthernetAddress, Statistic};

/// An adapter in whose facts every number is another.
pub(crate) fn facts<'a>(hash: Option<&'a oid::rss::State>) -> Facts<'a> {
    Facts {
        maximum_frame: 9018,
        transmit_ring: 256,
        receive_ring: 512,
        connected: true,
        ndis: Version {
            major: 6,
            minor: 83,
        },
        driver: Version { major: 9, minor: 1 },
        vendor: "Xen Project",
        permanent_address: EthernetAddress([0x00, 0x16, 0x3E, 1, 2, 3]),
        current_address: EthernetAddress([0x02, 0x16, 0x3E, 1, 2, 3]),
        lookahead: 128,
        filter: Filter::new(9).unwrap(),
        multicast: &[EthernetAddress([1, 0, 0x5E, 0, 0, 1]); 3],
        tagging: Tagging::new(&Settings::default()),
        hash,
        coalescing: Coalescing {
            packets: 40,
            octets: 41,
            events: 42,
            aborts: 43,
        },
        counter: &counter,
    }
}

/// More than fits into 32 bits.
fn counter(statistic: Statistic) -> u64 {
    (1 << 33) + (1 << statistic as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_requests_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        exercise::exercise(&bytes);
    }
}
