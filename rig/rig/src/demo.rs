//! The disk of a run without arguments: a GUID partition table, a FAT volume with known files, and room to write.
//!
//! ```text
//! | protective MBR, GPT | volume "winpv", 16 MiB | scratch, 44 MiB | backup GPT |
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
};

use gpt::{GptConfig, disk::LogicalBlockSize, mbr::ProtectiveMBR, partition_types};

const SIZE: u64 = 64 << 20;
const VOLUME: u64 = 16 << 20;
const SCRATCH: u64 = 44 << 20;
const SECTOR: u64 = 512;

/// Files of the volume, besides the text.
const FILES: usize = 24;

/// Where things are on a demonstration disk, in sectors of 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The FAT volume.
    pub volume: Range<u64>,
    /// The partition that may be written.
    pub scratch: Range<u64>,
}

/// Makes the image anew.
pub fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_len(SIZE)?;
    let last = u32::try_from(SIZE / SECTOR - 1).map_err(io::Error::other)?;
    ProtectiveMBR::with_lb_size(last)
        .overwrite_lba0(&mut file)
        .map_err(io::Error::other)?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(&mut file, None)
        .map_err(io::Error::other)?;
    for (name, bytes) in [("winpv", VOLUME), ("scratch", SCRATCH)] {
        table
            .add_partition(name, bytes, partition_types::BASIC, 0, Some(2048))
            .map_err(io::Error::other)?;
    }
    table.write().map_err(io::Error::other)?;

    let layout = layout(&mut file)?;
    let mut volume = Window::new(&mut file, &layout.volume);
    fatfs::format_volume(
        &mut volume,
        fatfs::FormatVolumeOptions::new().volume_label(*b"WINPV      "),
    )?;
    let volume = fatfs::FileSystem::new(volume, fatfs::FsOptions::new())?;
    for (name, content) in files() {
        volume.root_dir().create_file(&name)?.write_all(&content)?;
    }
    volume.unmount()
}

/// The partitions of a demonstration disk; `device` may be the image or the disk that the drivers show.
pub fn layout(device: &mut (impl Read + Write + Seek + std::fmt::Debug)) -> io::Result<Layout> {
    let table = GptConfig::new()
        .logical_block_size(LogicalBlockSize::Lb512)
        .open_from_device(device)
        .map_err(io::Error::other)?;
    let find = |name: &str| {
        let partition = table
            .partitions()
            .values()
            .find(|partition| partition.name == name);
        partition
            .map(|partition| partition.first_lba..partition.last_lba + 1)
            .ok_or_else(|| io::Error::other(format!("no partition {name:?}")))
    };
    Ok(Layout {
        volume: find("winpv")?,
        scratch: find("scratch")?,
    })
}

/// Mounts the volume and compares every file with what was put there. Returns how many there are.
pub fn verify_files(device: &mut (impl Read + Write + Seek), layout: &Layout) -> io::Result<usize> {
    let volume =
        fatfs::FileSystem::new(Window::new(device, &layout.volume), fatfs::FsOptions::new())?;
    let expected = files();
    for (name, content) in &expected {
        let mut found = Vec::new();
        volume.root_dir().open_file(name)?.read_to_end(&mut found)?;
        if found != *content {
            return Err(io::Error::other(format!("file {name} differs")));
        }
    }
    Ok(expected.len())
}

/// Names and contents, the same on every machine.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let text = "This volume is read through xenvbd.sys, xenbus.sys and xen.sys.\r\n";
    files.insert("README.TXT".to_owned(), text.as_bytes().to_vec());
    for number in 0..FILES {
        let length = number * number * 700 + number;
        let content = (0..length).map(|at| {
            (at as u32)
                .wrapping_mul(2_654_435_761)
                .rotate_left(number as u32) as u8
        });
        files.insert(format!("DATA{number:02}.BIN"), content.collect());
    }
    files
}

/// A range of sectors of a device, as a device.
struct Window<'a, T> {
    device: &'a mut T,
    start: u64,
    length: u64,
    position: u64,
}

impl<'a, T> Window<'a, T> {
    fn new(device: &'a mut T, sectors: &Range<u64>) -> Self {
        let length = (sectors.end - sectors.start) * SECTOR;
        Self {
            device,
            start: sectors.start * SECTOR,
            length,
            position: 0,
        }
    }

    /// How much of `wanted` bytes is left from here on.
    fn room(&self, wanted: usize) -> usize {
        let left = self.length.saturating_sub(self.position);
        wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
    }
}

impl<T: Read + Seek> Read for Window<'_, T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let room = self.room(bytes.len());
        self.device
            .seek(SeekFrom::Start(self.start + self.position))?;
        let count = self.device.read(&mut bytes[..room])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<T: Write + Seek> Write for Window<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room(bytes.len());
        self.device
            .seek(SeekFrom::Start(self.start + self.position))?;
        let count = self.device.write(&bytes[..room])?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.device.flush()
    }
}

impl<T> Seek for Window<'_, T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_disk_has_its_partitions_and_files() {
        let path = std::env::temp_dir().join(format!("winpv-demo-{}.img", std::process::id()));
        create(&path).unwrap();
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), SIZE);
        let layout = layout(&mut file).unwrap();
        assert_eq!(layout.volume, 2048..2048 + VOLUME / SECTOR);
        assert_eq!(layout.scratch.start % 2048, 0);
        assert_eq!(layout.scratch.end - layout.scratch.start, SCRATCH / SECTOR);
        assert_eq!(verify_files(&mut file, &layout).unwrap(), FILES + 1);
        fs::remove_file(path).unwrap();
    }
}
