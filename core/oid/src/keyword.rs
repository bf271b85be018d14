//! The advanced settings of an adapter: one table, which the driver reads by, and which a test compares with
//! `xennet.inf`.
//!
//! Names with a star are Microsoft's (Learn, "Standardized INF Keywords for Network Devices"), with its meanings.

use crate::tasks::Tasks;

/// How a setting is shown, and which values it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A choice of all numbers between the bounds.
    Enum,
    /// A number between the bounds.
    Int,
}

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Keyword {
    pub name: &'static str,
    pub kind: Kind,
    pub default: u32,
    pub minimum: u32,
    pub maximum: u32,
}

impl Keyword {
    const fn new(name: &'static str, kind: Kind, default: u32, minimum: u32, maximum: u32) -> Self {
        Self {
            name,
            kind,
            default,
            minimum,
            maximum,
        }
    }

    /// 0 off, 1 sending, 2 receiving, 3 both.
    const fn ways(name: &'static str) -> Self {
        Self::new(name, Kind::Enum, 3, 0, 3)
    }

    /// 0 off, 1 on.
    const fn switch(name: &'static str) -> Self {
        Self::new(name, Kind::Enum, 1, 0, 1)
    }

    /// What the registry says, or the default where it says nothing, or nothing sensible.
    fn value(&self, read: Option<u32>) -> u32 {
        read.filter(|value| (self.minimum..=self.maximum).contains(value))
            .unwrap_or(self.default)
    }
}

/// Largest frame with its Ethernet header, without tag and checksum: the largest MTU, 65517 (netif.h's extra info and
/// the header share 64 KiB), and 14.
pub const MAX_FRAME: u32 = 65531;
/// Queues that an adapter can be told to use.
pub const MAX_QUEUES: u32 = 8;

const IP_CHECKSUM_IPV4: Keyword = Keyword::ways("*IPChecksumOffloadIPv4");
const TCP_CHECKSUM_IPV4: Keyword = Keyword::ways("*TCPChecksumOffloadIPv4");
const UDP_CHECKSUM_IPV4: Keyword = Keyword::ways("*UDPChecksumOffloadIPv4");
const TCP_CHECKSUM_IPV6: Keyword = Keyword::ways("*TCPChecksumOffloadIPv6");
const UDP_CHECKSUM_IPV6: Keyword = Keyword::ways("*UDPChecksumOffloadIPv6");
const NEED_CHECKSUM_VALUE: Keyword = Keyword::switch("NeedChecksumValue");
const LSO_V2_IPV4: Keyword = Keyword::switch("*LSOV2IPv4");
const LSO_V2_IPV6: Keyword = Keyword::switch("*LSOV2IPv6");
const USO_IPV4: Keyword = Keyword::switch("*UsoIPv4");
const USO_IPV6: Keyword = Keyword::switch("*UsoIPv6");
const LRO_IPV4: Keyword = Keyword::switch("LROIPv4");
const LRO_IPV6: Keyword = Keyword::switch("LROIPv6");
const RSC_IPV4: Keyword = Keyword::switch("*RscIPv4");
const RSC_IPV6: Keyword = Keyword::switch("*RscIPv6");
const RSS: Keyword = Keyword::switch("*RSS");
const NUM_RSS_QUEUES: Keyword = Keyword::new("*NumRSSQueues", Kind::Int, MAX_QUEUES, 1, MAX_QUEUES);
// 0 neither, 1 priority, 2 VLAN, 3 both: bits, like the checksums'.
const PRIORITY_VLAN_TAG: Keyword = Keyword::ways("*PriorityVLANTag");
const VLAN_ID: Keyword = Keyword::new("VlanID", Kind::Int, 0, 0, 4094);
// The backend's MTU is what frames are limited by; this can lower it.
const JUMBO_PACKET: Keyword = Keyword::new("*JumboPacket", Kind::Int, MAX_FRAME, 1514, MAX_FRAME);

/// All settings that the driver reads. `NetworkAddress` is xenvif's.
pub const ALL: &[Keyword] = &[
    IP_CHECKSUM_IPV4,
    TCP_CHECKSUM_IPV4,
    UDP_CHECKSUM_IPV4,
    TCP_CHECKSUM_IPV6,
    UDP_CHECKSUM_IPV6,
    NEED_CHECKSUM_VALUE,
    LSO_V2_IPV4,
    LSO_V2_IPV6,
    USO_IPV4,
    USO_IPV6,
    LRO_IPV4,
    LRO_IPV6,
    RSC_IPV4,
    RSC_IPV6,
    RSS,
    NUM_RSS_QUEUES,
    PRIORITY_VLAN_TAG,
    VLAN_ID,
    JUMBO_PACKET,
];

/// The settings of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The offloads that are on to begin with.
    pub tasks: Tasks,
    /// Whether a checksum that a sender left out is filled in on receipt.
    pub need_checksum_value: bool,
    /// Whether receive-side scaling is offered.
    pub scaling: bool,
    /// With how many queues at most, from 1 to [`MAX_QUEUES`].
    pub queues: u32,
    /// Whether tags carry the priority.
    pub priority: bool,
    /// Whether tags carry the VLAN.
    pub vlan: bool,
    /// The VLAN the adapter is in; 0 for all.
    pub vlan_id: u16,
    /// Bytes of a frame with Ethernet header, without tag and checksum, at most.
    pub frame: u32,
}

impl Default for Settings {
    /// An adapter of which nothing is set.
    fn default() -> Self {
        Self::read(|_| None)
    }
}

