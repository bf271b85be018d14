//! What turns a `no_std` program into a Windows driver image: the linker's options and the version resource.
//!
//! Each driver's `build.rs` is one call:
//!
//! ```no_run
//! driver_build::Driver { name: "xenbus", description: "PV Bus", exports: None }.configure();
//! ```
//!
//! Nothing happens unless the target is Windows, so that the workspace can be inspected on the host.

mod link;
mod resource;

use std::{env, fs, path::PathBuf};

pub use resource::{VersionInfo, encode};

/// Who the images say they come from; the INF files use the same words.
pub const VENDOR: &str = "Xen Project";
/// The product the images say they belong to.
pub const PRODUCT: &str = "Xen";
/// The copyright line of every image.
pub const COPYRIGHT: &str = "Copyright (c) The winpv contributors";

/// One driver image.
pub struct Driver<'a> {
    /// Base name of the image: `xenbus` for `xenbus.sys`.
    pub name: &'a str,
    /// What the image is, for the version resource.
    pub description: &'a str,
    /// Module definition file with the exports, relative to the crate, for an export driver.
    pub exports: Option<&'a str>,
}

impl Driver<'_> {
    /// Tells cargo how to link this driver. To be called from `build.rs`.
    ///
    /// # Panics
    /// When cargo's environment is not there or the resource cannot be written: a build script has no other way to fail.
    pub fn configure(&self) {
        println!("cargo:rerun-if-changed=build.rs");
        if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("windows") {
            return;
        }
        let resource = self.write_resource();
        for option in link::OPTIONS {
            println!("cargo:rustc-link-arg-bins={option}");
        }
        println!("cargo:rustc-link-arg-bins={}", resource.display());
        if let Some(exports) = self.exports {
            println!("cargo:rerun-if-changed={exports}");
            let definition = PathBuf::from(cargo("CARGO_MANIFEST_DIR")).join(exports);
            println!("cargo:rustc-link-arg-bins=/DEF:{}", definition.display());
        }
    }

    fn write_resource(&self) -> PathBuf {
        let number = |name: &str| {
            cargo(name)
                .parse::<u16>()
                .expect("cargo's version numbers are small")
        };
        let version = [
            number("CARGO_PKG_VERSION_MAJOR"),
            number("CARGO_PKG_VERSION_MINOR"),
            number("CARGO_PKG_VERSION_PATCH"),
            0,
        ];
        let file = format!("{}.sys", self.name);
        let bytes = encode(&VersionInfo {
            version,
            strings: &[
                ("CompanyName", VENDOR),
                ("FileDescription", self.description),
                ("FileVersion", &dotted(version)),
                ("InternalName", &file),
                ("LegalCopyright", COPYRIGHT),
                ("OriginalFilename", &file),
                ("ProductName", PRODUCT),
                ("ProductVersion", &dotted(version)),
            ],
        });
        let path = PathBuf::from(cargo("OUT_DIR")).join(format!("{}.res", self.name));
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

fn dotted(version: [u16; 4]) -> String {
    version.map(|part| part.to_string()).join(".")
}

fn cargo(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: this runs in a build script only"))
}
