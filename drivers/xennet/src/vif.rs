//! The VIF interface of xenvif.sys, acquired: packets, and what can be set and asked.
//!
//! The newest version that is offered is used. The tables of all versions are alike but for the callback that Enable
//! takes.

use crate::adapter::Adapter;
use crate::callback;
use core::ffi::c_void;
use nt::{DeviceObject, NtStatus, Result};
use nt_sys::MDL;
use pv_interfaces::vif::*;
use pv_interfaces::{Table, This};

/// Multicast addresses of one interface at most; more are not asked for.
pub const MAX_MULTICAST: usize = ::oid::filter::MAX_MULTICAST;

/// The interface, until dropped.
#[derive(Debug)]
pub struct Vif {
    /// As of v10, whatever its version is.
    table: VifV10,
}

// SAFETY: the provider takes calls on any processor.
unsafe impl Send for Vif {}
// SAFETY: as above.
unsafe impl Sync for Vif {}

/// A packet to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    pub mdl: *mut MDL,
    pub offset: u32,
    pub length: u32,
    pub options: OffloadOptions,
    /// Of a large packet, the length of its segments' payload.
    pub mss: u16,
    /// With TAG_MANIPULATION, the tag.
    pub tci: u16,
    pub hash: PacketHash,
    /// Whether another packet follows at once.
    pub more: bool,
    pub cookie: *mut c_void,
}

impl Vif {
    /// Asks the stack below for the interface, and acquires it. PASSIVE_LEVEL.
    pub fn acquire(next: &DeviceObject) -> Result<Vif> {
        let table = nt::interface::query::<VifV10>(next)
            .or_else(|_| nt::interface::query::<VifV9>(next).map(newest))
            .or_else(|_| nt::interface::query::<VifV8>(next).map(newest))?;
        // SAFETY: the table is one that its provider filled in.
        NtStatus::check(unsafe { (table.acquire)(&raw const table.header) })?;
        Ok(Vif { table })
    }

    /// The interface's version.
    pub fn version(&self) -> u16 {
        self.table.header.version
    }

    fn this(&self) -> This {
        self.table.header()
    }

    /// Has packets flow: they come to `adapter`. PASSIVE_LEVEL.
    ///
    /// # Safety
    /// `adapter` stays where it is until [`Vif::disable`] has returned.
    pub unsafe fn enable(&self, adapter: *const Adapter) -> Result<()> {
        let callback = callback::of_version(self.version());
        // SAFETY: the callback is this version's, and takes the adapter, which lives as the caller says.
        NtStatus::check(unsafe {
            (self.table.enable)(self.this(), callback, adapter.cast_mut().cast())
        })
    }

    /// Ends that: when this returns, every packet has come back, both ways. PASSIVE_LEVEL.
    pub fn disable(&self) {
        // SAFETY: the provider's method; so in all that follow.
        unsafe { (self.table.disable)(self.this()) };
    }

    /// Hands a packet over. On success it comes back by its cookie, perhaps before this returns. IRQL ≤ DISPATCH_LEVEL,
    /// as in all that follow.
    ///
    /// # Safety
    /// The MDLs stay as they are until the packet is back.
    pub unsafe fn transmitter_queue_packet(&self, packet: &Outgoing) -> Result<()> {
        // SAFETY: the provider's method; the packet is the caller's duty, and the hash outlives the call.
        NtStatus::check(unsafe {
            (self.table.transmitter_queue_packet)(
                self.this(),
                packet.mdl.cast(),
                packet.offset,
                packet.length,
                packet.options,
                packet.mss,
                packet.tci,
                &packet.hash,
                packet.more.into(),
                packet.cookie,
            )
        })
    }

    /// Gives a received packet back.
    ///
    /// # Safety
    /// The cookie is a received packet's, given back once.
    pub unsafe fn receiver_return_packet(&self, cookie: *mut c_void) {
        // SAFETY: the provider's method; the cookie is the caller's duty.
        unsafe { (self.table.receiver_return_packet)(self.this(), cookie) };
    }

    /// A counter.
    pub fn query_statistic(&self, statistic: Statistic) -> u64 {
        let mut value = 0;
        // SAFETY: the provider's method, and a place for the value; so below.
        let status =
            unsafe { (self.table.query_statistic)(self.this(), statistic as u32, &mut value) };
        if NtStatus(status).is_success() {
            value
        } else {
            0
        }
    }

    /// Queues.
    pub fn query_ring_count(&self) -> u32 {
        self.number(self.table.query_ring_count)
    }

    /// Entries of a ring for receiving.
    pub fn receiver_query_ring_size(&self) -> u32 {
        self.number(self.table.receiver_query_ring_size)
    }

    /// Entries of a ring for sending.
    pub fn transmitter_query_ring_size(&self) -> u32 {
        self.number(self.table.transmitter_query_ring_size)
    }

    /// Bytes of the longest frame, with header and tag.
    pub fn mac_query_maximum_frame_size(&self) -> u32 {
        self.number(self.table.mac_query_maximum_frame_size)
    }

    fn number(&self, method: QueryNumber) -> u32 {
        let mut value = 0;
        // SAFETY: see above.
        unsafe { method(self.this(), &mut value) };
        value
    }

    /// What shall be done with received packets.
    pub fn receiver_set_offload_options(&self, options: OffloadOptions) {
        // SAFETY: see above.
        unsafe { (self.table.receiver_set_offload_options)(self.this(), options) };
    }