impl Settings {
    /// `read` gives the number that is set for a name. A number out of its bounds is as none.
    pub fn read(mut read: impl FnMut(&'static str) -> Option<u32>) -> Self {
        let mut value = |keyword: &Keyword| keyword.value(read(keyword.name));
        let mut tasks = Tasks::NONE;
        for (keyword, transmit, receive) in [
            (&IP_CHECKSUM_IPV4, Tasks::TX_IPV4, Tasks::RX_IPV4),
            (&TCP_CHECKSUM_IPV4, Tasks::TX_TCP_IPV4, Tasks::RX_TCP_IPV4),
            (&UDP_CHECKSUM_IPV4, Tasks::TX_UDP_IPV4, Tasks::RX_UDP_IPV4),
            (&TCP_CHECKSUM_IPV6, Tasks::TX_TCP_IPV6, Tasks::RX_TCP_IPV6),
            (&UDP_CHECKSUM_IPV6, Tasks::TX_UDP_IPV6, Tasks::RX_UDP_IPV6),
        ] {
            let ways = value(keyword);
            tasks |= transmit.only_if(ways & 1 != 0) | receive.only_if(ways & 2 != 0);
        }
        for (keyword, task) in [
            // One keyword for both versions (Learn, "Enumeration Keywords": *LsoV2IPv4).
            (&LSO_V2_IPV4, Tasks::LSO_V1 | Tasks::LSO_V2_IPV4),
            (&LSO_V2_IPV6, Tasks::LSO_V2_IPV6),
            (&USO_IPV4, Tasks::USO_IPV4),
            (&USO_IPV6, Tasks::USO_IPV6),
        ] {
            tasks |= task.only_if(value(keyword) != 0);
        }
        // The older keyword and Microsoft's: what either turns off is off.
        for (lro, rsc, task) in [
            (&LRO_IPV4, &RSC_IPV4, Tasks::RSC_IPV4),
            (&LRO_IPV6, &RSC_IPV6, Tasks::RSC_IPV6),
        ] {
            tasks |= task.only_if(value(lro) & value(rsc) != 0);
        }
        let tag = value(&PRIORITY_VLAN_TAG);
        Self {
            tasks,
            need_checksum_value: value(&NEED_CHECKSUM_VALUE) != 0,
            scaling: value(&RSS) != 0,
            queues: value(&NUM_RSS_QUEUES),
            priority: tag & 1 != 0,
            vlan: tag & 2 != 0,
            vlan_id: value(&VLAN_ID) as u16,
            frame: value(&JUMBO_PACKET),
        }
    }

    /// Bytes of a frame with Ethernet header and tag, without checksum, that an interface with this maximum can carry.
    pub fn maximum_frame(&self, interface: u32) -> u32 {
        interface.min(self.frame + crate::vlan::TAG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_defaults_lie_in_bounds() {
        for (index, keyword) in ALL.iter().enumerate() {
            assert!((keyword.minimum..=keyword.maximum).contains(&keyword.default));
            let same = |other: &Keyword| other.name.eq_ignore_ascii_case(keyword.name);
            assert!(!ALL[..index].iter().any(same), "{}", keyword.name);
        }
    }

    #[test]
    fn every_name_is_asked_for_once() {
        let mut names = vec![];
        Settings::read(|name| {
            names.push(name);
            None
        });
        names.sort_unstable();
        let mut all: Vec<_> = ALL.iter().map(|keyword| keyword.name).collect();
        all.sort_unstable();
        assert_eq!(names, all);
    }

    #[test]
    fn nothing_set_is_everything_on() {
        let settings = Settings::default();
        assert_eq!(settings.tasks, Tasks::ALL);
        assert!(settings.need_checksum_value && settings.scaling);
        assert!(settings.priority && settings.vlan);
        assert_eq!((settings.queues, settings.vlan_id), (8, 0));
        assert_eq!(settings.maximum_frame(1518), 1518);
        assert_eq!(settings.maximum_frame(65535), 65535);
    }

    #[test]
    fn a_value_out_of_its_bounds_is_as_none() {
        for keyword in ALL {
            let bad = [
                keyword.minimum.wrapping_sub(1),
                keyword.maximum + 1,
                u32::MAX,
            ];
            for bad in bad {
                let read = |name| (name == keyword.name).then_some(bad);
                assert_eq!(
                    Settings::read(read),
                    Settings::default(),
                    "{}",
                    keyword.name
                );
            }
        }
    }

    #[test]
    fn each_keyword_turns_off_its_own() {
        let tasks = |name: &'static str, value| {
            !Settings::read(|asked| (asked == name).then_some(value)).tasks
        };
        assert_eq!(tasks("*TCPChecksumOffloadIPv4", 1), Tasks::RX_TCP_IPV4);
        assert_eq!(tasks("*UDPChecksumOffloadIPv6", 2), Tasks::TX_UDP_IPV6);
        assert_eq!(
            tasks("*IPChecksumOffloadIPv4", 0),
            Tasks::TX_IPV4 | Tasks::RX_IPV4
        );
        assert_eq!(tasks("*LSOV2IPv4", 0), Tasks::LSO_V1 | Tasks::LSO_V2_IPV4);
        assert_eq!(tasks("*UsoIPv6", 0), Tasks::USO_IPV6);
        assert_eq!(tasks("LROIPv6", 0), Tasks::RSC_IPV6);
        assert_eq!(tasks("*RscIPv4", 0), Tasks::RSC_IPV4);
        let jumbo = Settings::read(|name| (name == "*JumboPacket").then_some(9014));
        assert_eq!(jumbo.maximum_frame(65535), 9018);
        assert_eq!(jumbo.maximum_frame(1518), 1518);
        let priority = Settings::read(|name| (name == "*PriorityVLANTag").then_some(1));
        assert!(priority.priority && !priority.vlan);
    }
}
