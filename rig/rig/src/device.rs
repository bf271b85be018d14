//! A disk as a byte stream: one request at a time, waited for. For partition tables and file systems, not for speed.

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom, Write},
    sync::{Arc, mpsc},
    time::Duration,
};

use crate::{
    disk::{Buffer, Disk, Io, IoError, Op},
    wait,
};

impl From<IoError> for io::Error {
    fn from(error: IoError) -> Self {
        Self::other(error)
    }
}

/// Sends one request and waits for its end. Returns the buffer.
pub fn transfer<D: Disk>(
    disk: &D,
    op: Op,
    block: u64,
    blocks: u32,
    buffer: Option<D::Buffer>,
) -> Result<Option<D::Buffer>, IoError> {
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |result: Result<(), IoError>, buffer| {
        // The receiver waits below until it has this.
        let _ = sender.send((result, buffer));
    });
    disk.submit(Io {
        op,
        block,
        blocks,
        buffer,
        done,
    });
    // A request that was dropped without an answer: its disk is no more.
    let (result, buffer) = wait::receive(&receiver, Duration::MAX).ok_or(IoError::Gone)?;
    result.map(|()| buffer)
}

/// A disk with a position. Reads and writes of any size and place; a part of a block is read, changed and written back.
pub struct Device<D: Disk> {
    disk: Arc<D>,
    position: u64,
}

impl<D: Disk> Device<D> {
    /// At the start of the disk.
    pub fn new(disk: Arc<D>) -> Self {
        Self { disk, position: 0 }
    }

    /// The blocks around `wanted` bytes from the position, at most one transfer: first block, number, offset of the
    /// position in them, bytes that are wanted of them.
    fn span(&self, wanted: usize) -> (u64, u32, usize, usize) {
        let info = self.disk.info();
        let size = u64::from(info.block_size);
        let first = self.position / size;
        let offset = (self.position % size) as usize;
        let left = info.bytes().saturating_sub(self.position);
        let most = (info.max_transfer as usize).saturating_sub(offset);
        let count = wanted
            .min(most)
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let blocks = (offset + count).div_ceil(size as usize);
        (first, blocks as u32, offset, count)
    }

    fn buffer(&self, blocks: u32) -> io::Result<D::Buffer> {
        let bytes = blocks as usize * self.disk.info().block_size as usize;
        self.disk
            .buffer(bytes)
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn fetch(&self, block: u64, blocks: u32) -> io::Result<D::Buffer> {
        let buffer = transfer(
            &*self.disk,
            Op::Read,
            block,
            blocks,
            Some(self.buffer(blocks)?),
        )?;
        buffer.ok_or_else(|| io::Error::other("the disk kept the buffer"))
    }
}

impl<D: Disk> Read for Device<D> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (block, blocks, offset, count) = self.span(bytes.len());
        if count == 0 {
            return Ok(0);
        }
        let mut buffer = self.fetch(block, blocks)?;
        for_each_overlap(&mut buffer, offset, count, |piece, range| {
            bytes[range].copy_from_slice(piece)
        });
        self.position += count as u64;
        Ok(count)
    }
}

impl<D: Disk> Write for Device<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (block, blocks, offset, count) = self.span(bytes.len());
        if count == 0 {
            return Ok(0);
        }
        let whole = offset == 0 && count.is_multiple_of(self.disk.info().block_size as usize);
        let mut buffer = if whole {
            self.buffer(blocks)?
        } else {
            self.fetch(block, blocks)?
        };
        for_each_overlap(&mut buffer, offset, count, |piece, range| {
            piece.copy_from_slice(&bytes[range])
        });
        transfer(&*self.disk, Op::Write, block, blocks, Some(buffer))?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        transfer(&*self.disk, Op::Flush, 0, 0, None)?;
        Ok(())
    }
}

/// The pieces of a buffer that hold bytes `offset..offset + count` of it, each with its place in that range.
fn for_each_overlap(
    buffer: &mut impl Buffer,
    offset: usize,
    count: usize,
    mut act: impl FnMut(&mut [u8], std::ops::Range<usize>),
) {
    let mut at = 0;
    for piece in buffer.pieces() {
        let start = offset.max(at);
        let end = (offset + count).min(at + piece.len());
        if start < end {
            act(
                &mut piece[start - at..end - at],
                start - offset..end - offset,
            );
        }
        at += piece.len();
    }
}

impl<D: Disk> Seek for Device<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.disk.info().bytes().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl<D: Disk> fmt::Debug for Device<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.disk.info().name, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_disk::MemoryDisk;

    #[test]
    fn bytes_of_any_size_and_place_are_kept() {
        let disk = MemoryDisk::new("disk0", 1024);
        let mut device = Device::new(Arc::clone(&disk));
        let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        device.seek(SeekFrom::Start(777)).unwrap();
        device.write_all(&data).unwrap();
        device.flush().unwrap();
        device.seek(SeekFrom::Start(776)).unwrap();
        let mut back = vec![0; data.len() + 2];
        device.read_exact(&mut back).unwrap();
        assert_eq!((back[0], back[data.len() + 1]), (0xEE, 0xEE));
        assert_eq!(back[1..=data.len()], data);
    }

    #[test]
    fn the_end_of_the_disk_ends_the_stream() {
        let mut device = Device::new(MemoryDisk::new("disk0", 8));
        device.seek(SeekFrom::End(-100)).unwrap();
        let mut rest = Vec::new();
        assert_eq!(device.read_to_end(&mut rest).unwrap(), 100);
    }
}
