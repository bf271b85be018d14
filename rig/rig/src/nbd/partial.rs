//! Requests that begin or end inside a block.
//!
//! A disk takes whole blocks only, a client of NBD may name any bytes. What such a write leaves of its first and last
//! block is read before and written back with it. Nobody else may write those blocks meanwhile: the requests of the
//! same connection have ended by then, and one lock for all connections keeps other writes of this kind away.

use std::sync::{Mutex, PoisonError, mpsc};

use crate::disk::{Buffer, Disk, Info, Io, IoError, Op};

/// Held while blocks are written in part.
pub(super) type PartialWrites = Mutex<()>;

/// The blocks which a range of bytes touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// First block.
    pub block: u64,
    /// Number of blocks.
    pub blocks: u32,
    /// Bytes of the first block before the range.
    pub skip: u32,
    /// Bytes in the range.
    pub length: u32,
}

impl Span {
    /// The blocks of the bytes from `offset` on; the range is on the disk.
    pub fn new(offset: u64, length: u32, block_size: u32) -> Self {
        let size = u64::from(block_size);
        let block = offset / size;
        let end = (offset + u64::from(length)).div_ceil(size);
        Self {
            block,
            blocks: u32::try_from(end - block).unwrap_or(u32::MAX),
            skip: (offset % size) as u32,
            length,
        }
    }

    /// Whether the range is all of its blocks.
    pub fn is_whole(&self, block_size: u32) -> bool {
        self.skip == 0 && u64::from(self.length) == self.bytes(block_size)
    }

    /// Bytes in its blocks.
    pub fn bytes(&self, block_size: u32) -> u64 {
        u64::from(self.blocks) * u64::from(block_size)
    }

    /// The blocks that are in the range with all their bytes.
    pub fn inner(&self, block_size: u32) -> Option<(u64, u32)> {
        let end = (u64::from(self.skip) + u64::from(self.length)) / u64::from(block_size);
        let first = u64::from(self.skip != 0);
        let count = u32::try_from(end.checked_sub(first)?).ok()?;
        (count > 0).then_some((self.block + first, count))
    }
}

/// Puts `data`, or zeroes, into the bytes of `span`, and waits until they are there. `most` is the number of blocks that
/// one transfer takes.
pub(super) fn write<D: Disk>(
    disk: &D,
    lock: &PartialWrites,
    span: Span,
    data: Option<&[u8]>,
    most: u32,
) -> Result<(), IoError> {
    let size = disk.info().block_size;
    let (start, end) = (
        u64::from(span.skip),
        u64::from(span.skip) + u64::from(span.length),
    );
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    for (block, blocks) in super::session::split(span.block, span.blocks, most) {
        // Counted from the first byte of the span's first block.
        let base = (block - span.block) * u64::from(size);
        let bytes = u64::from(blocks) * u64::from(size);
        let mut buffer = disk
            .buffer(usize::try_from(bytes).map_err(|_| IoError::NoMemory)?)
            .ok_or(IoError::NoMemory)?;
        if base < start || base + bytes > end {
            buffer = transfer(disk, Op::Read, block, blocks, buffer)?;
        }
        let mut at = base;
        for piece in buffer.pieces() {
            let piece_end = at + piece.len() as u64;
            let (from, to) = (start.max(at), end.min(piece_end));
            if from < to {
                let place = &mut piece[(from - at) as usize..(to - at) as usize];
                match data {
                    Some(data) => {
                        place.copy_from_slice(&data[(from - start) as usize..(to - start) as usize])
                    }
                    None => place.fill(0),
                }
            }
            at = piece_end;
        }
        transfer(disk, Op::Write, block, blocks, buffer)?;
    }
    Ok(())
}

/// One request, waited for.
fn transfer<D: Disk>(
    disk: &D,
    op: Op,
    block: u64,
    blocks: u32,
    buffer: D::Buffer,
) -> Result<D::Buffer, IoError> {
    let (sender, ended) = mpsc::sync_channel(1);
    disk.submit(Io {
        op,
        block,
        blocks,
        buffer: Some(buffer),
        // There is a place for the one message, so this does not wait.
        done: Box::new(move |result, buffer| drop(sender.send((result, buffer)))),
    });
    let (result, buffer) = ended.recv().map_err(|_| IoError::Gone)?;
    result?;
    buffer.ok_or(IoError::Failed)
}

/// The most memory that [`write`] of a span needs beside the data.
pub(super) fn transfer_bytes(info: &Info, most: u32) -> usize {
    most as usize * info.block_size as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_covers_the_blocks_which_its_bytes_touch() {
        let span = Span::new(1000, 100, 512);
        assert_eq!(
            span,
            Span {
                block: 1,
                blocks: 2,
                skip: 488,
                length: 100
            }
        );
        assert!(!span.is_whole(512));
        assert_eq!(span.inner(512), None);
        assert!(Span::new(1024, 1024, 512).is_whole(512));
        assert_eq!(Span::new(1, 1535, 512).inner(512), Some((1, 2)));
        assert_eq!(Span::new(0, 700, 512).inner(512), Some((0, 1)));
    }
}
