//! Frames to be sent: a list of the host's own with the frame's memory, laid out in MDLs as the sender wants.
//!
//! ```text
//!   Layout { offset: 6, pieces: [20, 0, 34] }     memory: ......ffffffffffffff|ffff…  MDLs: 20, 0, 34, rest
//! ```
//! Memory is used again and again: a cache for each usual size.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use nt_host::mm::frames;
use nt_host::mm::mdl::MmUnmapLockedPages;
use nt_host::platform::PAGE_SIZE;
use nt_host::sync::{Mutex, Once};
use nt_sys::ndis::{
    Ieee8021Q, Ieee8021QNetBufferListInfo, LargeSend, NET_BUFFER, NET_BUFFER_LIST,
    NetBufferListHashInfo, NetBufferListHashValue, TcpIpChecksumNetBufferListInfo,
    TcpLargeSendNetBufferListInfo, TransmitChecksum, UdpSegmentation, UdpSegmentationOffloadInfo,
};
use nt_sys::{MDL, MDL_ALLOCATED_FIXED_SIZE, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, PVOID};

use crate::adapter::Adapter;
use crate::block::Block;
use crate::data;
use crate::pool::Pool;

/// How a frame lies in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Bytes in front of the frame.
    pub offset: usize,
    /// Lengths of the MDLs from the start of the memory, the bytes in front included; 0 is an MDL without bytes. One more
    /// has the rest.
    pub pieces: Vec<usize>,
    /// Each MDL starts on a page of its own; else they adjoin.
    pub apart: bool,
}

/// Checksums that the adapter is to fill in. The fields hold the sums of the pseudo-headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// 4 or 6.
    pub ip_version: u8,
    /// The IPv4 header's.
    pub ip_header: bool,
    /// TCP's.
    pub tcp: bool,
    /// UDP's.
    pub udp: bool,
    /// From the frame's start to TCP or UDP.
    pub transport_offset: u16,
}

/// A frame that the adapter is to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segmentation {
    /// Large send version 1: IPv4.
    LsoV1 {
        /// Bytes of payload of a segment.
        mss: u32,
        /// From the frame's start to TCP.
        tcp_offset: u16,
    },
    /// Large send version 2.
    LsoV2 {
        /// Bytes of payload of a segment.
        mss: u32,
        /// From the frame's start to TCP.
        tcp_offset: u16,
        /// 4 or 6.
        ip_version: u8,
    },
    /// UDP segmentation.
    Uso {
        /// Bytes of payload of a datagram.
        mss: u32,
        /// From the frame's start to UDP.
        udp_offset: u16,
        /// 4 or 6.
        ip_version: u8,
    },
}

/// Priority and VLAN beside a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// 0 to 7.
    pub priority: u8,
    /// The canonical format indicator.
    pub cfi: bool,
    /// 0 to 4095; 0 is none.
    pub vlan: u16,
}

impl Tag {
    pub(crate) fn to_info(self) -> u32 {
        Ieee8021Q::new(self.priority.into(), self.cfi.into(), self.vlan.into()).0
    }

    pub(crate) fn from_info(word: u32) -> Option<Self> {
        let tag = Ieee8021Q(word);
        (word != 0).then_some(Self {
            priority: tag.priority() as u8,
            cfi: tag.canonical_format() != 0,
            vlan: tag.vlan() as u16,
        })
    }
}

/// A frame's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash {
    /// NdisHashFunction*.
    pub function: u8,
    /// NDIS_HASH_*.
    pub kind: u32,
    /// The value.
    pub value: u32,
}

/// A frame's memory.
pub struct Memory {
    first: frames::Frame,
    pages: usize,
    /// MDLs with their page numbers, one after the other.
    mdls: Vec<u64>,
    /// The memory of each MDL: start and bytes.
    extents: Vec<(usize, usize)>,
    /// Bytes in front of the frame.
    offset: usize,
    /// Most bytes of the frame.
    capacity: usize,
    /// Lists whose NET_BUFFERs were appended to this one.
    appended: Vec<usize>,
    /// Its MDLs say that it is locked and mapped nowhere.
    unmapped: bool,
}

/// Pages of the usual sizes: an Ethernet frame, a jumbo frame, a large send.
const CLASSES: [usize; 3] = [1, 3, 17];

/// Lists with memory that are not in use.
pub struct Cache {
    pool: Once<&'static Pool>,
    free: [Mutex<Vec<usize>>; CLASSES.len()],
}

