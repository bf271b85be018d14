//! What the backend writes about itself, checked, and what follows from it.

use xen_abi::netif;
use xenstore::Value;

/// Reads one key of the backend's directory.
pub type Get<'a> = &'a mut dyn FnMut(&str) -> Value;

/// What this side allows, from the registry and the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Most queues, at least 1.
    pub queues: u32,
    /// Large sends over IPv4 and IPv6.
    pub tx_gso: Families,
    /// Large packets from the backend.
    pub rx_gso: Families,
    /// Multicast filtering by the backend.
    pub multicast_control: bool,
}

/// Something that can be had for IPv4 and IPv6 each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Families {
    pub v4: bool,
    pub v6: bool,
}

impl Families {
    /// For both.
    pub const BOTH: Self = Self { v4: true, v6: true };
}

/// What the connection can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Number of queues, at least 1.
    pub queues: u32,
    /// An event channel for each ring, not one for both.
    pub split_event_channels: bool,
    /// There is a control ring.
    pub control_ring: bool,
    /// The backend filters multicast packets, and can be told to stop and to begin at any time.
    pub multicast_control: bool,
    /// A packet may have several parts.
    pub scatter_gather: bool,
    /// The backend cuts large sends into segments.
    pub tx_gso: Families,
    /// The backend may send large packets.
    pub rx_gso: Families,
    /// The backend completes checksums of TCP and UDP.
    pub tx_checksum: Families,
}

/// Why a backend is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It says that it does not copy received packets. Transferring pages is not supported here.
    NoCopy,
}

impl Features {
    /// Reads the keys. What is missing or no number is not offered, with two exceptions: backends that say nothing
    /// of `feature-sg` and `feature-rx-copy` have them, by what published frontends assume.
    ///
    /// `feature-multicast-control` alone is not used: it could be asked for only before connecting, and for good.
    pub fn read(get: Get<'_>, allowed: &Allowed) -> Result<Self, Refusal> {
        if get("feature-rx-copy").or(1) == 0 {
            return Err(Refusal::NoCopy);
        }
        let scatter_gather = get("feature-sg").or(1) != 0;
        let queues = u32::try_from(get("multi-queue-max-queues").or(1)).unwrap_or(u32::MAX);
        let offered = Families {
            v4: get("feature-gso-tcpv4").is_set(),
            v6: get("feature-gso-tcpv6").is_set(),
        };
        Ok(Features {
            queues: queues.min(allowed.queues).max(1),
            split_event_channels: get("feature-split-event-channels").is_set(),
            control_ring: get("feature-ctrl-ring").is_set(),
            multicast_control: allowed.multicast_control
                && get("feature-dynamic-multicast-control").is_set(),
            scatter_gather,
            // A large send never fits a page.
            tx_gso: Families {
                v4: offered.v4 && allowed.tx_gso.v4 && scatter_gather,
                v6: offered.v6 && allowed.tx_gso.v6 && scatter_gather,
            },
            rx_gso: allowed.rx_gso,
            tx_checksum: Families {
                v4: !get("feature-no-csum-offload").is_set(),
                v6: get("feature-ipv6-csum-offload").is_set(),
            },
        })
    }

    /// Parts that a packet may have.
    pub fn max_parts(&self) -> usize {
        if self.scatter_gather {
            netif::NR_SLOTS_MIN
        } else {
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Allowed = Allowed {
        queues: 8,
        tx_gso: Families::BOTH,
        rx_gso: Families::BOTH,
        multicast_control: true,
    };

    fn read(keys: &[(&str, &str)], allowed: &Allowed) -> Result<Features, Refusal> {
        Features::read(
            &mut |key| {
                Value::parse(
                    keys.iter()
                        .find(|(name, _)| *name == key)
                        .map(|(_, text)| text.as_bytes()),
                )
            },
            allowed,
        )
    }

    const LINUX: [(&str, &str); 12] = [
        ("feature-sg", "1"),
        ("feature-gso-tcpv4", "1"),
        ("feature-gso-tcpv6", "1"),
        ("feature-ipv6-csum-offload", "1"),
        ("feature-rx-copy", "1"),
        ("feature-rx-flip", "0"),
        ("feature-multicast-control", "1"),
        ("feature-dynamic-multicast-control", "1"),
        ("feature-split-event-channels", "1"),
        ("multi-queue-max-queues", "4"),
        ("feature-ctrl-ring", "1"),
        ("feature-xdp-headroom", "1"),
    ];

    #[test]
    fn a_linux_backend_is_understood() {
        let features = read(&LINUX, &ALL).unwrap();
        let all = Features {
            queues: 4,
            split_event_channels: true,
            control_ring: true,
            multicast_control: true,
            scatter_gather: true,
            tx_gso: Families::BOTH,
            rx_gso: Families::BOTH,
            tx_checksum: Families::BOTH,
        };
        assert_eq!((features, features.max_parts()), (all, 18));
    }

    #[test]
    fn a_backend_that_says_nothing_gets_the_basics() {
        let basics = Features {
            queues: 1,
            split_event_channels: false,
            control_ring: false,
            multicast_control: false,
            scatter_gather: true,
            tx_gso: Families::default(),
            rx_gso: Families::BOTH,
            tx_checksum: Families {
                v4: true,
                v6: false,
            },
        };
        assert_eq!(read(&[], &ALL), Ok(basics));
    }

    #[test]
    fn what_is_not_allowed_is_not_used() {
        let allowed = Allowed {
            queues: 2,
            tx_gso: Families {
                v4: false,
                v6: true,
            },
            rx_gso: Families::default(),
            multicast_control: false,
        };
        let features = read(&LINUX, &allowed).unwrap();
        assert!(!features.tx_gso.v4 && features.tx_gso.v6 && !features.multicast_control);
        assert_eq!((features.queues, features.rx_gso), (2, Families::default()));
    }

    #[test]
    fn odd_numbers_of_queues_end_within_the_limits() {
        let queues = |text| {
            read(&[("multi-queue-max-queues", text)], &ALL)
                .unwrap()
                .queues
        };
        for (text, expected) in [
            ("0", 1),
            ("1", 1),
            ("3", 3),
            ("4294967297", 8),
            ("18446744073709551615", 8),
            ("99999999999999999999999", 1),
            ("-1", 1),
            ("two", 1),
        ] {
            assert_eq!(queues(text), expected, "{text}");
        }
    }

    #[test]
    fn a_backend_that_denies_the_basics_is_refused_or_spared() {
        assert_eq!(
            read(&[("feature-rx-copy", "0")], &ALL),
            Err(Refusal::NoCopy)
        );
        let flat = read(&[("feature-sg", "0"), ("feature-gso-tcpv4", "1")], &ALL).unwrap();
        assert_eq!((flat.max_parts(), flat.tx_gso), (1, Families::default()));
        let sums = [
            ("feature-no-csum-offload", "1"),
            ("feature-ipv6-csum-offload", "yes"),
        ];
        assert_eq!(read(&sums, &ALL).unwrap().tx_checksum, Families::default());
    }

    proptest! {
        #[test]
        fn any_values_are_survived(values in proptest::collection::vec(any::<Option<u64>>(), 12), queues in 0u32..64) {
            let mut index = 0;
            let mut get = |_: &str| {
                index += 1;
                values[index % values.len()].map_or(Value::Garbage, Value::Number)
            };
            if let Ok(features) = Features::read(&mut get, &Allowed { queues, ..ALL }) {
                prop_assert!((1..=queues.max(1)).contains(&features.queues));
            }
        }
    }
}
