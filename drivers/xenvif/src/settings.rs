//! The registry below `Services\xenvif`. PASSIVE_LEVEL.

use alloc::string::String;
use alloc::vec::Vec;
use bus::VifNumber;
use core::fmt::Write;
use netfront::MacAddress;
use nt::registry::{Access, Lifetime};
use nt::{DeviceObject, Key, NtStatus, Result};

/// The service's key.
pub const SERVICE: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Services\xenvif";
/// The permanent addresses of the interfaces that there are, for installers.
const ADDRESSES: &str = "Addresses";

fn parameters() -> Result<Key> {
    Key::open(SERVICE, Access::Read)?.subkey("Parameters", Access::Read)
}

/// Whether interfaces are to be looked for.
pub fn enumerate() -> bool {
    parameters()
        .and_then(|key| key.dword("Enumerate"))
        .unwrap_or(1)
        != 0
}

/// The names of interfaces that are to be left alone.
pub fn unsupported() -> Result<Vec<String>> {
    let names = parameters().and_then(|key| key.texts("UnsupportedDevices"));
    match names {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(Vec::new()),
        names => names,
    }
}

/// What the registry says of all interfaces.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    /// Queues of an interface, at most.
    pub queues: u32,
    /// Gbit/s, where xenstore says nothing.
    pub speed: u32,
    /// Whether large packets may be sent, over IPv4 and IPv6.
    pub tx_gso: [bool; 2],
    /// Whether the backend may send large packets.
    pub rx_gso: [bool; 2],
    /// Whether the backend may be asked to hash packets.
    pub toeplitz: bool,
    /// Whether the backend may be asked to filter multicast packets.
    pub multicast_control: bool,
    /// Whether the client may be given large packets.
    pub allow_large: bool,
    /// Received packets are copied to begin so many bytes into a page; 0: they stay where they are.
    pub align: u32,
    /// Whether a received packet is given in one piece, if a page holds it.
    pub pull_up: bool,
    /// Whether checksums that a sender left out are filled in for every client.
    pub calculate_checksums: bool,
    /// Whether checksums of packets that are sent are looked at, for the statistics.
    pub validate_checksums: bool,
}

impl Parameters {
    /// Reads them.
    pub fn read() -> Self {
        let key = parameters();
        let number = |name: &str, default: u32| {
            let value = key.as_ref().ok().map(|key| key.dword(name));
            value.and_then(Result::ok).unwrap_or(default)
        };
        let is_set = |name: &str, default: u32| number(name, default) != 0;
        Self {
            queues: number("FrontendMaxQueues", u32::MAX).max(1),
            speed: number("MacSpeed", 100),
            tx_gso: [
                !is_set("TransmitterDisableIpVersion4Gso", 0),
                !is_set("TransmitterDisableIpVersion6Gso", 0),
            ],
            rx_gso: [
                !is_set("ReceiverDisableIpVersion4Gso", 0),
                !is_set("ReceiverDisableIpVersion6Gso", 0),
            ],
            toeplitz: !is_set("FrontendDisableToeplitz", 0),
            multicast_control: !is_set("TransmitterDisableMulticastControl", 0),
            allow_large: is_set("ReceiverAllowGsoPackets", 1),
            // More than the headers' alignment can need is none.
            align: number("ReceiverIpAlignOffset", 0).min(64),
            pull_up: is_set("ReceiverAlwaysPullup", 0),
            calculate_checksums: is_set("ReceiverCalculateChecksums", 1),
            validate_checksums: is_set("TransmitterValidateChecksums", 0),
        }
    }
}

/// The address that the user wants for a device, in place of its own: `NetworkAddress` of its software key, with colons or,
/// as Windows writes it, without.
///
/// # Errors
/// What is there is no address.
pub fn network_address(device: &DeviceObject) -> Result<Option<MacAddress>> {
    let text = match Key::of_driver(device, Access::Read).and_then(|key| key.text("NetworkAddress"))
    {
        // Without a driver there is no key.
        Err(_) => return Ok(None),
        Ok(text) if text.is_empty() => return Ok(None),
        Ok(text) => text,
    };
    let address = match text.as_bytes().as_chunks::<2>() {
        ([a, b, c, d, e, f], []) => {
            let [[a, b], [c, d], [e, f], [g, h], [i, j], [k, l]] = [*a, *b, *c, *d, *e, *f];
            let colons = [
                a, b, b':', c, d, b':', e, f, b':', g, h, b':', i, j, b':', k, l,
            ];
            MacAddress::parse(&colons)
        }
        _ => MacAddress::parse(text.as_bytes()),
    };
    address.map(Some).ok_or(NtStatus::INVALID_PARAMETER)
}

/// Writes an interface's permanent address down, or takes it back.
pub fn record_address(number: VifNumber, address: Option<MacAddress>) -> Result<()> {
    let key = Key::open(SERVICE, Access::All)?.create_subkey(ADDRESSES, Lifetime::Volatile)?;
    let name = text(format_args!("{number}"))?;
    match address {
        Some(address) => key.set_text(&name, &text(format_args!("{address}"))?),
        None => key.delete_value(&name),
    }
}

/// Text, without a panic where there is no memory for it.
pub fn text(arguments: core::fmt::Arguments<'_>) -> Result<String> {
    struct Fallible(String);
    impl Write for Fallible {
        fn write_str(&mut self, part: &str) -> core::fmt::Result {
            self.0
                .try_reserve(part.len())
                .map_err(|_| core::fmt::Error)?;
            self.0.push_str(part);
            Ok(())
        }
    }
    let mut text = Fallible(String::new());
    text.write_fmt(arguments)
        .map_err(|core::fmt::Error| NtStatus::NO_MEMORY)?;
    Ok(text.0)
}
