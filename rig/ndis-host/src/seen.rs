//! What a list looked like when it was handed over: whoever has it may use it, and gives it back as it was.

use nt_sys::MDL;
use nt_sys::ndis::{NET_BUFFER, NET_BUFFER_LIST};

use crate::data;

/// Elements of a chain that are looked at; what is longer is a circle.
const MOST: usize = 8192;

/// Bytes of a frame that are looked at: its headers, which are what drivers are tempted to write.
const BYTES: usize = 128;

/// A summary of a list: of itself, of its NET_BUFFERs, of their MDLs, of the first bytes of their data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    list: u64,
    buffers: u64,
    mdls: u64,
    data: u64,
}

#[inline]
fn mix(sum: &mut u64, word: u64) {
    // An odd number with bits all over: the golden ratio.
    *sum = (*sum ^ word)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29);
}

impl Seen {
    /// What a list looks like now.
    ///
    /// # Safety
    /// `nbl` is a list whose NET_BUFFERs and MDLs are valid.
    #[inline]
    pub unsafe fn of(nbl: *const NET_BUFFER_LIST) -> Self {
        let mut seen = Self::default();
        // SAFETY: the caller's promise.
        let list = unsafe { &*nbl };
        for word in [
            list.FirstNetBuffer as u64,
            list.Context as u64,
            list.ParentNetBufferList as u64,
            list.NdisPoolHandle as u64,
            list.SourceHandle as u64,
        ] {
            mix(&mut seen.list, word);
        }
        for word in list.NdisReserved.iter().chain(&list.ProtocolReserved) {
            mix(&mut seen.list, *word as u64);
        }
        let mut next = list.FirstNetBuffer;
        for _ in 0..MOST {
            // SAFETY: the caller's promise.
            let Some(buffer) = (unsafe { next.as_ref() }) else {
                break;
            };
            seen.buffer(next, buffer);
            next = buffer.Next;
        }
        seen
    }

    #[inline]
    fn buffer(&mut self, at: *const NET_BUFFER, buffer: &NET_BUFFER) {
        for word in [
            at as u64,
            buffer.Next as u64,
            buffer.CurrentMdl as u64,
            u64::from(buffer.CurrentMdlOffset) << 32 | u64::from(buffer.DataLength),
            buffer.MdlChain as u64,
            u64::from(buffer.DataOffset),
            buffer.NdisPoolHandle as u64,
        ] {
            mix(&mut self.buffers, word);
        }
        for word in buffer.NdisReserved.iter().chain(&buffer.ProtocolReserved) {
            mix(&mut self.buffers, *word as u64);
        }
        let mut bytes = [0; BYTES];
        // SAFETY: a NET_BUFFER with its chain is valid.
        let count = unsafe { data::copy_out(buffer, &mut bytes) };
        for word in bytes[..count.min(BYTES)].chunks(8) {
            let mut whole = [0; 8];
            whole[..word.len()].copy_from_slice(word);
            mix(&mut self.data, u64::from_le_bytes(whole));
        }
        let mut next: *const MDL = buffer.MdlChain;
        for _ in 0..MOST {
            // SAFETY: a NET_BUFFER's chain is valid.
            let Some(mdl) = (unsafe { next.as_ref() }) else {
                break;
            };
            // Flags and mapping change when it is mapped, which is allowed.
            for word in [
                next as u64,
                mdl.Next as u64,
                u64::from(mdl.ByteCount) << 32 | u64::from(mdl.ByteOffset),
                mdl.StartVa as u64,
            ] {
                mix(&mut self.mdls, word);
            }
            next = mdl.Next;
        }
    }

    /// What is not as it was, for people.
    pub fn difference(&self, before: &Self) -> Option<&'static str> {
        match () {
            () if self.list != before.list => Some("the list itself"),
            () if self.buffers != before.buffers => Some("its NET_BUFFERs"),
            () if self.mdls != before.mdls => Some("its MDLs"),
            () if self.data != before.data => Some("its data"),
            () => None,
        }
    }
}
