//! The line under `drivers/` by which the toolstack sees which PV drivers a domain runs.

use nt::{NtStatus, Result};
use pv_client::store::{Access, Store};
use pv_client::{CText, c_text};

/// Entries there may be.
const ENTRIES: u32 = 256;
const VENDOR: &str = match option_env!("VENDOR_NAME") {
    Some(name) => name,
    None => "Xen Project",
};

/// `Xen_Project XENVBD`: what is common to the lines of all versions of this driver.
fn product() -> CText {
    let mut vendor = CText::from_bytes(b"");
    for character in VENDOR.chars() {
        let character = if character.is_ascii_alphanumeric() {
            character
        } else {
            '_'
        };
        // A name too long is cut off.
        let _ = core::fmt::Write::write_char(&mut vendor, character);
    }
    c_text!("{vendor} XENVBD ")
}

/// Writes the line, in place of any older one of ours.
pub(crate) fn write(store: &Store) -> Result<()> {
    let debug = if cfg!(debug_assertions) {
        " (DEBUG)"
    } else {
        ""
    };
    let value = c_text!("{}{}.0{debug}", product(), env!("CARGO_PKG_VERSION"));
    store.transact(|access| {
        remove_ours(access)?;
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
pub(crate) fn remove(store: &Store) -> Result<()> {
    store.transact(remove_ours)
}

fn directory() -> CText {
    c_text!("drivers")
}

fn remove_ours(access: Access<'_>) -> Result<()> {
    let product = product();
    let Ok(entries) = access.list(None, &directory()) else {
        return Ok(());
    };
    for name in entries.names() {
        let node = CText::from_bytes(name);
        let ours = access
            .read(&directory(), &node)
            .is_ok_and(|value| value.as_bytes().starts_with(product.as_bytes()));
        if ours {
            access.remove(Some(&directory()), &node)?;
        }
    }
    Ok(())
}
