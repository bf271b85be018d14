//! What a disk is, and what its backend offers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xen_abi::blkif::{INFO_READONLY, SECTOR_SIZE};
use xen_model::toolstack::{Backend, VbdSpec};

use super::image::{BadImage, Image, ImageError};
use crate::hostile::{Mischief, Wrong};

/// `feature-discard` and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Discard {
    /// `discard-granularity`, bytes.
    pub granularity: u32,
    /// `discard-alignment`, bytes.
    pub alignment: u32,
    /// `discard-secure`.
    pub secure: bool,
}

/// The keys a backend writes. `None` or `false` leaves a key out, and the operation behind it is refused. The default is
/// what Linux 6.1's xen-blkback offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// `feature-max-indirect-segments`.
    pub max_indirect_segments: Option<u32>,
    /// `multi-queue-max-queues`.
    pub max_queues: Option<u32>,
    /// `max-ring-page-order`.
    pub max_ring_page_order: Option<u32>,
    /// `feature-flush-cache`.
    pub flush: bool,
    /// `feature-barrier`.
    pub barrier: bool,
    /// `feature-persistent`.
    pub persistent: bool,
    /// `feature-discard`.
    pub discard: Option<Discard>,
    /// `sector-size`: the logical block, bytes.
    pub sector_size: u32,
    /// `physical-sector-size`, bytes.
    pub physical_sector_size: Option<u32>,
}

impl Offer {
    /// What QEMU's qdisk offers (7.2; docs/XEN-FINDINGS.md).
    pub fn qdisk() -> Self {
        Self {
            max_indirect_segments: None,
            max_queues: None,
            barrier: false,
            persistent: false,
            discard: Some(Discard {
                granularity: SECTOR_SIZE,
                alignment: 0,
                secure: false,
            }),
            physical_sector_size: None,
            ..Self::default()
        }
    }
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            max_indirect_segments: Some(256),
            max_queues: Some(4),
            max_ring_page_order: Some(4),
            flush: true,
            barrier: true,
            persistent: true,
            discard: Some(Discard {
                granularity: 4096,
                alignment: 0,
                secure: false,
            }),
            sector_size: SECTOR_SIZE,
            physical_sector_size: Some(SECTOR_SIZE),
        }
    }
}

/// A disk: its place, its contents, its backend's offer.
#[derive(Clone, Debug)]
pub struct BlockConfig {
    /// What the toolstack writes.
    pub vbd: VbdSpec,
    /// Contents.
    pub image: Arc<Image>,
    /// Keys.
    pub offer: Offer,
    /// `info`, besides the read-only bit: `xen_abi::blkif::INFO_*`.
    pub info: u32,
    /// Keys of the backend's directory that are written with other values than is right.
    pub wrong_keys: Vec<(String, Wrong)>,
    /// Lies to tell.
    pub mischief: Vec<Mischief>,
}

impl BlockConfig {
    /// Disk `index` (0 is xvda) with these contents.
    pub fn new(index: u32, image: Image) -> Self {
        let mut vbd = VbdSpec::disk(index, image.path().display().to_string());
        vbd.read_only = image.is_read_only();
        Self {
            vbd,
            image: Arc::new(image),
            offer: Offer::default(),
            info: 0,
            wrong_keys: Vec::new(),
            mischief: Vec::new(),
        }
    }

    /// The same disk, served as QEMU's qdisk serves it.
    pub fn use_qdisk(&mut self) {
        self.vbd.backend = Backend::Qdisk;
        self.offer = Offer::qdisk();
    }

    pub(super) fn read_only(&self) -> bool {
        self.vbd.read_only || self.image.is_read_only()
    }

    pub(super) fn info(&self) -> u32 {
        self.info | if self.read_only() { INFO_READONLY } else { 0 }
    }

    /// Discards are offered by the backend and not switched off by the toolstack.
    pub(super) fn discard(&self) -> Option<Discard> {
        self.offer
            .discard
            .filter(|_| self.vbd.discard != Some(false) && !self.read_only())
    }

    /// The value to write to a key: the right one, unless it is to be wrong or missing.
    pub(super) fn key_value(&self, key: &str, right: u64) -> Option<String> {
        match self.wrong_keys.iter().find(|(k, _)| k == key) {
            None => Some(right.to_string()),
            Some((_, Wrong::Text(text))) => Some(text.clone()),
            Some((_, Wrong::Missing)) => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ImageError> {
        let bytes = self.image.sectors() * u64::from(SECTOR_SIZE);
        if bytes.is_multiple_of(u64::from(self.offer.sector_size)) {
            return Ok(());
        }
        Err(ImageError {
            path: self.image.path().to_owned(),
            why: BadImage::PartialBlock(bytes, self.offer.sector_size),
        })
    }
}

/// What a disk's backend has done.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests taken, of any kind.
    pub requests: AtomicU64,
    /// Read requests.
    pub reads: AtomicU64,
    /// Write requests, barriers with data among them.
    pub writes: AtomicU64,
    /// Flushes and barriers.
    pub flushes: AtomicU64,
    /// Discards.
    pub discards: AtomicU64,
    /// Requests in indirect form.
    pub indirect: AtomicU64,
    /// Requests answered with an error.
    pub errors: AtomicU64,
    /// Sectors of 512 bytes read.
    pub sectors_read: AtomicU64,
    /// Sectors of 512 bytes written.
    pub sectors_written: AtomicU64,
    /// Events sent to the frontend.
    pub notifications: AtomicU64,
}

/// Counts, and returns what the count was before.
pub(super) fn count(counter: &AtomicU64, by: u64) -> u64 {
    counter.fetch_add(by, Ordering::Relaxed)
}
