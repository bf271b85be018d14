//! 802.1Q tags: what NDIS has beside a packet (`Ieee8021QNetBufferListInfo`) and what VIF has (a tag control
//! information, 0 for none).
//!
//! An adapter that is in a VLAN carries that VLAN's frames alone; one that is in none carries all, and says whose they
//! are. A frame of a VLAN, where VLANs are turned off, is nobody's.

use crate::keyword::Settings;

/// Bytes of a tag.
pub const TAG: u32 = 4;
/// The bits of a tag that are the VLAN's number.
const ID: u16 = 0x0FFF;
/// Where the priority is in it.
const PRIORITY: u32 = 13;
/// Numbers that a VLAN can have are below this one (IEEE 802.1Q, table 9-2).
const RESERVED: u16 = 0x0FFF;

/// What NDIS has beside a packet; all 0 for an untagged one. The bit for another order of address bits is never set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutOfBand {
    /// UserPriority, 0 to 7.
    pub priority: u8,
    /// VlanId.
    pub vlan: u16,
}

/// `NDIS_NET_BUFFER_LIST_8021Q_INFO.TagHeader` (nbl8021q.h): UserPriority in bits 0 to 2, CanonicalFormatId in bit 3,
/// VlanId in bits 4 to 15.
impl OutOfBand {
    /// From the value in NetBufferListInfo.
    pub const fn of_value(value: u32) -> Self {
        Self {
            priority: (value & 7) as u8,
            vlan: (value >> 4) as u16 & ID,
        }
    }

    /// The value for NetBufferListInfo.
    pub const fn value(self) -> u32 {
        (self.priority & 7) as u32 | ((self.vlan & ID) as u32) << 4
    }
}

/// How an adapter treats tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagging {
    priority: bool,
    vlan: bool,
    id: u16,
}

impl Tagging {
    /// By the adapter's settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            priority: settings.priority,
            vlan: settings.vlan,
            id: settings.vlan_id,
        }
    }

    /// Its number, for an atomic.
    pub const fn bits(self) -> u32 {
        (self.id & ID) as u32 | (self.priority as u32) << 12 | (self.vlan as u32) << 13
    }

    /// Of such a number.
    pub const fn of_bits(bits: u32) -> Self {
        Self {
            priority: bits & 1 << 12 != 0,
            vlan: bits & 1 << 13 != 0,
            id: bits as u16 & ID,
        }
    }

    /// Puts the adapter into another VLAN, 0 for none. `false` if there is no such VLAN, or VLANs are off.
    pub fn set_id(&mut self, id: u32) -> bool {
        match u16::try_from(id) {
            Ok(id) if id < RESERVED && (self.vlan || id == 0) => {
                self.id = id;
                true
            }
            _ => false,
        }
    }

    /// The VLAN the adapter is in, 0 for none.
    pub const fn id(&self) -> u16 {
        if self.vlan { self.id } else { 0 }
    }

    /// Whether tags are put in when asked for.
    pub const fn any(&self) -> bool {
        self.priority || self.vlan
    }

    /// Priorities, VLANs: what the attributes tell NDIS (`NDIS_MAC_OPTION_8021P_PRIORITY`, `_8021Q_VLAN`).
    pub const fn serves(&self) -> (bool, bool) {
        (self.priority, self.vlan)
    }

    /// The tag of a packet that is sent. A packet that names a VLAN goes there, others to the adapter's.
    pub const fn transmit(&self, asked: OutOfBand) -> u16 {
        let priority = if self.priority { asked.priority & 7 } else { 0 };
        let id = match (self.vlan, asked.vlan & ID) {
            (false, _) => 0,
            (true, 0) => self.id,
            (true, id) => id,
        };
        (priority as u16) << PRIORITY | id
    }

    /// What NDIS is told of a received packet's tag; `None`: the packet is not for this adapter.
    pub const fn receive(&self, tag: u16) -> Option<OutOfBand> {
        let id = tag & ID;
        if id != 0 && !self.vlan || self.id() != 0 && id != self.id() {
            return None;
        }
        Some(OutOfBand {
            priority: if self.priority {
                (tag >> PRIORITY) as u8
            } else {
                0
            },
            vlan: id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagging(ways: u32, id: u32) -> Tagging {
        Tagging::new(&Settings::read(|name| match name {
            "*PriorityVLANTag" => Some(ways),
            "VlanID" => Some(id),
            _ => None,
        }))
    }

    #[test]
    fn what_is_sent_is_received_by_the_same_vlan() {
        for ways in 0..4 {
            for id in [0, 1, 7, 4094] {
                let tagging = tagging(ways, id);
                for priority in 0..8 {
                    for vlan in [0, 1, 7, 4094] {
                        let asked = OutOfBand { priority, vlan };
                        let tag = tagging.transmit(asked);
                        let back = tagging.receive(tag);
                        let foreign =
                            ways & 2 != 0 && id != 0 && vlan != 0 && u32::from(vlan) != id;
                        assert_eq!(back.is_none(), foreign, "{ways} {id} {asked:?}");
                        if let Some(back) = back {
                            assert_eq!(tagging.transmit(back), tag);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_turned_off_is_neither_put_in_nor_told() {
        let asked = OutOfBand {
            priority: 5,
            vlan: 7,
        };
        assert_eq!(tagging(0, 0).transmit(asked), 0);
        assert_eq!(tagging(1, 0).transmit(asked), 0xA000);
        assert_eq!(tagging(2, 0).transmit(asked), 7);
        assert_eq!(tagging(3, 0).transmit(asked), 0xA007);
        assert_eq!(tagging(2, 0).receive(0xA007).unwrap().priority, 0);
        assert_eq!(tagging(1, 0).receive(0xA000).unwrap().priority, 5);
        assert_eq!(tagging(1, 0).receive(0xA007), None, "another's");
        assert_eq!(tagging(1, 9).receive(0).unwrap(), OutOfBand::default());
        assert_eq!((tagging(1, 9).id(), tagging(2, 9).id()), (0, 9));
    }

    #[test]
    fn an_adapter_in_a_vlan_has_that_vlan_alone() {
        let inside = tagging(3, 9);
        assert_eq!(inside.receive(0), None);
        assert_eq!(inside.receive(8), None);
        assert_eq!(inside.receive(9).unwrap().vlan, 9);
        assert_eq!(inside.transmit(OutOfBand::default()), 9);
    }

    #[test]
    fn only_numbers_that_a_vlan_can_have_are_taken() {
        let mut tagging = tagging(3, 0);
        for id in (0..5000).chain([0x1_0001, u32::MAX]) {
            let before = tagging.id();
            assert_eq!(tagging.set_id(id), id < 4095, "{id}");
            let now = if id < 4095 { id } else { before.into() };
            assert_eq!(u32::from(tagging.id()), now);
        }
    }

    #[test]
    fn a_number_says_all_of_it() {
        for ways in 0..4 {
            for id in 0..4095 {
                let tagging = tagging(ways, id);
                assert_eq!(Tagging::of_bits(tagging.bits()), tagging);
            }
        }
    }

    #[test]
    fn the_value_beside_a_packet_comes_back_without_the_bit_that_means_nothing() {
        for value in 0..=0xFFFF_u32 {
            assert_eq!(OutOfBand::of_value(value).value(), value & 0xFFF7);
        }
        let info = OutOfBand::of_value(0x0095);
        assert_eq!((info.priority, info.vlan), (5, 9));
    }
}
