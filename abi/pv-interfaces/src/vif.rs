//! VIF v8–v10, provided by xenvif.sys to the driver of each of its children: a network interface without its NIC.
//!
//! ```text
//!   xennet.sys ── TransmitterQueuePacket ─▶ xenvif.sys ─▶ ring      every accepted packet comes back by TYPE_RETURN_PACKET
//!   xennet.sys ◀─ TYPE_QUEUE_PACKET ─────── xenvif.sys ◀─ ring      every packet goes back by ReceiverReturnPacket
//! ```
//!
//! The three versions differ only in the callback that Enable is given: 26 methods, 240 bytes. What the callback and
//! the methods carry is in `data`, the counters in `statistic`.

mod data;
mod statistic;

pub use data::*;
pub use statistic::{STATISTICS, Statistic};

use crate::{AcquireFn, Boolean, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::c_void;

/// GUID_XENVIF_VIF_INTERFACE.
pub const GUID: Guid = Guid::new(0x76F279CD_CA11_418B_92E8_C57F77DE0E2E);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 8;
/// Newest version.
pub const VERSION_MAX: u16 = 10;

/// What Enable of v8 takes: argument, TYPE_*, then by type what the structures of `data` have, in their order, each
/// argument promoted to at least 32 bits. DISPATCH_LEVEL, but PASSIVE_LEVEL for TYPE_MAC_STATE_CHANGE; so for all
/// versions.
pub type CallbackV8 = unsafe extern "win64" fn(*mut c_void, u32, ...);
/// What Enable of v9 takes: argument, TYPE_*, parameters.
pub type CallbackV9 = unsafe extern "win64" fn(*mut c_void, u32, *mut ParametersV9);
/// What Enable of v10 takes: argument, TYPE_*, parameters.
pub type CallbackV10 = unsafe extern "win64" fn(*mut c_void, u32, *mut ParametersV10);

/// Callback, its argument. PASSIVE_LEVEL. An interface that is enabled keeps the callback it has.
pub type Enable<C> = unsafe extern "win64" fn(This, C, *mut c_void) -> NtStatus;
/// Returns when every packet has come back, on either side. PASSIVE_LEVEL.
pub type Disable = unsafe extern "win64" fn(This);
/// A [`Statistic`]'s number, out value. IRQL ≤ DISPATCH_LEVEL, as are all methods below.
pub type QueryStatistic = unsafe extern "win64" fn(This, u32, *mut u64) -> NtStatus;
/// Out number: queues, entries of a ring, bytes.
pub type QueryNumber = unsafe extern "win64" fn(This, *mut u32);
/// The processors of the indirection table, their number.
pub type UpdateHashMapping =
    unsafe extern "win64" fn(This, *const ProcessorNumber, u32) -> NtStatus;
/// A received packet's cookie.
pub type ReceiverReturnPacket = unsafe extern "win64" fn(This, *mut c_void);
/// What the client can do with received packets.
pub type ReceiverSetOffloadOptions = unsafe extern "win64" fn(This, OffloadOptions);
/// Bytes kept free before a payload, less than a page.
pub type ReceiverSetBackfillSize = unsafe extern "win64" fn(This, u32);
/// HASH_ALGORITHM_*.
pub type ReceiverSetHashAlgorithm = unsafe extern "win64" fn(This, u32) -> NtStatus;
/// Out mask of `1 << HASH_TYPE_*`. Declared variadic in C, where the further arguments depend on the algorithm, which
/// is TOEPLITZ: on x64 that call is this call.
pub type ReceiverQueryHashCapabilities = unsafe extern "win64" fn(This, *mut u32) -> NtStatus;
/// Mask of `1 << HASH_TYPE_*`, a key of HASH_KEY_SIZE bytes. Variadic in C, as above.
pub type ReceiverUpdateHashParameters = unsafe extern "win64" fn(This, u32, *const u8) -> NtStatus;
/// MDL chain, offset, length, options, segment size, VLAN tag, hash, whether more follow at once, cookie. On success the
/// packet comes back by TYPE_RETURN_PACKET, perhaps before this returns; else it does not.
pub type TransmitterQueuePacket = unsafe extern "win64" fn(
    This,
    *mut Mdl,
    u32,
    u32,
    OffloadOptions,
    u16,
    u16,
    *const PacketHash,
    Boolean,
    *mut c_void,
) -> NtStatus;
/// Out options.
pub type TransmitterQueryOffloadOptions = unsafe extern "win64" fn(This, *mut OffloadOptions);
/// IP version (4 or 6), out largest large send in bytes: 0 if there is none.
pub type TransmitterQueryLargePacketSize = unsafe extern "win64" fn(This, u8, *mut u32);
/// Optional out MEDIA_*, optional out bits per second, optional out DUPLEX_*.
pub type MacQueryState = unsafe extern "win64" fn(This, *mut u32, *mut u64, *mut u32);
/// Out address.
pub type MacQueryAddress = unsafe extern "win64" fn(This, *mut EthernetAddress);
/// Optional out addresses, in their number, out the number there is. STATUS_BUFFER_OVERFLOW where that is more.
pub type MacQueryMulticastAddresses =
    unsafe extern "win64" fn(This, *mut EthernetAddress, *mut u32) -> NtStatus;
/// Addresses in place of all there are, their number.
pub type MacSetMulticastAddresses =
    unsafe extern "win64" fn(This, *const EthernetAddress, u32) -> NtStatus;
/// ADDRESS_*, FILTER_*.
pub type MacSetFilterLevel = unsafe extern "win64" fn(This, u32, u32) -> NtStatus;
/// ADDRESS_*, out FILTER_*.
pub type MacQueryFilterLevel = unsafe extern "win64" fn(This, u32, *mut u32) -> NtStatus;

/// XENVIF_VIF_INTERFACE, with the callback of its version.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Vif<C> {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub enable: Enable<C>,
    pub disable: Disable,
    pub query_statistic: QueryStatistic,
    pub query_ring_count: QueryNumber,
    pub update_hash_mapping: UpdateHashMapping,
    pub receiver_return_packet: ReceiverReturnPacket,
    pub receiver_set_offload_options: ReceiverSetOffloadOptions,
    pub receiver_set_backfill_size: ReceiverSetBackfillSize,
    pub receiver_query_ring_size: QueryNumber,
    pub receiver_set_hash_algorithm: ReceiverSetHashAlgorithm,
    pub receiver_query_hash_capabilities: ReceiverQueryHashCapabilities,
    pub receiver_update_hash_parameters: ReceiverUpdateHashParameters,
    pub transmitter_queue_packet: TransmitterQueuePacket,
    pub transmitter_query_offload_options: TransmitterQueryOffloadOptions,
    pub transmitter_query_large_packet_size: TransmitterQueryLargePacketSize,
    pub transmitter_query_ring_size: QueryNumber,
    pub mac_query_state: MacQueryState,
    pub mac_query_maximum_frame_size: QueryNumber,
    pub mac_query_permanent_address: MacQueryAddress,
    pub mac_query_current_address: MacQueryAddress,
    pub mac_query_multicast_addresses: MacQueryMulticastAddresses,
    pub mac_set_multicast_addresses: MacSetMulticastAddresses,
    pub mac_set_filter_level: MacSetFilterLevel,
    pub mac_query_filter_level: MacQueryFilterLevel,
}

