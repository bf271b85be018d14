//! Power requests to a child: there is nothing to switch.

use super::Child;
use nt::{DeviceObject, Irp, NtStatus};
use nt_sys::{IRP_MN_QUERY_POWER, IRP_MN_SET_POWER};

impl Child {
    /// IRP_MJ_POWER. IRQL ≤ DISPATCH_LEVEL.
    pub fn power(&self, device: &DeviceObject, irp: Irp) -> NtStatus {
        match (irp.minor(), irp.power()) {
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
}
