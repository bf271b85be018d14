//! Large UDP datagrams, cut into frames here: the VIF interface has no way to say that somebody else should.
//!
//! ```text
//!   frame ─ parse ─▶ headers, layout ─▶ segments ─▶ a piece for each: headers of its own, a copy of its data
//!                                                     └▶ VIF ─▶ back: the piece is free again
//! ```
//!
//! Pieces are made when they are needed first, and kept.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::c_void;
use ndis::{Frame, NdisStatus, Share};
use nt::mdl::{Buffer, Chain};
use nt::{SpinLock, try_box};
use oid::Tasks;
use packet::segment::{Segment, Segments};
use packet::{Extent, Layout, MAX_HEADERS, Version};

/// Pieces that are kept.
const KEPT: usize = 1024;
/// The bit of a cookie that says that it is a piece's. What lists and pieces point to is aligned.
const MARK: usize = 1;

/// A frame that was cut off, with the claim on its list.
pub struct Piece {
    buffer: Buffer,
    share: Option<Share>,
    length: u32,
}

impl Piece {
    /// What describes its bytes, from the start on.
    pub fn mdl(&self) -> *mut nt_sys::MDL {
        self.buffer.mdl()
    }

    /// Bytes.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The piece as a number for the interface.
    pub fn into_cookie(self: Box<Self>) -> *mut c_void {
        Box::into_raw(self)
            .map_addr(|address| address | MARK)
            .cast()
    }

    /// The piece of a cookie, if it is one's.
    ///
    /// # Safety
    /// The interface's cookie, looked at once.
    pub unsafe fn of_cookie(cookie: *mut c_void) -> Option<Box<Piece>> {
        if cookie.addr() & MARK == 0 {
            return None;
        }
        let piece = cookie.cast::<Piece>().map_addr(|address| address & !MARK);
        // SAFETY: `into_cookie` made it of a box, and the caller looks once.
        Some(unsafe { Box::from_raw(piece) })
    }
}

/// A datagram that is being cut.
pub struct Cut<'a> {
    headers: [u8; MAX_HEADERS],
    layout: Layout,
    chain: Chain<'a>,
    segments: Segments,
    /// Whether the checksums are left to the interface.
    blank: bool,
}

impl<'a> Cut<'a> {
    /// Begins to cut a frame into ones with `mss` bytes of data. `tasks` are the offloads that are on.
    pub fn new(frame: &'a Frame<'a>, mss: u16, tasks: Tasks) -> Result<Cut<'a>, NdisStatus> {
        // SAFETY: NDIS leaves a frame's MDLs as they are until its list is completed.
        let chain = unsafe { Chain::new(frame.mdl(), frame.offset(), frame.length()) }?;
        let mut headers = [0; MAX_HEADERS];
        let layout = packet::parse(chain.pieces(), Extent::Frame, &mut headers)
            .whole()
            .map_err(|_| NdisStatus::INVALID_PACKET)?;
        let version = layout.ip.ok_or(NdisStatus::INVALID_PACKET)?.version;
        if !matches!(layout.transport, Some(packet::Transport::Udp { .. })) {
            return Err(NdisStatus::INVALID_PACKET);
        }
        let segments =
            Segments::new(&headers, &layout, mss.into()).map_err(|_| NdisStatus::INVALID_PACKET)?;
        let blank = tasks.has(match version {
            Version::V4 => Tasks::TX_UDP_IPV4,
            Version::V6 => Tasks::TX_UDP_IPV6,
        });
        Ok(Cut {
            headers,
            layout,
            chain,
            segments,
            blank,
        })
    }

    /// The interface's options for the pieces.
    pub fn tasks(&self) -> Tasks {
        match self.layout.ip.map(|ip| ip.version) {
            Some(Version::V4) => Tasks::TX_UDP_IPV4.only_if(self.blank),
            _ => Tasks::TX_UDP_IPV6.only_if(self.blank),
        }
    }

    /// The next segment, and whether another follows.
    pub fn next(&mut self) -> Option<(Segment, bool)> {
        let segment = self.segments.next()?;
        Some((segment, self.segments.len() != 0))
    }

    /// Fills a piece with a segment; whether it fits.
    fn fill(&self, segment: &Segment, piece: &mut Piece) -> bool {
        let data = || self.layout.payload_of(self.chain.pieces());
        let count = segment.layout.headers;
        let bytes = piece.buffer.bytes_mut();
        let Some((head, mut rest)) = bytes.split_at_mut_checked(count) else {
            return false;
        };
        if segment.write(&self.headers, head).is_err()
            || !self.blank && segment.complete(head, data()).is_err()
        {
            return false;
        }
        let mut length = count;
        for from in segment.data_of(data()) {
            let Some((to, later)) = core::mem::take(&mut rest).split_at_mut_checked(from.len())
            else {
                return false;
            };
            to.copy_from_slice(from);
            rest = later;
            length += from.len();
        }
        piece.length = length as u32;
        true
    }
}

/// The pieces of an adapter.
pub struct Cutter {
    #[expect(
        clippy::vec_box,
        reason = "a piece's address is its cookie, so it stays in its box"
    )]
    free: SpinLock<Vec<Box<Piece>>>,
    /// Bytes of each.
    size: usize,
}

impl core::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cutter").finish_non_exhaustive()
    }
}

impl Cutter {
    /// For frames of at most `size` bytes.
    pub fn new(size: u32) -> Result<Cutter, NdisStatus> {
        let mut free = Vec::new();
        free.try_reserve_exact(KEPT)
            .map_err(|_| NdisStatus::RESOURCES)?;
        Ok(Cutter {
            free: SpinLock::new(free),
            size: size as usize,
        })
    }

    /// A piece with a segment, which holds `share`. IRQL ≤ DISPATCH_LEVEL.
    pub fn piece(
        &self,
        cut: &Cut<'_>,
        segment: &Segment,
        share: Share,
    ) -> Result<Box<Piece>, NdisStatus> {
        let kept = self.free.lock().pop();
        let mut piece = match kept {
            Some(piece) => piece,
            None => try_box(Piece {
                buffer: Buffer::new(self.size)?,
                share: None,
                length: 0,
            })?,
        };
        if !cut.fill(segment, &mut piece) {
            self.keep(piece);
            return Err(NdisStatus::INVALID_LENGTH);
        }
        piece.share = Some(share);
        Ok(piece)
    }

    /// Takes a piece back, and gives the share that it held.
    pub fn take_back(&self, mut piece: Box<Piece>) -> Option<Share> {
        let share = piece.share.take();
        self.keep(piece);
        share
    }

    fn keep(&self, piece: Box<Piece>) {
        let mut free = self.free.lock();
        if free.len() < KEPT {
            free.push(piece);
        }
    }
}
