//! The driver packages of a folder: `.inf` files and the images they install, checked before anything runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use nt_host::{
    export,
    pe::{
        LoadError,
        image::{Import, Layout},
    },
};

/// A driver image.
#[derive(Clone)]
pub struct Image {
    /// File name: `xenbus.sys`.
    pub name: String,
    /// Where it is; its debug information is beside it.
    pub folder: PathBuf,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

/// An INF file.
#[derive(Clone)]
pub struct Inf {
    /// File name: `xenbus.inf`.
    pub name: String,
    /// Where it is.
    pub folder: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What a folder holds.
pub struct Packages {
    /// Where they are.
    pub folder: PathBuf,
    /// The INF files, by name.
    pub infs: Vec<Inf>,
    /// The images, by name.
    pub images: Vec<Image>,
}

/// Why a folder's packages cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The folder or a file in it cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The folder or the file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Nothing to install.
    #[error("{}: no .inf files there; ./x build makes the drivers", .0.display())]
    NoInf(PathBuf),
    /// No package at all.
    #[error("{}: no .inf or .sys files there; ./x build makes the drivers", .0.display())]
    Nothing(PathBuf),
    /// An image that cannot be loaded.
    #[error("{}/{why}", folder.display())]
    Image {
        /// The folder.
        folder: PathBuf,
        /// What is wrong, starting with the image's name.
        why: LoadError,
    },
}

/// Seconds after which a hasty class driver has storport reset the disk, instead of the INF's two minutes.
const HASTY: u32 = 3;

impl Packages {
    /// Gives the class driver less patience with the disks: for machines on which requests are lost.
    pub fn make_hasty(&mut self) {
        for inf in &mut self.infs {
            let text = String::from_utf8_lossy(&inf.bytes).replace(
                "TimeOutValue,0x00010001,120",
                &format!("TimeOutValue,0x00010001,{HASTY}"),
            );
            inf.bytes = text.into_bytes();
        }
    }

    /// Leaves a driver out: its INF and its image.
    pub fn leave_out(&mut self, driver: &str) {
        self.infs.retain(|inf| inf.name != format!("{driver}.inf"));
        self.images
            .retain(|image| image.name != format!("{driver}.sys"));
    }

    /// Reads every `.inf` and `.sys` of a folder, with those of the folder `ours` for which it has none of the same name.
    pub fn read_over(folder: &Path, ours: &Path) -> Result<Self, PackageError> {
        let mut packages = Self::read_all(folder)?;
        if packages.infs.is_empty() && packages.images.is_empty() {
            return Err(PackageError::Nothing(folder.to_owned()));
        }
        // Without a build of ours the folder has to be complete.
        if let Ok(rest) = Self::read_all(ours) {
            for inf in rest.infs {
                if !packages.infs.iter().any(|own| own.name == inf.name) {
                    packages.infs.push(inf);
                }
            }
            for image in rest.images {
                if !packages.images.iter().any(|own| own.name == image.name) {
                    packages.images.push(image);
                }
            }
        }
        packages.finish()
    }

    /// Reads every `.inf` and `.sys` of a folder.
    pub fn read(folder: &Path) -> Result<Self, PackageError> {
        Self::read_all(folder)?.finish()
    }

    fn finish(mut self) -> Result<Self, PackageError> {
        if self.infs.is_empty() {
            return Err(PackageError::NoInf(self.folder));
        }
        self.infs.sort_by(|a, b| a.name.cmp(&b.name));
        self.images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(self)
    }

    fn read_all(folder: &Path) -> Result<Self, PackageError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |reason| PackageError::Unreadable { path, reason }
        };
        let mut packages = Self {
            folder: folder.to_owned(),
            infs: Vec::new(),
            images: Vec::new(),
        };
        for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
            let path = entry.map_err(unreadable(folder))?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_lowercase();
            let read = || fs::read(&path).map_err(unreadable(&path));
            if name.ends_with(".inf") {
                packages.infs.push(Inf {
                    name,
                    folder: folder.to_owned(),
                    bytes: read()?,
                });
            } else if name.ends_with(".sys") {
                packages.images.push(Image {
                    name,
                    folder: folder.to_owned(),
                    bytes: read()?.into(),
                });
            }
        }
        Ok(packages)
    }

    /// Checks that every image can be loaded and all it imports is there. To be called when the executive exists.
    pub fn check(&self) -> Result<(), PackageError> {
        let fail = |image: &Image, why| PackageError::Image {
            folder: image.folder.clone(),
            why,
        };
        let layouts = self
            .images
            .iter()
            .map(|image| {
                Layout::read(&image.name, &image.bytes)
                    .map(|layout| (image.name.as_str(), layout))
                    .map_err(|why| fail(image, why))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for (image, (name, layout)) in self.images.iter().zip(&layouts) {
            let is_missing = |import: &&Import| {
                export::find(&import.module, &import.name).is_none()
                    && !layouts.iter().any(|(other, layout)| {
                        other.eq_ignore_ascii_case(&import.module) && layout.provides(&import.name)
                    })
            };
            let missing: Vec<_> = layout
                .imports
                .iter()
                .filter(is_missing)
                .map(|import| (import.module.clone(), import.name.clone()))
                .collect();
            if !missing.is_empty() {
                return Err(fail(
                    image,
                    LoadError::UnknownImports((*name).to_owned(), missing),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[&str]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("winpv-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for file in files {
            fs::write(path.join(file), name).unwrap();
        }
        path
    }

    #[test]
    fn what_a_folder_lacks_comes_from_the_other() {
        let ours = folder(
            "ours",
            &[
                "xen.sys",
                "xenbus.inf",
                "xenbus.sys",
                "xenvbd.inf",
                "xenvbd.sys",
            ],
        );
        let theirs = folder(
            "theirs",
            &["XenVbd.inf", "xenvbd.sys", "xencrsh.sys", "readme.txt"],
        );
        let packages = Packages::read_over(&theirs, &ours).unwrap();
        let infs = packages.infs.iter().map(|inf| (&*inf.name, &inf.folder));
        assert_eq!(
            infs.collect::<Vec<_>>(),
            [("xenbus.inf", &ours), ("xenvbd.inf", &theirs)]
        );
        let images = packages
            .images
            .iter()
            .map(|image| (&*image.name, &*image.bytes));
        let expected: [(&str, &[u8]); 4] = [
            ("xen.sys", b"ours"),
            ("xenbus.sys", b"ours"),
            ("xencrsh.sys", b"theirs"),
            ("xenvbd.sys", b"theirs"),
        ];
        assert_eq!(images.collect::<Vec<_>>(), expected);
        // Complete by itself, or empty.
        assert!(Packages::read_over(&ours, Path::new("/nonexistent")).is_ok());
        let empty = folder("empty", &[]);
        let refused = Packages::read_over(&empty, &ours)
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("no .inf or .sys files there"), "{refused}");
        for path in [ours, theirs, empty] {
            fs::remove_dir_all(path).unwrap();
        }
    }
}
