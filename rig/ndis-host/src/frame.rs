//! Frames that were received, as the protocol sees them: one indication's, and those that it keeps.

use alloc::boxed::Box;
use core::cell::Cell;
use core::mem::ManuallyDrop;
use core::ptr::{NonNull, null_mut};

use nt_host::sync::Mutex;
use nt_host::{host, ke};
use nt_sys::ndis::{
    Coalesced, Ieee8021QNetBufferListInfo, NDIS_HASH_FUNCTION_MASK, NET_BUFFER, NET_BUFFER_LIST,
    NetBufferListHashInfo, NetBufferListHashValue, ReceiveChecksum, TcpIpChecksumNetBufferListInfo,
    TcpRecvSegCoalesceInfo,
};

use crate::adapter::Adapter;
use crate::packet::{Hash, Tag};
use crate::{data, receive};

/// What the adapter found of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did not look.
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
}

/// What the adapter found of a frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxChecksum {
    /// The IPv4 header's.
    pub ip: Verdict,
    /// TCP's.
    pub tcp: Verdict,
    /// UDP's.
    pub udp: Verdict,
}

/// What a unit of coalesced segments was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rsc {
    /// Segments.
    pub segments: u16,
    /// Duplicate acknowledgements among them.
    pub duplicate_acks: u16,
}

/// What one indication brings, until the protocol has seen it.
pub(crate) struct Batch {
    adapter: &'static Adapter,
    /// They are only lent: the miniport takes them back when its call returns.
    lent: bool,
    next: Cell<*mut NET_BUFFER_LIST>,
    /// What goes back at once.
    back: Cell<*mut NET_BUFFER_LIST>,
    back_count: Cell<usize>,
}

impl Batch {
    pub fn new(adapter: &'static Adapter, lists: *mut NET_BUFFER_LIST, lent: bool) -> Self {
        Self {
            adapter,
            lent,
            next: Cell::new(lists),
            back: Cell::new(null_mut()),
            back_count: Cell::new(0),
        }
    }

    /// The next list, out of its chain.
    fn pop(&self) -> Option<NonNull<NET_BUFFER_LIST>> {
        let list = NonNull::new(self.next.get())?;
        // SAFETY: lists of the indication, which are the protocol's now.
        self.next.set(unsafe { (*list.as_ptr()).Next });
        Some(list)
    }

    /// A list goes back when the protocol has seen them all.
    fn put_back(&self, list: NonNull<NET_BUFFER_LIST>) {
        if self.lent {
            return;
        }
        // SAFETY: as above.
        unsafe { (*list.as_ptr()).Next = self.back.get() };
        self.back.set(list.as_ptr());
        self.back_count.set(self.back_count.get() + 1);
    }

    /// What goes back, in the order in which it came; what nobody has asked for is among it.
    pub fn finish(&self) -> (*mut NET_BUFFER_LIST, usize) {
        while let Some(list) = self.pop() {
            self.put_back(list);
        }
        let (mut chain, mut next) = (null_mut(), self.back.replace(null_mut()));
        while let Some(list) = NonNull::new(next) {
            // SAFETY: as above.
            let fields = unsafe { &mut *list.as_ptr() };
            next = core::mem::replace(&mut fields.Next, chain);
            chain = list.as_ptr();
        }
        (chain, self.back_count.get())
    }
}

/// The frames of one indication, in order.
pub struct Received<'a> {
    batch: &'a Batch,
}

impl<'a> Received<'a> {
    pub(crate) fn new(batch: &'a Batch) -> Self {
        Self { batch }
    }

    /// Whether the frames must be copied, since the miniport takes them back at once.
    pub fn is_lent(&self) -> bool {
        self.batch.lent
    }
}

impl<'a> Iterator for Received<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let list = self.batch.pop()?;
        Some(Frame {
            view: View(list),
            batch: self.batch,
        })
    }
}

/// A list with one frame that the protocol has.
struct View(NonNull<NET_BUFFER_LIST>);

impl View {
    fn word(&self, slot: usize) -> u32 {
        // SAFETY: the protocol has the list.
        let list = unsafe { self.0.as_ref() };
        list.NetBufferListInfo[slot] as usize as u32
    }

    fn buffer(&self) -> &NET_BUFFER {
        // SAFETY: the protocol has the list.
        let first = unsafe { self.0.as_ref() }.FirstNetBuffer;
        // SAFETY: the indication was checked to have a NET_BUFFER.
        unsafe { &*first }
    }

    fn len(&self) -> usize {
        self.buffer().DataLength as usize
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        // SAFETY: the MDLs were found to hold the data.
        let pieces = unsafe { data::of(self.buffer()) };
        // SAFETY: memory of the frame, which stays while the protocol has the list.
        pieces.map(|(start, count)| unsafe { core::slice::from_raw_parts(start, count) })
    }

    fn copy_to(&self, out: &mut [u8]) -> usize {
        // SAFETY: as above.
        unsafe { data::copy_out(self.buffer(), out) }
    }

