//! The two Linux network stacks between which the drivers are: one in the place of Windows' TCP/IP, above NDIS, and its
//! peer behind the backend.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use tap::{Address, Namespace, NetError, Tap};

/// The peer's address on the link: a locally administered one.
const PEER_MAC: [u8; 6] = [0x02, 0x16, 0x3E, 0, 0, 2];
/// The device behind the backend has the name that Linux's backend gives its own.
const PEER_DEVICE: &str = "vif1.0";
/// The device in the place of Windows' TCP/IP.
const WINDOWS_DEVICE: &str = "xennet0";

/// A stack with its device, until the last copy is dropped.
#[derive(Clone)]
pub struct End {
    namespace: Arc<Namespace>,
    tap: Arc<Tap>,
    addresses: [IpAddr; 2],
}

impl End {
    /// The one behind the backend.
    pub fn peer(mtu: u32) -> Result<Self, NetError> {
        Self::new("peer", PEER_DEVICE, PEER_MAC, mtu, 2)
    }

    /// The one above NDIS, with its adapter's address.
    pub fn windows(mac: [u8; 6], mtu: u32) -> Result<Self, NetError> {
        Self::new("windows", WINDOWS_DEVICE, mac, mtu, 1)
    }

    fn new(role: &str, device: &str, mac: [u8; 6], mtu: u32, host: u8) -> Result<Self, NetError> {
        let namespace = Namespace::new(role)?;
        let tap = Arc::new(Tap::new(&namespace, device, mac, mtu)?);
        let v6 = Ipv6Addr::new(0xFD00, 0x117, 0, 0, 0, 0, 0, host.into());
        let addresses = [IpAddr::V4(Ipv4Addr::new(10, 117, 0, host)), IpAddr::V6(v6)];
        tap.up(
            &namespace,
            &addresses.map(|ip| Address {
                ip,
                prefix: if ip.is_ipv4() { 24 } else { 64 },
            }),
        )?;
        Ok(Self {
            namespace: Arc::new(namespace),
            tap,
            addresses,
        })
    }

    /// Where its programs run.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its device.
    pub fn tap(&self) -> &Arc<Tap> {
        &self.tap
    }

    /// Its addresses: IPv4, IPv6.
    pub fn addresses(&self) -> [IpAddr; 2] {
        self.addresses
    }
}
