//! Disk images: files that become PV disks, checked before anything is booted.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// A disk image is made of sectors of this size (xen/public/io/blkif.h: the ring counts in units of 512 bytes).
const SECTOR: u64 = 512;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The system's own reason.
    #[error("disk image {}: {reason}", path.display())]
    System {
        /// The image.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("disk image {}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// No bytes.
    #[error("disk image {}: the file is empty", .0.display())]
    Empty(PathBuf),
    /// Not made of sectors.
    #[error("disk image {}: {bytes} bytes are not a multiple of {SECTOR}", path.display())]
    OddSize {
        /// The image.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Another program has locked it.
    #[error("disk image {}: in use by another program", .0.display())]
    InUse(PathBuf),
    /// Named twice.
    #[error("disk image {}: given twice", .0.display())]
    Twice(PathBuf),
}

/// An image that can be attached. While this lives, no other rig takes the file.
#[derive(Debug)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// The file, open for reading, and for writing unless it is read-only.
    pub file: File,
    /// Its size.
    pub bytes: u64,
    /// The file may not be written: the disk is read-only.
    pub read_only: bool,
}

impl Image {
    /// Opens and checks a file.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let system = |reason| ImageError::System {
            path: path.to_owned(),
            reason,
        };
        // Before the file is opened: opening a pipe would wait for its other end.
        let metadata = fs::metadata(path).map_err(system)?;
        if !metadata.is_file() {
            return Err(ImageError::NotAFile(path.to_owned()));
        }
        let (file, read_only) = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => (file, false),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                (File::open(path).map_err(system)?, true)
            }
            Err(error) => return Err(system(error)),
        };
        let bytes = file.metadata().map_err(system)?.len();
        if bytes == 0 {
            return Err(ImageError::Empty(path.to_owned()));
        }
        if !bytes.is_multiple_of(SECTOR) {
            return Err(ImageError::OddSize {
                path: path.to_owned(),
                bytes,
            });
        }
        let locked = if read_only {
            file.try_lock_shared()
        } else {
            file.try_lock()
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ImageError::InUse(path.to_owned())),
            Err(TryLockError::Error(reason)) => return Err(system(reason)),
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            read_only,
        })
    }

    /// Opens and checks several, all different.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>, ImageError> {
        let mut seen = Vec::new();
        for path in paths {
            // A path that cannot be resolved gets its message from `open`.
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if seen.contains(&real) {
                return Err(ImageError::Twice(path.clone()));
            }
            seen.push(real);
        }
        paths.iter().map(|path| Self::open(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str, bytes: u64) -> PathBuf {
        let path = std::env::temp_dir().join(format!("winpv-image-{}-{name}", std::process::id()));
        File::create(&path)
            .and_then(|file| file.set_len(bytes))
            .unwrap();
        path
    }

    #[test]
    fn what_cannot_be_a_disk_is_named_in_one_line() {
        let missing = Path::new("/nonexistent/disk.img");
        let odd = scratch("odd", 1000);
        let empty = scratch("empty", 0);
        for (path, words) in [
            (missing, "No such file"),
            (Path::new("/tmp"), "not a regular file"),
            (Path::new("/dev/null"), "not a regular file"),
            (&odd, "1000 bytes are not a multiple of 512"),
            (&empty, "the file is empty"),
        ] {
            let message = Image::open(path).unwrap_err().to_string();
            assert!(
                message.contains(words) && message.contains(path.to_str().unwrap()),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
        fs::remove_file(odd).unwrap();
        fs::remove_file(empty).unwrap();
    }

    #[test]
    fn an_image_is_taken_once() {
        let path = scratch("twice", 1024);
        let image = Image::open(&path).unwrap();
        assert_eq!((image.bytes, image.read_only), (1024, false));
        assert!(matches!(Image::open(&path), Err(ImageError::InUse(_))));
        drop(image);
        assert!(matches!(
            Image::open_all(&[path.clone(), path.clone()]),
            Err(ImageError::Twice(_))
        ));
        assert!(Image::open(&path).is_ok());
        fs::remove_file(path).unwrap();
    }
}
