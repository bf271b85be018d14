//! The VIF interface: the call tables, and what their methods mean for a device.
//!
//! Every method's duty: `this` is a table that this driver filled in, and whatever else is pointed to is what the table's
//! documentation says. IRQL ≤ DISPATCH_LEVEL but for Enable and Disable, which wait.

use crate::client::{Callback, Client, Cookie};
use crate::frontend::Frontend;
use crate::rx::Loan;
use crate::tx::Waiting;
use crate::vif::Vif;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::sync::atomic::Ordering;
use netfront::MacAddress;
use netfront::link::Link;
use nt::interface::InterfaceRequest;
use nt::mdl::Chain;
use nt::{NtStatus, Result};
use packet::gso::MAX_LARGE_SEND;
use packet::{Extent, MAX_HEADERS, flow};
use pv_interfaces::vif::*;
use pv_interfaces::{Boolean, Interface, Table, This};

/// Entries of a ring.
const ENTRIES: u32 = 256;
/// Entries of the mapping from hashes to processors.
const MAX_MAPPING: usize = netfront::hash::MAX_MAPPING;
/// Multicast addresses that a client may give: they are compared with each other at DISPATCH_LEVEL.
const MAX_MULTICAST: u32 = 512;

const fn table<C>(enable: Enable<C>) -> Vif_<C> {
    Vif_ {
        header: Interface::EMPTY,
        acquire,
        release,
        enable,
        disable,
        query_statistic,
        query_ring_count,
        update_hash_mapping,
        receiver_return_packet,
        receiver_set_offload_options,
        receiver_set_backfill_size,
        receiver_query_ring_size: query_ring_size,
        receiver_set_hash_algorithm,
        receiver_query_hash_capabilities,
        receiver_update_hash_parameters,
        transmitter_queue_packet,
        transmitter_query_offload_options,
        transmitter_query_large_packet_size,
        transmitter_query_ring_size: query_ring_size,
        mac_query_state,
        mac_query_maximum_frame_size,
        mac_query_permanent_address,
        mac_query_current_address,
        mac_query_multicast_addresses,
        mac_set_multicast_addresses,
        mac_set_filter_level,
        mac_query_filter_level,
    }
}

/// The table's type beside the device's, which has the same name.
type Vif_<C> = pv_interfaces::vif::Vif<C>;

/// Answers a query for the interface, if it is one.
pub fn answer(vif: &Vif, request: &mut InterfaceRequest<'_>) -> Option<Result<()>> {
    if request.guid() != GUID {
        return None;
    }
    let context = core::ptr::from_ref(vif).cast_mut().cast();
    Some(match request.version() {
        8 => give(request, table(enable_v8), context),
        9 => give(request, table(enable_v9), context),
        10 => give(request, table(enable_v10), context),
        _ => Err(NtStatus::NOT_SUPPORTED),
    })
}

fn give<T: Table>(
    request: &mut InterfaceRequest<'_>,
    mut table: T,
    context: *mut c_void,
) -> Result<()> {
    let header = table.header_mut();
    header.size = u16::try_from(size_of::<T>()).unwrap_or(u16::MAX);
    header.version = T::VERSION;
    header.context = context;
    request.answer(&table)
}

/// The device behind a table.
///
/// # Safety
/// `this` points to a table that [`answer`] filled in, and its device has not gone.
unsafe fn device<'a>(this: This) -> &'a Vif {
    // SAFETY: the caller's duty.
    let context = unsafe { (*this).context };
    // SAFETY: `answer` put the device there, which outlives the stack above it.
    unsafe { &*context.cast::<Vif>() }
}

/// Its frontend, once it was started.
///
/// # Safety
/// As [`device`].
unsafe fn frontend<'a>(this: This) -> Option<&'a Arc<Frontend>> {
    // SAFETY: the caller's duty.
    unsafe { device(this) }.frontend()
}

