//! The Ethernet side of an interface: addresses, filter, link, and what its client wants of received packets.

use alloc::vec::Vec;
use netfront::MacAddress;
use netfront::filter::{Filter, Level};
use netfront::link::{DEFAULT_MTU, FRAME_OVERHEAD, Link, current_address};
use nt::{NtStatus, Result, SpinLock};
use pv_interfaces::vif::{
    ADDRESS_BROADCAST, ADDRESS_MULTICAST, ADDRESS_UNICAST, FILTER_ALL, FILTER_MATCHING,
    FILTER_NONE, OffloadOptions,
};

/// The state.
#[derive(Debug)]
pub struct Mac {
    state: SpinLock<State>,
}

#[derive(Debug)]
struct State {
    current: MacAddress,
    filter: Filter,
    multicast: Vec<MacAddress>,
    link: Link,
    max_frame: u32,
    options: OffloadOptions,
}

impl Mac {
    /// Nothing passes, the link is down.
    pub fn new(permanent: MacAddress) -> Self {
        Self {
            state: SpinLock::new(State {
                current: permanent,
                filter: Filter::default(),
                multicast: Vec::new(),
                link: Link::Down,
                max_frame: DEFAULT_MTU + FRAME_OVERHEAD,
                options: OffloadOptions::default(),
            }),
        }
    }

    /// The address in use. IRQL ≤ DISPATCH_LEVEL, as everything here.
    pub fn current(&self) -> MacAddress {
        self.state.lock().current
    }

    /// Uses another address than the permanent one, if that is one of a single station.
    pub fn wish(&self, permanent: MacAddress, wish: Option<MacAddress>) {
        self.state.lock().current = current_address(permanent, wish);
    }

    /// The link.
    pub fn link(&self) -> Link {
        self.state.lock().link
    }

    /// The link is so now; whether that is news.
    pub fn set_link(&self, link: Link) -> bool {
        core::mem::replace(&mut self.state.lock().link, link) != link
    }

    /// Bytes of the longest frame.
    pub fn max_frame(&self) -> u32 {
        self.state.lock().max_frame
    }

    pub fn set_max_frame(&self, bytes: u32) {
        self.state.lock().max_frame = bytes;
    }

    /// What the client wants of received packets.
    pub fn options(&self) -> OffloadOptions {
        self.state.lock().options
    }

    pub fn set_options(&self, options: OffloadOptions) {
        self.state.lock().options = options;
    }

    /// Whether the client wants a packet to this address.
    pub fn wants(&self, destination: MacAddress) -> bool {
        let state = self.state.lock();
        state
            .filter
            .wants(destination, state.current, &state.multicast)
    }

    /// Replaces the multicast addresses.
    pub fn set_multicast(&self, addresses: Vec<MacAddress>) {
        let old = core::mem::replace(&mut self.state.lock().multicast, addresses);
        drop(old);
    }

    /// Has `body` look at the multicast addresses.
    pub fn multicast<R>(&self, body: impl FnOnce(&[MacAddress]) -> R) -> R {
        body(&self.state.lock().multicast)
    }

    /// Sets the level of a class of addresses, by the interface's numbers.
    pub fn set_level(&self, class: u32, level: u32) -> Result<()> {
        let level = match level {
            FILTER_NONE => Level::None,
            FILTER_MATCHING => Level::Matching,
            FILTER_ALL => Level::All,
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        let mut state = self.state.lock();
        *of_class(&mut state.filter, class)? = level;
        Ok(())
    }

    /// The level of a class of addresses.
    pub fn level(&self, class: u32) -> Result<u32> {
        let mut filter = self.state.lock().filter;
        Ok(match *of_class(&mut filter, class)? {
            Level::None => FILTER_NONE,
            Level::Matching => FILTER_MATCHING,
            Level::All => FILTER_ALL,
        })
    }
}

fn of_class(filter: &mut Filter, class: u32) -> Result<&mut Level> {
    match class {
        ADDRESS_UNICAST => Ok(&mut filter.unicast),
        ADDRESS_MULTICAST => Ok(&mut filter.multicast),
        ADDRESS_BROADCAST => Ok(&mut filter.broadcast),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}
