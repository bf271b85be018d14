//! Which queue a frame belongs to: what of it is hashed, and how.

use crate::field::{get8, get16};
use crate::ip::Version;
use crate::layout::{Layout, Transport};
use crate::toeplitz::Key;

/// What of a packet a Toeplitz hash is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv4 addresses and TCP ports.
    TcpIpv4,
    /// IPv6 addresses.
    Ipv6,
    /// IPv6 addresses and TCP ports.
    TcpIpv6,
}

impl HashType {
    /// Its number in Xen's network protocol (`XEN_NETIF_CTRL_HASH_TYPE_*` without the masks).
    pub fn number(self) -> u8 {
        self as u8
    }

    /// From that number.
    pub fn from_number(number: u8) -> Option<HashType> {
        [
            HashType::Ipv4,
            HashType::TcpIpv4,
            HashType::Ipv6,
            HashType::TcpIpv6,
        ]
        .into_iter()
        .find(|known| known.number() == number)
    }
}

/// A set of hash types, as in messages of the control ring: bit n is type n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashTypes(pub u32);

impl HashTypes {
    /// Whether a type is among them.
    pub fn contains(self, hash_type: HashType) -> bool {
        self.0 >> hash_type.number() & 1 != 0
    }

    /// The type for a frame: with ports if it has a TCP header and that type is among them, else without. Fragments have no
    /// TCP header here, so all of a packet get the same hash. `None`: no hash.
    pub fn choose(self, layout: &Layout) -> Option<HashType> {
        let (with, without) = match layout.ip?.version {
            Version::V4 => (HashType::TcpIpv4, HashType::Ipv4),
            Version::V6 => (HashType::TcpIpv6, HashType::Ipv6),
        };
        let tcp = matches!(layout.transport, Some(Transport::Tcp { .. }));
        [(with, tcp), (without, true)]
            .into_iter()
            .find_map(|(hash_type, fits)| (fits && self.contains(hash_type)).then_some(hash_type))
    }
}

/// Addresses of a packet, and its ports if there are any, as they stand there.
fn input<'a>(headers: &'a [u8], layout: &Layout, ports: bool) -> Option<(&'a [u8], &'a [u8])> {
    let addresses = layout.ip?.address_bytes(headers).ok()?;
    let ports = match layout.transport.filter(|_| ports) {
        Some(transport) => transport.header().of(headers).ok()?.get(..4)?,
        None => &[],
    };
    Some((addresses, ports))
}

/// The Toeplitz hash of a frame, and over what it is; `None` if none of the types fits.
pub fn toeplitz(
    key: &Key,
    types: HashTypes,
    headers: &[u8],
    layout: &Layout,
) -> Option<(HashType, u32)> {
    let hash_type = types.choose(layout)?;
    let with_ports = matches!(hash_type, HashType::TcpIpv4 | HashType::TcpIpv6);
    let (addresses, ports) = input(headers, layout, with_ports)?;
    Some((hash_type, key.hash(addresses.iter().chain(ports))))
}

/// A hash of any IP packet's addresses and ports, to spread flows over queues where nobody asked for a certain one; `None`
/// for frames that are not IP. It is the one of the published driver, so that both spread alike.
pub fn spread(headers: &[u8], layout: &Layout) -> Option<u32> {
    let (addresses, ports) = input(headers, layout, true)?;
    Some(addresses.iter().chain(ports).fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(*byte));
        let high = hash & 0x000f_ff00;
        (hash ^ high >> 8) & !high
    }))
}

/// What tells a TCP connection from others, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source and destination.
    pub addresses: crate::ip::Addresses,
    /// The same.
    pub ports: (u16, u16),
}

impl Flow {
    /// Of a frame with a TCP or UDP header.
    pub fn of(headers: &[u8], layout: &Layout) -> Option<Flow> {
        let header = layout.transport?.header().of(headers).ok()?;
        Some(Flow {
            addresses: layout.ip?.addresses(headers).ok()?,
            ports: (get16(header, 0)?, get16(header, 2)?),
        })
    }
}

/// The six bits of differentiated services and the two of ECN, and IPv6's flow label.
pub(crate) fn class(headers: &[u8], layout: &Layout) -> Option<u32> {
    let ip = layout.ip?;
    let header = ip.header.of(headers).ok()?;
    match ip.version {
        Version::V4 => get8(header, 1).map(u32::from),
        Version::V6 => crate::field::get32(header, 0),
    }
}
