//! What a disk is like, as its backend says, for SRBs to read on any processor without a lock.

use blkfront::features::{Features, Geometry};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use nt::SpinLock;
use scsi::{Discard, VpdPage};
use xen_abi::blkif::{INFO_CDROM, INFO_READONLY, INFO_REMOVABLE};

/// Each field may change at a new connection or an online resize; readers need no two of them to agree.
pub(crate) struct Shape {
    blocks: AtomicU64,
    block_size: AtomicU32,
    physical_block_size: AtomicU32,
    sectors_per_block: AtomicU32,
    info: AtomicU32,
    ready: AtomicBool,
    removable: AtomicBool,
    write_cache: AtomicBool,
    whole_pages: AtomicBool,
    discard: AtomicBool,
    granularity: AtomicU32,
    alignment: AtomicU32,
    pages: SpinLock<Pages>,
}

/// The toolstack's own identification of the disk.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    pub(crate) serial_number: Option<VpdPage>,
    pub(crate) identification: Option<VpdPage>,
}

impl Shape {
    /// Of a disk that was never connected.
    pub(crate) const fn new() -> Self {
        Shape {
            blocks: AtomicU64::new(0),
            block_size: AtomicU32::new(512),
            physical_block_size: AtomicU32::new(512),
            sectors_per_block: AtomicU32::new(1),
            info: AtomicU32::new(0),
            ready: AtomicBool::new(false),
            removable: AtomicBool::new(false),
            write_cache: AtomicBool::new(false),
            whole_pages: AtomicBool::new(false),
            discard: AtomicBool::new(false),
            granularity: AtomicU32::new(0),
            alignment: AtomicU32::new(0),
            pages: SpinLock::new(Pages {
                serial_number: None,
                identification: None,
            }),
        }
    }

    /// Takes over what the backend says; whether the size differs from before.
    pub(crate) fn set_geometry(&self, geometry: &Geometry) -> bool {
        self.block_size.store(geometry.block_size, Relaxed);
        self.physical_block_size
            .store(geometry.physical_block_size, Relaxed);
        self.sectors_per_block
            .store(geometry.sectors_per_block() as u32, Relaxed);
        self.info.store(geometry.info, Relaxed);
        self.blocks.swap(geometry.blocks, Relaxed) != geometry.blocks
    }

    pub(crate) fn set_features(&self, features: &Features) {
        let discard = features.discard.unwrap_or_default();
        self.granularity.store(discard.granularity, Relaxed);
        self.alignment.store(discard.alignment, Relaxed);
        self.discard.store(features.discard.is_some(), Relaxed);
        self.write_cache.store(features.flush, Relaxed);
        self.removable.store(features.removable, Relaxed);
    }

    /// Whether the backend is given whole pages only.
    pub(crate) fn set_whole_pages(&self, whole_pages: bool) {
        self.whole_pages.store(whole_pages, Relaxed);
    }

    /// What memory must be made of, in bytes, so that none of it has to be copied.
    pub(crate) fn memory_unit(&self) -> u32 {
        if self.whole_pages.load(Relaxed) {
            nt::sys::PAGE_SIZE as u32
        } else {
            self.block_size()
        }
    }

    pub(crate) fn set_pages(&self, pages: Pages) {
        *self.pages.lock() = pages;
    }

    /// Whether I/O is taken.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Relaxed);
    }

    pub(crate) fn block_size(&self) -> u32 {
        self.block_size.load(Relaxed)
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Relaxed)
    }

    /// Ring sectors in a block.
    pub(crate) fn sectors_per_block(&self) -> u64 {
        self.sectors_per_block.load(Relaxed).into()
    }

    /// Whether the device can be unplugged at run time.
    pub(crate) fn is_removable(&self) -> bool {
        self.removable.load(Relaxed)
    }

    /// Calls `body` with the disk as the SCSI layer wants it. The toolstack's pages are looked up only if `identity`
    /// says that the command may need them.
    pub(crate) fn with_disk<R>(
        &self,
        target: u32,
        identity: bool,
        body: impl FnOnce(&scsi::Disk<'_>) -> R,
    ) -> R {
        let info = self.info.load(Relaxed);
        let disk = scsi::Disk {
            target,
            blocks: self.blocks(),
            block_size: self.block_size(),
            physical_block_size: self.physical_block_size.load(Relaxed),
            ready: self.ready.load(Relaxed),
            read_only: info & INFO_READONLY != 0,
            removable_medium: info & (INFO_CDROM | INFO_REMOVABLE) != 0,
            write_cache: self.write_cache.load(Relaxed),
            discard: self.discard.load(Relaxed).then(|| Discard {
                granularity: self.granularity.load(Relaxed),
                alignment: self.alignment.load(Relaxed),
            }),
            serial_number: None,
            identification: None,
        };
        if !identity {
            return body(&disk);
        }
        let pages = self.pages.lock();
        body(&scsi::Disk {
            serial_number: pages.serial_number.as_ref(),
            identification: pages.identification.as_ref(),
            ..disk
        })
    }
}
