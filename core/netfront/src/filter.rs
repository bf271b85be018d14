//! Which received packets are wanted, by their destination.

use crate::MacAddress;
use packet::Kind;

/// How much of a class of packets is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// What is for this interface: its address, the multicast addresses in its list, and every broadcast.
    Matching,
    /// Everything.
    All,
}

/// The levels of all classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Filter {
    pub unicast: Level,
    pub multicast: Level,
    pub broadcast: Level,
}

impl Filter {
    /// Whether a packet to this address is wanted by the interface with the address `own` and this list of multicast
    /// addresses.
    pub fn wants(
        &self,
        destination: MacAddress,
        own: MacAddress,
        multicast: &[MacAddress],
    ) -> bool {
        match destination.kind() {
            Kind::Unicast => match self.unicast {
                Level::None => false,
                Level::Matching => destination == own,
                Level::All => true,
            },
            // The backend's own filter may pass more than the list: it can be late, or off.
            Kind::Multicast => match self.multicast {
                Level::None => false,
                Level::Matching => multicast.contains(&destination),
                Level::All => true,
            },
            Kind::Broadcast => self.broadcast != Level::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: MacAddress = MacAddress([0, 0x16, 0x3E, 0, 0, 1]);
    const OTHER: MacAddress = MacAddress([0, 0x16, 0x3E, 0, 0, 2]);
    const LISTED: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    const UNLISTED: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 2]);

    /// What passes of own, other, listed, unlisted, broadcast.
    fn passes(unicast: Level, multicast: Level, broadcast: Level) -> [bool; 5] {
        let filter = Filter {
            unicast,
            multicast,
            broadcast,
        };
        [OWN, OTHER, LISTED, UNLISTED, MacAddress::BROADCAST]
            .map(|destination| filter.wants(destination, OWN, &[LISTED]))
    }

    #[test]
    fn nothing_passes_at_first() {
        let Filter {
            unicast,
            multicast,
            broadcast,
        } = Filter::default();
        assert_eq!(passes(unicast, multicast, broadcast), [false; 5]);
    }

    #[test]
    fn each_class_has_its_own_level() {
        use Level::*;
        assert_eq!(
            passes(Matching, None, None),
            [true, false, false, false, false]
        );
        assert_eq!(passes(All, None, None), [true, true, false, false, false]);
        assert_eq!(
            passes(None, Matching, None),
            [false, false, true, false, false]
        );
        assert_eq!(passes(None, All, None), [false, false, true, true, false]);
        assert_eq!(
            passes(None, None, Matching),
            [false, false, false, false, true]
        );
        assert_eq!(passes(None, None, All), [false, false, false, false, true]);
        assert_eq!(passes(All, All, All), [true; 5]);
    }
}
