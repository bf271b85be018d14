//! What a miniport asks NDIS of its device.

use core::ptr::null_mut;

use nt_host::exports;
use nt_sys::ndis::NDIS_HANDLE;
use nt_sys::{DEVICE_OBJECT, PVOID};

use crate::adapter::Adapter;

/// Microsoft Learn: NdisMGetDeviceProperty. Any place may be null.
///
/// # Safety
/// The places are null or writable.
pub unsafe extern "win64" fn NdisMGetDeviceProperty(
    handle: NDIS_HANDLE,
    physical: *mut *mut DEVICE_OBJECT,
    functional: *mut *mut DEVICE_OBJECT,
    next: *mut *mut DEVICE_OBJECT,
    resources: *mut PVOID,
    translated: *mut PVOID,
) {
    let adapter = Adapter::of(handle, "NdisMGetDeviceProperty");
    for (place, device) in [
        (physical, adapter.pdo),
        (functional, adapter.fdo),
        (next, adapter.lower),
    ] {
        if !place.is_null() {
            // SAFETY: the caller's promise.
            unsafe { place.write(device) };
        }
    }
    for place in [resources, translated] {
        if !place.is_null() {
            // SAFETY: the caller's promise.
            unsafe { place.write(null_mut()) };
        }
    }
}

exports!("ndis.sys": NdisMGetDeviceProperty);
