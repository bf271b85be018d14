//! The way up: what a miniport indicates is checked, shown to the protocol and given back.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use nt_host::exports;
use nt_host::ke::irql;
use nt_host::verifier::Rule;
use nt_sys::MDL;
use nt_sys::ndis::{
    Coalesced, NDIS_HANDLE, NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL, NDIS_RECEIVE_FLAGS_MORE_NBLS,
    NDIS_RECEIVE_FLAGS_PERFECT_FILTERED, NDIS_RECEIVE_FLAGS_RESOURCES,
    NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID, NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE,
    NDIS_RECEIVE_FLAGS_SINGLE_QUEUE, NDIS_RECEIVE_FLAGS_SINGLE_VLAN,
    NDIS_RETURN_FLAGS_DISPATCH_LEVEL, NET_BUFFER, NET_BUFFER_LIST, ReceiveChecksum,
    TcpIpChecksumNetBufferListInfo, TcpRecvSegCoalesceInfo,
};
use trace::{Class, Event};

use crate::adapter::{Adapter, State};
use crate::block::{Block, holder, holder_text};
use crate::frame::{Batch, Received};
use crate::seen::Seen;
use crate::{call, data, send};

const NAME: &str = "NdisMIndicateReceiveNetBufferLists";
const FLAGS: u32 = NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL
    | NDIS_RECEIVE_FLAGS_RESOURCES
    | NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE
    | NDIS_RECEIVE_FLAGS_SINGLE_VLAN
    | NDIS_RECEIVE_FLAGS_PERFECT_FILTERED
    | NDIS_RECEIVE_FLAGS_SINGLE_QUEUE
    | NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID
    | NDIS_RECEIVE_FLAGS_MORE_NBLS;
/// An Ethernet header.
const SHORTEST: u32 = 14;

/// Microsoft Learn: NdisMIndicateReceiveNetBufferLists.
///
/// # Safety
/// `lists` is a list of `count` lists.
pub unsafe extern "win64" fn NdisMIndicateReceiveNetBufferLists(
    handle: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: u32,
    count: u32,
    flags: u32,
) {
    let adapter = Adapter::of(handle, NAME);
    send::demand_flags(flags, FLAGS, NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL, NAME);
    let state = adapter.state();
    match state {
        State::Running | State::Pausing | State::Restarting => {}
        State::Halted => Rule::NdisHalted.breach(format_args!("{NAME}: the adapter is halted")),
        State::Paused | State::Initializing => {
            Rule::ReceivePaused.breach(format_args!("{NAME}: the adapter is {state:?}"));
        }
    }
    if port != 0 {
        Rule::NblMalformed.breach(format_args!("{NAME}: port {port}, which was not allocated"));
    }
    let lent = flags & NDIS_RECEIVE_FLAGS_RESOURCES != 0;
    irql::at_dispatch(|| take_in(adapter, lists, count, lent, state == State::Running));
}

