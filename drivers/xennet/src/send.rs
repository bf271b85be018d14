//! Lists of frames on their way to the interface, and their completion.
//!
//! ```text
//!   NDIS ─list─▶ wishes: what is asked, and is allowed ─▶ a packet for each frame, each with a share of the list
//!                                                          └ of a large datagram, for each piece of it (segment)
//!        ◀─ complete ── the last share ◀── packets come back, in any order, on any processor
//! ```
//!
//! The frames' MDLs are the packets': nothing but large datagrams is copied here. A list is looked at before the one in front of it is
//! handed over, so that the interface is told rightly whether more follows.

use crate::segment::{Cut, Cutter, Piece};
use crate::vif::{Outgoing, Vif};
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ndis::sys::*;
use ndis::{Frame, NdisStatus, SendList, Sends, Share};
use nt::{Irql, RaisedIrql};
use oid::Tasks;
use oid::vlan::{OutOfBand, Tagging};
use pv_interfaces::vif::{
    COMPLETION_OK, CompletionInfo, HASH_ALGORITHM_NONE, HASH_ALGORITHM_TOEPLITZ, HASH_TYPE_IPV4,
    HASH_TYPE_IPV4_TCP, HASH_TYPE_IPV6, HASH_TYPE_IPV6_TCP, HASH_TYPE_NONE, OffloadOptions,
    PacketHash,
};

/// Bytes of an Ethernet header.
const HEADER: u32 = 14;
/// Bytes of the longest IP packet and its Ethernet header, with a tag: what a large send can be.
const LARGEST: u32 = 65535 + HEADER + 4;

/// What sends may ask for now.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Offloads that are on.
    pub tasks: Tasks,
    /// How tags are treated.
    pub tagging: Tagging,
    /// Bytes of a frame with header and tag.
    pub longest: u32,
}

/// What is asked for a list's frames.
#[derive(Clone, Copy, Debug)]
struct Wishes {
    options: OffloadOptions,
    /// Of a large send that the interface has cut.
    mss: u16,
    /// Of a large datagram that is cut here, with the offloads that are on.
    cut: Option<(u16, Tasks)>,
    tci: u16,
    hash: PacketHash,
}

/// The sending half of an adapter.
#[derive(Debug)]
pub struct Sender {
    open: AtomicBool,
    /// Lists of NDIS' that are here.
    owned: AtomicU64,
    cutter: Cutter,
}

impl Sender {
    /// One that lets nothing through yet; frames have `longest` bytes at most.
    pub fn new(longest: u32) -> Result<Sender, NdisStatus> {
        Ok(Sender {
            open: AtomicBool::new(false),
            owned: AtomicU64::new(0),
            cutter: Cutter::new(longest)?,
        })
    }

    /// Lets frames through.
    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Lets none through any more.
    pub fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// Lists of NDIS' that are here.
    pub fn owned(&self) -> u64 {
        self.owned.load(Ordering::SeqCst)
    }

    /// Sends lists. IRQL ≤ DISPATCH_LEVEL.
    pub fn send(&self, mut lists: Sends, rules: &Rules, vif: &Vif) {
        let _level = (Irql::current() < Irql::DISPATCH).then(RaisedIrql::dispatch);
        let mut next = self.admit(&mut lists, rules);
        while let Some((list, wishes)) = next {
            next = self.admit(&mut lists, rules);
            self.hand_over(list, &wishes, next.is_some(), vif);
        }
    }

    /// Takes the next list that can be sent; the others are completed.
    fn admit(&self, lists: &mut Sends, rules: &Rules) -> Option<(SendList, Wishes)> {
        loop {
            let list = lists.take()?;
            // Counted first: who closes this waits for what was counted before.
            self.owned.fetch_add(1, Ordering::SeqCst);
            let wishes = match self.open.load(Ordering::SeqCst) {
                true => wishes(&list, rules),
                false => Err(NdisStatus::PAUSED),
            };
            match wishes {
                Ok(wishes) => return Some((list, wishes)),
                Err(status) => {
                    list.complete(status);
                    self.forget();
                }
            }
        }
    }

    fn hand_over(&self, list: SendList, wishes: &Wishes, follows: bool, vif: &Vif) {
        // Kept until every frame was handed over, so that the list stays ours meanwhile.
        let whole = list.divide();
        let mut frames = whole.frames().peekable();
        while let Some(frame) = frames.next() {
            let more = follows || frames.peek().is_some();
            let outcome = match wishes.cut {
                None => self.hand_over_frame(&whole, &frame, wishes, more, vif),
                Some((mss, tasks)) => {
                    self.hand_over_pieces(&whole, &frame, wishes, (mss, tasks), more, vif)
                }
            };
            if let Err(status) = outcome {
                self.end(whole.another(), Err(status));
                break;
            }
        }
        self.end(whole, Ok(0));
    }