impl Cache {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            pool: Once::new(),
            free: [const { Mutex::new(Vec::new()) }; CLASSES.len()],
        }
    }

    fn pool(&self) -> Option<&'static Pool> {
        if let Some(pool) = self.pool.get() {
            return Some(pool);
        }
        self.pool.set(Pool::of_host()?);
        self.pool.get().copied()
    }

    fn take(&self, pages: usize) -> Option<NonNull<Block>> {
        let class = CLASSES.iter().position(|&class| class >= pages);
        let free = class.and_then(|class| self.free[class].lock().pop());
        if let Some(block) = free.and_then(|block| NonNull::new(block as *mut Block)) {
            // SAFETY: a list that nobody has.
            unsafe { (*block.as_ptr()).revive() };
            return Some(block);
        }
        let pages = class.map_or(pages, |class| CLASSES[class]);
        let first = frames::allocate(pages as u64)?;
        let Some(block) = Block::allocate(self.pool()?) else {
            frames::free(first, pages as u64);
            return None;
        };
        // SAFETY: a fresh list.
        let fields = unsafe { &mut *block.as_ptr() };
        fields.frame = Some(Memory {
            first,
            pages,
            mdls: Vec::new(),
            extents: Vec::new(),
            offset: 0,
            capacity: 0,
            appended: Vec::new(),
            unmapped: false,
        });
        fields.revive();
        Some(block)
    }

    /// A list comes back that nobody has any more, with those that were appended to it.
    pub fn give(&self, block: NonNull<Block>) {
        // SAFETY: nobody else has it.
        let fields = unsafe { &mut *block.as_ptr() };
        let appended = match &mut fields.frame {
            Some(memory) => {
                memory.end_mappings();
                core::mem::take(&mut memory.appended)
            }
            None => Vec::new(),
        };
        fields.retire();
        let pages = fields.frame.as_ref().map_or(0, |memory| memory.pages);
        match CLASSES.iter().position(|&class| class == pages) {
            Some(class) => self.free[class].lock().push(block.as_ptr() as usize),
            None => release(block),
        }
        for other in appended {
            if let Some(other) = NonNull::new(other as *mut Block) {
                self.give(other);
            }
        }
    }

    /// Gives all memory back; nothing is under way.
    pub fn empty(&self) {
        for free in &self.free {
            let blocks = core::mem::take(&mut *free.lock());
            blocks
                .into_iter()
                .filter_map(|block| NonNull::new(block as *mut Block))
                .for_each(release);
        }
    }
}

/// Gives the memory of a list back that nobody has.
fn release(block: NonNull<Block>) {
    // SAFETY: nobody has it.
    if let Some(memory) = unsafe { (*block.as_ptr()).frame.take() } {
        frames::free(memory.first, memory.pages as u64);
    }
    // SAFETY: allocated by `Block::allocate`.
    unsafe { nt_host::mm::pool::free(block.cast()) };
}

/// A frame to be sent; its memory goes back when it is dropped.
pub struct Packet {
    block: NonNull<Block>,
    adapter: &'static Adapter,
    /// What the sender is told when it is sent.
    pub tag: u64,
}

// SAFETY: whoever has the packet is the only one to use its list.
unsafe impl Send for Packet {}

impl Adapter {
    /// Memory for a frame of at most `capacity` bytes; `None` without memory. From any thread.
    pub fn packet(&'static self, capacity: usize, layout: &Layout) -> Option<Packet> {
        let lengths = lengths(capacity, layout);
        let pages = match layout.apart {
            true => lengths
                .iter()
                .map(|length| length.div_ceil(PAGE_SIZE))
                .sum(),
            false => (layout.offset + capacity).div_ceil(PAGE_SIZE),
        };
        let block = self.cache.take(usize::max(pages, 1))?;
        let packet = Packet {
            block,
            adapter: self,
            tag: 0,
        };
        // SAFETY: just taken.
        let fields = unsafe { &mut *block.as_ptr() };
        let memory = fields.frame.as_mut()?;
        let chain = memory.lay_out(capacity, layout, &lengths);
        // SAFETY: the chain was just written.
        unsafe { fields.buffer.describe(chain, layout.offset as u32, 0) };
        Some(packet)
    }
}

/// Lengths of all MDLs.
fn lengths(capacity: usize, layout: &Layout) -> Vec<usize> {
    let mut left = layout.offset + capacity;
    let mut lengths = Vec::with_capacity(layout.pieces.len() + 1);
    for &piece in &layout.pieces {
        let piece = piece.min(left);
        lengths.push(piece);
        left -= piece;
    }
    lengths.push(left);
    lengths
}

