//! MAC addresses, and their text in xenstore and the registry.

use core::fmt;

/// An address of six bytes, in the order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// Whom an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Audience {
    Unicast,
    Multicast,
    Broadcast,
}

impl MacAddress {
    /// Everybody.
    pub const BROADCAST: Self = Self([0xFF; 6]);

    /// Reads `xx:xx:xx:xx:xx:xx`, hexadecimal digits of either case, and nothing before or after.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut address = [0; 6];
        let mut groups = text.split(|byte| *byte == b':');
        for byte in &mut address {
            let [high, low] = *groups.next()? else {
                return None;
            };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        groups.next().is_none().then_some(Self(address))
    }

    /// Whom it means.
    pub fn audience(self) -> Audience {
        match self {
            Self::BROADCAST => Audience::Broadcast,
            Self([first, ..]) if first & 1 != 0 => Audience::Multicast,
            _ => Audience::Unicast,
        }
    }

    /// The address of the interface: what `wish` says, unless it is absent or no address that one interface can have.
    pub fn current(permanent: Self, wish: Option<Self>) -> Self {
        wish.filter(|wish| wish.audience() == Audience::Unicast)
            .unwrap_or(permanent)
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_six_pairs_of_digits_and_nothing_else() {
        let address = MacAddress([0, 0x16, 0x3E, 0xAB, 0xCD, 0xEF]);
        assert_eq!(MacAddress::parse(b"00:16:3e:Ab:CD:ef"), Some(address));
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
            assert_eq!(MacAddress::parse(odd.as_bytes()), None, "{odd:?}");
        }
        let long = "00:".repeat(100_000);
        assert_eq!(MacAddress::parse(long.as_bytes()), None);
    }

    #[test]
    fn the_group_bit_makes_a_multicast_address() {
        let audience = |text: &str| MacAddress::parse(text.as_bytes()).unwrap().audience();
        assert_eq!(audience("00:16:3e:00:00:01"), Audience::Unicast);
        assert_eq!(audience("01:00:5e:00:00:01"), Audience::Multicast);
        assert_eq!(audience("ff:ff:ff:ff:ff:fe"), Audience::Multicast);
        assert_eq!(audience("ff:ff:ff:ff:ff:ff"), Audience::Broadcast);
    }

    #[test]
    fn an_impossible_wish_leaves_the_permanent_address() {
        let (permanent, local) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2; 6]));
        assert_eq!(MacAddress::current(permanent, Some(local)), local);
        assert_eq!(MacAddress::current(permanent, None), permanent);
        for group in [MacAddress([3; 6]), MacAddress::BROADCAST] {
            assert_eq!(MacAddress::current(permanent, Some(group)), permanent);
        }
    }

    proptest! {
        #[test]
        fn an_address_survives_its_text(bytes in any::<[u8; 6]>()) {
            let address = MacAddress(bytes);
            prop_assert_eq!(MacAddress::parse(address.to_string().as_bytes()), Some(address));
        }

        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(address) = MacAddress::parse(&text) {
                prop_assert_eq!(address.to_string().into_bytes(), text.to_ascii_lowercase());
            }
        }
    }
}