    fn hand_over_frame(
        &self,
        whole: &Share,
        frame: &Frame<'_>,
        wishes: &Wishes,
        more: bool,
        vif: &Vif,
    ) -> Result<(), NdisStatus> {
        let cookie = whole.another().into_raw();
        let packet = Outgoing {
            mdl: frame.mdl(),
            offset: frame.offset(),
            length: frame.length(),
            options: wishes.options,
            mss: wishes.mss,
            tci: wishes.tci,
            hash: wishes.hash,
            more,
            cookie,
        };
        // SAFETY: NDIS leaves the MDLs as they are until the list is completed, which the share holds up.
        let taken = unsafe { vif.transmitter_queue_packet(&packet) };
        taken.map_err(|status| {
            // SAFETY: the interface did not take the packet, so the cookie is still ours.
            let share = unsafe { Share::from_raw(cookie, whole.adapter()) };
            self.end_all(share, Err(status.into()));
            status.into()
        })
    }

    #[inline(never)]
    fn hand_over_pieces(
        &self,
        whole: &Share,
        frame: &Frame<'_>,
        wishes: &Wishes,
        (mss, tasks): (u16, Tasks),
        more: bool,
        vif: &Vif,
    ) -> Result<(), NdisStatus> {
        let mut cut = Cut::new(frame, mss, tasks)?;
        let options = OffloadOptions(wishes.options.0 | cut.tasks().transmit_options());
        while let Some((segment, another)) = cut.next() {
            let piece = self.cutter.piece(&cut, &segment, whole.another())?;
            let (mdl, length) = (piece.mdl(), piece.length());
            let cookie = piece.into_cookie();
            let packet = Outgoing {
                mdl,
                offset: 0,
                length,
                options,
                mss: 0,
                tci: wishes.tci,
                hash: wishes.hash,
                more: more || another,
                cookie,
            };
            // SAFETY: the piece, and its MDL, are the packet's until it comes back.
            let taken = unsafe { vif.transmitter_queue_packet(&packet) };
            if let Err(status) = taken {
                // SAFETY: the interface did not take the packet, so the cookie is still ours.
                let piece = unsafe { Piece::of_cookie(cookie) };
                let share = piece.and_then(|piece| self.cutter.take_back(piece));
                self.end_all(share, Err(status.into()));
                return Err(status.into());
            }
        }
        Ok(())
    }

    /// A packet came back. DISPATCH_LEVEL.
    ///
    /// # Safety
    /// The cookie is that of a packet which the interface took, and this is its only end.
    pub unsafe fn sent(
        &self,
        cookie: *mut c_void,
        completion: Option<&CompletionInfo>,
        adapter: ndis::Adapter,
    ) {
        // SAFETY: the caller's duty.
        let share = match unsafe { Piece::of_cookie(cookie) } {
            Some(piece) => self.cutter.take_back(piece),
            // SAFETY: as above, and it is no piece's.
            None => unsafe { Share::from_raw(cookie, adapter) },
        };
        let outcome = match completion {
            Some(done) if done.status == COMPLETION_OK => Ok(u32::from(done.payload_length)),
            _ => Err(NdisStatus::NOT_ACCEPTED),
        };
        self.end_all(share, outcome);
    }

    fn end_all(&self, share: Option<Share>, outcome: Result<u32, NdisStatus>) {
        if let Some(share) = share {
            self.end(share, outcome);
        }
    }

    fn end(&self, share: Share, outcome: Result<u32, NdisStatus>) {
        let last = match outcome {
            Ok(payload) => share.sent(payload),
            Err(status) => share.failed(status),
        };
        if last {
            self.forget();
        }
    }

