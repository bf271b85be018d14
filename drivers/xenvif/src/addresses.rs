//! The IP addresses of an interface: told to the toolstack below `attr/vif/<number>`, and to the network after a migration.
//!
//! ```text
//!   netio: interface with the device's MAC address ─▶ its name, its addresses ─┐
//!   mac:   address in use, multicast addresses ────────────────────────────────┴─▶ xenstore, when something of it changed
//! ```

use crate::frontend::Frontend;
use alloc::vec::Vec;
use core::net::IpAddr;
use netfront::MacAddress;
use nt::NtStatus;
use nt::netio::{Addresses, Interfaces};
use packet::announce;
use pv_client::store::Store;
use pv_client::{CText, c_text};

/// Addresses that are told of, of each kind.
const MOST: usize = 64;

/// What the toolstack is told.
#[derive(Debug, PartialEq, Eq)]
pub struct About {
    name: Option<CText>,
    addresses: Vec<IpAddr>,
    /// The one in use, and those of groups.
    macs: Vec<MacAddress>,
}

impl About {
    /// What there is to tell now. PASSIVE_LEVEL.
    #[inline(never)]
    pub fn read(frontend: &Frontend, permanent: MacAddress) -> nt::Result<Self> {
        let mut about = Self {
            name: None,
            addresses: Vec::new(),
            macs: Vec::new(),
        };
        if let Some(interface) = Interfaces::read()?.of_device(permanent.0) {
            let mut name = CText::from_bytes(b"");
            for char in interface.alias() {
                // What does not fit is left out.
                let _ = core::fmt::Write::write_char(&mut name, char);
            }
            about.name = Some(CText::from_bytes(name.as_bytes()));
            let table = Addresses::read()?;
            about.addresses.try_reserve_exact(MOST)?;
            for address in table.of(interface.luid).take(MOST) {
                if !about.addresses.contains(&address) {
                    about.addresses.push(address);
                }
            }
        }
        let mac = &frontend.common.mac;
        about.macs.try_reserve_exact(1 + MOST)?;
        about.macs.push(mac.current());
        mac.multicast(|groups| about.macs.extend(groups.iter().take(MOST)));
        Ok(about)
    }

    /// The addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Replaces what the toolstack was told of interface `number`.
    #[inline(never)]
    pub fn publish(&self, store: &Store, directory: &CText) -> nt::Result<()> {
        store.transact(|access| {
            match access.remove(None, directory) {
                Ok(()) | Err(NtStatus::OBJECT_NAME_NOT_FOUND) => {}
                Err(status) => return Err(status),
            }
            let write = |node: CText, value: CText| access.write(Some(directory), &node, &value);
            if let Some(name) = self.name {
                write(c_text!("name"), name)?;
            }
            for (index, mac) in self.macs.iter().enumerate() {
                write(c_text!("mac/{index}"), c_text!("{mac}"))?;
            }
            let (mut v4, mut v6) = (0, 0);
            for address in &self.addresses {
                match address {
                    IpAddr::V4(address) => {
                        let [a, b, c, d] = address.octets();
                        write(c_text!("ipv4/{v4}"), c_text!("{a}.{b}.{c}.{d}"))?;
                        v4 += 1;
                    }
                    IpAddr::V6(address) => {
                        let [a, b, c, d, e, f, g, h] = address.segments();
                        let text = c_text!(
                            "{a:04x}:{b:04x}:{c:04x}:{d:04x}:{e:04x}:{f:04x}:{g:04x}:{h:04x}"
                        );
                        write(c_text!("ipv6/{v6}"), text)?;
                        v6 += 1;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Tells the network where these addresses are now. IRQL ≤ DISPATCH_LEVEL.
#[inline(never)]
pub fn announce(frontend: &Frontend, addresses: &[IpAddr]) {
    let Some(queue) = frontend.active().first() else {
        return;
    };
    let mac = frontend.common.mac.current();
    for address in addresses {
        // What finds no room is said again in the next round.
        let _ = match address {
            IpAddr::V4(address) => {
                announce::arp(mac, address.octets()).is_none_or(|frame| queue.announce(&frame))
            }
            IpAddr::V6(address) => announce::advertisement(mac, address.octets())
                .is_none_or(|frame| queue.announce(&frame)),
        };
    }
}
