//! What lies behind a disk: a raw image file, or nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, ptr};

use libc::{c_int, iovec, off_t};
use xen_abi::blkif::SECTOR_SIZE;

/// Longest vector the kernel takes. limits.h: `IOV_MAX`.
const MAX_VECTOR: usize = 1024;

/// Why an image cannot serve as a disk.
#[derive(Debug)]
pub struct ImageError {
    /// The image.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: BadImage,
}

/// What can be wrong with an image.
#[derive(Debug)]
pub enum BadImage {
    /// There is no such file.
    Missing,
    /// It is not a file or block device.
    NotAFile,
    /// It has no bytes.
    Empty,
    /// Its size in bytes is not a multiple of 512.
    PartialSector(u64),
    /// Its size in bytes is not a multiple of the logical sector size asked for.
    PartialBlock(u64, u32),
    /// It cannot be opened or measured.
    Unusable(io::Error),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk image {}: ", self.path.display())?;
        match &self.why {
            BadImage::Missing => write!(f, "no such file"),
            BadImage::NotAFile => write!(f, "not a file"),
            BadImage::Empty => write!(f, "empty"),
            BadImage::PartialSector(bytes) => write!(f, "{bytes} bytes are not a multiple of 512"),
            BadImage::PartialBlock(bytes, size) => write!(
                f,
                "{bytes} bytes are not a multiple of the sector size {size}"
            ),
            BadImage::Unusable(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ImageError {}

#[derive(Debug)]
enum Backing {
    File(File),
    Null,
}

/// A disk's contents. Sectors are of 512 bytes.
#[derive(Debug)]
pub struct Image {
    backing: Backing,
    path: PathBuf,
    sectors: AtomicU64,
    read_only: bool,
}

/// A piece of memory that takes part in a transfer; somebody else may change it meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Where.
    pub start: *mut u8,
    /// Bytes.
    pub len: usize,
}

impl Image {
    /// A raw image: the disk has the file's size.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, ImageError> {
        let fail = |why| ImageError {
            path: path.to_owned(),
            why,
        };
        let opened = OpenOptions::new().read(true).write(!read_only).open(path);
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => fail(BadImage::Missing),
            io::ErrorKind::IsADirectory => fail(BadImage::NotAFile),
            _ => fail(BadImage::Unusable(error)),
        })?;
        let kind = file
            .metadata()
            .map_err(|e| fail(BadImage::Unusable(e)))?
            .file_type();
        if kind.is_dir() {
            return Err(fail(BadImage::NotAFile));
        }
        // A block device has its size only here.
        let bytes = file
            .seek(SeekFrom::End(0))
            .map_err(|e| fail(BadImage::Unusable(e)))?;
        if bytes == 0 {
            return Err(fail(BadImage::Empty));
        }
        if !bytes.is_multiple_of(u64::from(SECTOR_SIZE)) {
            return Err(fail(BadImage::PartialSector(bytes)));
        }
        let sectors = AtomicU64::new(bytes / u64::from(SECTOR_SIZE));
        Ok(Self {
            backing: Backing::File(file),
            path: path.to_owned(),
            sectors,
            read_only,
        })
    }

    /// A disk of so many sectors that reads as zeros and forgets what is written: for measuring everything else.
    pub fn null(sectors: u64) -> Self {
        Self {
            backing: Backing::Null,
            path: PathBuf::from("null"),
            sectors: AtomicU64::new(sectors),
            read_only: false,
        }
    }

    /// Where it is; "null" for a null image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Acquire)
    }

    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Grows or shrinks the disk, and its file with it.
    pub fn resize(&self, sectors: u64) -> io::Result<()> {
        if let Backing::File(file) = &self.backing {
            file.set_len(sectors * u64::from(SECTOR_SIZE))?;
        }
        self.sectors.store(sectors, Ordering::Release);
        Ok(())
    }

    /// Fills the buffers from the disk, starting at `sector`.
    ///
    /// # Safety
    /// Each buffer is valid for writes of its length.
    pub unsafe fn read(&self, sector: u64, buffers: &[Buffer]) -> io::Result<()> {
        match &self.backing {
            Backing::File(file) => {
                // SAFETY: the buffers are valid for writes, as the caller promises.
                let read = |v: &[iovec], at| unsafe {
                    libc::preadv(file.as_raw_fd(), v.as_ptr(), v.len() as c_int, at)
                };
                transfer(sector, buffers, read)
            }
            Backing::Null => {
                for b in buffers {
                    // SAFETY: valid for writes, as the caller promises.
                    unsafe { ptr::write_bytes(b.start, 0, b.len) };
                }
                Ok(())
            }
        }
    }

    /// Writes the buffers to the disk, starting at `sector`.
    ///
    /// # Safety
    /// Each buffer is valid for reads of its length.
    pub unsafe fn write(&self, sector: u64, buffers: &[Buffer]) -> io::Result<()> {
        match &self.backing {
            Backing::File(file) => {
                // SAFETY: the buffers are valid for reads, as the caller promises.
                let write = |v: &[iovec], at| unsafe {
                    libc::pwritev(file.as_raw_fd(), v.as_ptr(), v.len() as c_int, at)
                };
                transfer(sector, buffers, write)
            }
            Backing::Null => Ok(()),
        }
    }

    /// Makes what was written durable.
    pub fn flush(&self) -> io::Result<()> {
        match &self.backing {
            Backing::File(file) => file.sync_data(),
            Backing::Null => Ok(()),
        }
    }

    /// Gives the space of a range back; it reads as zeros afterwards.
    pub fn discard(&self, sector: u64, sectors: u64) -> io::Result<()> {
        let Backing::File(file) = &self.backing else {
            return Ok(());
        };
        let (offset, len) = (byte_offset(sector)?, byte_offset(sectors)?);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: no memory is involved.
        match unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn byte_offset(sectors: u64) -> io::Result<off_t> {
    let bytes = sectors
        .checked_mul(u64::from(SECTOR_SIZE))
        .and_then(|b| off_t::try_from(b).ok());
    bytes.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Repeats a vectored transfer until all is done. Buffers that follow each other in memory become one.
fn transfer(
    sector: u64,
    buffers: &[Buffer],
    call: impl Fn(&[iovec], off_t) -> isize,
) -> io::Result<()> {
    let mut vector: Vec<iovec> = Vec::with_capacity(buffers.len());
    for b in buffers {
        match vector.last_mut() {
            Some(last) if last.iov_base.cast::<u8>().wrapping_add(last.iov_len) == b.start => {
                last.iov_len += b.len
            }
            _ => vector.push(iovec {
                iov_base: b.start.cast(),
                iov_len: b.len,
            }),
        }
    }
    let mut at = byte_offset(sector)?;
    let mut rest = vector.as_mut_slice();
    while !rest.is_empty() {
        let batch = rest.len().min(MAX_VECTOR);
        let mut done = match call(&rest[..batch], at) {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            n if n < 0 => {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            n => n as usize,
        };
        at += done as off_t;
        while let Some(first) = rest.first_mut() {
            if done < first.iov_len {
                first.iov_base = first.iov_base.cast::<u8>().wrapping_add(done).cast();
                first.iov_len -= done;
                break;
            }
            done -= first.iov_len;
            rest = &mut rest[1..];
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: &mut [u8]) -> Buffer {
        Buffer {
            start: bytes.as_mut_ptr(),
            len: bytes.len(),
        }
    }

    fn temporary(name: &str, bytes: &[u8]) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("backends-image-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn scattered_buffers_are_written_and_read_in_order() {
        let path = temporary("scatter", &[0; 8192]);
        let image = Image::open(&path, false).unwrap();
        let (mut a, mut b) = (vec![1u8; 512], vec![2u8; 1024]);
        // SAFETY: both vectors live on.
        unsafe { image.write(3, &[buffer(&mut a), buffer(&mut b)]) }.unwrap();
        let mut back = vec![0u8; 1536];
        // SAFETY: the vector lives on.
        unsafe { image.read(3, &[buffer(&mut back)]) }.unwrap();
        assert_eq!(back, [vec![1; 512], vec![2; 1024]].concat());
        image.discard(3, 1).unwrap();
        // SAFETY: the vector lives on.
        unsafe { image.read(3, &[buffer(&mut a)]) }.unwrap();
        assert_eq!(a, [0; 512]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn bad_images_are_named_with_their_fault() {
        let why = |path: &Path| Image::open(path, false).unwrap_err().to_string();
        let odd = temporary("odd", &[0; 700]);
        let empty = temporary("empty", &[]);
        assert_eq!(
            why(Path::new("/no/such")),
            "disk image /no/such: no such file"
        );
        assert_eq!(
            why(&odd),
            format!(
                "disk image {}: 700 bytes are not a multiple of 512",
                odd.display()
            )
        );
        assert_eq!(
            why(&empty),
            format!("disk image {}: empty", empty.display())
        );
        assert_eq!(why(Path::new("/tmp")), "disk image /tmp: not a file");
        assert!(matches!(
            Image::open(Path::new("/tmp"), true).unwrap_err().why,
            BadImage::NotAFile
        ));
        for path in [odd, empty] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