/// Writes an out parameter.
///
/// # Safety
/// Null or a place for the value.
unsafe fn put<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's duty.
        unsafe { place.write(value) };
    }
}

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    unsafe { device(this) }.references.acquire();
    NtStatus::SUCCESS.0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    let vif = unsafe { device(this) };
    if !vif.references.release() {
        nt::error!("{vif:?}: released more often than acquired");
    }
}

unsafe extern "win64" fn enable_v8(this: This, callback: CallbackV8, argument: *mut c_void) -> i32 {
    // SAFETY: see the top.
    unsafe { enable(this, Callback::V8(callback), argument) }
}

unsafe extern "win64" fn enable_v9(this: This, callback: CallbackV9, argument: *mut c_void) -> i32 {
    // SAFETY: see the top.
    unsafe { enable(this, Callback::V9(callback), argument) }
}

unsafe extern "win64" fn enable_v10(
    this: This,
    callback: CallbackV10,
    argument: *mut c_void,
) -> i32 {
    // SAFETY: see the top.
    unsafe { enable(this, Callback::V10(callback), argument) }
}

/// # Safety
/// See the top of the file.
unsafe fn enable(this: This, callback: Callback, argument: *mut c_void) -> i32 {
    // SAFETY: the caller's duty.
    let outcome = match unsafe { frontend(this) } {
        Some(frontend) => frontend.enable(Client { callback, argument }),
        None => Err(NtStatus::DEVICE_NOT_READY),
    };
    NtStatus::from(outcome).0
}

unsafe extern "win64" fn disable(this: This) {
    // SAFETY: see the top.
    if let Some(frontend) = unsafe { frontend(this) } {
        frontend.disable();
    }
}

unsafe extern "win64" fn query_statistic(this: This, index: u32, value: *mut u64) -> i32 {
    let Some(statistic) = Statistic::from_number(index) else {
        return NtStatus::INVALID_PARAMETER.0;
    };
    // SAFETY: see the top.
    let counted = unsafe { frontend(this) }.map_or(0, |it| it.common.statistics.get(statistic));
    // SAFETY: see the top.
    unsafe { put(value, counted) };
    NtStatus::SUCCESS.0
}

unsafe extern "win64" fn query_ring_count(this: This, count: *mut u32) {
    // SAFETY: see the top.
    let active = unsafe { frontend(this) }.map_or(0, |frontend| frontend.active().len());
    // SAFETY: see the top.
    unsafe { put(count, u32::try_from(active).unwrap_or(1).max(1)) };
}

unsafe extern "win64" fn query_ring_size(_: This, size: *mut u32) {
    // SAFETY: see the top.
    unsafe { put(size, ENTRIES) };
}

unsafe extern "win64" fn update_hash_mapping(
    this: This,
    mapping: *const ProcessorNumber,
    size: u32,
) -> i32 {
    let mut processors = [nt::processor::ProcessorNumber {
        group: 0,
        number: 0,
    }; MAX_MAPPING];
    let Some(processors) = processors
        .get_mut(..size as usize)
        .filter(|_| !mapping.is_null())
    else {
        return NtStatus::INVALID_PARAMETER.0;
    };
    for (index, place) in processors.iter_mut().enumerate() {
        // SAFETY: the caller gives as many as it says.
        let ProcessorNumber { group, number, .. } = unsafe { mapping.wrapping_add(index).read() };
        *place = nt::processor::ProcessorNumber { group, number };
    }
    // SAFETY: see the top.
    let outcome = match unsafe { frontend(this) } {
        Some(frontend) => frontend.map_hash(processors),
        None => Err(NtStatus::DEVICE_NOT_READY),
    };
    NtStatus::from(outcome).0
}

unsafe extern "win64" fn receiver_return_packet(this: This, cookie: *mut c_void) {
    if cookie.is_null() {
        return;
    }
    // SAFETY: the cookie is a loan's address, which the client gives back once.
    let loan = unsafe { Box::from_raw(cookie.cast::<Loan>()) };
    // SAFETY: see the top.
    let Some(frontend) = (unsafe { frontend(this) }) else {
        return;
    };
    if let Some(queue) = frontend.queues().get(loan.queue as usize) {
        queue.give_back(loan);
    }
}

