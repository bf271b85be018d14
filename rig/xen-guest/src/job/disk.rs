//! The disks, by the number that xenstore gives them.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use xen_guest::step::Step;

use crate::report;

/// A disk behind xenvbd.sys.
#[derive(Clone)]
pub struct Disk(pub Arc<storport_host::Disk>);

/// The disks that are there now.
pub fn all() -> Vec<Disk> {
    storport_host::disks().into_iter().map(Disk).collect()
}

/// A part of a disk that a step works on.
pub struct Part {
    /// Which disk.
    pub disk: Disk,
    /// First byte.
    pub from: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of a request.
    pub chunk: u64,
    /// Requests at a time.
    pub depth: usize,
    /// What the pattern is made of.
    pub seed: u64,
}

/// The keys of [`Part::of`].
pub const KEYS: [&str; 6] = ["disk", "from", "bytes", "chunk", "depth", "seed"];

impl Disk {
    /// The disk that a step names.
    pub fn of(step: &Step) -> Result<Self, String> {
        let vdev = step.wanted("disk")?;
        all()
            .into_iter()
            .find(|disk| disk.vdev() == vdev)
            .ok_or_else(|| format!("there is no disk {vdev}"))
    }

    /// The number in xenstore: xvda is 51712. xenvbd.sys makes it the disk's target (Xen's
    /// docs/man/xen-vbd-interface.7: 202 << 8 | disk << 4).
    pub fn vdev(&self) -> u64 {
        202 << 8 | u64::from(self.0.target()) << 4
    }

    /// Bytes of a sector.
    pub fn sector(&self) -> u64 {
        u64::from(self.0.info().sector_size)
    }

    /// Bytes of the disk.
    pub fn bytes(&self) -> u64 {
        self.0.info().sectors * self.sector()
    }

    /// A line of the report.
    pub fn describe(&self) {
        let info = self.0.info();
        report!(
            "disk vdev={} sectors={} sector_size={} read_only={} write_cache={} unmap={} max_transfer={} serial={}",
            self.vdev(),
            info.sectors,
            info.sector_size,
            u8::from(info.read_only),
            u8::from(info.write_cache),
            u8::from(info.unmap.is_some()),
            self.0.max_transfer(),
            info.serial
        );
    }
}

impl Part {
    /// What the keys `disk from bytes chunk depth seed` of a step name; all but the disk have a default.
    pub fn of(step: &Step) -> Result<Self, String> {
        let disk = Disk::of(step)?;
        let from = step.number("from")?.unwrap_or(0);
        let rest = disk.bytes().saturating_sub(from);
        let part = Self {
            from,
            bytes: step.number("bytes")?.unwrap_or(rest),
            chunk: step.number("chunk")?.unwrap_or(64 << 10),
            depth: step.number("depth")?.unwrap_or(8) as usize,
            seed: step.number("seed")?.unwrap_or(1),
            disk,
        };
        let sector = part.disk.sector();
        let whole = [part.from, part.bytes, part.chunk]
            .iter()
            .all(|value| value.is_multiple_of(sector));
        let inside = part
            .from
            .checked_add(part.bytes)
            .is_some_and(|end| end <= part.disk.bytes());
        let most = u64::from(part.disk.0.max_transfer());
        match () {
            () if !whole => Err(format!(
                "from, bytes and chunk are not multiples of {sector}"
            )),
            () if !inside || part.bytes == 0 => Err(format!(
                "that part is not on the disk of {} bytes",
                part.disk.bytes()
            )),
            () if part.chunk == 0 || part.chunk > most => {
                Err(format!("a chunk has 1 to {most} bytes"))
            }
            () if part.depth == 0 || part.depth > 256 => Err("depth is 1 to 256".into()),
            () => Ok(part),
        }
    }
}
