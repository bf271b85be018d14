//! PnP requests to the bus.

use super::Fdo;
use crate::driver::Node;
use ::bus::PnpState;
use alloc::sync::Arc;
use nt::{Device, Irp, NtStatus};
use nt_sys::{
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_DEVICE_USAGE_NOTIFICATION,
    IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_QUERY_PNP_DEVICE_STATE,
    IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL, PowerDeviceD0,
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
            IRP_MN_QUERY_DEVICE_RELATIONS => function.relations(irp, || self.children.relations()),
            IRP_MN_QUERY_CAPABILITIES => function.capabilities(irp, 0),
            IRP_MN_DEVICE_USAGE_NOTIFICATION => function.usage(irp),
            IRP_MN_QUERY_PNP_DEVICE_STATE => function.state(irp),
            _ => function.pass_down(irp),
        }
    }

    fn start(self: &Arc<Self>, irp: Irp) -> NtStatus {
        let (irp, status) = self.function.through(irp);
        if let Err(status) = status.ok() {
            return irp.complete(status);
        }
        if let Err(status) = self.bring_up() {
            nt::error!("{self:?} does not start: {status}");
            return irp.complete(status);
        }
        self.function.physical.set_power_state(PowerDeviceD0);
        self.function.set(PnpState::Started);
        self.rescan();
        irp.complete(NtStatus::SUCCESS)
    }

    fn remove(&self, device: &Device<Node>, irp: Irp) -> NtStatus {
        self.children.lose();
        self.tear_down();
        self.children.delete();
        // SAFETY: the children, which could use it, have gone.
        unsafe { self.parent.close() };
        // SAFETY: the device was started in `add`, and this is its last request.
        let status = unsafe { self.function.remove(device, irp) };
        nt::info!("{self:?} is gone");
        status
    }
}