/// XENVIF_VIF_INTERFACE_V8.
pub type VifV8 = Vif<CallbackV8>;
/// XENVIF_VIF_INTERFACE_V9: the callback takes a pointer to its parameters.
pub type VifV9 = Vif<CallbackV9>;
/// XENVIF_VIF_INTERFACE_V10: a receiver can pause.
pub type VifV10 = Vif<CallbackV10>;

crate::table!(VifV8, "VIF", GUID, version 8, slots 26);
crate::table!(VifV9, "VIF", GUID, version 9, slots 26);
crate::table!(VifV10, "VIF", GUID, version 10, slots 26);

macro_rules! methods {
    ($($offset:literal $method:ident,)*) => {$(
        const _: () = assert!(core::mem::offset_of!(VifV8, $method) == $offset);
        const _: () = assert!(core::mem::offset_of!(VifV10, $method) == $offset);
    )*};
}
methods! {
    32 acquire,
    40 release,
    48 enable,
    56 disable,
    64 query_statistic,
    72 query_ring_count,
    80 update_hash_mapping,
    88 receiver_return_packet,
    96 receiver_set_offload_options,
    104 receiver_set_backfill_size,
    112 receiver_query_ring_size,
    120 receiver_set_hash_algorithm,
    128 receiver_query_hash_capabilities,
    136 receiver_update_hash_parameters,
    144 transmitter_queue_packet,
    152 transmitter_query_offload_options,
    160 transmitter_query_large_packet_size,
    168 transmitter_query_ring_size,
    176 mac_query_state,
    184 mac_query_maximum_frame_size,
    192 mac_query_permanent_address,
    200 mac_query_current_address,
    208 mac_query_multicast_addresses,
    216 mac_set_multicast_addresses,
    224 mac_set_filter_level,
    232 mac_query_filter_level,
}
