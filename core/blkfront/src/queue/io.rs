//! What a queue works on: operations as they come in, I/Os in the queue, requests in flight and what they lend.

use super::{Host, MAX_DISCARDS, Shape};
use crate::cursor::{Cursor, Piece, ShortList};
use xen_abi::Gref;
use xen_abi::blkif::{MAX_SEGMENTS, Segment};

/// What to do, in the ring's sectors; checked against the disk by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read or write `bytes` from `sector` on.
    Transfer {
        /// The data goes to the disk.
        write: bool,
        /// First sector.
        sector: u64,
        /// Bytes, a multiple of the block.
        bytes: u32,
    },
    /// Make durable what is written.
    Flush,
    /// Forget sectors.
    Discard(Discards),
}

/// Sector ranges to discard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discards {
    ranges: [(u64, u64); MAX_DISCARDS],
    count: usize,
}

impl Discards {
    /// Adds `sectors` from `sector` on; `false` if there is no room for it.
    pub fn push(&mut self, sector: u64, sectors: u64) -> bool {
        match self.ranges.get_mut(self.count) {
            Some(range) => {
                *range = (sector, sectors);
                self.count += 1;
                true
            }
            None => false,
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<(u64, u64)> {
        self.ranges.get(..self.count)?.get(index).copied()
    }
}

/// How an I/O ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All of it is done.
    Good,
    /// None of it was tried for want of grants or bounce pages; worth another try later.
    Busy,
    /// Some of it failed.
    Failed,
}

/// An I/O in the queue.
pub(super) struct Io<T> {
    pub(super) token: T,
    pub(super) operation: Operation,
    /// Next to be posted.
    pub(super) cursor: Cursor,
    pub(super) discards: usize,
    pub(super) flushed: bool,
    /// Requests in flight, and answered ones that still hold grants.
    pub(super) parts: u32,
    pub(super) worst: Outcome,
    pub(super) queued: bool,
}

impl<T> Io<T> {
    pub(super) fn rewind(&mut self) {
        let total = match self.operation {
            Operation::Transfer { bytes, .. } => bytes,
            _ => 0,
        };
        self.cursor = Cursor::new(total);
        self.discards = 0;
        self.flushed = false;
        self.worst = Outcome::Good;
    }
}

/// A segment of a request in flight, with what it borrowed.
pub(super) struct Lent<H: Host> {
    pub(super) grant: Option<H::Grant>,
    pub(super) bounce: Option<Bounce<H::Page>>,
}

pub(super) struct Bounce<P> {
    pub(super) page: P,
    pub(super) at: u32,
    pub(super) length: u32,
}

/// A request.
pub(super) struct Part<H: Host> {
    pub(super) io: u64,
    pub(super) operation: u8,
    /// Answered, or its ring is gone: only grants are waited for.
    pub(super) answered: bool,
    /// Segments that were lent for: those before this one.
    pub(super) segments: u8,
    pub(super) lent: [Option<Lent<H>>; MAX_SEGMENTS],
}

impl<H: Host> Part<H> {
    /// What is lent, or was.
    pub(super) fn lent(&mut self) -> &mut [Option<Lent<H>>] {
        let (lent, _) = self
            .lent
            .split_at_mut(usize::from(self.segments).min(MAX_SEGMENTS));
        lent
    }
}

/// Lends the backend the next pages of a transfer, up to a request's worth; the number of segments.
pub(super) fn lend<H: Host>(
    io: &mut Io<H::Token>,
    shape: Shape,
    write: bool,
    part: &mut Part<H>,
    segments: &mut [Segment; MAX_SEGMENTS],
    host: &mut H,
) -> Result<u8, ShortList> {
    let mut count = 0;
    for (segment, slot) in segments.iter_mut().zip(&mut part.lent) {
        if io.cursor.at_end() {
            break;
        }
        let before = io.cursor;
        let piece = io
            .cursor
            .next(|index| host.fragment(&io.token, index), shape.rule)?;
        let (lent, offset) = match piece {
            Piece::Direct { pfn, offset, .. } => match host.grant(pfn, write) {
                Some(grant) => (
                    Lent {
                        grant: Some(grant),
                        bounce: None,
                    },
                    offset,
                ),
                None => {
                    io.cursor = before;
                    break;
                }
            },
            Piece::Bounce { at, length } => {
                let Some(mut page) = host.take_page() else {
                    io.cursor = before;
                    break;
                };
                if write && !host.fill_page(&io.token, at, length, &mut page) {
                    host.put_page(page);
                    return Err(ShortList);
                }
                match host.grant(host.pfn(&page), write) {
                    Some(grant) => (
                        Lent {
                            grant: Some(grant),
                            bounce: Some(Bounce { page, at, length }),
                        },
                        0,
                    ),
                    None => {
                        host.put_page(page);
                        io.cursor = before;
                        break;
                    }
                }
            }
        };
        let first = shape.units(offset);
        *segment = Segment {
            gref: lent
                .grant
                .as_ref()
                .map_or(Gref(0), |grant| host.gref(grant)),
            first_sect: first as u8,
            last_sect: (first + shape.units(piece.length()) - 1) as u8,
        };
        *slot = Some(lent);
        count += 1;
        part.segments = count;
    }
    Ok(count)
}
