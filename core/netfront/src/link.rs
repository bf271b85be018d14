//! The link as the toolstack describes it in the frontend's directory: `mtu`, `disconnect`, `speed`.

use crate::MacAddress;
use packet::Kind;
use xenstore::Value;

/// The MTU where no key says another.
pub const DEFAULT_MTU: u32 = 1500;
/// The smallest MTU: with it an Ethernet frame can have the 60 bytes that it must have.
pub const MIN_MTU: u32 = 60;
/// Bytes of a frame that the MTU does not count: addresses, a VLAN tag, the type.
pub const FRAME_OVERHEAD: u32 = 18;
/// The largest MTU whose frames the rings can carry.
pub const MAX_MTU: u32 = xen_abi::netif::MAX_TX_SIZE as u32 - FRAME_OVERHEAD;

/// Bytes of payload that a frame can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(u32);

/// The key `mtu` holds this, and no such interface can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMtu(pub Value);

impl Mtu {
    /// Reads the key.
    pub fn read(mtu: Value) -> Result<Self, BadMtu> {
        match mtu {
            Value::Missing => Ok(Self(DEFAULT_MTU)),
            Value::Number(bytes) => u32::try_from(bytes)
                .ok()
                .filter(|bytes| (MIN_MTU..=MAX_MTU).contains(bytes))
                .map(Self)
                .ok_or(BadMtu(mtu)),
            Value::Garbage => Err(BadMtu(mtu)),
        }
    }

    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// Bytes of the longest frame, with a VLAN tag and without the checksum.
    pub fn max_frame(self) -> u32 {
        self.0 + FRAME_OVERHEAD
    }
}

/// The address of the interface: what the registry wishes, unless that is none that one interface can have.
pub fn current_address(permanent: MacAddress, wish: Option<MacAddress>) -> MacAddress {
    wish.filter(|wish| wish.kind() == Kind::Unicast)
        .unwrap_or(permanent)
}

/// The carrier and its speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// No carrier.
    Down,
    /// A carrier.
    Up {
        /// Bits per second, not 0.
        speed: u64,
    },
}

impl Link {
    /// Reads the keys `disconnect` and `speed`; `default_gbits` is the speed, in Gbit/s, where no key says one.
    pub fn read(disconnect: Value, speed: Option<&[u8]>, default_gbits: u32) -> Self {
        if disconnect.is_set() {
            return Link::Down;
        }
        let speed = match speed {
            Some(text) => parse_speed(text),
            None => Some(u64::from(default_gbits) * 1_000_000_000),
        };
        match speed {
            None | Some(0) => Link::Down,
            Some(speed) => Link::Up { speed },
        }
    }

    /// Whether there is a carrier.
    pub fn is_up(self) -> bool {
        self != Link::Down
    }

    /// Bits per second; 0 without a carrier.
    pub fn speed(self) -> u64 {
        match self {
            Link::Down => 0,
            Link::Up { speed } => speed,
        }
    }
}

/// A decimal number and perhaps a unit, `g`, `m` or `k` in either case, `g` if there is none: in bits per second.
fn parse_speed(text: &[u8]) -> Option<u64> {
    let (digits, unit) = match text {
        [digits @ .., b'g' | b'G'] => (digits, 1_000_000_000),
        [digits @ .., b'm' | b'M'] => (digits, 1_000_000),
        [digits @ .., b'k' | b'K'] => (digits, 1_000),
        digits => (digits, 1_000_000_000),
    };
    match Value::parse(Some(digits)) {
        Value::Number(number) => number.checked_mul(unit),
        Value::Missing | Value::Garbage => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::parse(Some(text.as_bytes()))
    }

    #[test]
    fn an_mtu_is_within_what_frames_and_rings_can_carry() {
        assert_eq!(Mtu::read(Value::Missing).unwrap().bytes(), 1500);
        assert_eq!(Mtu::read(value("1500")).unwrap().max_frame(), 1518);
        assert_eq!(Mtu::read(value("60")).unwrap().bytes(), 60);
        assert_eq!(Mtu::read(value("65517")).unwrap().max_frame(), 65535);
        for odd in [
            "59",
            "0",
            "65518",
            "4294967296",
            "4294968796",
            "18446744073709551615",
            "-1",
            "",
            "1500 ",
            "big",
        ] {
            assert_eq!(Mtu::read(value(odd)), Err(BadMtu(value(odd))), "{odd:?}");
        }
    }

    #[test]
    fn a_speed_has_a_unit_or_is_in_gigabits() {
        let speed = |text: &str| Link::read(Value::Missing, Some(text.as_bytes()), 100).speed();
        assert_eq!(speed("10"), 10_000_000_000);
        assert_eq!(speed("25G"), 25_000_000_000);
        assert_eq!(speed("100m"), 100_000_000);
        assert_eq!(speed("56K"), 56_000);
        assert_eq!(
            Link::read(Value::Missing, None, 100).speed(),
            100_000_000_000
        );
    }

    #[test]
    fn a_speed_that_is_none_takes_the_link_down() {
        for odd in [
            "",
            "g",
            "0",
            "0k",
            "10 g",
            "10gg",
            "10t",
            "-1",
            "18446744073709551615",
            "99999999999999999999k",
        ] {
            let link = Link::read(Value::Missing, Some(odd.as_bytes()), 100);
            assert_eq!((link, link.speed()), (Link::Down, 0), "{odd:?}");
        }
        assert!(!Link::read(Value::Missing, None, 0).is_up());
        assert!(Link::read(Value::Missing, None, u32::MAX).is_up());
    }

    #[test]
    fn only_a_number_that_is_not_0_disconnects() {
        for (text, up) in [
            ("1", false),
            ("2", false),
            ("0", true),
            ("yes", true),
            ("", true),
        ] {
            assert_eq!(Link::read(value(text), None, 1).is_up(), up, "{text:?}");
        }
    }

    #[test]
    fn an_impossible_wish_leaves_the_permanent_address() {
        let (permanent, local) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2; 6]));
        assert_eq!(current_address(permanent, Some(local)), local);
        assert_eq!(current_address(permanent, None), permanent);
        for group in [MacAddress([3; 6]), MacAddress::BROADCAST] {
            assert_eq!(current_address(permanent, Some(group)), permanent);
        }
    }
}
