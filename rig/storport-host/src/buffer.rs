//! Memory for transfers: pages of guest RAM, not necessarily next to each other.

use alloc::vec::Vec;

use nt_host::mm::frames::{self, Frame};
use nt_host::platform::PAGE_SIZE;

/// Pages of guest RAM with a length in bytes. The machine's memory manager gets them back when it is dropped.
pub struct DmaBuffer {
    pages: Vec<Frame>,
    /// Where it begins in its first page.
    offset: usize,
    length: usize,
}

impl DmaBuffer {
    /// A buffer of `length` bytes, contents undefined; none without memory.
    pub fn new(length: usize) -> Option<Self> {
        let count = length.div_ceil(PAGE_SIZE);
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).ok()?;
        let mut buffer = Self {
            pages,
            offset: 0,
            length,
        };
        // Page by page: what comes back from earlier use is scattered, as a real system's memory is.
        for _ in 0..count {
            buffer.pages.push(frames::allocate(1)?);
        }
        Some(buffer)
    }

    /// A buffer of `length` bytes that begins `offset` bytes into a page, as that of a program may: in pages that lie next
    /// to each other, as its mapping in the system's address space shows them.
    pub fn at(offset: usize, length: usize) -> Option<Self> {
        let count = length.checked_add(offset)?.div_ceil(PAGE_SIZE);
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).ok()?;
        let first = frames::allocate(count as u64)?;
        pages.extend((0..count as u64).map(|page| first.saturating_add(page)));
        Some(Self {
            pages,
            offset: offset % PAGE_SIZE,
            length,
        })
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Its memory in order, a piece per page.
    pub fn pieces(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.extents().map(|(page, start, length)| {
            let address = frames::address(page).as_ptr().wrapping_add(start);
            // SAFETY: the frame is this buffer's alone, so the pieces of one buffer never overlap.
            unsafe { core::slice::from_raw_parts_mut(address, length) }
        })
    }

    /// The part of each page that is its: page, first byte, bytes.
    pub(crate) fn extents(&self) -> impl Iterator<Item = (Frame, usize, usize)> {
        let mut left = self.length;
        let mut start = self.offset;
        self.pages.iter().map(move |page| {
            let length = left.min(PAGE_SIZE.saturating_sub(start));
            left = left.saturating_sub(length);
            (*page, core::mem::take(&mut start), length)
        })
    }

    /// Copies its bytes out.
    pub fn to_vec(&mut self) -> Vec<u8> {
        self.pieces().flat_map(|piece| piece.to_vec()).collect()
    }

    /// Copies bytes in, as many as fit.
    pub fn fill(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        for piece in self.pieces() {
            let Some((now, later)) = bytes.split_at_checked(piece.len().min(bytes.len())) else {
                return;
            };
            piece[..now.len()].copy_from_slice(now);
            bytes = later;
        }
    }

    /// Sets every byte to zero.
    pub fn clear(&mut self) {
        self.pieces().for_each(|piece| piece.fill(0));
    }

    /// Its pages.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.pages
    }

    /// Its first page's number, for a trace.
    pub(crate) fn first_page(&self) -> u64 {
        self.pages.first().copied().unwrap_or(0)
    }

    /// Its address in the kernel, as far as its pages are next to each other: for small buffers.
    pub(crate) fn address(&self) -> *mut u8 {
        self.pages.first().map_or(core::ptr::null_mut(), |page| {
            frames::address(*page).as_ptr().wrapping_add(self.offset)
        })
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        for page in &self.pages {
            frames::free(*page, 1);
        }
    }
}
