//! Why an image cannot be loaded.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Each variant names the image it is about first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// No file of that name was provided.
    NotFound(String),
    /// Not a PE image, or a damaged one; what the parser says.
    NotPe(String, &'static str),
    /// For another machine than x64; the machine field of the COFF header.
    WrongMachine(String, u16),
    /// Not for the native subsystem; the subsystem field of the optional header.
    WrongSubsystem(String, u16),
    /// A section is both writable and executable.
    WritableAndExecutable(String, String),
    /// Imports functions that nothing provides: module and function of each.
    UnknownImports(String, Vec<(String, String)>),
    /// It cannot be moved from its preferred address.
    NoRelocations(String),
    /// Needs an image that needs this one.
    Cycle(String, String),
    /// No RAM to load it into.
    NoMemory(String),
    /// `DllInitialize` of an export driver failed, with this status.
    DllInitialize(String, i32),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(image) => write!(f, "{image}: no such driver file"),
            Self::NotPe(image, why) => write!(f, "{image}: not a PE image ({why})"),
            Self::WrongMachine(image, machine) => {
                write!(f, "{image}: for machine {machine:#06x}, not x64 (0x8664)")
            }
            Self::WrongSubsystem(image, subsystem) => {
                write!(f, "{image}: for subsystem {subsystem}, not native (1)")
            }
            Self::WritableAndExecutable(image, section) => {
                write!(
                    f,
                    "{image}: section {section} is both writable and executable"
                )
            }
            Self::UnknownImports(image, missing) => {
                let mut names = missing.iter();
                if let Some((module, function)) = names.next() {
                    write!(
                        f,
                        "{image}: imports {module}!{function}, which nothing provides"
                    )?;
                }
                for (index, (module, function)) in names.enumerate() {
                    let before = if index == 0 { "; nor" } else { "," };
                    write!(f, "{before} {module}!{function}")?;
                }
                Ok(())
            }
            Self::NoRelocations(image) => {
                write!(f, "{image}: has no relocations, so it cannot be loaded")
            }
            Self::Cycle(image, module) => {
                write!(f, "{image}: imports from {module}, which needs {image}")
            }
            Self::NoMemory(image) => write!(f, "{image}: no memory to load it"),
            Self::DllInitialize(image, status) => {
                write!(
                    f,
                    "{image}: DllInitialize failed with status {status:#010x}"
                )
            }
        }
    }
}

impl core::error::Error for LoadError {}
