//! The block protocol: operations, statuses, ring layout, requests. public/io/blkif.h, public/io/ring.h.
//!
//! ```text
//! byte 0        4          8         12        16 … 63   64          176
//!      req_prod | req_event | rsp_prod | rsp_event | pad | entry 0     | entry 1 …   entry = request (112) or response (16)
//! ```
//! A request is carried as [`Entry`], 28 words, so that it crosses shared memory word by word; [`Request`] is its form
//! after decoding, of which nothing has been checked but its shape.

use crate::Gref;

/// `BLKIF_OP_READ`.
pub const OP_READ: u8 = 0;
/// `BLKIF_OP_WRITE`.
pub const OP_WRITE: u8 = 1;
/// `BLKIF_OP_WRITE_BARRIER`.
pub const OP_WRITE_BARRIER: u8 = 2;
/// `BLKIF_OP_FLUSH_DISKCACHE`.
pub const OP_FLUSH_DISKCACHE: u8 = 3;
/// `BLKIF_OP_DISCARD`.
pub const OP_DISCARD: u8 = 5;
/// `BLKIF_OP_INDIRECT`.
pub const OP_INDIRECT: u8 = 6;

/// `BLKIF_RSP_OKAY`.
pub const RSP_OKAY: i16 = 0;
/// `BLKIF_RSP_ERROR`.
pub const RSP_ERROR: i16 = -1;
/// `BLKIF_RSP_EOPNOTSUPP`: the backend never supports this operation.
pub const RSP_EOPNOTSUPP: i16 = -2;

/// Key `info`: `VDISK_CDROM`.
pub const INFO_CDROM: u32 = 1;
/// Key `info`: `VDISK_REMOVABLE`.
pub const INFO_REMOVABLE: u32 = 2;
/// Key `info`: `VDISK_READONLY`.
pub const INFO_READONLY: u32 = 4;

/// `BLKIF_MAX_SEGMENTS_PER_REQUEST`.
pub const MAX_SEGMENTS: usize = 11;
/// `BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST`.
pub const MAX_INDIRECT_PAGES: usize = 8;
/// Segments of 8 bytes in an indirect page.
pub const SEGMENTS_PER_INDIRECT_PAGE: usize = 512;
/// `BLKIF_DISCARD_SECURE`, a bit of the discard request's flag.
pub const DISCARD_SECURE: u8 = 1;
/// Key `protocol`. public/io/protocols.h: `XEN_IO_PROTO_ABI_X86_64`.
pub const PROTOCOL_X86_64: &str = "x86_64-abi";
/// Largest ring: log2 of its pages, as xen-blkback and QEMU accept (`max-ring-page-order`).
pub const MAX_RING_PAGE_ORDER: u32 = 4;
/// Unit of sector numbers and counts in bytes (see the notes on `sector-size` in the header).
pub const SECTOR_SIZE: u32 = 512;

/// Words (32 bits) of the ring's header, by index: `req_prod`.
pub const RING_REQ_PROD: usize = 0;
/// `req_event`.
pub const RING_REQ_EVENT: usize = 1;
/// `rsp_prod`.
pub const RING_RSP_PROD: usize = 2;
/// `rsp_event`.
pub const RING_RSP_EVENT: usize = 3;
/// First word of entry 0.
pub const RING_ENTRIES: usize = 16;
/// Words in an entry.
pub const ENTRY_WORDS: usize = 28;
/// Words of a response, at the start of its entry.
pub const RESPONSE_WORDS: usize = 4;

/// Entries in a ring of 2^order pages: the largest power of two that fits. ring.h: `__RING_SIZE`.
pub const fn ring_entries(order: u32) -> u32 {
    let bytes = (crate::PAGE_SIZE << order) - RING_ENTRIES * 4;
    let entries = (bytes / (ENTRY_WORDS * 4)) as u32;
    1 << (31 - entries.leading_zeros())
}
const _: () = assert!(ring_entries(0) == 32 && ring_entries(1) == 64 && ring_entries(4) == 512);

/// A ring entry as its words.
pub type Entry = [u32; ENTRY_WORDS];

/// `struct blkif_request_segment`: part of one granted page, in sectors of 512 bytes, both ends inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The page.
    pub gref: Gref,
    /// First sector within the page, 0 to 7.
    pub first_sect: u8,
    /// Last sector within the page, 0 to 7.
    pub last_sect: u8,
}

impl Segment {
    /// As two words.
    pub const fn to_words(self) -> [u32; 2] {
        [
            self.gref.0,
            self.first_sect as u32 | (self.last_sect as u32) << 8,
        ]
    }

    /// From two words.
    pub const fn from_words(words: [u32; 2]) -> Self {
        Self {
            gref: Gref(words[0]),
            first_sect: words[1] as u8,
            last_sect: (words[1] >> 8) as u8,
        }
    }
}

/// The forms of `struct blkif_request`. Counts are as the sender wrote them and may exceed what the arrays hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read, write, barrier, flush: and every operation that has no form of its own.
    Direct {
        /// `OP_*`.
        operation: u8,
        /// Segments in use.
        nr_segments: u8,
        /// The virtual device's number, low 16 bits.
        handle: u16,
        /// Echoed in the response.
        id: u64,
        /// Where on the disk.
        sector: u64,
        /// The data.
        segments: [Segment; MAX_SEGMENTS],
    },
    /// `struct blkif_request_discard`.
    Discard {
        /// [`DISCARD_SECURE`].
        flag: u8,
        /// As above.
        handle: u16,
        /// As above.
        id: u64,
        /// First sector.
        sector: u64,
        /// How many.
        nr_sectors: u64,
    },
    /// `struct blkif_request_indirect`.
    Indirect {
        /// [`OP_READ`] or [`OP_WRITE`].
        indirect_op: u8,
        /// Segments, spread over the pages.
        nr_segments: u16,
        /// As above.
        handle: u16,
        /// As above.
        id: u64,
        /// Where on the disk.
        sector: u64,
        /// Pages of [`SEGMENTS_PER_INDIRECT_PAGE`] segments.
        pages: [Gref; MAX_INDIRECT_PAGES],
    },
}

