//! A disk of the storport host, as the rest of the rig uses disks.

use std::{path::Path, sync::Arc};

use storport_host::DmaBuffer;

use crate::{
    disk::{Buffer, Disk, Info, Io, IoError, Op},
    report,
};

/// A disk behind a miniport.
pub struct PortDisk {
    disk: Arc<storport_host::Disk>,
    info: Info,
}

/// The disks that are there now, by target: xvda is `disk0`.
pub fn all() -> Vec<Arc<PortDisk>> {
    let mut disks = storport_host::disks();
    disks.sort_by_key(|disk| disk.target());
    disks
        .into_iter()
        .enumerate()
        .map(|(index, disk)| Arc::new(PortDisk::new(index, disk)))
        .collect()
}

/// The disk of a target, named after it.
pub fn of_target(target: u32) -> Option<Arc<PortDisk>> {
    let disks = storport_host::disks();
    let disk = disks
        .into_iter()
        .find(|disk| u32::from(disk.target()) == target)?;
    Some(Arc::new(PortDisk::new(target as usize, disk)))
}

impl PortDisk {
    fn new(index: usize, disk: Arc<storport_host::Disk>) -> Self {
        let found = disk.info();
        let info = Info {
            name: format!("disk{index}"),
            blocks: disk.sectors(),
            block_size: found.sector_size,
            max_transfer: disk.max_transfer() / found.sector_size * found.sector_size,
            read_only: found.read_only,
            unmap: found.unmap.is_some(),
        };
        Self { disk, info }
    }

    /// A buffer that begins `offset` bytes into a page.
    pub fn buffer_at(&self, offset: usize, bytes: usize) -> Option<DmaBuffer> {
        DmaBuffer::at(offset, bytes)
    }

    /// For the report.
    pub fn describe(&self, image: &Path, negotiated: Vec<String>) -> report::Disk {
        let found = self.disk.info();
        report::Disk {
            name: self.info.name.clone(),
            image: image.display().to_string(),
            sectors: found.sectors,
            sector_size: found.sector_size,
            physical_sector_size: found.physical_sector_size,
            product: format!("{} {} {}", found.vendor, found.product, found.revision),
            serial: found.serial.clone(),
            write_cache: found.write_cache,
            read_only: found.read_only,
            negotiated,
        }
    }
}

impl Buffer for DmaBuffer {
    fn pieces(&mut self) -> Vec<&mut [u8]> {
        self.pieces().collect()
    }
}

impl Disk for PortDisk {
    type Buffer = DmaBuffer;

    fn info(&self) -> &Info {
        &self.info
    }

    fn buffer(&self, bytes: usize) -> Option<DmaBuffer> {
        DmaBuffer::new(bytes)
    }

    fn submit(&self, io: Io<DmaBuffer>) {
        let op = match io.op {
            Op::Read => storport_host::Op::Read,
            Op::Write => storport_host::Op::Write,
            Op::Flush => storport_host::Op::Flush,
            Op::Unmap => storport_host::Op::Unmap,
        };
        let done = io.done;
        let done = Box::new(move |result: Result<(), storport_host::IoError>, buffer| {
            done(result.map_err(translate), buffer);
        });
        self.disk.submit(storport_host::Io {
            op,
            lba: io.block,
            blocks: io.blocks,
            buffer: io.buffer,
            done,
        });
    }
}

fn translate(error: storport_host::IoError) -> IoError {
    use storport_host::IoError as Port;
    match error {
        Port::OutOfRange => IoError::OutOfRange,
        Port::ReadOnly => IoError::ReadOnly,
        Port::Gone => IoError::Gone,
        Port::NoMemory => IoError::NoMemory,
        Port::Failed => IoError::Failed,
    }
}
