//! Judging and carrying out one request, as Linux's xen-blkback does (drivers/block/xen-blkback/blkback.c:
//! `dispatch_rw_block_io`, `dispatch_discard_io`, `xen_vbd_translate`).

use std::io;

use xen_abi::blkif::*;
use xen_abi::{Gref, PAGE_SIZE};
use xen_model::{Access, Mapping, Xen};

use super::config::{BlockConfig, Stats, count};
use super::image::Buffer;

const SECTORS_PER_PAGE: u8 = (PAGE_SIZE / SECTOR_SIZE as usize) as u8;

/// Why a request fails; the frontend gets one of two codes.
enum Refusal {
    /// Never supported.
    Unsupported,
    /// Anything else, with words for the log.
    Error(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Self::Unsupported,
            _ => Self::Error(error.to_string()),
        }
    }
}

fn error<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Error(text.into()))
}

/// Carries out requests of one disk.
pub(super) struct Executor<'a> {
    pub(super) xen: &'a Xen,
    pub(super) config: &'a BlockConfig,
    pub(super) stats: &'a Stats,
}

impl Executor<'_> {
    /// The response, and what to log if it is an error.
    pub(super) fn execute(&self, request: &Request) -> (Response, Option<String>) {
        let (id, operation, result) = match *request {
            Request::Direct {
                operation,
                nr_segments,
                id,
                sector,
                ref segments,
                ..
            } => (
                id,
                operation,
                self.direct(operation, usize::from(nr_segments), sector, segments),
            ),
            Request::Indirect {
                indirect_op,
                nr_segments,
                id,
                sector,
                ref pages,
                ..
            } => (
                id,
                indirect_op,
                self.indirect(indirect_op, usize::from(nr_segments), sector, pages),
            ),
            Request::Discard {
                flag,
                id,
                sector,
                nr_sectors,
                ..
            } => (id, OP_DISCARD, self.discard(flag, sector, nr_sectors)),
        };
        let (status, complaint) = match result {
            Ok(()) => (RSP_OKAY, None),
            Err(Refusal::Unsupported) => (RSP_EOPNOTSUPP, None),
            Err(Refusal::Error(text)) => (RSP_ERROR, Some(text)),
        };
        if status != RSP_OKAY {
            count(&self.stats.errors, 1);
        }
        (
            Response {
                id,
                operation,
                status,
            },
            complaint,
        )
    }

    fn direct(
        &self,
        operation: u8,
        n: usize,
        sector: u64,
        segments: &[Segment; MAX_SEGMENTS],
    ) -> Result<(), Refusal> {
        let offer = &self.config.offer;
        let flushes = match operation {
            OP_READ | OP_WRITE => false,
            OP_WRITE_BARRIER if offer.barrier => true,
            OP_FLUSH_DISKCACHE if offer.flush => true,
            _ => return Err(Refusal::Unsupported),
        };
        let Some(segments) = segments.get(..n) else {
            return error(format!("{n} segments in a direct request"));
        };
        if n == 0 && !flushes {
            return error("no segments");
        }
        if flushes {
            count(&self.stats.flushes, 1);
            self.config.image.flush()?;
        }
        if n > 0 {
            self.transfer(operation != OP_READ, sector, segments)?;
            if flushes {
                self.config.image.flush()?;
            }
        }
        Ok(())
    }

    fn indirect(
        &self,
        operation: u8,
        n: usize,
        sector: u64,
        pages: &[Gref],
    ) -> Result<(), Refusal> {
        let Some(limit) = self.config.offer.max_indirect_segments else {
            return Err(Refusal::Unsupported);
        };
        if operation != OP_READ && operation != OP_WRITE {
            return error(format!("indirect operation {operation}"));
        }
        if n == 0 || n > limit as usize {
            return error(format!("{n} segments in an indirect request"));
        }
        count(&self.stats.indirect, 1);
        let mut segments = Vec::with_capacity(n);
        for (page, gref) in pages
            .iter()
            .take(n.div_ceil(SEGMENTS_PER_INDIRECT_PAGE))
            .enumerate()
        {
            let mapping = self.map(*gref, Access::Read)?;
            let here = (n - page * SEGMENTS_PER_INDIRECT_PAGE).min(SEGMENTS_PER_INDIRECT_PAGE);
            let word = |i: usize| mapping.words()[i].load(std::sync::atomic::Ordering::Relaxed);
            segments.extend((0..here).map(|i| Segment::from_words([word(2 * i), word(2 * i + 1)])));
        }
        self.transfer(operation == OP_WRITE, sector, &segments)
    }

    fn map(&self, gref: Gref, access: Access) -> Result<Mapping<&Xen>, Refusal> {
        self.xen
            .map(gref, access)
            .map_err(|e| Refusal::Error(format!("grant {gref}: {e}")))
    }

    fn transfer(&self, write: bool, sector: u64, segments: &[Segment]) -> Result<(), Refusal> {
        let block = u64::from(self.config.offer.sector_size / SECTOR_SIZE);
        let mut sectors = 0;
        for s in segments {
            if s.last_sect >= SECTORS_PER_PAGE || s.last_sect < s.first_sect {
                return error(format!(
                    "segment of sectors {} to {}",
                    s.first_sect, s.last_sect
                ));
            }
            let n = u64::from(s.last_sect - s.first_sect) + 1;
            if !(sector | n).is_multiple_of(block) {
                return error(format!("{n} sectors at {sector} are not whole blocks"));
            }
            sectors += n;
        }
        self.check_range(write, sector, sectors)?;
        // Reading from the disk writes to the guest.
        let access = if write { Access::Read } else { Access::Write };
        let pages = segments
            .iter()
            .map(|s| self.map(s.gref, access))
            .collect::<Result<Vec<_>, _>>()?;
        let buffers: Vec<_> = pages
            .iter()
            .zip(segments)
            .map(|(page, s)| buffer(page, s))
            .collect();
        if write {
            // SAFETY: the buffers lie within pages that stay mapped until `pages` is dropped.
            unsafe { self.config.image.write(sector, &buffers) }?;
            count(&self.stats.writes, 1);
            count(&self.stats.sectors_written, sectors);
        } else {
            // SAFETY: as above, and the pages are mapped for writing.
            unsafe { self.config.image.read(sector, &buffers) }?;
            count(&self.stats.reads, 1);
            count(&self.stats.sectors_read, sectors);
        }
        Ok(())
    }

    fn check_range(&self, write: bool, sector: u64, sectors: u64) -> Result<(), Refusal> {
        if write && self.config.read_only() {
            return error("write to a read-only disk");
        }
        match sector.checked_add(sectors) {
            Some(end) if end <= self.config.image.sectors() => Ok(()),
            _ => error(format!(
                "{sectors} sectors at {sector} reach beyond the end"
            )),
        }
    }

    fn discard(&self, flag: u8, sector: u64, sectors: u64) -> Result<(), Refusal> {
        let Some(offer) = self.config.discard() else {
            return Err(Refusal::Unsupported);
        };
        if flag & DISCARD_SECURE != 0 && !offer.secure {
            return Err(Refusal::Unsupported);
        }
        self.check_range(true, sector, sectors)?;
        count(&self.stats.discards, 1);
        if sectors > 0 {
            self.config.image.discard(sector, sectors)?;
        }
        Ok(())
    }
}

fn buffer(page: &Mapping<&Xen>, s: &Segment) -> Buffer {
    let first = usize::from(s.first_sect) * SECTOR_SIZE as usize;
    let len = (usize::from(s.last_sect - s.first_sect) + 1) * SECTOR_SIZE as usize;
    Buffer {
        start: page.as_ptr().wrapping_add(first),
        len,
    }
}
