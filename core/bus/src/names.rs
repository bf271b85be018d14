//! What Windows asks the bus of a child by: its names.

use crate::{NoMemory, Text};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Text with its NUL, in ASCII.
pub type Name = Result<Vec<u8>, NoMemory>;

/// The names of a child. Each is made anew and fails without memory.
pub trait Names {
    /// `BusQueryDeviceID`.
    fn device_id(&self) -> Name;

    /// `BusQueryInstanceID`.
    fn instance_id(&self) -> Name;

    /// `BusQueryHardwareIDs` and `BusQueryCompatibleIDs`: one for each live revision, the newest first, then a generic
    /// one; each NUL-terminated, and a NUL at the end.
    fn hardware_ids(&self) -> Name;

    /// `BusQueryContainerID`, of a device that is one by itself.
    fn container_id(&self) -> Option<Name> {
        None
    }

    /// `DeviceTextDescription`.
    fn description(&self) -> Name;

    /// `DeviceTextLocationInformation`.
    fn location(&self) -> Name;
}

/// One name.
pub(crate) fn text(arguments: fmt::Arguments<'_>) -> Name {
    let mut bytes = Vec::new();
    Text(&mut bytes)
        .write_fmt(arguments)
        .map_err(|fmt::Error| NoMemory)?;
    Ok(bytes)
}

/// Hardware IDs: `device` with each revision, oldest first as they are listed, and the generic one.
pub(crate) fn with_revisions(
    device: fmt::Arguments<'_>,
    revisions: impl DoubleEndedIterator<Item = u32>,
    generic: &str,
) -> Name {
    let mut ids = Vec::new();
    for revision in revisions.rev() {
        write!(Text(&mut ids), "{device}&REV_{revision:08X}\0").map_err(|fmt::Error| NoMemory)?;
    }
    write!(Text(&mut ids), "{generic}\0\0").map_err(|fmt::Error| NoMemory)?;
    Ok(ids)
}
