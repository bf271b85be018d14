//! Power requests to the platform device.

use super::Fdo;
use alloc::sync::Arc;
use nt::{DeviceObject, Irp, NtStatus, Result};
use pv_bus::{Function, Powered};

impl Fdo {
    /// IRP_MJ_POWER. IRQL ≤ DISPATCH_LEVEL.
    pub fn power(self: Arc<Self>, device: &DeviceObject, irp: Irp) -> NtStatus {
        if self.bus.is_none() {
            return self.function.pass_down(irp);
        }
        pv_bus::power(&self, device, irp)
    }
}

impl Powered for Fdo {
    fn function(&self) -> &Function {
        &self.function
    }

    fn wake(self: &Arc<Self>) -> Result<()> {
        let awake = self.session.lock().is_some();
        if awake || self.started.lock().is_none() {
            return Ok(());
        }
        self.power_up()?;
        self.rescan();
        Ok(())
    }

    fn sleep(&self) {
        self.power_down();
    }
}
