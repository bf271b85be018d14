//! PnP and power requests on their way to storport: what a disk or the adapter does first.

use crate::adapter::Adapter;
use crate::disk::{Disk, Goal, Usage};
use core::time::Duration;
use nt::NtStatus;
use nt::sys::{
    BusRelations, DeviceUsageTypeDumpFile, DeviceUsageTypeHibernation, DeviceUsageTypePaging,
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_DEVICE_USAGE_NOTIFICATION, IRP_MN_EJECT,
    IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_REMOVE_DEVICE, IRP_MN_SET_POWER, IRP_MN_START_DEVICE,
    IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL,
};
use storport::Next;

/// How long a request waits for a disk's thread: somewhat longer than the thread waits for the backend.
const PATIENCE: Duration = Duration::from_secs(45);

/// PASSIVE_LEVEL.
pub(crate) fn dispatch(adapter: &'static Adapter, next: Next) -> NtStatus {
    if adapter.is_function(next.device()) {
        return adapter_request(adapter, next);
    }
    if next.irp().minor() == IRP_MN_START_DEVICE {
        return start_disk(adapter, next);
    }
    let device = next.device();
    match adapter.disks().find(|disk| disk.is_object(device)) {
        Some(disk) => disk_request(adapter, disk, next),
        // A disk that was never started needs nothing of us.
        None => next.forward(),
    }
}

fn adapter_request(adapter: &'static Adapter, next: Next) -> NtStatus {
    match next.irp().minor() {
        IRP_MN_QUERY_DEVICE_RELATIONS if next.irp().relations_kind() == Some(BusRelations) => {
            adapter.scan();
            next.forward()
        }
        IRP_MN_REMOVE_DEVICE => {
            adapter.end();
            let status = next.forward();
            // SAFETY: storport is through with the adapter's removal, and `adapter` is not used below.
            drop(unsafe { storport::retire::<Adapter>() });
            status
        }
        _ => next.forward(),
    }
}

fn start_disk(adapter: &Adapter, next: Next) -> NtStatus {
    let Some(disk) = next.target().and_then(|target| adapter.disk(target)) else {
        return next.forward();
    };
    disk.set_object(next.reference());
    if disk.goal() == Goal::Closed {
        disk.set_goal(Goal::Connected);
    }
    // A disk that does not connect starts all the same, and is not ready.
    disk.wait(PATIENCE);
    disk.request_eject();
    next.forward()
}

fn disk_request(adapter: &Adapter, disk: &Disk, next: Next) -> NtStatus {
    match next.irp().minor() {
        IRP_MN_STOP_DEVICE => {
            disk.set_goal(Goal::Closed);
            disk.wait(PATIENCE);
        }
        IRP_MN_CANCEL_REMOVE_DEVICE => disk.eject_refused(),
        IRP_MN_SURPRISE_REMOVAL => disk.set_goal(Goal::Gone),
        IRP_MN_REMOVE_DEVICE | IRP_MN_EJECT => {
            // Disabled, or ejected: a disabled disk may be started again.
            let gone = disk.is_ejecting() || disk.goal() == Goal::Gone;
            disk.set_goal(if gone { Goal::Gone } else { Goal::Closed });
            disk.wait(PATIENCE);
            disk.set_object(None);
            if gone {
                adapter.bus_changed();
            }
        }
        IRP_MN_DEVICE_USAGE_NOTIFICATION => {
            if let Some((used, kind)) = next.irp().usage() {
                let usages = [
                    (DeviceUsageTypePaging, Usage::Paging),
                    (DeviceUsageTypeHibernation, Usage::Hibernation),
                    (DeviceUsageTypeDumpFile, Usage::Dump),
                ];
                if let Some((_, usage)) = usages.into_iter().find(|(number, _)| *number == kind) {
                    disk.set_usage(usage, used);
                }
            }
        }
        _ => {}
    }
    next.forward()
}

/// IRQL ≤ DISPATCH_LEVEL: what takes time is left to the adapter's thread.
pub(crate) fn power(adapter: &Adapter, mut next: Next) -> NtStatus {
    let ours = adapter.is_function(next.device()) && next.irp().minor() == IRP_MN_SET_POWER;
    match next.irp().power() {
        Some(power) if ours && !power.system => {
            next.irp_mut().mark_pending();
            adapter.defer_power(next);
            NtStatus::PENDING
        }
        _ => next.forward(),
    }
}
