//! An adapter: what NDIS calls, and the parts that do it.

use crate::life::Life;
use crate::oid::Oids;
use crate::presence::Offers;
use crate::receive::Receiver;
use crate::send::Sender;
use crate::vif::Vif;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ffi::c_void;
use ndis::sys::*;
use ndis::{
    CancelId, Configuration, DeviceObjects, General, Halt, Miniport, NdisStatus, OidRequest, Pause,
    RegistrationFlags, Returned, ScatterGather, Sends,
};
use nt::{Event, SpinLock, WorkItem, try_box};
use oid::keyword::Settings;
use pv_interfaces::vif::{CompletionInfo, EthernetAddress, QueuePacketV9};

/// Speed in the attributes, in bits per second: what the adapter is capable of where nothing else is known.
const SPEED: u64 = 1_000_000_000;
/// Bytes of an Ethernet header with a tag.
const TAGGED_HEADER: u32 = 18;

/// An adapter.
#[derive(Debug)]
pub struct Adapter {
    pub handle: ndis::Adapter,
    devices: DeviceObjects,
    pub settings: Settings,
    pub offers: Offers,
    pub life: Life,
    pub sender: Sender,
    pub receiver: Receiver,
    pub oids: Oids,
    dma: SpinLock<Option<ScatterGather>>,
    /// Behind all that uses it.
    pub vif: Vif,
}

/// An adapter for who works on it later: it is not halted meanwhile.
struct Later {
    adapter: *const Adapter,
    _hold: Arc<Event>,
}

// SAFETY: adapters are shared between threads.
unsafe impl Send for Later {}

impl Later {
    fn new(adapter: &Adapter) -> Later {
        Later {
            adapter,
            _hold: adapter.life.hold(),
        }
    }

    fn get(&self) -> &Adapter {
        // SAFETY: the box of an adapter goes when it is halted, which waits for this to be dropped.
        unsafe { &*self.adapter }
    }
}

impl Adapter {
    /// Bytes of a frame with header and tag, at most.
    pub fn longest_frame(&self) -> u32 {
        self.settings
            .maximum_frame(self.vif.mac_query_maximum_frame_size())
    }

    /// Tells NDIS of the link.
    pub fn indicate_link(&self) {
        self.handle.indicate_link(self.vif.mac_query_state());
    }

    /// The interface's link may have changed. PASSIVE_LEVEL.
    pub fn link_changed(&self) {
        self.oids.refresh(self);
        self.indicate_link();
    }

    /// A packet came back. DISPATCH_LEVEL.
    ///
    /// # Safety
    /// As [`Sender::sent`].
    pub unsafe fn sent(&self, cookie: *mut c_void, completion: Option<&CompletionInfo>) {
        // SAFETY: the caller's duty.
        unsafe { self.sender.sent(cookie, completion, self.handle) };
    }

    /// A packet was received; whether the interface should make a pause. DISPATCH_LEVEL.
    ///
    /// # Safety
    /// As [`Receiver::receive`].
    pub unsafe fn received(&self, packet: &QueuePacketV9) -> bool {
        // SAFETY: the caller's duty.
        unsafe {
            self.receiver
                .receive(packet, &self.oids.tagging(), &self.vif)
        }
    }
}

impl Miniport for Adapter {
    const FLAGS: RegistrationFlags = RegistrationFlags(
        NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER
            | NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND
            | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK
            | NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM,
    );

    fn create(handle: ndis::Adapter) -> Result<Box<Self>, NdisStatus> {
        let devices = handle.device_objects().ok_or(NdisStatus::FAILURE)?;
        let vif = Vif::acquire(&devices.next).map_err(|status| {
            nt::error!("there is no VIF interface: {status}");
            NdisStatus::FAILURE
        })?;
        let offers = Offers::query(&devices.next).map_err(|status| {
            nt::error!("xenbus.sys offers too little: {status}");
            NdisStatus::FAILURE
        })?;
        let configuration = Configuration::open(handle)?;
        let settings = Settings::read(|keyword| configuration.integer(keyword));
        let oids = Oids::new(&settings, &vif);
        let longest = settings.maximum_frame(vif.mac_query_maximum_frame_size());
        nt::info!("VIF version {}", vif.version());
        Ok(try_box(Adapter {
            handle,
            devices,
            settings,
            offers,
            life: Life::new()?,
            sender: Sender::new(longest)?,
            receiver: Receiver::new(handle)?,
            oids,
            dma: SpinLock::new(None),
            vif,
        })?)
    }

    fn adapter(&self) -> ndis::Adapter {
        self.handle
    }

    fn describe(&self) -> Result<(), NdisStatus> {
        let longest = self.longest_frame();
        let EthernetAddress(permanent_address) = self.vif.mac_query_permanent_address();
        let EthernetAddress(current_address) = self.vif.mac_query_current_address();
        self.handle.set_general(&General {
            mtu: longest.saturating_sub(TAGGED_HEADER),
            max_speed: SPEED,
            link: ndis::LinkState {
                connected: true,
                full_duplex: Some(true),
                speed: SPEED,
            },
            lookahead: longest,
            mac_options: oid::query::mac_options(&self.oids.tagging()),
            packet_filters: oid::filter::SUPPORTED,
            multicast_list: oid::filter::MAX_MULTICAST as u32,
            permanent_address,
            current_address,
            scale: self.oids.scale(),
            statistics: oid::statistics::SUPPORTED_STATISTICS,
            oids: self.oids.supported(),
        })?;
        self.oids.describe(self)?;
        // Without it the adapter works as well: the interface finds its pages by itself.
        *self.dma.lock() = ScatterGather::register(self.handle).ok();
        Ok(())
    }

    fn restart(&self) -> Result<(), NdisStatus> {
        self.enable()
    }

    fn pause(&self) -> Pause {
        if self.sender.owned() == 0 && self.receiver.held() == 0 {
            self.disable();
            return Pause::Done;
        }
        let later = Later::new(self);
        let work = WorkItem::new(&self.devices.physical, move || {
            let adapter = later.get();
            adapter.disable();
            adapter.handle.paused();
        });
        match work {
            Ok(work) => {
                work.queue();
                Pause::Pending
            }
            Err(_) => {
                self.disable();
                Pause::Done
            }
        }
    }

    fn halt(self: Box<Self>, why: Halt) {
        nt::trace!("halted: {why:?}");
        self.disable();
        self.life.wait_for_holders();
    }

    /// Nothing is waited for: those above are not asked for the frames that they keep.
    fn shutdown(&self, crash: bool) {
        if !crash {
            self.sender.close();
            self.receiver.close(&self.vif);
        }
    }

    /// Lists have to come back now: those above are asked for theirs only when the ones they sent are back.
    fn surprise_removed(&self) {
        let later = Later::new(self);
        let work = WorkItem::new(&self.devices.physical, move || later.get().disable());
        match work {
            Ok(work) => work.queue(),
            Err(_) => self.disable(),
        }
    }

    fn request(&self, request: &mut OidRequest<'_>) -> NdisStatus {
        self.oids.request(self, request)
    }

    fn send(&self, sends: Sends) {
        let rules = self.oids.rules();
        self.sender.send(sends, &rules, &self.vif);
    }

    fn returned(&self, lists: Returned) {
        self.receiver.returned(lists, &self.vif);
    }

    /// Frames are the interface's at once, which has no way to take them back.
    fn cancel(&self, _: CancelId) {}
}
