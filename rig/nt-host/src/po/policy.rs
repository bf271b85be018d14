//! The power policy of the port drivers that are the rig's own: a system power IRP becomes one for the device first, so that
//! the whole stack hears of the change; then it goes on.

use alloc::boxed::Box;

use nt_sys::{
    DEVICE_OBJECT, IO_STATUS_BLOCK, NTSTATUS, POWER_STATE, PVOID, PowerDeviceD0, PowerDeviceD3,
    PowerSystemWorking, STATUS_PENDING, UCHAR, nt_success,
};

use super::PoRequestPowerIrp;
use crate::io::incoming::Incoming;

/// A system power IRP that waits for the device's.
struct Waiting {
    request: Incoming,
    then: Box<dyn FnOnce(Incoming)>,
}

/// Takes the device to D0 or D3, as the system goes to work or not, and has `then` go on with the system's request. If
/// the device's fails, so does the system's.
///
/// # Safety
/// `device` is a live device object, at which `request` is: a query or a change of the system's power.
pub unsafe fn device_first(
    device: *mut DEVICE_OBJECT,
    request: Incoming,
    then: impl FnOnce(Incoming) + 'static,
) -> NTSTATUS {
    // SAFETY: power requests have this member of the union filled in.
    let power = unsafe { request.parameters().Power };
    // SAFETY: every member of the union is a number.
    let working = unsafe { power.State.SystemState } == PowerSystemWorking;
    let state = POWER_STATE {
        DeviceState: match working {
            true => PowerDeviceD0,
            false => PowerDeviceD3,
        },
    };
    let minor = request.function().1;
    request.pend();
    let then = Box::new(then);
    let context = Box::into_raw(Box::new(Waiting { request, then }));
    // SAFETY: the caller's promise: the device lives while a request is at it.
    let status = unsafe {
        PoRequestPowerIrp(
            device,
            minor,
            state,
            Some(done),
            context.cast(),
            core::ptr::null_mut(),
        )
    };
    if status != STATUS_PENDING {
        // SAFETY: nobody else has the context, since no IRP was sent.
        let waiting = unsafe { Box::from_raw(context) };
        waiting.request.complete(Err(status));
    }
    STATUS_PENDING
}

unsafe extern "win64" fn done(
    _device: *mut DEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    context: PVOID,
    status: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: the context that `device_first` gave, once.
    let waiting = unsafe { Box::from_raw(context.cast::<Waiting>()) };
    // SAFETY: valid as documented for this routine.
    let status = unsafe { (*status).Status };
    let Waiting { request, then } = *waiting;
    match nt_success(status) {
        true => then(request),
        false => {
            request.complete(Err(status));
        }
    }
}
