//! Received packets on their way to NDIS, and back.
//!
//! ```text
//!   VIF ─packet─▶ queue: list, with what is known of the frame ─batch─▶ NDIS ─▶ returned ─▶ VIF
//!                   ▲                                                            │
//!                   └──────────────── spare lists ◀──────────────────────────────┘
//! ```
//!
//! The packet's memory is the list's: nothing is copied. A batch goes up when no more follows, so one lock is taken for
//! a packet and one call made for a batch. When those above hold too much, the next ones are only shown to them, and
//! the provider is asked to pause.

use crate::vif::Vif;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use ndis::sys::*;
use ndis::{NdisStatus, Pool, ReceiveChain, ReceiveList, Returned};
use nt::SpinLock;
use oid::vlan::Tagging;
use pv_interfaces::vif::{
    ChecksumFlags, HASH_ALGORITHM_TOEPLITZ, HASH_TYPE_IPV4, HASH_TYPE_IPV4_TCP, HASH_TYPE_IPV6,
    HASH_TYPE_IPV6_TCP, PacketHash, PacketInfo, QueuePacketV9,
};

/// Queues that are kept apart. An interface with more shares them.
const QUEUES: usize = 64;
/// Pages of a queue that those above may hold. xenvif.sys has 256 beside those of the ring: if those above held all of
/// them, because of one program that does not read, nothing would arrive for anybody.
const HELD: u32 = 192;
/// Pages of a batch.
const BATCH: u32 = 96;

/// What comes back with a list: its packet's queue, and how many pages that has.
#[derive(Clone, Copy, Debug)]
struct Origin {
    queue: usize,
    pages: u32,
}

impl Origin {
    /// Of a packet of so many bytes, a page for each of which is full.
    fn new(queue: usize, length: u32) -> Origin {
        let pages = length.div_ceil(nt::sys::PAGE_SIZE as u32).max(1);
        Origin { queue, pages }
    }

    fn number(self) -> usize {
        self.queue % QUEUES + self.pages as usize * QUEUES
    }

    fn of_number(number: usize) -> Origin {
        Origin {
            queue: number % QUEUES,
            pages: (number / QUEUES) as u32,
        }
    }
}

/// What was coalesced by the backend, for OID_TCP_RSC_STATISTICS.
#[derive(Debug, Default)]
pub struct Coalesced {
    /// Segments that became part of a larger packet.
    pub packets: AtomicU64,
    /// Their bytes.
    pub octets: AtomicU64,
    /// Larger packets.
    pub events: AtomicU64,
}

/// Packets of one queue of the interface.
#[derive(Debug)]
struct Queue {
    lists: SpinLock<Lists>,
    /// Pages that NDIS has.
    held: AtomicU32,
    coalesced: Coalesced,
}

#[derive(Debug)]
struct Lists {
    /// To be indicated.
    ready: ReceiveChain,
    /// Pages of those.
    pages: u32,
    /// To be used.
    spare: ReceiveChain,
    /// Whether packets go up.
    open: bool,
}

/// The receiving half of an adapter.
#[derive(Debug)]
pub struct Receiver {
    adapter: ndis::Adapter,
    queues: Box<[Queue]>,
    /// Behind the queues, which have lists of it.
    pool: Pool,
}

impl Receiver {
    /// PASSIVE_LEVEL.
    pub fn new(adapter: ndis::Adapter) -> Result<Receiver, NdisStatus> {
        let pool = Pool::new(adapter, *b"XNrx")?;
        let mut queues = Vec::new();
        queues
            .try_reserve_exact(QUEUES)
            .map_err(|_| NdisStatus::RESOURCES)?;
        for _ in 0..QUEUES {
            queues.push(Queue {
                lists: SpinLock::new(Lists {
                    ready: ReceiveChain::new(),
                    pages: 0,
                    spare: ReceiveChain::new(),
                    open: false,
                }),
                held: AtomicU32::new(0),
                coalesced: Coalesced::default(),
            });
        }
        Ok(Receiver {
            adapter,
            queues: queues.into_boxed_slice(),
            pool,
        })
    }

    /// Lets packets go up.
    pub fn open(&self) {
        for queue in &self.queues {
            queue.lists.lock().open = true;
        }
    }

    /// Lets none go up any more; what waits goes back. IRQL ≤ DISPATCH_LEVEL.
    pub fn close(&self, vif: &Vif) {
        for queue in &self.queues {
            let waiting = {
                let mut lists = queue.lists.lock();
                lists.open = false;
                lists.take_ready().0
            };
            queue.give_back(waiting, vif);
        }
    }

