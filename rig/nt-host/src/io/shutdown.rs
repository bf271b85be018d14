//! Shutdown notification: devices that get IRP_MJ_SHUTDOWN before the system goes down.

use alloc::vec::Vec;

use nt_sys::{DEVICE_OBJECT, DO_SHUTDOWN_REGISTERED, IRP_MJ_SHUTDOWN, NTSTATUS, STATUS_SUCCESS};

use super::request;
use crate::exports;
use crate::ob;
use crate::sync::Mutex;

static REGISTERED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Microsoft Learn: IoRegisterShutdownNotification.
///
/// # Safety
/// `device` is a live device object.
pub unsafe extern "win64" fn IoRegisterShutdownNotification(
    device: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    unsafe { (*device).Flags |= DO_SHUTDOWN_REGISTERED };
    // SAFETY: the caller's promise; the list keeps the reference.
    unsafe { ob::keep(device.cast()) };
    REGISTERED.lock().push(device as usize);
    STATUS_SUCCESS
}

/// Microsoft Learn: IoUnregisterShutdownNotification.
///
/// # Safety
/// `device` is a live device object.
pub unsafe extern "win64" fn IoUnregisterShutdownNotification(device: *mut DEVICE_OBJECT) {
    let mut registered = REGISTERED.lock();
    let before = registered.len();
    registered.retain(|other| *other != device as usize);
    let gone = before.saturating_sub(registered.len());
    drop(registered);
    // SAFETY: the caller's promise.
    unsafe { (*device).Flags &= !DO_SHUTDOWN_REGISTERED };
    for _ in 0..gone {
        // SAFETY: drops a reference of the list.
        unsafe { ob::give_up(device.cast()) };
    }
}

/// Sends IRP_MJ_SHUTDOWN to every registered device, the last registered first. At PASSIVE_LEVEL.
pub fn notify() {
    let devices = core::mem::take(&mut *REGISTERED.lock());
    for device in devices.into_iter().rev() {
        let device = device as *mut DEVICE_OBJECT;
        // SAFETY: the list held a reference, which this function has now.
        unsafe {
            request::send(
                device,
                IRP_MJ_SHUTDOWN,
                0,
                nt_sys::STATUS_NOT_SUPPORTED,
                |_| (),
            )
        };
        // SAFETY: drops that reference.
        unsafe { ob::give_up(device.cast()) };
    }
}

exports!("ntoskrnl.exe": IoRegisterShutdownNotification, IoUnregisterShutdownNotification);