unsafe extern "win64" fn receiver_set_offload_options(this: This, options: OffloadOptions) {
    // SAFETY: see the top.
    if let Some(frontend) = unsafe { frontend(this) } {
        let allowed = if frontend.parameters.allow_large {
            options.0
        } else {
            let large = OffloadOptions::IPV4_LARGE_PACKET | OffloadOptions::IPV6_LARGE_PACKET;
            options.0 & !large
        };
        frontend.common.mac.set_options(OffloadOptions(allowed));
    }
}

/// Packets that come from now on have so many bytes of room before them, in their page.
unsafe extern "win64" fn receiver_set_backfill_size(this: This, size: u32) {
    // SAFETY: see the top.
    if let Some(frontend) = unsafe { frontend(this) } {
        frontend.common.backfill.store(size, Ordering::Relaxed);
    }
}

unsafe extern "win64" fn receiver_set_hash_algorithm(this: This, algorithm: u32) -> i32 {
    let toeplitz = match algorithm {
        HASH_ALGORITHM_NONE | HASH_ALGORITHM_UNSPECIFIED => false,
        HASH_ALGORITHM_TOEPLITZ => true,
        _ => return NtStatus::INVALID_PARAMETER.0,
    };
    // SAFETY: see the top.
    let outcome = match unsafe { frontend(this) } {
        Some(frontend) => frontend.set_hash(toeplitz),
        None => Err(NtStatus::DEVICE_NOT_READY),
    };
    NtStatus::from(outcome).0
}

unsafe extern "win64" fn receiver_query_hash_capabilities(this: This, types: *mut u32) -> i32 {
    // SAFETY: see the top.
    let offered = unsafe { frontend(this) }.and_then(|frontend| frontend.common.hash.offered());
    match offered {
        Some(offered) => {
            // SAFETY: see the top.
            unsafe { put(types, offered) };
            NtStatus::SUCCESS.0
        }
        None => NtStatus::NOT_SUPPORTED.0,
    }
}

unsafe extern "win64" fn receiver_update_hash_parameters(
    this: This,
    types: u32,
    key: *const u8,
) -> i32 {
    if key.is_null() {
        return NtStatus::INVALID_PARAMETER.0;
    }
    // SAFETY: the caller gives a key of this length.
    let key = unsafe { key.cast::<[u8; netfront::hash::KEY]>().read() };
    // SAFETY: see the top.
    let outcome = match unsafe { frontend(this) } {
        Some(frontend) => frontend.tell_hash(frontend.common.hash.want_types(types, key)),
        None => Err(NtStatus::DEVICE_NOT_READY),
    };
    NtStatus::from(outcome).0
}

unsafe extern "win64" fn transmitter_queue_packet(
    this: This,
    mdl: *mut Mdl,
    offset: u32,
    length: u32,
    options: OffloadOptions,
    mss: u16,
    tci: u16,
    hash: *const PacketHash,
    more: Boolean,
    cookie: *mut c_void,
) -> i32 {
    // SAFETY: see the top.
    let Some(frontend) = (unsafe { frontend(this) }) else {
        return NtStatus::UNSUCCESSFUL.0;
    };
    // SAFETY: null, or the client's hash.
    let hash = unsafe { hash.as_ref() }.copied().unwrap_or_default();
    let packet = Waiting {
        mdl: mdl.cast(),
        offset,
        length,
        options,
        mss,
        tci,
        hash: frontend.common.hash.for_backend(&hash),
        cookie: Cookie(cookie),
    };
    let count = frontend.active().len().max(1);
    let index = match hash.algorithm {
        _ if count == 1 => 0,
        HASH_ALGORITHM_UNSPECIFIED => hash.value as usize % count,
        HASH_ALGORITHM_TOEPLITZ => frontend.common.hash.queue(hash.value, count),
        _ => {
            // SAFETY: see the top.
            let flow = unsafe { spread(&packet) };
            flow % count
        }
    };
    // The packet that ends a batch may go to another queue than those before it, which would wait for more.
    let more = more != 0 && count == 1;
    let Some(queue) = frontend.queues().get(index) else {
        return NtStatus::UNSUCCESSFUL.0;
    };
    NtStatus::from(queue.transmit(packet, more)).0
}