impl Request {
    /// The whole entry; what the form does not use is 0.
    pub fn to_words(&self) -> Entry {
        let mut w = [0; ENTRY_WORDS];
        let (op, second, upper, id, sector) = match *self {
            Self::Direct {
                operation,
                nr_segments,
                handle,
                id,
                sector,
                ..
            } => (operation, nr_segments, handle, id, sector),
            Self::Discard {
                flag,
                handle,
                id,
                sector,
                ..
            } => (OP_DISCARD, flag, handle, id, sector),
            Self::Indirect {
                indirect_op,
                nr_segments,
                id,
                sector,
                ..
            } => (OP_INDIRECT, indirect_op, nr_segments, id, sector),
        };
        w[0] = u32::from(op) | u32::from(second) << 8 | u32::from(upper) << 16;
        [w[2], w[3]] = split(id);
        [w[4], w[5]] = split(sector);
        match self {
            Self::Direct { segments, .. } => {
                for (pair, segment) in w[6..].chunks_exact_mut(2).zip(segments) {
                    pair.copy_from_slice(&segment.to_words());
                }
            }
            Self::Discard { nr_sectors, .. } => [w[6], w[7]] = split(*nr_sectors),
            Self::Indirect { handle, pages, .. } => {
                w[6] = u32::from(*handle);
                for (word, page) in w[7..].iter_mut().zip(pages) {
                    *word = page.0;
                }
            }
        }
        w
    }

    /// Decodes any entry: the operation chooses the form.
    pub fn from_words(w: &Entry) -> Self {
        let (operation, second, upper) = (w[0] as u8, (w[0] >> 8) as u8, (w[0] >> 16) as u16);
        let (id, sector) = (join(w[2], w[3]), join(w[4], w[5]));
        match operation {
            OP_DISCARD => Self::Discard {
                flag: second,
                handle: upper,
                id,
                sector,
                nr_sectors: join(w[6], w[7]),
            },
            OP_INDIRECT => {
                let mut pages = [Gref(0); MAX_INDIRECT_PAGES];
                for (page, word) in pages.iter_mut().zip(&w[7..]) {
                    *page = Gref(*word);
                }
                Self::Indirect {
                    indirect_op: second,
                    nr_segments: upper,
                    handle: w[6] as u16,
                    id,
                    sector,
                    pages,
                }
            }
            _ => {
                let mut segments = [Segment::default(); MAX_SEGMENTS];
                for (segment, pair) in segments.iter_mut().zip(w[6..].chunks_exact(2)) {
                    *segment = Segment::from_words([pair[0], pair[1]]);
                }
                Self::Direct {
                    operation,
                    nr_segments: second,
                    handle: upper,
                    id,
                    sector,
                    segments,
                }
            }
        }
    }
}

/// `struct blkif_response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Of the request.
    pub id: u64,
    /// Of the request.
    pub operation: u8,
    /// `RSP_*`.
    pub status: i16,
}

impl Response {
    /// As words; padding is 0.
    pub const fn to_words(self) -> [u32; RESPONSE_WORDS] {
        let [low, high] = split(self.id);
        [
            low,
            high,
            self.operation as u32 | (self.status as u16 as u32) << 16,
            0,
        ]
    }

    /// From words.
    pub const fn from_words(w: [u32; RESPONSE_WORDS]) -> Self {
        Self {
            id: join(w[0], w[1]),
            operation: w[2] as u8,
            status: (w[2] >> 16) as i16,
        }
    }
}

const fn split(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}

const fn join(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_request_survives_its_words() {
        let segments = core::array::from_fn(|i| Segment {
            gref: Gref(i as u32 + 9),
            first_sect: 1,
            last_sect: 7,
        });
        let direct = Request::Direct {
            operation: OP_WRITE,
            nr_segments: 11,
            handle: 51712,
            id: u64::MAX - 3,
            sector: 1 << 40,
            segments,
        };
        let discard = Request::Discard {
            flag: DISCARD_SECURE,
            handle: 3,
            id: 7,
            sector: 8,
            nr_sectors: 1 << 33,
        };
        let pages = core::array::from_fn(|i| Gref(100 + i as u32));
        let indirect = Request::Indirect {
            indirect_op: OP_READ,
            nr_segments: 4096,
            handle: 768,
            id: 1,
            sector: 2,
            pages,
        };
        for r in [direct, discard, indirect] {
            assert_eq!(Request::from_words(&r.to_words()), r);
        }
    }

    #[test]
    fn fields_lie_where_the_header_puts_them() {
        let pages = core::array::from_fn(|i| Gref(i as u32));
        let w = Request::Indirect {
            indirect_op: OP_WRITE,
            nr_segments: 0x1234,
            handle: 0x300,
            id: 1,
            sector: 2,
            pages,
        }
        .to_words();
        assert_eq!((w[0], w[6], w[7], w[14]), (0x1234_0106, 0x300, 0, 7));
        let r = Response {
            id: 0x1_0000_0002,
            operation: OP_READ,
            status: RSP_EOPNOTSUPP,
        };
        assert_eq!(r.to_words(), [2, 1, 0xFFFE_0000, 0]);
        assert_eq!(Response::from_words(r.to_words()), r);
    }
}