    /// What can be done with packets that are sent.
    pub fn transmitter_query_offload_options(&self) -> OffloadOptions {
        let mut options = OffloadOptions(0);
        // SAFETY: see above.
        unsafe { (self.table.transmitter_query_offload_options)(self.this(), &mut options) };
        options
    }

    /// Bytes of the largest packet that can be cut, of IP version 4 or 6; 0 if none can.
    pub fn transmitter_query_large_packet_size(&self, version: u8) -> u32 {
        let mut size = 0;
        // SAFETY: see above.
        unsafe {
            (self.table.transmitter_query_large_packet_size)(self.this(), version, &mut size);
        }
        size
    }

    /// The queues of the entries of an indirection table.
    pub fn update_hash_mapping(&self, processors: &[ProcessorNumber]) -> Result<()> {
        let count = u32::try_from(processors.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        // SAFETY: the processors outlive the call.
        NtStatus::check(unsafe {
            (self.table.update_hash_mapping)(self.this(), processors.as_ptr(), count)
        })
    }

    /// `HASH_ALGORITHM_*`.
    pub fn receiver_set_hash_algorithm(&self, algorithm: u32) -> Result<()> {
        // SAFETY: see above.
        NtStatus::check(unsafe { (self.table.receiver_set_hash_algorithm)(self.this(), algorithm) })
    }

    /// A mask of `1 << HASH_TYPE_*`.
    pub fn receiver_query_hash_capabilities(&self) -> Result<u32> {
        let mut types = 0;
        // SAFETY: see above.
        NtStatus::check(unsafe {
            (self.table.receiver_query_hash_capabilities)(self.this(), &mut types)
        })?;
        Ok(types)
    }

    /// Types as above, and the key.
    pub fn receiver_update_hash_parameters(
        &self,
        types: u32,
        key: &[u8; HASH_KEY_SIZE],
    ) -> Result<()> {
        // SAFETY: the key is as long as it has to be, and outlives the call.
        NtStatus::check(unsafe {
            (self.table.receiver_update_hash_parameters)(self.this(), types, key.as_ptr())
        })
    }

    /// The link.
    pub fn mac_query_state(&self) -> ndis::LinkState {
        let (mut state, mut speed, mut duplex) = (MEDIA_DISCONNECTED, 0, DUPLEX_UNKNOWN);
        // SAFETY: see above.
        unsafe {
            (self.table.mac_query_state)(self.this(), &mut state, &mut speed, &mut duplex);
        }
        ndis::LinkState {
            connected: state == MEDIA_CONNECTED,
            full_duplex: (duplex != DUPLEX_UNKNOWN).then_some(duplex == DUPLEX_FULL),
            speed,
        }
    }

    /// The address the device came with.
    pub fn mac_query_permanent_address(&self) -> EthernetAddress {
        self.address(self.table.mac_query_permanent_address)
    }

    /// The address in use.
    pub fn mac_query_current_address(&self) -> EthernetAddress {
        self.address(self.table.mac_query_current_address)
    }

    fn address(&self, method: MacQueryAddress) -> EthernetAddress {
        let mut address = EthernetAddress([0; 6]);
        // SAFETY: see above.
        unsafe { method(self.this(), &mut address) };
        address
    }

    /// The groups that are received, and their number.
    pub fn mac_query_multicast_addresses(
        &self,
    ) -> Result<([EthernetAddress; MAX_MULTICAST], usize)> {
        let mut addresses = [EthernetAddress([0; 6]); MAX_MULTICAST];
        let mut count = MAX_MULTICAST as u32;
        // SAFETY: there is room for as many as is said.
        NtStatus::check(unsafe {
            (self.table.mac_query_multicast_addresses)(
                self.this(),
                addresses.as_mut_ptr(),
                &mut count,
            )
        })?;
        Ok((addresses, (count as usize).min(MAX_MULTICAST)))
    }

    /// Groups to be received, in place of all others.
    pub fn mac_set_multicast_addresses(&self, addresses: &[EthernetAddress]) -> Result<()> {
        let count = u32::try_from(addresses.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        // SAFETY: the addresses outlive the call.
        NtStatus::check(unsafe {
            (self.table.mac_set_multicast_addresses)(self.this(), addresses.as_ptr(), count)
        })
    }

    /// Which of `ADDRESS_*` is received: `FILTER_*`.
    pub fn mac_set_filter_level(&self, class: u32, level: u32) -> Result<()> {
        // SAFETY: see above.
        NtStatus::check(unsafe { (self.table.mac_set_filter_level)(self.this(), class, level) })
    }

    /// As it was set.
    pub fn mac_query_filter_level(&self, class: u32) -> Result<u32> {
        let mut level = FILTER_NONE;
        // SAFETY: see above.
        NtStatus::check(unsafe {
            (self.table.mac_query_filter_level)(self.this(), class, &mut level)
        })?;
        Ok(level)
    }
}

impl Drop for Vif {
    fn drop(&mut self) {
        // SAFETY: acquired once, released once; it is not enabled any more.
        unsafe { (self.table.release)(self.this()) };
    }
}

/// An older table as the newest: the callback's type differs, and [`callback::of_version`] goes by the header.
fn newest<C>(older: pv_interfaces::vif::Vif<C>) -> VifV10
where
    pv_interfaces::vif::Vif<C>: Table,
{
    const { assert!(size_of::<pv_interfaces::vif::Vif<C>>() == size_of::<VifV10>()) };
    // SAFETY: the tables are alike but for what Enable takes, which is a function pointer in all of them.
    unsafe { core::mem::transmute_copy(&older) }
}