    fn checksum(&self) -> RxChecksum {
        let found = ReceiveChecksum(self.word(TcpIpChecksumNetBufferListInfo));
        let verdict = |good, bad| match (found.has(good), found.has(bad)) {
            (true, _) => Verdict::Good,
            (_, true) => Verdict::Bad,
            _ => Verdict::Unknown,
        };
        RxChecksum {
            ip: verdict(ReceiveChecksum::IP_SUCCEEDED, ReceiveChecksum::IP_FAILED),
            tcp: verdict(ReceiveChecksum::TCP_SUCCEEDED, ReceiveChecksum::TCP_FAILED),
            udp: verdict(ReceiveChecksum::UDP_SUCCEEDED, ReceiveChecksum::UDP_FAILED),
        }
    }

    fn rsc(&self) -> Option<Rsc> {
        let word = Coalesced(self.word(TcpRecvSegCoalesceInfo));
        (word.segments() != 0).then_some(Rsc {
            segments: word.segments(),
            duplicate_acks: word.duplicate_acks(),
        })
    }

    fn hash(&self) -> Option<Hash> {
        let info = self.word(NetBufferListHashInfo);
        (info & NDIS_HASH_FUNCTION_MASK != 0).then_some(Hash {
            function: info as u8,
            kind: info & !NDIS_HASH_FUNCTION_MASK,
            value: self.word(NetBufferListHashValue),
        })
    }
}

macro_rules! views {
    ($($of:tt)*) => {
        impl $($of)* {
            /// Its bytes in all.
            #[allow(clippy::len_without_is_empty, reason = "no frame is empty")]
            pub fn len(&self) -> usize {
                self.view.len()
            }

            /// Its bytes, in pieces as they lie.
            pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
                self.view.pieces()
            }

            /// Copies its first bytes; how many.
            pub fn copy_to(&self, out: &mut [u8]) -> usize {
                self.view.copy_to(out)
            }

            /// What the adapter found of its checksums.
            pub fn checksum(&self) -> RxChecksum {
                self.view.checksum()
            }

            /// What it was coalesced from, if it was.
            pub fn rsc(&self) -> Option<Rsc> {
                self.view.rsc()
            }

            /// Priority and VLAN, if the adapter took a tag out.
            pub fn tag_8021q(&self) -> Option<Tag> {
                Tag::from_info(self.view.word(Ieee8021QNetBufferListInfo))
            }

            /// Its hash, if the adapter gave one.
            pub fn hash(&self) -> Option<Hash> {
                self.view.hash()
            }
        }
    };
}

/// A received frame; dropped, it goes back when the indication ends.
pub struct Frame<'a> {
    view: View,
    batch: &'a Batch,
}

views!(Frame<'_>);

impl Frame<'_> {
    /// Keeps it beyond the indication; not if it is only lent.
    pub fn keep(self) -> Result<Kept, Self> {
        if self.batch.lent {
            return Err(self);
        }
        let frame = ManuallyDrop::new(self);
        // SAFETY: the frame is the protocol's, which gives it back by itself, without those that came behind it.
        unsafe { (*frame.view.0.as_ptr()).Next = null_mut() };
        Ok(Kept {
            view: View(frame.view.0),
            adapter: frame.batch.adapter,
        })
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.batch.put_back(self.view.0);
    }
}

/// A received frame that the protocol keeps; dropped, on any thread, it goes back to the miniport.
pub struct Kept {
    view: View,
    adapter: &'static Adapter,
}

views!(Kept);

// SAFETY: whoever has the frame is the only one to use its list.
unsafe impl Send for Kept {}

/// Frames that host threads give back, until a virtual CPU takes them.
static RETURNED: Mutex<Returned> = Mutex::new(Returned(alloc::vec::Vec::new()));

struct Returned(alloc::vec::Vec<(usize, &'static Adapter)>);

impl Drop for Kept {
    fn drop(&mut self) {
        let list = self.view.0;
        if host().platform().current_cpu().is_some() {
            return receive::give_back(self.adapter, list.as_ptr(), 1);
        }
        let mut returned = RETURNED.lock();
        let first = returned.0.is_empty();
        returned.0.push((list.as_ptr() as usize, self.adapter));
        drop(returned);
        if first {
            ke::inject(0, Box::new(take_returned));
        }
    }
}

/// Gives frames of host threads to their miniports, as many as there are of one adapter in a row at once.
fn take_returned() {
    let returned = core::mem::take(&mut RETURNED.lock().0);
    for run in returned.chunk_by(|a, b| core::ptr::eq(a.1, b.1)) {
        let mut chain: *mut NET_BUFFER_LIST = null_mut();
        for &(list, _) in run.iter().rev() {
            let list = list as *mut NET_BUFFER_LIST;
            // SAFETY: the frame was the protocol's until it was dropped.
            unsafe { (*list).Next = chain };
            chain = list;
        }
        if let Some(&(_, adapter)) = run.first() {
            receive::give_back(adapter, chain, run.len());
        }
    }
}
