//! The Ethernet side of an interface: addresses, filter, link, and what its client wants of received packets.

use core::sync::atomic::{AtomicBool, Ordering};
use netfront::MacAddress;
use netfront::filter::{Filter, Level};
use netfront::link::{DEFAULT_MTU, FRAME_OVERHEAD, Link, current_address};
use netfront::multicast::{BadList, List};
use netfront::tx::Multicast;
use nt::{NtStatus, Result, SpinLock};
use pv_interfaces::vif::{
    ADDRESS_BROADCAST, ADDRESS_MULTICAST, ADDRESS_UNICAST, FILTER_ALL, FILTER_MATCHING,
    FILTER_NONE, OffloadOptions,
};

/// The state.
#[derive(Debug)]
pub struct Mac {
    state: SpinLock<State>,
    /// The backend is to be told of multicast addresses.
    news: AtomicBool,
}

#[derive(Debug)]
struct State {
    current: MacAddress,
    filter: Filter,
    multicast: List,
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
                multicast: List::new(),
                link: Link::Down,
                max_frame: DEFAULT_MTU + FRAME_OVERHEAD,
                options: OffloadOptions::default(),
            }),
            news: AtomicBool::new(false),
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
            .wants(destination, state.current, state.multicast.addresses())
    }

    /// Replaces the multicast addresses.
    pub fn set_multicast(&self, addresses: &[MacAddress]) -> Result<()> {
        let mut state = self.state.lock();
        let outcome = state.multicast.set(addresses);
        self.news.store(true, Ordering::Release);
        outcome.map_err(|bad| match bad {
            BadList::NotMulticast(_) => NtStatus::INVALID_PARAMETER,
            BadList::NoMemory => NtStatus::NO_MEMORY,
        })
    }

    /// Has `body` look at the multicast addresses.
    pub fn multicast<R>(&self, body: impl FnOnce(&[MacAddress]) -> R) -> R {
        body(self.state.lock().multicast.addresses())
    }

    /// There is a new backend; whether it filters multicast packets.
    pub fn connected(&self, controlled: bool) {
        self.state.lock().multicast.connected(controlled);
        self.news.store(true, Ordering::Release);
    }

    /// Whether the backend is to filter multicast packets, where it can.
    pub fn wants_control(&self) -> bool {
        let state = self.state.lock();
        state.multicast.wants_control(state.filter.multicast)
    }

    /// Has `push` tell the backend of multicast addresses, as long as there is room.
    pub fn tell(&self, mut push: impl FnMut(Multicast) -> bool) {
        if !self.news.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        while let Some(next) = state.multicast.next() {
            if !push(next) {
                return;
            }
            state.multicast.told(next);
        }
        self.news.store(false, Ordering::Release);
    }

    /// The backend did not do that.
    pub fn refused(&self, multicast: Multicast) {
        self.state.lock().multicast.refused(multicast);
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
