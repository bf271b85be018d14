//! The platform device as a bus of Windows: what comes with PnP and power requests.

use super::Fdo;
use crate::child::Child;
use crate::interrupt::{self, Assigned};
use alloc::sync::Arc;
use nt::{Irp, NtStatus, Result};
use nt_sys::CAPABILITY_REMOVABLE;
use pv_bus::{BusDevice, Children, Function, ParentBus};

impl BusDevice for Fdo {
    type Child = Child;
    type Resources = Assigned;

    const WITHOUT_CAPABILITIES: u32 = CAPABILITY_REMOVABLE;

    fn function(&self) -> &Function {
        &self.function
    }

    fn children(&self) -> &Children<Child> {
        &self.children
    }

    fn parent(&self) -> &ParentBus {
        &self.pci
    }

    fn is_active(&self) -> bool {
        self.bus.is_some()
    }

    fn resources(irp: &Irp) -> Result<Assigned> {
        match irp.start_resources() {
            Some((mut raw, mut translated)) => Assigned::take(&mut raw, &mut translated),
            None => Err(NtStatus::INVALID_PARAMETER),
        }
    }

    fn bring_up(self: &Arc<Self>, assigned: Assigned) -> Result<()> {
        self.connect(&assigned)
    }

    fn tear_down(&self) {
        self.disconnect();
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

    fn rescan(&self) {
        if let Some(started) = &*self.started.lock() {
            started.scan.event().set();
        }
    }

    fn filter(&self, irp: Irp) -> NtStatus {
        let (mut irp, _) = self.function.through(irp);
        let outcome = match irp.requirements() {
            Some(requirements) => interrupt::require(requirements),
            None => Err(NtStatus::INVALID_PARAMETER),
        };
        match outcome {
            Ok(()) => irp.complete(NtStatus::SUCCESS),
            Err(status) => {
                nt::warning!("the resource requirements stay as they are: {status}");
                irp.complete_unchanged()
            }
        }
    }

    fn removed(&self) {
        if self.bus.is_some() {
            crate::active::clear();
        }
    }
}