fn take_in(
    adapter: &'static Adapter,
    lists: *mut NET_BUFFER_LIST,
    count: u32,
    lent: bool,
    running: bool,
) {
    let counting = &adapter.counting;
    let (mut next, mut found, mut bytes) = (lists, 0u32, 0u64);
    while let Some(list) = NonNull::new(next) {
        if found == count {
            break;
        }
        let block = Block::of(list.as_ptr(), NAME);
        // SAFETY: `of` found it to be a block, which the miniport has.
        let fields = unsafe { &mut *block.as_ptr() };
        if !fields.pass(holder::MAKER, holder::RECEIVER, adapter) {
            Rule::NblIndicatedTwice.breach(format_args!(
                "{NAME}: list {list:p} {}",
                holder_text(fields.holder())
            ));
        }
        let length = check(adapter, &fields.nbl);
        bytes += u64::from(length);
        trace::emit(Class::Net, || Event::ListReceive {
            adapter: adapter.index.into(),
            list: list.as_ptr() as u64,
            bytes: length.into(),
        });
        // SAFETY: checked just now.
        fields.seen = unsafe { Seen::of(list.as_ptr()) };
        next = fields.nbl.Next;
        found += 1;
    }
    if found != count || !next.is_null() || count == 0 {
        Rule::NblMalformed.breach(format_args!(
            "{NAME}: {count} lists are said to be there, and {} are",
            if next.is_null() { "fewer" } else { "more" }
        ));
    }
    adapter
        .indicated
        .fetch_add(found as usize, Ordering::AcqRel);
    counting.received.fetch_add(found.into(), Ordering::Relaxed);
    counting.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    counting.receive_calls.fetch_add(1, Ordering::Relaxed);
    if lent {
        counting.lent.fetch_add(found.into(), Ordering::Relaxed);
    }
    let batch = Batch::new(adapter, lists, lent);
    match adapter.above().filter(|_| running) {
        Some(protocol) => protocol.receive(&mut Received::new(&batch)),
        None => {
            counting.dropped.fetch_add(found.into(), Ordering::Relaxed);
        }
    }
    match lent {
        true => end_loan(adapter, lists),
        false => {
            let (chain, count) = batch.finish();
            give_back(adapter, chain, count);
        }
    }
}

/// Checks a list that is indicated; the bytes of its frame.
fn check(adapter: &'static Adapter, list: &NET_BUFFER_LIST) -> u32 {
    let wrong = |what: core::fmt::Arguments| -> ! {
        Rule::NblMalformed.breach(format_args!(
            "{NAME}: list {:p} {what}",
            core::ptr::from_ref(list)
        ))
    };
    if list.SourceHandle != adapter.handle() {
        wrong(format_args!(
            "has the SourceHandle {:p}, not the adapter's",
            list.SourceHandle
        ));
    }
    // SAFETY: null, or a NET_BUFFER of the miniport's.
    let Some(nb) = (unsafe { list.FirstNetBuffer.as_ref() }) else {
        wrong(format_args!("has no NET_BUFFER"));
    };
    if !nb.Next.is_null() {
        wrong(format_args!("has more than one NET_BUFFER"));
    }
    if nb.DataLength < SHORTEST {
        wrong(format_args!(
            "has a frame of {} bytes, which is shorter than an Ethernet header",
            nb.DataLength
        ));
    }
    let longest = adapter.longest.load(Ordering::Relaxed);
    let coalesced = Coalesced(list.NetBufferListInfo[TcpRecvSegCoalesceInfo] as usize as u32);
    if nb.DataLength > longest && coalesced.segments() == 0 {
        wrong(format_args!(
            "has a frame of {} bytes, which is longer than {longest} and not coalesced",
            nb.DataLength
        ));
    }
    // SAFETY: a NET_BUFFER with MDLs of the miniport's.
    let (current, there) = unsafe { extent(nb) };
    if current != Some(nb.DataOffset) {
        wrong(format_args!(
            "has data at {:p}+{}, which is not {} bytes into its MDLs",
            nb.CurrentMdl, nb.CurrentMdlOffset, nb.DataOffset
        ));
    }
    if there < u64::from(nb.DataLength) {
        wrong(format_args!(
            "has a frame of {} bytes, and its MDLs hold {there}",
            nb.DataLength
        ));
    }
    let sums =
        ReceiveChecksum(list.NetBufferListInfo[TcpIpChecksumNetBufferListInfo] as usize as u32);
    for (good, bad) in [
        (ReceiveChecksum::IP_SUCCEEDED, ReceiveChecksum::IP_FAILED),
        (ReceiveChecksum::TCP_SUCCEEDED, ReceiveChecksum::TCP_FAILED),
        (ReceiveChecksum::UDP_SUCCEEDED, ReceiveChecksum::UDP_FAILED),
    ] {
        if sums.has(good) && sums.has(bad) {
            wrong(format_args!(
                "has a checksum that is both right and wrong: {:#x}",
                sums.0
            ));
        }
    }
    adapter.scale.lock().check(list, nb);
    nb.DataLength
}

