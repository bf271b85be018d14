//! PnP requests to the platform device.

use super::Fdo;
use crate::driver::Node;
use crate::interrupt::{self, Assigned};
use ::bus::PnpState;
use alloc::sync::Arc;
use nt::{Device, Irp, NtStatus};
use nt_sys::{
    CAPABILITY_REMOVABLE, IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE,
    IRP_MN_DEVICE_USAGE_NOTIFICATION, IRP_MN_FILTER_RESOURCE_REQUIREMENTS,
    IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_QUERY_PNP_DEVICE_STATE,
    IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL,
};

impl Fdo {
    /// IRP_MJ_PNP.
    pub fn pnp(self: Arc<Self>, device: &Device<Node>, irp: Irp) -> NtStatus {
        let function = &self.function;
        match irp.minor() {
            IRP_MN_START_DEVICE => self.start(irp),
            IRP_MN_QUERY_STOP_DEVICE => function.moved(irp, PnpState::StopPending),
            IRP_MN_CANCEL_STOP_DEVICE => function.back(irp, PnpState::StopPending),
            IRP_MN_STOP_DEVICE => {
                self.tear_down();
                function.moved(irp, PnpState::Stopped)
            }
            IRP_MN_QUERY_REMOVE_DEVICE => function.moved(irp, PnpState::RemovePending),
            IRP_MN_CANCEL_REMOVE_DEVICE => function.back(irp, PnpState::RemovePending),
            IRP_MN_SURPRISE_REMOVAL => {
                self.children.lose();
                function.moved(irp, PnpState::SurpriseRemovePending)
            }
            IRP_MN_REMOVE_DEVICE => self.remove(device, irp),
            IRP_MN_QUERY_DEVICE_RELATIONS if self.bus.is_some() => {
                function.relations(irp, || self.children.relations())
            }
            IRP_MN_FILTER_RESOURCE_REQUIREMENTS if self.bus.is_some() => self.filter(irp),
            IRP_MN_QUERY_CAPABILITIES => function.capabilities(irp, CAPABILITY_REMOVABLE),
            IRP_MN_DEVICE_USAGE_NOTIFICATION => function.usage(irp),
            IRP_MN_QUERY_PNP_DEVICE_STATE => function.state(irp),
            _ => function.pass_down(irp),
        }
    }

    fn start(self: &Arc<Self>, irp: Irp) -> NtStatus {
        let assigned = match irp.start_resources() {
            Some((mut raw, mut translated)) => Assigned::take(&mut raw, &mut translated),
            None => Err(NtStatus::INVALID_PARAMETER),
        };
        let assigned = match assigned {
            Ok(assigned) => assigned,
            Err(status) => return irp.complete(status),
        };
        let (irp, status) = self.function.through(irp);
        if let Err(status) = status.ok() {
            return irp.complete(status);
        }
        if let Err(status) = self.bring_up(&assigned) {
            nt::error!("{self:?} does not start: {status}");
            return irp.complete(status);
        }
        self.function
            .physical
            .set_power_state(nt_sys::PowerDeviceD0);
        self.function.set(PnpState::Started);
        self.rescan();
        irp.complete(NtStatus::SUCCESS)
    }

    fn remove(&self, device: &Device<Node>, irp: Irp) -> NtStatus {
        self.children.lose();
        self.tear_down();
        self.children.delete();
        if self.bus.is_some() {
            crate::active::clear();
        }
        // SAFETY: the children, which could use it, have gone.
        unsafe { self.pci.close() };
        // SAFETY: the device was started in `add`, and this is its last request.
        let status = unsafe { self.function.remove(device, irp) };
        nt::info!("{self:?} is gone");
        status
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
}