/// A number by which flows can be told apart.
///
/// # Safety
/// The packet's MDLs are the client's.
unsafe fn spread(packet: &Waiting) -> usize {
    // SAFETY: the caller's duty.
    let Ok(chain) = (unsafe { Chain::new(packet.mdl, packet.offset, packet.length) }) else {
        return 0;
    };
    let mut headers = [0; MAX_HEADERS];
    let parsed = packet::parse(chain.pieces(), Extent::Frame, &mut headers);
    match flow::spread(&headers, &parsed.layout) {
        Some(hash) => hash as usize,
        None => nt::processor::current_index() as usize,
    }
}

unsafe extern "win64" fn transmitter_query_offload_options(
    this: This,
    options: *mut OffloadOptions,
) {
    // SAFETY: see the top.
    let features = unsafe { frontend(this) }.and_then(|frontend| *frontend.features.lock());
    let mut bits = OffloadOptions::TAG_MANIPULATION | OffloadOptions::IPV4_HEADER_CHECKSUM;
    if let Some(features) = features {
        use OffloadOptions as O;
        for (has, bit) in [
            (
                features.tx_checksum.v4,
                O::IPV4_TCP_CHECKSUM | O::IPV4_UDP_CHECKSUM,
            ),
            (
                features.tx_checksum.v6,
                O::IPV6_TCP_CHECKSUM | O::IPV6_UDP_CHECKSUM,
            ),
            (
                features.tx_gso.v4 && features.tx_checksum.v4,
                O::IPV4_LARGE_PACKET,
            ),
            (
                features.tx_gso.v6 && features.tx_checksum.v6,
                O::IPV6_LARGE_PACKET,
            ),
        ] {
            bits |= if has { bit } else { 0 };
        }
    }
    // SAFETY: see the top.
    unsafe { put(options, OffloadOptions(bits)) };
}

unsafe extern "win64" fn transmitter_query_large_packet_size(
    this: This,
    version: u8,
    size: *mut u32,
) {
    // SAFETY: see the top.
    let features = unsafe { frontend(this) }.and_then(|frontend| *frontend.features.lock());
    let has = features.is_some_and(|features| match version {
        4 => features.tx_gso.v4 && features.tx_checksum.v4,
        6 => features.tx_gso.v6 && features.tx_checksum.v6,
        _ => false,
    });
    // SAFETY: see the top.
    unsafe { put(size, if has { MAX_LARGE_SEND as u32 } else { 0 }) };
}

unsafe extern "win64" fn mac_query_state(
    this: This,
    state: *mut u32,
    speed: *mut u64,
    duplex: *mut u32,
) {
    // SAFETY: see the top.
    let link = unsafe { frontend(this) }.map_or(Link::Down, |it| it.common.mac.link());
    let (connection, way) = match link.is_up() {
        true => (MEDIA_CONNECTED, DUPLEX_FULL),
        false => (MEDIA_DISCONNECTED, DUPLEX_UNKNOWN),
    };
    // SAFETY: see the top.
    unsafe { put(state, connection) };
    // SAFETY: see the top.
    unsafe { put(speed, link.speed()) };
    // SAFETY: see the top.
    unsafe { put(duplex, way) };
}

unsafe extern "win64" fn mac_query_maximum_frame_size(this: This, size: *mut u32) {
    // SAFETY: see the top.
    let bytes = unsafe { frontend(this) }.map_or(0, |it| it.common.mac.max_frame());
    // SAFETY: see the top.
    unsafe { put(size, bytes) };
}

