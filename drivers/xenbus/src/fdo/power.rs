//! Power requests to the platform device.
//!
//! ```text
//!   system request ─▶ down ─▶ back: a device request is asked for ─▶ its end completes the system request
//!   device request up ─▶ down ─▶ back ─▶ work item: D3 to D0 ─▶ complete
//!   device request down ─▶ work item: D0 to D3 ─▶ down
//! ```
//!
//! The steps between D0 and D3 wait for xenstored, so they run in a work item, never in the dispatch function.

use super::Fdo;
use alloc::sync::Arc;
use nt::{DeviceObject, Irp, NtStatus, WorkItem};
use nt_sys::{IRP_MN_SET_POWER, PowerDeviceD0, PowerDeviceD3};

impl Fdo {
    /// IRP_MJ_POWER. IRQL ≤ DISPATCH_LEVEL.
    pub fn power(self: Arc<Self>, device: &DeviceObject, irp: Irp) -> NtStatus {
        let Some(request) = irp.power() else {
            return self.pass_down(irp);
        };
        if self.bus.is_none() {
            return self.pass_down(irp);
        }
        match (request.system, irp.minor()) {
            (true, minor) => self.system_power(device, irp, minor, request.state),
            (false, IRP_MN_SET_POWER) if request.state == PowerDeviceD0 => self.to_d0(device, irp),
            (false, IRP_MN_SET_POWER) => self.to_d3(device, irp),
            (false, _) => self.pass_down(irp),
        }
    }

    fn system_power(
        self: Arc<Self>,
        device: &DeviceObject,
        irp: Irp,
        minor: u8,
        state: i32,
    ) -> NtStatus {
        let states = *self.device_states.lock();
        let wanted = usize::try_from(state)
            .ok()
            .and_then(|state| states.get(state).copied());
        let wanted = wanted.unwrap_or(PowerDeviceD3);
        let device = device.clone();
        let Some(lower) = self.lower.get() else {
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

    fn to_d0(self: Arc<Self>, device: &DeviceObject, irp: Irp) -> NtStatus {
        let device = device.clone();
        let fdo = Arc::clone(&self);
        let Some(lower) = self.lower.get() else {
            return irp.complete(NtStatus::NO_SUCH_DEVICE);
        };
        irp.forward_then(lower, move |irp| {
            let target = device.clone();
            later(&device, irp, move |irp| {
                let outcome = fdo.wake();
                if let Err(status) = outcome {
                    nt::error!("{fdo:?} does not wake: {status}");
                }
                target.set_power_state(PowerDeviceD0);
                let _ = irp.complete(NtStatus::of(&outcome));
            });
        })
    }

    fn to_d3(self: Arc<Self>, device: &DeviceObject, mut irp: Irp) -> NtStatus {
        let target = device.clone();
        irp.mark_pending();
        later(device, irp, move |mut irp| {
            target.set_power_state(PowerDeviceD3);
            self.power_down();
            irp.set_status(NtStatus::SUCCESS);
            let _ = self.pass_down(irp);
        });
        NtStatus::PENDING
    }

    /// From D3 to D0, if the device is started and was asleep.
    fn wake(self: &Arc<Self>) -> nt::Result<()> {
        let awake = self.session.lock().is_some();
        if awake || self.started.lock().is_none() {
            return Ok(());
        }
        self.power_up()?;
        self.rescan();
        Ok(())
    }
}

/// Has a system thread run `body` with the request. Without memory the request fails.
fn later(device: &DeviceObject, irp: Irp, body: impl FnOnce(Irp) + Send + 'static) {
    match WorkItem::new(device, move || body(irp)) {
        Ok(item) => item.queue(),
        Err(status) => nt::error!("no memory for a power request: {status}"),
    }
}
