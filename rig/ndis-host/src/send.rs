//! The way down: from a protocol through the gate to the miniport, and the completion back.
//!
//! ```text
//!   Binding::send ─▶ INCOMING[cpu] ─inject─▶ transmit ─gate─▶ MiniportSendNetBufferLists
//!   Protocol::sent ◀── memory back to its cache ◀── NdisMSendNetBufferListsComplete
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU64, Ordering};

use nt_host::ke::irql;
use nt_host::sync::Mutex;
use nt_host::verifier::Rule;
use nt_host::{exports, host, ke};
use nt_sys::DISPATCH_LEVEL;
use nt_sys::ndis::{
    NDIS_HANDLE, NDIS_NBL_FLAGS_SEND_READ_ONLY, NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL,
    NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE, NDIS_SEND_FLAGS_DISPATCH_LEVEL, NDIS_STATUS_PAUSED,
    NDIS_STATUS_PENDING, NET_BUFFER_LIST,
};
use trace::{Class, Event};

use crate::adapter::{Adapter, State};
use crate::block::{Block, holder, holder_text};
use crate::call;
use crate::large::Large;
use crate::packet::Packet;
use crate::seen::Seen;

/// Virtual CPUs the machine may have (Platform::cpus).
const CPUS: usize = 64;

/// Lists of sends that the miniport has, behind a gate that is closed while the adapter does not run.
pub struct Gate(AtomicU64);

/// The gate is closed.
const CLOSED: u64 = 1 << 63;

impl Gate {
    /// Closed, and nothing is under way.
    pub const fn new() -> Self {
        Self(AtomicU64::new(CLOSED))
    }

    /// Lets so many in, if it is open.
    fn enter(&self, count: u64) -> bool {
        let before = self.0.fetch_add(count, Ordering::AcqRel);
        if before & CLOSED != 0 {
            self.leave(count);
            return false;
        }
        true
    }

    fn leave(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::AcqRel);
    }

    /// Opens it.
    pub fn open(&self) {
        self.0.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Closes it; what is under way stays.
    pub fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// How many are under way.
    pub fn outstanding(&self) -> u64 {
        self.0.load(Ordering::Acquire) & !CLOSED
    }
}

