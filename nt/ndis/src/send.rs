//! Lists that NDIS gave to be sent: owned until completed, in shares where its frames go different ways.
//!
//! ```text
//!   Sends ─take─▶ SendList ─divide─▶ Share, Share, …      a share for each frame under way, one for who hands them out
//!                    ▲                  │ end
//!                    └── the last one ──┘                 complete: back to NDIS, with the worst status
//! ```
//!
//! While a list is the miniport's, NDIS leaves `MiniportReserved` and `Scratch` to it: the count of shares, the status,
//! and the bytes of TCP payload that were sent.

use crate::{Adapter, NdisStatus};
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use nt::Irql;
use nt_sys::MDL;
use nt_sys::imports::NdisMSendNetBufferListsComplete;
use nt_sys::ndis::*;

/// What lists are cancelled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelId(pub usize);

/// The lists of one call, not yet looked at. Dropping them completes them as failed.
#[derive(Debug)]
pub struct Sends {
    next: *mut NET_BUFFER_LIST,
    adapter: Adapter,
    at_dispatch: bool,
}

// SAFETY: the lists are owned, and may be completed on any processor.
unsafe impl Send for Sends {}

impl Sends {
    /// # Safety
    /// Null or a chain of lists just received from NDIS, used through this value only.
    pub(crate) unsafe fn new(
        first: *mut NET_BUFFER_LIST,
        adapter: Adapter,
        at_dispatch: bool,
    ) -> Sends {
        Sends {
            next: first,
            adapter,
            at_dispatch,
        }
    }

    /// Whether the caller says that it is at DISPATCH_LEVEL.
    pub fn at_dispatch(&self) -> bool {
        self.at_dispatch
    }

    /// Takes the next list, in NDIS' order.
    pub fn take(&mut self) -> Option<SendList> {
        let list = NonNull::new(self.next)?;
        // SAFETY: the list is ours; it is taken out of the chain before anything is done with it.
        let fields = unsafe { &mut *list.as_ptr() };
        self.next = fields.Next;
        fields.Next = core::ptr::null_mut();
        Some(SendList {
            list,
            adapter: self.adapter,
        })
    }

    /// Whether no list is left.
    pub fn is_empty(&self) -> bool {
        self.next.is_null()
    }

    /// Completes all that is left with `status`.
    pub fn complete(mut self, status: NdisStatus) {
        while let Some(list) = self.take() {
            list.complete(status);
        }
    }
}

impl Drop for Sends {
    fn drop(&mut self) {
        while let Some(list) = self.take() {
            drop(list);
        }
    }
}

/// A list to be sent. Dropping it completes it as failed.
#[must_use = "a list that is not sent is completed as failed"]
#[derive(Debug)]
pub struct SendList {
    list: NonNull<NET_BUFFER_LIST>,
    adapter: Adapter,
}

// SAFETY: as `Sends`.
unsafe impl Send for SendList {}

impl SendList {
    fn fields(&self) -> &NET_BUFFER_LIST {
        // SAFETY: the list is live until it is completed.
        unsafe { self.list.as_ref() }
    }

    fn info(&self, slot: usize) -> u32 {
        self.fields()
            .NetBufferListInfo
            .get(slot)
            .map_or(0, |value| *value as usize as u32)
    }

    /// Checksums that are to be filled in.
    pub fn checksum(&self) -> TransmitChecksum {
        TransmitChecksum(self.info(TcpIpChecksumNetBufferListInfo))
    }

    /// A TCP segment to be cut.
    pub fn large_send(&self) -> Option<LargeSend> {
        let value = self.info(TcpLargeSendNetBufferListInfo);
        (value != 0).then_some(LargeSend(value))
    }

    /// A UDP datagram to be cut.
    pub fn udp_segmentation(&self) -> Option<UdpSegmentation> {
        let value = self.info(UdpSegmentationOffloadInfo);
        (value != 0).then_some(UdpSegmentation(value))
    }

    /// Priority and VLAN.
    pub fn tag(&self) -> Ieee8021Q {
        Ieee8021Q(self.info(Ieee8021QNetBufferListInfo))
    }

    /// Its hash, with function and type as in `HashInformation`; 0 where it was not hashed.
    pub fn hash(&self) -> (u32, u32) {
        (
            self.info(NetBufferListHashInfo),
            self.info(NetBufferListHashValue),
        )
    }

    /// The frames, in their order.
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            next: self.fields().FirstNetBuffer,
            _list: PhantomData,
        }
    }

    /// Gives the list back. IRQL ≤ DISPATCH_LEVEL.
    pub fn complete(self, status: NdisStatus) {
        let (list, adapter) = (self.list, self.adapter);
        core::mem::forget(self);
        // SAFETY: the list was this value's, which is gone now.
        unsafe { give_back(list, adapter, status) };
    }

    /// Divides the list's completion; the share is the only one at first.
    pub fn divide(self) -> Share {
        let (list, adapter) = (self.list, self.adapter);
        core::mem::forget(self);
        // SAFETY: the list is owned, and these fields are the miniport's while it is.
        let fields = unsafe { &mut *list.as_ptr() };
        fields.MiniportReserved = [core::ptr::without_provenance_mut(1), core::ptr::null_mut()];
        fields.Scratch = core::ptr::null_mut();
        fields.Status = NDIS_STATUS_SUCCESS;
        Share { list, adapter }
    }
}

impl Drop for SendList {
    fn drop(&mut self) {
        // SAFETY: the list is this value's, which ends here.
        unsafe { give_back(self.list, self.adapter, NdisStatus::FAILURE) };
    }
}

