//! The driver packages of a folder: `.inf` files and the images they install, checked before anything runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use nt_host::{
    export,
    pe::{LoadError, image::Layout},
};

/// A driver image.
#[derive(Clone)]
pub struct Image {
    /// File name: `xenbus.sys`.
    pub name: String,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

/// An INF file.
#[derive(Clone)]
pub struct Inf {
    /// File name: `xenbus.inf`.
    pub name: String,
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
    /// An image that cannot be loaded.
    #[error("{}/{why}", folder.display())]
    Image {
        /// The folder.
        folder: PathBuf,
        /// What is wrong, starting with the image's name.
        why: LoadError,
    },
}

impl Packages {
    /// Reads every `.inf` and `.sys` of a folder.
    pub fn read(folder: &Path) -> Result<Self, PackageError> {
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
                    bytes: read()?,
                });
            } else if name.ends_with(".sys") {
                packages.images.push(Image {
                    name,
                    bytes: read()?.into(),
                });
            }
        }
        if packages.infs.is_empty() {
            return Err(PackageError::NoInf(folder.to_owned()));
        }
        packages.infs.sort_by(|a, b| a.name.cmp(&b.name));
        packages.images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(packages)
    }

    /// Checks that every image can be loaded and all it imports is there. To be called when the executive exists.
    pub fn check(&self) -> Result<(), PackageError> {
        let fail = |why| PackageError::Image {
            folder: self.folder.clone(),
            why,
        };
        let layouts = self
            .images
            .iter()
            .map(|image| {
                Layout::read(&image.name, &image.bytes).map(|layout| (image.name.as_str(), layout))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail)?;
        for (name, layout) in &layouts {
            for import in &layout.imports {
                let provided = export::find(&import.module, &import.name).is_some()
                    || layouts.iter().any(|(other, layout)| {
                        other.eq_ignore_ascii_case(&import.module)
                            && layout.exports.contains_key(&import.name)
                    });
                if !provided {
                    let (module, function) = (import.module.clone(), import.name.clone());
                    return Err(fail(LoadError::UnknownImport(
                        (*name).to_owned(),
                        module,
                        function,
                    )));
                }
            }
        }
        Ok(())
    }
}
