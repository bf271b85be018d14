//! Power requests.
//!
//! ```text
//!   system request ─▶ down ─▶ back: a device request is asked for ─▶ its end completes the system request
//!   device request up ─▶ down ─▶ back ─▶ work item: D3 to D0 ─▶ complete
//!   device request down ─▶ work item: D0 to D3 ─▶ down
//! ```
//!
//! The steps between D0 and D3 wait for xenstored, so they run in a work item, never in the dispatch function. A child has
//! nothing below it.

use crate::bus::BusDevice;
use crate::child::ChildDevice;
use alloc::sync::Arc;
use core::time::Duration;
use nt::{DeviceObject, Irp, NtStatus, WorkItem};
use nt_sys::{IRP_MN_QUERY_POWER, IRP_MN_SET_POWER, PowerDeviceD0, PowerDeviceD3};

/// How often a wake that failed is tried again, and how long after.
const WAKE_AGAIN: u32 = 5;
const WAKE_PAUSE: Duration = Duration::from_millis(200);

/// IRP_MJ_POWER to the bus. IRQL ≤ DISPATCH_LEVEL.
pub(crate) fn power<F: BusDevice>(fdo: &Arc<F>, device: &DeviceObject, irp: Irp) -> NtStatus {
    let Some(request) = irp.power().filter(|_| fdo.is_active()) else {
        return fdo.function().pass_down(irp);
    };
    match (request.system, irp.minor()) {
        (true, minor) => system_power(fdo, device, irp, minor, request.state),
        (false, IRP_MN_SET_POWER) if request.state == PowerDeviceD0 => to_d0(fdo, device, irp),
        (false, IRP_MN_SET_POWER) => to_d3(fdo, device, irp),
        (false, _) => fdo.function().pass_down(irp),
    }
}

fn system_power<F: BusDevice>(
    fdo: &Arc<F>,
    device: &DeviceObject,
    irp: Irp,
    minor: u8,
    state: i32,
) -> NtStatus {
    let wanted = fdo.function().device_state(state);
    let device = device.clone();
    let Some(lower) = fdo.function().lower() else {
        return irp.complete(NtStatus::NO_SUCH_DEVICE);
    };
    irp.forward_then(lower, move |irp| {
        let status = irp.status();
        if !status.is_success() {
            let _ = irp.complete(status);
            return;
        }
        // Shared with the closure, which is dropped where the request cannot be made.
        let waiting = nt::try_arc(nt::SpinLock::new(Some(irp)));
        let Ok(waiting) = waiting else { return };
        let done = Arc::clone(&waiting);
        let asked = nt::irp::request_device_power(&device, minor, wanted, move |status| {
            if let Some(irp) = done.lock().take() {
                let _ = irp.complete(status);
            }
        });
        if let Err(status) = asked
            && let Some(irp) = waiting.lock().take()
        {
            let _ = irp.complete(status);
        }
    })
}

fn to_d0<F: BusDevice>(fdo: &Arc<F>, device: &DeviceObject, irp: Irp) -> NtStatus {
    let device = device.clone();
    let waking = Arc::clone(fdo);
    let Some(lower) = fdo.function().lower() else {
        return irp.complete(NtStatus::NO_SUCH_DEVICE);
    };
    irp.forward_then(lower, move |irp| {
        let target = device.clone();
        later(&device, irp, move |irp| {
            let mut outcome = waking.wake();
            // Memory and xenstored may be short of something for a moment; a device without power is lost.
            for _ in 0..WAKE_AGAIN {
                if outcome.is_ok() {
                    break;
                }
                nt::thread::sleep(WAKE_PAUSE);
                outcome = waking.wake();
            }
            if let Err(status) = outcome {
                nt::error!("{waking:?} does not wake: {status}");
            }
            target.set_power_state(PowerDeviceD0);
            let _ = irp.complete(NtStatus::of(&outcome));
        });
    })
}

fn to_d3<F: BusDevice>(fdo: &Arc<F>, device: &DeviceObject, mut irp: Irp) -> NtStatus {
    let target = device.clone();
    let fdo = Arc::clone(fdo);
    irp.mark_pending();
    later(device, irp, move |mut irp| {
        target.set_power_state(PowerDeviceD3);
        fdo.sleep();
        irp.set_status(NtStatus::SUCCESS);
        let _ = fdo.function().pass_down(irp);
    });
    NtStatus::PENDING
}

/// IRP_MJ_POWER to a child. IRQL ≤ DISPATCH_LEVEL.
pub(crate) fn child_power<C: ChildDevice>(
    child: &Arc<C>,
    device: &DeviceObject,
    mut irp: Irp,
) -> NtStatus {
    match (irp.minor(), irp.power()) {
        (IRP_MN_SET_POWER, Some(request)) if !request.system && C::HAS_POWER => {
            let (child, target) = (Arc::clone(child), device.clone());
            irp.mark_pending();
            later(device, irp, move |irp| {
                let outcome = child.switch(request.state == PowerDeviceD0);
                if let Err(status) = outcome {
                    nt::error!("{child:?} does not change its power: {status}");
                }
                target.set_power_state(request.state);
                let _ = irp.complete(NtStatus::SUCCESS);
            });
            NtStatus::PENDING
        }
        (IRP_MN_SET_POWER, Some(request)) => {
            if !request.system {
                device.set_power_state(request.state);
            }
            irp.complete(NtStatus::SUCCESS)
        }
        (IRP_MN_QUERY_POWER, _) => irp.complete(NtStatus::SUCCESS),
        _ => irp.complete_unchanged(),
    }
}

/// Has a system thread run `body` with the request. Without memory the request fails.
fn later(device: &DeviceObject, irp: Irp, body: impl FnOnce(Irp) + Send + 'static) {
    match WorkItem::new(device, move || body(irp)) {
        Ok(item) => item.queue(),
        Err(status) => nt::error!("no memory for a power request: {status}"),
    }
}