    /// Pages that NDIS has.
    pub fn held(&self) -> u32 {
        let held = |queue: &Queue| queue.held.load(Ordering::Acquire);
        self.queues.iter().map(held).fold(0, u32::saturating_add)
    }

    /// What was coalesced: segments, their bytes, larger packets.
    pub fn coalesced(&self) -> (u64, u64, u64) {
        self.queues.iter().fold((0, 0, 0), |sums, queue| {
            let of = &queue.coalesced;
            (
                sums.0 + of.packets.load(Ordering::Relaxed),
                sums.1 + of.octets.load(Ordering::Relaxed),
                sums.2 + of.events.load(Ordering::Relaxed),
            )
        })
    }

    /// A packet of the interface; whether it should make a pause. DISPATCH_LEVEL.
    ///
    /// # Safety
    /// The packet is lent by `vif` and used by nobody else.
    pub unsafe fn receive(&self, packet: &QueuePacketV9, tagging: &Tagging, vif: &Vif) -> bool {
        let index = packet.index as usize % QUEUES;
        let Some(queue) = self.queues.get(index) else {
            return false;
        };
        let more = packet.more != 0;
        let (batch, pages) = {
            let mut lists = queue.lists.lock();
            let kept = lists.open && {
                // SAFETY: the caller's duty.
                unsafe { self.keep(&mut lists, index, queue, packet, tagging) }
            };
            if !kept {
                // SAFETY: the packet is lent, and goes back once. The provider takes it under this lock: it calls nobody.
                unsafe { vif.receiver_return_packet(packet.cookie) };
            }
            // What waits goes up even where the last packet of a batch was not kept.
            if more && lists.pages < BATCH {
                return false;
            }
            lists.take_ready()
        };
        queue.indicate(batch, pages, self.adapter, vif)
    }

    /// Puts a packet into the batch, if there is memory for that and it is this adapter's.
    ///
    /// # Safety
    /// As [`Receiver::receive`].
    unsafe fn keep(
        &self,
        lists: &mut Lists,
        index: usize,
        queue: &Queue,
        packet: &QueuePacketV9,
        tagging: &Tagging,
    ) -> bool {
        let Some(tag) = tagging.receive(packet.tag_control_information) else {
            return false;
        };
        let list = lists
            .spare
            .pop()
            .or_else(|| self.pool.allocate(self.adapter));
        let Some(mut list) = list else {
            return false;
        };
        let cookie = packet.cookie.addr();
        let origin = Origin::new(index, packet.length);
        // SAFETY: the chain is lent with the packet, which goes back after the list has come back.
        let described = unsafe {
            list.describe(
                packet.mdl.cast(),
                packet.offset,
                packet.length,
                cookie,
                origin.number(),
            )
        };
        if !described {
            lists.spare.push(list);
            return false;
        }
        let checksum = checksum(packet.flags);
        if checksum.0 != 0 {
            list.set_info(TcpIpChecksumNetBufferListInfo, checksum.0);
        }
        if tag.value() != 0 {
            list.set_info(Ieee8021QNetBufferListInfo, tag.value());
        }
        // SAFETY: null, or alive until the packet is returned.
        if let Some(hash) = unsafe { packet.hash.as_ref() } {
            say_hash(&mut list, hash);
        }
        // SAFETY: as above.
        if let Some(info) = unsafe { packet.info.as_ref() } {
            queue.say_coalesced(&mut list, packet, info);
        }
        lists.ready.push(list);
        lists.pages = lists.pages.saturating_add(origin.pages);
        true
    }

    /// Lists that those above are done with. IRQL ≤ DISPATCH_LEVEL.
    pub fn returned(&self, mut lists: Returned, vif: &Vif) {
        let (mut same, mut pages) = (ReceiveChain::new(), 0u32);
        let mut last = None;
        while let Some(list) = lists.take() {
            let (_, number) = list.numbers();
            let origin = Origin::of_number(number);
            if last != Some(origin.queue) {
                self.taken_back(last, core::mem::take(&mut same), pages, vif);
                (last, pages) = (Some(origin.queue), 0);
            }
            same.push(list);
            pages = pages.saturating_add(origin.pages);
        }
        self.taken_back(last, same, pages, vif);
    }