impl Memory {
    fn lay_out(&mut self, capacity: usize, layout: &Layout, lengths: &[usize]) -> *mut MDL {
        self.offset = layout.offset;
        self.capacity = capacity;
        self.unmapped = false;
        self.extents.clear();
        let mut at = frames::address(self.first).as_ptr() as usize;
        let mut words = 0;
        for &length in lengths {
            self.extents.push((at, length));
            words += words_of(at, length);
            at += length;
            if layout.apart {
                at = at.next_multiple_of(PAGE_SIZE);
            }
        }
        if self.mdls.len() < words {
            self.mdls.resize(words, 0);
        }
        let start = self.mdls.as_mut_ptr();
        let (mut place, mut before): (_, *mut MDL) = (0, core::ptr::null_mut());
        for &(at, length) in &self.extents {
            let mdl = start.wrapping_add(place).cast::<MDL>();
            // SAFETY: `mdls` has room for all of them.
            unsafe { data::write_mdl(mdl, at as *mut u8, length as u32) };
            if !before.is_null() {
                // SAFETY: the one just before, in the same memory.
                unsafe { (*before).Next = mdl };
            }
            before = mdl;
            place += words_of(at, length);
        }
        start.cast()
    }
}

impl Memory {
    /// Calls `act` with each MDL.
    fn for_each_mdl(&mut self, mut act: impl FnMut(*mut MDL)) {
        let mut mdl = self.mdls.as_mut_ptr().cast::<MDL>();
        for _ in &self.extents {
            act(mdl);
            // SAFETY: `lay_out` chained them, as many as there are extents.
            mdl = unsafe { (*mdl).Next };
        }
    }

    /// Ends the mappings that drivers made; nobody uses them any more.
    fn end_mappings(&mut self) {
        if !core::mem::take(&mut self.unmapped) {
            return;
        }
        self.for_each_mdl(|mdl| {
            // SAFETY: one of the frame's MDLs.
            let MDL {
                MdlFlags,
                MappedSystemVa,
                ..
            } = unsafe { *mdl };
            if MdlFlags & MDL_MAPPED_TO_SYSTEM_VA != 0 {
                // SAFETY: the MDL says where it is mapped.
                unsafe { MmUnmapLockedPages(MappedSystemVa, mdl) };
            }
        });
    }
}

/// Words of an MDL with the numbers of its pages.
fn words_of(at: usize, length: usize) -> usize {
    size_of::<MDL>() / 8 + (at % PAGE_SIZE + length).div_ceil(PAGE_SIZE)
}

impl Packet {
    fn fields(&mut self) -> &mut Block {
        // SAFETY: the packet's own list.
        unsafe { self.block.as_mut() }
    }

    /// The room for the frame, where it is in one piece.
    pub fn bytes(&mut self) -> Option<&mut [u8]> {
        let memory = self.fields().frame.as_ref()?;
        let [(start, _)] = memory.extents[..] else {
            return None;
        };
        let start = (start + memory.offset) as *mut u8;
        // SAFETY: the packet's own memory, which is that long.
        Some(unsafe { core::slice::from_raw_parts_mut(start, memory.capacity) })
    }

    /// The frame has so many bytes, of those that there is room for.
    pub fn set_len(&mut self, len: usize) {
        let fields = self.fields();
        let most = fields.frame.as_ref().map_or(0, |memory| memory.capacity);
        fields.buffer.nb.DataLength = len.min(most) as u32;
    }

    /// Copies a frame in; `false` if there is no room for it.
    pub fn fill(&mut self, frame: &[u8]) -> bool {
        let fields = self.fields();
        let Some(memory) = fields
            .frame
            .as_ref()
            .filter(|memory| memory.capacity >= frame.len())
        else {
            return false;
        };
        let (mut skip, mut rest) = (memory.offset, frame);
        for &(start, length) in &memory.extents {
            let from = skip.min(length);
            skip -= from;
            let (now, later) = rest.split_at((length - from).min(rest.len()));
            let to = (start + from) as *mut u8;
            // SAFETY: the packet's own memory, which is that long.
            unsafe { to.copy_from_nonoverlapping(now.as_ptr(), now.len()) };
            rest = later;
        }
        self.set_len(frame.len());
        true
    }

