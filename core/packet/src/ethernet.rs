//! Addresses, tags and sizes of Ethernet frames (IEEE 802.3, 802.1Q).

use core::fmt;

/// Bytes of two addresses and a type.
pub(crate) const HEADER: usize = 14;
/// Bytes of an 802.1Q tag.
pub(crate) const TAG: usize = 4;
/// Bytes before the type, or before the tag if there is one.
pub(crate) const ADDRESSES: usize = 12;

/// Types, as they stand in frames.
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const TAGGED: u16 = 0x8100;
/// A number up to here in the place of the type is a length, and LLC follows (IEEE 802.3: "Length/Type field").
pub(crate) const MAX_LENGTH: u16 = 1500;

/// Shortest frame that may be sent, in bytes, without the frame check sequence.
pub const MIN_FRAME: usize = 60;

/// Bytes of zero to put behind a frame of `length` bytes so that it may be sent.
pub fn padding(length: usize) -> usize {
    MIN_FRAME.saturating_sub(length)
}

/// A station's address, or that of several. As text: `xx:xx:xx:xx:xx:xx`, in xenstore and in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Whom an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One station.
    Unicast,
    /// A group of stations.
    Multicast,
    /// All stations.
    Broadcast,
}

impl Mac {
    /// All stations.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// The address at the start of these bytes.
    pub fn from_start(bytes: &[u8]) -> Option<Mac> {
        bytes.first_chunk().copied().map(Mac)
    }

    /// Reads its text, hexadecimal digits of either case, and nothing before or after.
    pub fn parse(text: &[u8]) -> Option<Mac> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
        let mut address = [0; 6];
        let mut groups = text.split(|byte| *byte == b':');
        for byte in &mut address {
            let [high, low] = *groups.next()? else {
                return None;
            };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        groups.next().is_none().then_some(Mac(address))
    }

    /// Whom it means. Clients and backends of the VIF interface count addresses with the lowest two bits of a broadcast
    /// address in any state but group bit set as broadcasts, so that is done here too.
    pub fn kind(self) -> Kind {
        let [first, rest @ ..] = self.0;
        match first & 1 {
            0 => Kind::Unicast,
            _ if first & 0xfc == 0xfc && rest == [0xff; 5] => Kind::Broadcast,
            _ => Kind::Multicast,
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Tag control information: priority, drop eligibility, VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tci(pub u16);

impl Tci {
    /// Of a priority (0 to 7) and a VLAN (0: none, the tag is for its priority only), each cut to its bits.
    pub fn new(priority: u8, vlan: u16) -> Tci {
        Tci(u16::from(priority & 7) << 13 | vlan & 0xfff)
    }

    /// 0 to 7.
    pub fn priority(self) -> u8 {
        (self.0 >> 13) as u8
    }

    /// Whether the frame may be dropped first (once: canonical format indicator).
    pub fn drop_eligible(self) -> bool {
        self.0 & 0x1000 != 0
    }

    /// 0: none.
    pub fn vlan(self) -> u16 {
        self.0 & 0xfff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_six_pairs_of_digits_and_nothing_else() {
        let address = Mac([0, 0x16, 0x3E, 0xAB, 0xCD, 0xEF]);
        assert_eq!(Mac::parse(b"00:16:3e:Ab:CD:ef"), Some(address));
        assert_eq!(address.to_string(), "00:16:3e:ab:cd:ef");
        for odd in [
            "",
            ":",
            "00:16:3e:ab:cd",
            "00:16:3e:ab:cd:",
            "00:16:3e:ab:cd:ef:",
            "00:16:3e:ab:cd:ef:01",
            "00:16:3e:ab:cd:ef ",
            " 00:16:3e:ab:cd:ef",
            "0:16:3e:ab:cd:ef",
            "000:16:3e:ab:cd:ef",
            "00-16-3e-ab-cd-ef",
            "00163eabcdef",
            "00:16:3e:ab:cd:eg",
            "+0:16:3e:ab:cd:ef",
            "00:16:3e:ab:cd:ef\0",
        ] {
            assert_eq!(Mac::parse(odd.as_bytes()), None, "{odd:?}");
        }
        let long = "00:".repeat(100_000);
        assert_eq!(Mac::parse(long.as_bytes()), None);
    }

    #[test]
    fn addresses_are_told_apart() {
        assert_eq!(Mac([0, 0x16, 0x3e, 1, 2, 3]).kind(), Kind::Unicast);
        assert_eq!(Mac([0x33, 0x33, 0, 0, 0, 1]).kind(), Kind::Multicast);
        assert_eq!(
            Mac([1, 0xff, 0xff, 0xff, 0xff, 0xff]).kind(),
            Kind::Multicast
        );
        assert_eq!(Mac::BROADCAST.kind(), Kind::Broadcast);
        assert_eq!(
            Mac([0xfd, 0xff, 0xff, 0xff, 0xff, 0xff]).kind(),
            Kind::Broadcast
        );
        assert_eq!(
            Mac([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]).kind(),
            Kind::Unicast
        );
        assert_eq!(Mac::from_start(&[1, 2, 3, 4, 5]), None);
    }

    #[test]
    fn a_tag_has_three_parts() {
        assert_eq!(Tci::new(5, 0x123), Tci(0xa123));
        assert_eq!(Tci::new(0xff, 0xffff), Tci(0xefff));
        let tag = Tci(0xb123);
        assert_eq!(
            (tag.priority(), tag.drop_eligible(), tag.vlan()),
            (5, true, 0x123)
        );
    }

    #[test]
    fn short_frames_are_padded_to_sixty_bytes() {
        assert_eq!(
            [0, 14, 42, 59, 60, 61, 9000].map(padding),
            [60, 46, 18, 1, 0, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn an_address_survives_its_text(bytes in any::<[u8; 6]>()) {
            let address = Mac(bytes);
            prop_assert_eq!(Mac::parse(address.to_string().as_bytes()), Some(address));
        }

        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(address) = Mac::parse(&text) {
                prop_assert_eq!(address.to_string().into_bytes(), text.to_ascii_lowercase());
            }
        }
    }
}
