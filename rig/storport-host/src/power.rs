//! Power requests: the port driver is the power policy owner of its adapters.
//!
//! A system power IRP becomes a device power IRP for the whole stack first, so that a miniport which hooks
//! them hears of every change; then it goes on down.

use alloc::boxed::Box;
use alloc::sync::Arc;

use nt_host::io::incoming::Incoming;
use nt_host::po::{PoRequestPowerIrp, PoSetPowerState};
use nt_sys::{
    DEVICE_OBJECT, DevicePowerState, IO_STATUS_BLOCK, IRP_MN_QUERY_POWER, IRP_MN_SET_POWER,
    NTSTATUS, POWER_STATE, PVOID, PowerDeviceD0, PowerDeviceD3, PowerSystemWorking, STATUS_PENDING,
    STATUS_SUCCESS, SystemPowerState, UCHAR, nt_success,
};

use crate::adapter::Adapter;

/// A system power IRP that waits for the device's.
struct Waiting {
    adapter: Arc<Adapter>,
    request: Incoming,
}

/// Power requests for an adapter's device.
pub fn adapter(adapter: &Arc<Adapter>, request: Incoming) -> NTSTATUS {
    // SAFETY: power requests have this member of the union filled in.
    let power = unsafe { request.parameters().Power };
    let minor = request.function().1;
    let to_device =
        matches!(minor, IRP_MN_SET_POWER | IRP_MN_QUERY_POWER) && power.Type == SystemPowerState;
    if to_device {
        // SAFETY: every member of the union is a number.
        let working = unsafe { power.State.SystemState } == PowerSystemWorking;
        let state = POWER_STATE {
            DeviceState: if working {
                PowerDeviceD0
            } else {
                PowerDeviceD3
            },
        };
        request.pend();
        let waiting = Box::new(Waiting {
            adapter: adapter.clone(),
            request,
        });
        let context = Box::into_raw(waiting).cast();
        // SAFETY: the adapter's device lives while a request is at it.
        let status = unsafe {
            PoRequestPowerIrp(
                adapter.fdo,
                minor,
                state,
                Some(done),
                context,
                core::ptr::null_mut(),
            )
        };
        if status != STATUS_PENDING {
            // SAFETY: nobody else has the context, since no IRP was sent.
            let waiting = unsafe { Box::from_raw(context.cast::<Waiting>()) };
            waiting.request.complete(Err(status));
        }
        return STATUS_PENDING;
    }
    if minor == IRP_MN_SET_POWER && power.Type == DevicePowerState {
        // SAFETY: the adapter's device lives while a request is at it.
        unsafe { PoSetPowerState(adapter.fdo, DevicePowerState, power.State) };
    }
    // SAFETY: the adapter is attached to this device.
    unsafe { request.pass(adapter.lower) }
}

unsafe extern "win64" fn done(
    _device: *mut DEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    context: PVOID,
    status: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: the context that `adapter` gave, once.
    let waiting = unsafe { Box::from_raw(context.cast::<Waiting>()) };
    // SAFETY: valid as documented for this routine.
    let status = unsafe { (*status).Status };
    let Waiting { adapter, request } = *waiting;
    if !nt_success(status) {
        request.complete(Err(status));
        return;
    }
    // SAFETY: the adapter is attached to this device.
    unsafe { request.pass(adapter.lower) };
}

/// Power requests for a disk's PDO: nothing to do, since the adapter goes with it.
pub fn unit(request: Incoming) -> NTSTATUS {
    match request.function().1 {
        IRP_MN_SET_POWER | IRP_MN_QUERY_POWER => request.set(STATUS_SUCCESS, 0),
        _ => {}
    }
    request.finish()
}
