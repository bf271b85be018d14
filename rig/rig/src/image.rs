//! Disk images named on the command line: checked and claimed before anything is booted.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use backends::block::{BadImage, Image, ImageError};

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It is no disk image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Another program has locked it.
    #[error("disk image {}: in use by another program", .0.display())]
    InUse(PathBuf),
    /// The same file twice.
    #[error("disk image {}: given twice", .0.display())]
    Twice(PathBuf),
}

/// An image that is this rig's: while this lives, no other rig takes the file.
#[derive(Debug)]
pub struct Claim {
    /// The contents, for the backend. Read-only where the file may not be written.
    pub image: Image,
    lock: Option<File>,
}

impl Claim {
    /// Opens, checks and locks a file.
    pub fn new(path: &Path) -> Result<Self, ClaimError> {
        let image = Image::open(path, false).or_else(|error| match &error.why {
            BadImage::Unusable(reason)
                if matches!(
                    reason.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Image::open(path, true)
            }
            _ => Err(error),
        })?;
        let unusable = |reason| ImageError {
            path: path.to_owned(),
            why: BadImage::Unusable(reason),
        };
        let lock = File::open(path).map_err(unusable)?;
        match if image.is_read_only() {
            lock.try_lock_shared()
        } else {
            lock.try_lock()
        } {
            Ok(()) => Ok(Self {
                image,
                lock: Some(lock),
            }),
            Err(TryLockError::WouldBlock) => Err(ClaimError::InUse(path.to_owned())),
            Err(TryLockError::Error(reason)) => Err(unusable(reason).into()),
        }
    }

    /// A disk of so many sectors with nothing behind it (see [`Image::null`]).
    pub fn null(sectors: u64) -> Self {
        Self {
            image: Image::null(sectors),
            lock: None,
        }
    }

    /// The contents, and what keeps others away until it is dropped.
    pub fn into_parts(self) -> (Image, Option<File>) {
        (self.image, self.lock)
    }

    /// Several, all different.
    pub fn all(paths: &[PathBuf]) -> Result<Vec<Self>, ClaimError> {
        let mut seen = Vec::new();
        for path in paths {
            // A path that cannot be resolved gets its message from `new`.
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if seen.contains(&real) {
                return Err(ClaimError::Twice(path.clone()));
            }
            seen.push(real);
        }
        paths.iter().map(|path| Self::new(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            (missing, "no such file"),
            (Path::new("/tmp"), "not a file"),
            (&odd, "1000 bytes are not a multiple of 512"),
            (&empty, "empty"),
        ] {
            let message = Claim::new(path).unwrap_err().to_string();
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
        let claim = Claim::new(&path).unwrap();
        assert!(!claim.image.is_read_only());
        assert!(matches!(Claim::new(&path), Err(ClaimError::InUse(_))));
        drop(claim);
        assert!(matches!(
            Claim::all(&[path.clone(), path.clone()]),
            Err(ClaimError::Twice(_))
        ));
        assert!(Claim::new(&path).is_ok());
        fs::remove_file(path).unwrap();
    }
}