    fn forget(&self) {
        self.owned.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is asked for a list, if it can be had and its frames can be frames.
fn wishes(list: &SendList, rules: &Rules) -> Result<Wishes, NdisStatus> {
    let (mut needed, mut options) = checksums(list.checksum());
    let mut mss = 0;
    if let Some(large) = list.large_send() {
        let (task, option) = large_task(large);
        needed |= task;
        options |= option;
        mss = segment_size(large.mss())?;
    }
    let mut cut = None;
    if let Some(large) = list.udp_segmentation() {
        let v4 = large.ip_version() == NDIS_UDP_SEGMENTATION_OFFLOAD_IPV4;
        needed |= if v4 { Tasks::USO_IPV4 } else { Tasks::USO_IPV6 };
        let mss = segment_size(large.mss())?;
        // The pieces get theirs anew.
        options = 0;
        cut = Some((mss, rules.tasks));
    }
    if !rules.tasks.has_all(needed) {
        return Err(NdisStatus::FAILURE);
    }
    let asked = OutOfBand::of_value(list.tag().0);
    let tci = rules.tagging.transmit(asked);
    let mut longest = rules.longest;
    if tci != 0 {
        options |= OffloadOptions::TAG_MANIPULATION;
        longest = longest.saturating_sub(oid::vlan::TAG);
    }
    if mss != 0 || cut.is_some() {
        longest = LARGEST;
    }
    let mut frames = list.frames().peekable();
    if frames.peek().is_none() {
        return Err(NdisStatus::INVALID_PACKET);
    }
    for frame in frames {
        if frame.mdl().is_null() {
            return Err(NdisStatus::NOT_ACCEPTED);
        }
        if !(HEADER..=longest).contains(&frame.length()) {
            return Err(NdisStatus::INVALID_LENGTH);
        }
    }
    Ok(Wishes {
        options: OffloadOptions(options),
        mss,
        cut,
        tci,
        hash: hash(list.hash()),
    })
}

/// A segment's bytes of data, as the interface can say them.
fn segment_size(mss: u32) -> Result<u16, NdisStatus> {
    match u16::try_from(mss) {
        Ok(mss) if mss != 0 => Ok(mss),
        _ => Err(NdisStatus::INVALID_PARAMETER),
    }
}

/// The offloads that a request for checksums needs, and the interface's options for them.
fn checksums(asked: TransmitChecksum) -> (Tasks, u16) {
    let v6 = asked.has(TransmitChecksum::IS_IPV6);
    let v4 = asked.has(TransmitChecksum::IS_IPV4) && !v6;
    let mut needed = Tasks::NONE;
    for (bit, over_v4, over_v6) in [
        (
            TransmitChecksum::TCP_CHECKSUM,
            Tasks::TX_TCP_IPV4,
            Tasks::TX_TCP_IPV6,
        ),
        (
            TransmitChecksum::UDP_CHECKSUM,
            Tasks::TX_UDP_IPV4,
            Tasks::TX_UDP_IPV6,
        ),
    ] {
        needed |= over_v4.only_if(v4 && asked.has(bit)) | over_v6.only_if(v6 && asked.has(bit));
    }
    needed |= Tasks::TX_IPV4.only_if(v4 && asked.has(TransmitChecksum::IP_HEADER_CHECKSUM));
    (needed, needed.transmit_options())
}

/// The offload that a large send needs, and the interface's option for it. Version 1 is IPv4's alone.
fn large_task(large: LargeSend) -> (Tasks, u16) {
    let v1 = large.version() == NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE;
    let v4 = large.ip_version() == NDIS_TCP_LARGE_SEND_OFFLOAD_IPv4;
    match (v1, v4) {
        (true, _) => (Tasks::LSO_V1, OffloadOptions::IPV4_LARGE_PACKET),
        (false, true) => (Tasks::LSO_V2_IPV4, OffloadOptions::IPV4_LARGE_PACKET),
        (false, false) => (Tasks::LSO_V2_IPV6, OffloadOptions::IPV6_LARGE_PACKET),
    }
}

/// A list's hash as the interface has it.
fn hash((information, value): (u32, u32)) -> PacketHash {
    if information & NDIS_HASH_FUNCTION_MASK != NdisHashFunctionToeplitz {
        return PacketHash {
            algorithm: HASH_ALGORITHM_NONE,
            kind: HASH_TYPE_NONE,
            value: 0,
        };
    }
    let kind = match information & NDIS_HASH_TYPE_MASK {
        NDIS_HASH_IPV4 => HASH_TYPE_IPV4,
        NDIS_HASH_TCP_IPV4 => HASH_TYPE_IPV4_TCP,
        NDIS_HASH_IPV6 | NDIS_HASH_IPV6_EX => HASH_TYPE_IPV6,
        NDIS_HASH_TCP_IPV6 | NDIS_HASH_TCP_IPV6_EX => HASH_TYPE_IPV6_TCP,
        _ => HASH_TYPE_NONE,
    };
    PacketHash {
        algorithm: HASH_ALGORITHM_TOEPLITZ,
        kind,
        value,
    }
}