    fn taken_back(&self, index: Option<usize>, lists: ReceiveChain, pages: u32, vif: &Vif) {
        if let Some(queue) = index.and_then(|index| self.queues.get(index)) {
            queue.give_back(lists, vif);
            // Last of all: who waits for this to become 0 may take the adapter away.
            queue.held.fetch_sub(pages, Ordering::Release);
        }
    }
}

impl Lists {
    /// What is to be indicated, and its pages.
    fn take_ready(&mut self) -> (ReceiveChain, u32) {
        (
            core::mem::take(&mut self.ready),
            core::mem::take(&mut self.pages),
        )
    }
}

impl Queue {
    /// Gives a batch to NDIS; whether those above have so much that there should be a pause. No lock held.
    fn indicate(&self, batch: ReceiveChain, pages: u32, adapter: ndis::Adapter, vif: &Vif) -> bool {
        if batch.is_empty() {
            return false;
        }
        let before = self.held.fetch_add(pages, Ordering::AcqRel);
        if before.saturating_add(pages) <= HELD {
            batch.indicate(adapter);
            return false;
        }
        let shown = batch.lend(adapter);
        self.give_back(shown, vif);
        self.held.fetch_sub(pages, Ordering::Release);
        true
    }

    /// Gives packets back to the interface, and keeps their lists.
    fn give_back(&self, mut lists: ReceiveChain, vif: &Vif) {
        let mut spare = ReceiveChain::new();
        while let Some(list) = lists.pop() {
            let (cookie, _) = list.numbers();
            let cookie = core::ptr::with_exposed_provenance_mut::<c_void>(cookie);
            // SAFETY: the packet of a list that is ours again, so nobody uses it; the list is described anew before it
            // stands for another.
            unsafe { vif.receiver_return_packet(cookie) };
            spare.push(list);
        }
        let mut mine = self.lists.lock();
        while let Some(list) = spare.pop() {
            mine.spare.push(list);
        }
    }

    /// Says how many segments a large packet was.
    fn say_coalesced(&self, list: &mut ReceiveList, packet: &QueuePacketV9, info: &PacketInfo) {
        let mss = u32::from(packet.maximum_segment_size);
        let payload = packet.length.saturating_sub(info.length);
        if mss == 0 || payload <= mss {
            return;
        }
        let segments = payload.div_ceil(mss);
        let said = Coalesced_::new(u16::try_from(segments).unwrap_or(u16::MAX), 0);
        list.set_info(TcpRecvSegCoalesceInfo, said.0);
        let count = &self.coalesced;
        count.packets.fetch_add(segments.into(), Ordering::Relaxed);
        count.octets.fetch_add(payload.into(), Ordering::Relaxed);
        count.events.fetch_add(1, Ordering::Relaxed);
    }
}

/// NDIS' type beside this file's, which has the same name.
type Coalesced_ = ndis::sys::Coalesced;

/// What NDIS is told of checksums. What was not looked at has no bit.
fn checksum(flags: ChecksumFlags) -> ReceiveChecksum {
    let pairs = [
        (ChecksumFlags::IP_SUCCEEDED, ReceiveChecksum::IP_SUCCEEDED),
        (ChecksumFlags::IP_FAILED, ReceiveChecksum::IP_FAILED),
        (ChecksumFlags::TCP_SUCCEEDED, ReceiveChecksum::TCP_SUCCEEDED),
        (ChecksumFlags::TCP_FAILED, ReceiveChecksum::TCP_FAILED),
        (ChecksumFlags::UDP_SUCCEEDED, ReceiveChecksum::UDP_SUCCEEDED),
        (ChecksumFlags::UDP_FAILED, ReceiveChecksum::UDP_FAILED),
    ];
    let bits = pairs.into_iter().filter(|(flag, _)| flags.0 & flag != 0);
    ReceiveChecksum(bits.fold(0, |all, (_, bit)| all | bit))
}

fn say_hash(list: &mut ReceiveList, hash: &PacketHash) {
    if hash.algorithm != HASH_ALGORITHM_TOEPLITZ {
        return;
    }
    let kind = match hash.kind {
        HASH_TYPE_IPV4 => NDIS_HASH_IPV4,
        HASH_TYPE_IPV4_TCP => NDIS_HASH_TCP_IPV4,
        HASH_TYPE_IPV6 => NDIS_HASH_IPV6,
        HASH_TYPE_IPV6_TCP => NDIS_HASH_TCP_IPV6,
        _ => return,
    };
    list.set_info(NetBufferListHashInfo, NdisHashFunctionToeplitz | kind);
    list.set_info(NetBufferListHashValue, hash.value);
}
