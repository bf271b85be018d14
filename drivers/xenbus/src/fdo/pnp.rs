//! PnP requests to the platform device.

use super::Fdo;
use crate::driver::Node;
use crate::interrupt::{self, Assigned};
use ::bus::PnpState;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use nt::{Device, Irp, NtStatus};
use nt_sys::{
    BusRelations, CAPABILITY_REMOVABLE, DeviceUsageTypePaging, IRP_MN_CANCEL_REMOVE_DEVICE,
    IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_DEVICE_USAGE_NOTIFICATION,
    IRP_MN_FILTER_RESOURCE_REQUIREMENTS, IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_DEVICE_RELATIONS,
    IRP_MN_QUERY_PNP_DEVICE_STATE, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE,
    IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL,
    PNP_DEVICE_NOT_DISABLEABLE,
};

impl Fdo {
    /// IRP_MJ_PNP.
    pub fn pnp(self: Arc<Self>, device: &Device<Node>, mut irp: Irp) -> NtStatus {
        match irp.minor() {
            IRP_MN_START_DEVICE => self.start(irp),
            IRP_MN_QUERY_STOP_DEVICE => self.query(irp, PnpState::StopPending),
            IRP_MN_CANCEL_STOP_DEVICE => self.cancel(irp, PnpState::StopPending),
            IRP_MN_STOP_DEVICE => self.stop(irp),
            IRP_MN_QUERY_REMOVE_DEVICE => self.query(irp, PnpState::RemovePending),
            IRP_MN_CANCEL_REMOVE_DEVICE => self.cancel(irp, PnpState::RemovePending),
            IRP_MN_SURPRISE_REMOVAL => {
                self.pnp.lock().set(PnpState::SurpriseRemovePending);
                self.lose_children();
                irp.set_status(NtStatus::SUCCESS);
                self.pass_down(irp)
            }
            IRP_MN_REMOVE_DEVICE => self.remove(device, irp),
            IRP_MN_QUERY_DEVICE_RELATIONS if self.bus.is_some() => self.query_relations(irp),
            IRP_MN_FILTER_RESOURCE_REQUIREMENTS if self.bus.is_some() => self.filter(irp),
            IRP_MN_QUERY_CAPABILITIES => self.query_capabilities(irp),
            IRP_MN_DEVICE_USAGE_NOTIFICATION => self.usage_notification(irp),
            IRP_MN_QUERY_PNP_DEVICE_STATE => {
                if self
                    .usage
                    .iter()
                    .any(|count| count.load(Ordering::Relaxed) != 0)
                {
                    let state = irp.information() | PNP_DEVICE_NOT_DISABLEABLE as usize;
                    irp.set_information(state);
                    irp.set_status(NtStatus::SUCCESS);
                }
                self.pass_down(irp)
            }
            _ => self.pass_down(irp),
        }
    }

    fn start(self: Arc<Self>, irp: Irp) -> NtStatus {
        let assigned = match irp.start_resources() {
            Some((mut raw, mut translated)) => Assigned::take(&mut raw, &mut translated),
            None => Err(NtStatus::INVALID_PARAMETER),
        };
        let assigned = match assigned {
            Ok(assigned) => assigned,
            Err(status) => return irp.complete(status),
        };
        let (irp, status) = self.through(irp);
        if let Err(status) = status.ok() {
            return irp.complete(status);
        }
        if let Err(status) = self.bring_up(&assigned) {
            nt::error!("{self:?} does not start: {status}");
            return irp.complete(status);
        }
        self.physical.set_power_state(nt_sys::PowerDeviceD0);
        self.pnp.lock().set(PnpState::Started);
        self.rescan();
        irp.complete(NtStatus::SUCCESS)
    }

    fn query(&self, mut irp: Irp, pending: PnpState) -> NtStatus {
        self.pnp.lock().set(pending);
        irp.set_status(NtStatus::SUCCESS);
        self.pass_down(irp)
    }

    fn cancel(&self, mut irp: Irp, pending: PnpState) -> NtStatus {
        self.pnp.lock().restore(pending);
        irp.set_status(NtStatus::SUCCESS);
        self.pass_down(irp)
    }

    fn stop(&self, mut irp: Irp) -> NtStatus {
        self.tear_down();
        self.pnp.lock().set(PnpState::Stopped);
        irp.set_status(NtStatus::SUCCESS);
        self.pass_down(irp)
    }

    fn remove(&self, device: &Device<Node>, mut irp: Irp) -> NtStatus {
        self.lose_children();
        self.tear_down();
        self.delete_children();
        self.pnp.lock().set(PnpState::Deleted);
        if self.bus.is_some() {
            crate::active::clear();
        }
        // SAFETY: the children, which could use it, have gone.
        drop(unsafe { self.pci.stop() });
        irp.set_status(NtStatus::SUCCESS);
        let status = self.pass_down(irp);
        nt::info!("{self:?} is gone");
        // SAFETY: this is the last request to the device, and it is served.
        let lower = unsafe { self.lower.stop() };
        // SAFETY: as above; the device was started in `add`, and is deleted here only.
        unsafe { device.delete(lower.map(|lower| *lower)) };
        status
    }

    fn query_relations(&self, mut irp: Irp) -> NtStatus {
        if irp.relations_kind() != Some(BusRelations) {
            return self.pass_down(irp);
        }
        match self
            .relations()
            .and_then(|children| irp.add_relations(&children))
        {
            Ok(()) => {
                irp.set_status(NtStatus::SUCCESS);
                self.pass_down(irp)
            }
            Err(status) => irp.complete(status),
        }
    }

    fn filter(&self, irp: Irp) -> NtStatus {
        let (mut irp, _) = self.through(irp);
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

    fn query_capabilities(&self, irp: Irp) -> NtStatus {
        let (mut irp, status) = self.through(irp);
        if status.is_success()
            && let Some(capabilities) = irp.capabilities()
        {
            capabilities.Bits &= !CAPABILITY_REMOVABLE;
            *self.device_states.lock() = capabilities.DeviceState;
        }
        irp.complete_unchanged()
    }

    fn usage_notification(&self, irp: Irp) -> NtStatus {
        let usage = irp.usage();
        let (irp, status) = self.through(irp);
        if status.is_success()
            && let Some((begins, kind)) = usage
        {
            let index = usize::try_from(kind.wrapping_sub(DeviceUsageTypePaging)).ok();
            if let Some(count) = index.and_then(|index| self.usage.get(index)) {
                // An end without a beginning does not count.
                let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    if begins {
                        count.checked_add(1)
                    } else {
                        count.checked_sub(1)
                    }
                });
                self.physical.invalidate_state();
            }
        }
        irp.complete_unchanged()
    }
}
