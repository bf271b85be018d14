//! The line under `drivers/` by which the toolstack sees which PV drivers a domain runs.

use crate::store::{Access, Store};
use crate::{CText, c_text};
use bus::Distribution;
use nt::{NtStatus, Result};

/// Entries there may be.
const ENTRIES: u32 = 256;

/// Writes the line, in place of any older one of the same driver.
pub fn write(store: &Store, driver: &Distribution<'_>) -> Result<()> {
    let value = driver
        .value()
        .map_err(|bus::NoMemory| NtStatus::NO_MEMORY)?;
    let value = CText::from_bytes(&value);
    store.transact(|access| {
        remove_ours(access, driver)?;
        for index in 0..ENTRIES {
            let node = c_text!("{index}");
            match access.read(&directory(), &node) {
                Ok(_) => {}
                Err(NtStatus::OBJECT_NAME_NOT_FOUND) => {
                    return access.write(Some(&directory()), &node, &value);
                }
                Err(status) => return Err(status),
            }
        }
        Err(NtStatus::INSUFFICIENT_RESOURCES)
    })
}

/// Removes the line.
pub fn remove(store: &Store, driver: &Distribution<'_>) -> Result<()> {
    store.transact(|access| remove_ours(access, driver))
}

fn directory() -> CText {
    c_text!("drivers")
}

fn remove_ours(access: Access<'_>, driver: &Distribution<'_>) -> Result<()> {
    let Ok(entries) = access.list(None, &directory()) else {
        return Ok(());
    };
    for name in entries.names() {
        let node = CText::from_bytes(name);
        let ours = access
            .read(&directory(), &node)
            .is_ok_and(|value| driver.owns(value.as_bytes()));
        if ours {
            access.remove(Some(&directory()), &node)?;
        }
    }
    Ok(())
}