    /// From now on its memory is locked and mapped nowhere, as a program's is: who wants to see it has to map it.
    pub fn unmap(&mut self) {
        if let Some(memory) = &mut self.fields().frame {
            memory.unmapped = true;
            memory.for_each_mdl(|mdl| {
                // SAFETY: one of the frame's MDLs.
                let fields = unsafe { &mut *mdl };
                fields.MdlFlags = MDL_ALLOCATED_FIXED_SIZE | MDL_PAGES_LOCKED;
                fields.MappedSystemVa = core::ptr::null_mut();
            });
        }
    }

    fn info(&mut self, slot: usize, word: u32) {
        self.fields().nbl.NetBufferListInfo[slot] = word as usize as PVOID;
    }

    /// Asks for checksums.
    pub fn set_checksum(&mut self, asked: Checksum) {
        let mut bits = match asked.ip_version {
            6 => TransmitChecksum::IS_IPV6,
            _ => TransmitChecksum::IS_IPV4,
        };
        for (wanted, bit) in [
            (asked.ip_header, TransmitChecksum::IP_HEADER_CHECKSUM),
            (asked.tcp, TransmitChecksum::TCP_CHECKSUM),
            (asked.udp, TransmitChecksum::UDP_CHECKSUM),
        ] {
            if wanted {
                bits |= bit;
            }
        }
        let word = TransmitChecksum(bits).with_tcp_header_offset(asked.transport_offset.into());
        self.info(TcpIpChecksumNetBufferListInfo, word.0);
    }

    /// Asks for segmentation.
    pub fn set_segmentation(&mut self, asked: Segmentation) {
        let version = |ip_version| u32::from(ip_version == 6);
        match asked {
            Segmentation::LsoV1 { mss, tcp_offset } => {
                let word = LargeSend::v1(mss, tcp_offset.into());
                self.info(TcpLargeSendNetBufferListInfo, word.0);
            }
            Segmentation::LsoV2 {
                mss,
                tcp_offset,
                ip_version,
            } => {
                let word = LargeSend::v2(mss, tcp_offset.into(), version(ip_version));
                self.info(TcpLargeSendNetBufferListInfo, word.0);
            }
            Segmentation::Uso {
                mss,
                udp_offset,
                ip_version,
            } => {
                let word = UdpSegmentation::new(mss, udp_offset.into(), version(ip_version));
                self.info(UdpSegmentationOffloadInfo, word.0);
            }
        }
    }

    /// Gives it a priority and a VLAN.
    pub fn set_8021q(&mut self, tag: Tag) {
        self.info(Ieee8021QNetBufferListInfo, tag.to_info());
    }

    /// Says what its hash is.
    pub fn set_hash(&mut self, hash: Hash) {
        self.info(NetBufferListHashInfo, u32::from(hash.function) | hash.kind);
        self.info(NetBufferListHashValue, hash.value);
    }

    /// The list as the miniport will see it, for tests of what this API does not offer.
    pub fn list(&mut self) -> *mut NET_BUFFER_LIST {
        &raw mut self.fields().nbl
    }

    /// One more frame for the same list; what is said beside `other` is forgotten.
    pub fn append(&mut self, other: Packet) {
        let other = other.into_block();
        // SAFETY: the other packet's own list.
        let nb: *mut NET_BUFFER = unsafe { &raw mut (*other.as_ptr()).buffer.nb };
        let fields = self.fields();
        let mut last = &raw mut fields.buffer.nb;
        // SAFETY: NET_BUFFERs of this packet.
        while let Some(next) = NonNull::new(unsafe { (*last).Next }) {
            last = next.as_ptr();
        }
        // SAFETY: as above.
        unsafe { (*last).Next = nb };
        if let Some(memory) = &mut fields.frame {
            memory.appended.push(other.as_ptr() as usize);
        }
    }

    /// The list behind it, which is the caller's now.
    pub(crate) fn into_block(self) -> NonNull<Block> {
        ManuallyDrop::new(self).block
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        self.adapter.cache.give(self.block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mdl_has_what_the_others_leave() {
        let layout = |offset, pieces: &[usize]| Layout {
            offset,
            pieces: pieces.to_vec(),
            apart: false,
        };
        assert_eq!(lengths(60, &layout(0, &[])), [60]);
        assert_eq!(lengths(60, &layout(6, &[20, 0, 34])), [20, 0, 34, 12]);
        assert_eq!(lengths(10, &layout(0, &[14, 20])), [10, 0, 0]);
    }

    #[test]
    fn a_tag_is_read_as_it_was_written() {
        let tag = Tag {
            priority: 5,
            cfi: true,
            vlan: 4094,
        };
        assert_eq!(Tag::from_info(tag.to_info()), Some(tag));
        assert_eq!(Tag::from_info(0), None);
    }
}