/// Where a NET_BUFFER's current place lies in its chain, if it does, and how many bytes there are from there on.
///
/// # Safety
/// `nb`'s MDLs are valid.
unsafe fn extent(nb: &NET_BUFFER) -> (Option<u32>, u64) {
    /// MDLs that are looked at; what is longer is a circle.
    const MOST: usize = 4096;
    let (mut next, mut before): (*const MDL, u32) = (nb.MdlChain, 0);
    let mut current = None;
    let mut there = 0u64;
    for _ in 0..MOST {
        // SAFETY: the caller's promise.
        let Some(mdl) = (unsafe { next.as_ref() }) else {
            return (current, there);
        };
        let bytes = mdl.ByteCount;
        if core::ptr::eq(next, nb.CurrentMdl) && nb.CurrentMdlOffset <= bytes {
            current = Some(before.saturating_add(nb.CurrentMdlOffset));
            there = u64::from(bytes - nb.CurrentMdlOffset);
        } else if current.is_some() {
            there += u64::from(bytes);
        }
        before = before.saturating_add(bytes);
        next = mdl.Next;
    }
    (None, 0)
}

/// A list is the miniport's again, which must not have touched it meanwhile.
fn release(adapter: &'static Adapter, list: *mut NET_BUFFER_LIST) {
    let block = Block::of(list, "NDIS");
    // SAFETY: `of` found it to be a block.
    let fields = unsafe { block.as_ref() };
    // SAFETY: the list was checked when it was indicated; its MDLs are the miniport's, which keeps them.
    if let Some(what) = unsafe { Seen::of(list) }.difference(&fields.seen) {
        let start = adapter.driver.characteristics.ReturnNetBufferListsHandler;
        Rule::NblTouched.breach_of(
            start.map_or(0, |routine| routine as usize),
            format_args!("changed {what} of list {list:p} while it was indicated"),
        );
    }
    fields.pass(holder::RECEIVER, holder::MAKER, adapter);
    trace::emit(Class::Net, || Event::ListReturn {
        adapter: adapter.index.into(),
        list: list as u64,
    });
}

/// The miniport takes back what it lent.
fn end_loan(adapter: &'static Adapter, lists: *mut NET_BUFFER_LIST) {
    let (mut next, mut count) = (lists, 0);
    while let Some(list) = NonNull::new(next) {
        release(adapter, list.as_ptr());
        // SAFETY: a list of the indication.
        next = unsafe { (*list.as_ptr()).Next };
        count += 1;
    }
    adapter.indicated.fetch_sub(count, Ordering::AcqRel);
}

/// Gives lists back by MiniportReturnNetBufferLists. On a virtual CPU, at DISPATCH_LEVEL or below.
pub fn give_back(adapter: &'static Adapter, chain: *mut NET_BUFFER_LIST, count: usize) {
    let Some(routine) = adapter
        .driver
        .characteristics
        .ReturnNetBufferListsHandler
        .filter(|_| !chain.is_null())
    else {
        return;
    };
    let mut next = chain;
    while let Some(list) = NonNull::new(next) {
        release(adapter, list.as_ptr());
        // SAFETY: a list that goes back.
        next = unsafe { (*list.as_ptr()).Next };
    }
    adapter.indicated.fetch_sub(count, Ordering::AcqRel);
    irql::at_dispatch(|| {
        // SAFETY: the miniport's own routine, called as documented.
        call::handler(
            routine as usize,
            "MiniportReturnNetBufferLists",
            || unsafe { routine(adapter.context(), chain, NDIS_RETURN_FLAGS_DISPATCH_LEVEL) },
        );
    });
}

/// The first bytes of a frame, for a look at its headers; how many there are.
pub fn headers(nb: &NET_BUFFER, out: &mut [u8]) -> usize {
    let want = out.len().min(nb.DataLength as usize);
    // SAFETY: the indication was checked.
    unsafe { data::copy_out(nb, &mut out[..want]) }
}

exports!("ndis.sys": NdisMIndicateReceiveNetBufferLists);
