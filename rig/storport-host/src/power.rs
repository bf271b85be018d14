//! Power requests: the port driver is the power policy owner of its adapters.
//!
//! A system power IRP becomes a device power IRP for the whole stack first, so that a miniport which hooks
//! them hears of every change; then it goes on down.

use alloc::sync::Arc;

use nt_host::io::incoming::Incoming;
use nt_host::po::{PoSetPowerState, policy};
use nt_sys::{
    DevicePowerState, IRP_MN_QUERY_POWER, IRP_MN_SET_POWER, NTSTATUS, STATUS_SUCCESS,
    SystemPowerState,
};

use crate::adapter::Adapter;

/// Power requests for an adapter's device.
pub fn adapter(adapter: &Arc<Adapter>, request: Incoming) -> NTSTATUS {
    // SAFETY: power requests have this member of the union filled in.
    let power = unsafe { request.parameters().Power };
    let minor = request.function().1;
    if matches!(minor, IRP_MN_SET_POWER | IRP_MN_QUERY_POWER) && power.Type == SystemPowerState {
        let owner = Arc::clone(adapter);
        let on = move |request: Incoming| {
            // SAFETY: the adapter is attached to this device.
            unsafe { request.pass(owner.lower) };
        };
        // SAFETY: the adapter's device lives while a request is at it.
        return unsafe { policy::device_first(adapter.fdo, request, on) };
    }
    if minor == IRP_MN_SET_POWER && power.Type == DevicePowerState {
        // SAFETY: the adapter's device lives while a request is at it.
        unsafe { PoSetPowerState(adapter.fdo, DevicePowerState, power.State) };
    }
    // SAFETY: the adapter is attached to this device.
    unsafe { request.pass(adapter.lower) }
}

/// Power requests for a disk's PDO: nothing to do, since the adapter goes with it.
pub fn unit(request: Incoming) -> NTSTATUS {
    match request.function().1 {
        IRP_MN_SET_POWER | IRP_MN_QUERY_POWER => request.set(STATUS_SUCCESS, 0),
        _ => {}
    }
    request.finish()
}