type Waiting = Mutex<Vec<(&'static Adapter, Vec<Packet>)>>;

static INCOMING: [Waiting; CPUS] = [const { Mutex::new(Vec::new()) }; CPUS];

/// Sends frames on a virtual CPU: the calling one, or the one that is named; from a host thread, by injection.
pub fn submit(adapter: &'static Adapter, packets: Vec<Packet>, cpu: Option<u32>) {
    let platform = host().platform();
    let here = platform.current_cpu();
    if here.is_some() && (cpu.is_none() || cpu == here) {
        return irql::at_dispatch(|| transmit(adapter, packets));
    }
    let cpu = cpu.unwrap_or(0) % platform.cpus().max(1);
    let mut incoming = INCOMING[cpu as usize % CPUS].lock();
    let first = incoming.is_empty();
    incoming.push((adapter, packets));
    drop(incoming);
    if first {
        ke::inject(cpu, Box::new(move || take_in(cpu)));
    }
}

fn take_in(cpu: u32) {
    let batch = core::mem::take(&mut *INCOMING[cpu as usize % CPUS].lock());
    for (adapter, packets) in batch {
        transmit(adapter, packets);
    }
}

/// Gives frames to the miniport, in one list of lists. At DISPATCH_LEVEL.
fn transmit(adapter: &'static Adapter, packets: Vec<Packet>) {
    let count = packets.len() as u64;
    if count == 0 {
        return;
    }
    let Some(routine) = adapter
        .driver
        .characteristics
        .SendNetBufferListsHandler
        .filter(|_| adapter.gate.enter(count))
    else {
        return refuse(adapter, packets);
    };
    let counting = &adapter.counting;
    counting.sent.fetch_add(count, Ordering::Relaxed);
    counting.send_calls.fetch_add(1, Ordering::Relaxed);
    // Who sends: not a handle that the miniport could use.
    let source = adapter.handle().wrapping_byte_add(4);
    let mut first: *mut NET_BUFFER_LIST = null_mut();
    for packet in packets.into_iter().rev() {
        let tag = packet.tag;
        let block = packet.into_block();
        // SAFETY: the packet's own list.
        let fields = unsafe { &mut *block.as_ptr() };
        fields.tag = tag;
        fields.nbl.Next = first;
        fields.nbl.SourceHandle = source;
        fields.nbl.NblFlags |= NDIS_NBL_FLAGS_SEND_READ_ONLY;
        // The miniport is to say what became of it.
        fields.nbl.Status = NDIS_STATUS_PENDING;
        first = &raw mut fields.nbl;
        // SAFETY: the host's own list.
        fields.seen = unsafe { Seen::of(first) };
        // SAFETY: as above.
        fields.large = unsafe { Large::of(&fields.nbl) };
        fields.pass(holder::MAKER, holder::SENDER, adapter);
        trace::emit(Class::Net, || Event::ListSend {
            adapter: adapter.index.into(),
            list: first as u64,
            bytes: fields.buffer.nb.DataLength.into(),
        });
    }
    // SAFETY: the miniport's own routine, called as documented.
    call::handler(routine as usize, "MiniportSendNetBufferLists", || unsafe {
        routine(adapter.context(), first, 0, NDIS_SEND_FLAGS_DISPATCH_LEVEL)
    });
}

/// The adapter moves no frames.
fn refuse(adapter: &'static Adapter, packets: Vec<Packet>) {
    let protocol = adapter.above();
    for packet in packets {
        adapter.counting.refused.fetch_add(1, Ordering::Relaxed);
        let tag = packet.tag;
        drop(packet);
        if let Some(protocol) = &protocol {
            protocol.sent(tag, NDIS_STATUS_PAUSED);
        }
    }
}

/// Checks flags of a call against the IRQL.
pub fn demand_flags(flags: u32, known: u32, dispatch: u32, function: &str) {
    if flags & !known != 0 {
        Rule::NblFlags.breach(format_args!(
            "{function}: flags {flags:#x}, of which {:#x} do not exist",
            flags & !known
        ));
    }
    let level = irql::current();
    if flags & dispatch != 0 && level < DISPATCH_LEVEL {
        Rule::NblFlags.breach(format_args!(
            "{function}: flags {flags:#x} say DISPATCH_LEVEL, and the IRQL is {level}"
        ));
    }
}

/// Microsoft Learn: NdisMSendNetBufferListsComplete.
///
/// # Safety
/// `lists` is null or a list of lists.
pub unsafe extern "win64" fn NdisMSendNetBufferListsComplete(
    handle: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    const NAME: &str = "NdisMSendNetBufferListsComplete";
    let adapter = Adapter::of(handle, NAME);
    demand_flags(
        flags,
        NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL | NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE,
        NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL,
        NAME,
    );
    if adapter.state() == State::Halted {
        Rule::NdisHalted.breach(format_args!("{NAME}: the adapter is halted"));
    }
    adapter
        .counting
        .complete_calls
        .fetch_add(1, Ordering::Relaxed);
    irql::at_dispatch(|| {
        let protocol = adapter.above();
        let mut next = lists;
        let mut count = 0;
        while !next.is_null() {
            let block = Block::of(next, NAME);
            take_back(adapter, block, next);
            // SAFETY: `of` found it to be a block, and it is the host's again.
            let fields = unsafe { block.as_ref() };
            next = fields.nbl.Next;
            let (tag, status) = (fields.tag, fields.nbl.Status);
            trace::emit(Class::Net, || Event::ListSent {
                adapter: adapter.index.into(),
                list: block.as_ptr() as u64,
                status: status as u64,
            });
            adapter.cache.give(block);
            if let Some(protocol) = &protocol {
                protocol.sent(tag, status);
            }
            count += 1;
        }
        adapter
            .counting
            .completed
            .fetch_add(count, Ordering::Relaxed);
        adapter.gate.leave(count);
    });
}

/// A list comes back from the miniport, which must have had it and must not have changed it.
fn take_back(adapter: &'static Adapter, block: NonNull<Block>, nbl: *mut NET_BUFFER_LIST) {
    const NAME: &str = "NdisMSendNetBufferListsComplete";
    // SAFETY: the caller has found it to be a block.
    let fields = unsafe { block.as_ref() };
    if !fields.is_of(adapter) || !fields.pass(holder::SENDER, holder::MAKER, adapter) {
        Rule::NblCompletedTwice.breach(format_args!(
            "{NAME}: list {nbl:p} {}",
            match fields.holder() {
                holder::SENDER => "was given to another adapter",
                has => holder_text(has),
            }
        ));
    }
    if fields.nbl.Status == NDIS_STATUS_PENDING {
        Rule::NblStatus.breach(format_args!(
            "{NAME}: list {nbl:p} has the status NDIS_STATUS_PENDING, which it had when it was sent"
        ));
    }
    if let Some((said, expected)) = fields.large.is_wrong(&fields.nbl) {
        Rule::NblStatus.breach(format_args!(
            "{NAME}: list {nbl:p} says {said:#x} of the large send that it was, not {expected:#x}"
        ));
    }
    // SAFETY: the host's own list, whose MDLs are its own as well, unless the miniport changed that.
    if let Some(what) = unsafe { Seen::of(nbl) }.difference(&fields.seen) {
        Rule::NblChanged.breach(format_args!(
            "{NAME}: {what} of list {nbl:p} came back changed"
        ));
    }
}

exports!("ndis.sys": NdisMSendNetBufferListsComplete);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_lets_nobody_in_and_everybody_out() {
        let gate = Gate::new();
        assert!(!gate.enter(1));
        gate.open();
        assert!(gate.enter(3));
        gate.close();
        assert!(!gate.enter(1));
        assert_eq!(gate.outstanding(), 3);
        gate.leave(3);
        assert_eq!(gate.outstanding(), 0);
    }
}