unsafe extern "win64" fn mac_query_permanent_address(this: This, address: *mut EthernetAddress) {
    // SAFETY: see the top.
    let permanent = unsafe { device(this) }.address();
    // SAFETY: see the top.
    unsafe { put(address, EthernetAddress(permanent.0)) };
}

unsafe extern "win64" fn mac_query_current_address(this: This, address: *mut EthernetAddress) {
    // SAFETY: see the top.
    let permanent = unsafe { device(this) }.address();
    // SAFETY: see the top.
    let current = unsafe { frontend(this) }.map_or(permanent, |it| it.common.mac.current());
    // SAFETY: see the top.
    unsafe { put(address, EthernetAddress(current.0)) };
}

unsafe extern "win64" fn mac_query_multicast_addresses(
    this: This,
    addresses: *mut EthernetAddress,
    count: *mut u32,
) -> i32 {
    if count.is_null() {
        return NtStatus::INVALID_PARAMETER.0;
    }
    // SAFETY: see the top.
    let room = unsafe { count.read() };
    // SAFETY: see the top.
    let Some(frontend) = (unsafe { frontend(this) }) else {
        // SAFETY: see the top.
        unsafe { count.write(0) };
        return NtStatus::SUCCESS.0;
    };
    frontend.common.mac.multicast(|list| {
        let needed = u32::try_from(list.len()).unwrap_or(u32::MAX);
        // SAFETY: see the top.
        unsafe { count.write(needed) };
        if needed > room || (addresses.is_null() && needed != 0) {
            return NtStatus::BUFFER_OVERFLOW.0;
        }
        for (index, address) in list.iter().enumerate() {
            let place = addresses.wrapping_add(index);
            // SAFETY: the caller has room for as many as it says.
            unsafe { place.write(EthernetAddress(address.0)) };
        }
        NtStatus::SUCCESS.0
    })
}

unsafe extern "win64" fn mac_set_multicast_addresses(
    this: This,
    addresses: *const EthernetAddress,
    count: u32,
) -> i32 {
    if count > MAX_MULTICAST || (addresses.is_null() && count != 0) {
        return NtStatus::INVALID_PARAMETER.0;
    }
    let mut list = Vec::new();
    if list.try_reserve_exact(count as usize).is_err() {
        return NtStatus::NO_MEMORY.0;
    }
    for index in 0..count as usize {
        let place = addresses.wrapping_add(index);
        // SAFETY: the caller gives as many as it says.
        let EthernetAddress(bytes) = unsafe { place.read() };
        list.push(MacAddress(bytes));
    }
    // SAFETY: see the top.
    match unsafe { frontend(this) } {
        Some(frontend) => {
            let outcome = frontend.common.mac.set_multicast(&list);
            frontend.common.wake.set();
            NtStatus::from(outcome).0
        }
        None => NtStatus::DEVICE_NOT_READY.0,
    }
}

unsafe extern "win64" fn mac_set_filter_level(this: This, class: u32, level: u32) -> i32 {
    // SAFETY: see the top.
    let outcome = match unsafe { frontend(this) } {
        Some(frontend) => {
            let outcome = frontend.common.mac.set_level(class, level);
            // The backend may have to filter multicast packets, or no more.
            frontend.common.wake.set();
            outcome
        }
        None => Err(NtStatus::DEVICE_NOT_READY),
    };
    NtStatus::from(outcome).0
}

unsafe extern "win64" fn mac_query_filter_level(this: This, class: u32, level: *mut u32) -> i32 {
    // SAFETY: see the top.
    let found = match unsafe { frontend(this) } {
        Some(frontend) => frontend.common.mac.level(class),
        None => Err(NtStatus::DEVICE_NOT_READY),
    };
    // SAFETY: see the top.
    NtStatus::from(found.map(|found| unsafe { put(level, found) })).0
}