/// # Safety
/// The list is owned, and not used by the caller any more.
unsafe fn give_back(list: NonNull<NET_BUFFER_LIST>, adapter: Adapter, status: NdisStatus) {
    // SAFETY: the caller's duty.
    let fields = unsafe { &mut *list.as_ptr() };
    fields.Status = status.0;
    let flags = if Irql::current() >= Irql::DISPATCH {
        NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL
    } else {
        0
    };
    // SAFETY: a list of this adapter's, given back once.
    unsafe { NdisMSendNetBufferListsComplete(adapter.as_ptr(), list.as_ptr(), flags) };
}

/// A claim on a list whose completion was divided. Dropping it ends it as failed.
#[must_use = "a share that is dropped ends as failed"]
#[derive(Debug)]
pub struct Share {
    list: NonNull<NET_BUFFER_LIST>,
    adapter: Adapter,
}

// SAFETY: shares count themselves with atomics, and may end on any processor.
unsafe impl Send for Share {}

impl Share {
    fn count(&self) -> &AtomicU64 {
        // SAFETY: a share keeps the list live.
        let place = unsafe { (&raw mut (*self.list.as_ptr()).MiniportReserved).cast::<u64>() };
        // SAFETY: aligned, the miniport's, and reached by shares only, all of them this way.
        unsafe { AtomicU64::from_ptr(place) }
    }

    fn status(&self) -> &AtomicI32 {
        // SAFETY: as above.
        let place = unsafe { &raw mut (*self.list.as_ptr()).Status };
        // SAFETY: as above.
        unsafe { AtomicI32::from_ptr(place) }
    }

    fn payload(&self) -> &AtomicU32 {
        // SAFETY: as above.
        let place = unsafe { (&raw mut (*self.list.as_ptr()).Scratch).cast::<u32>() };
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(place) }
    }

    /// Whose list it is.
    pub fn adapter(&self) -> Adapter {
        self.adapter
    }

    /// One more share.
    pub fn another(&self) -> Share {
        self.count().fetch_add(1, Ordering::Relaxed);
        Share {
            list: self.list,
            adapter: self.adapter,
        }
    }

    /// The frames, in their order, as long as this share lives.
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            // SAFETY: a share keeps the list live; NDIS does not change it.
            next: unsafe { (*self.list.as_ptr()).FirstNetBuffer },
            _list: PhantomData,
        }
    }

    /// The share as a number, for who keeps it with a frame.
    pub fn into_raw(self) -> *mut core::ffi::c_void {
        let raw = self.list.as_ptr().cast();
        core::mem::forget(self);
        raw
    }

    /// # Safety
    /// `raw` is [`Share::into_raw`]'s, of a list of `adapter`'s, and made a share again once.
    pub unsafe fn from_raw(raw: *mut core::ffi::c_void, adapter: Adapter) -> Option<Share> {
        NonNull::new(raw.cast()).map(|list| Share { list, adapter })
    }

    /// Ends the share: the frame was sent, with `payload` bytes of TCP's. IRQL ≤ DISPATCH_LEVEL. Whether it was the last,
    /// so that the list went back to NDIS.
    pub fn sent(self, payload: u32) -> bool {
        self.payload().fetch_add(payload, Ordering::Relaxed);
        self.finish()
    }

    /// Ends the share: the list gets `status`, unless it has one already. IRQL ≤ DISPATCH_LEVEL. As [`Share::sent`].
    pub fn failed(self, status: NdisStatus) -> bool {
        // Only the first one counts; so the outcome of the exchange does not matter.
        let _ = self.status().compare_exchange(
            NDIS_STATUS_SUCCESS,
            status.0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        self.finish()
    }

    fn finish(self) -> bool {
        let (list, adapter) = (self.list, self.adapter);
        let left = self.count().fetch_sub(1, Ordering::AcqRel);
        let last = (left == 1).then(|| {
            (
                NdisStatus(self.status().load(Ordering::Relaxed)),
                self.payload().load(Ordering::Relaxed),
            )
        });
        core::mem::forget(self);
        let Some((status, payload)) = last else {
            return false;
        };
        // SAFETY: the last share is gone, so the list is ours alone.
        let fields = unsafe { &mut *list.as_ptr() };
        if let Some(slot) = fields
            .NetBufferListInfo
            .get_mut(TcpLargeSendNetBufferListInfo)
        {
            let said = LargeSend(*slot as usize as u32);
            if said.0 != 0 {
                let answer = match said.version() {
                    NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE => LargeSend::v1_complete(payload),
                    _ => LargeSend::v2_complete(),
                };
                *slot = core::ptr::without_provenance_mut(answer.0 as usize);
            }
        }
        // SAFETY: as above.
        unsafe { give_back(list, adapter, status) };
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let share = Share {
            list: self.list,
            adapter: self.adapter,
        };
        share.failed(NdisStatus::FAILURE);
    }
}

/// The frames of a list.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    next: *const NET_BUFFER,
    _list: PhantomData<&'a NET_BUFFER>,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        // SAFETY: the buffers live as long as their list, which NDIS does not change while it is the miniport's.
        let buffer = unsafe { self.next.as_ref() }?;
        self.next = buffer.Next;
        Some(Frame { buffer })
    }
}

/// A frame to be sent: bytes in a chain of MDLs.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    buffer: &'a NET_BUFFER,
}

impl Frame<'_> {
    /// The MDL in which it begins; may be null.
    pub fn mdl(&self) -> *mut MDL {
        self.buffer.CurrentMdl
    }

    /// Where it begins there, in bytes.
    pub fn offset(&self) -> u32 {
        self.buffer.CurrentMdlOffset
    }

    /// Bytes.
    pub fn length(&self) -> u32 {
        self.buffer.DataLength
    }
}
