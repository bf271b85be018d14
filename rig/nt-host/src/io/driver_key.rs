//! IoOpenDriverRegistryKey: the keys below a driver's service where it finds its parameters and keeps its state.

use alloc::format;
use alloc::vec::Vec;

use nt_sys::{
    DRIVER_OBJECT, HANDLE, NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};

use super::driver;
use crate::cm::tree::NewKey;
use crate::cm::{self, SERVICES};
use crate::exports;

// DRIVER_REGKEY_TYPE (wdm.h)
const PARAMETERS: u32 = 0;
const PERSISTENT_STATE: u32 = 1;

/// Microsoft Learn: IoOpenDriverRegistryKey; the key is made if it is not there. IRQL PASSIVE_LEVEL.
///
/// # Safety
/// `driver` is a driver object; `out` is writable.
pub unsafe extern "win64" fn IoOpenDriverRegistryKey(
    driver: *mut DRIVER_OBJECT,
    kind: u32,
    access: u32,
    flags: u32,
    out: *mut HANDLE,
) -> NTSTATUS {
    let below = match kind {
        PARAMETERS => "Parameters",
        PERSISTENT_STATE => "State",
        _ => return STATUS_INVALID_PARAMETER,
    };
    if flags != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let path = format!("{SERVICES}\\{}\\{below}", driver::name(driver));
    let units: Vec<u16> = path.encode_utf16().collect();
    let created = cm::with(|tree| tree.create(tree.root(), &units, NewKey::default()));
    let opened = created
        .ok()
        .and_then(|(id, _)| cm::zw::open_handle(id, access));
    let Some(handle) = opened else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(handle) };
    STATUS_SUCCESS
}

exports!("ntoskrnl.exe": IoOpenDriverRegistryKey);
