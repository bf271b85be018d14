//! PnP requests to a child, as far as they are the same for every bus.

// Microsoft's names of enumerators stand in patterns.
#![allow(non_upper_case_globals)]

use crate::Life;
use crate::bus::{BusDevice, Node};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bus::{Name, Names, PnpState};
use core::fmt;
use nt::interface::InterfaceRequest;
use nt::irp::send_pnp;
use nt::{Irp, NtStatus, PagedPool, Result};
use nt_sys::{
    BusQueryCompatibleIDs, BusQueryContainerID, BusQueryDeviceID, BusQueryHardwareIDs,
    BusQueryInstanceID, CAPABILITY_DEVICE_D1, CAPABILITY_DEVICE_D2, CAPABILITY_DOCK_DEVICE,
    CAPABILITY_EJECT_SUPPORTED, CAPABILITY_HARDWARE_DISABLED, CAPABILITY_LOCK_SUPPORTED,
    CAPABILITY_NO_DISPLAY_IN_UI, CAPABILITY_RAW_DEVICE_OK, CAPABILITY_REMOVABLE,
    CAPABILITY_SILENT_INSTALL, CAPABILITY_SURPRISE_REMOVAL_OK, CAPABILITY_UNIQUE_ID,
    DeviceTextDescription, DeviceTextLocationInformation, GUID_BUS_TYPE_INTERNAL,
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_DEVICE_USAGE_NOTIFICATION,
    IRP_MN_EJECT, IRP_MN_QUERY_BUS_INFORMATION, IRP_MN_QUERY_CAPABILITIES,
    IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_QUERY_DEVICE_TEXT, IRP_MN_QUERY_ID,
    IRP_MN_QUERY_INTERFACE, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_RESOURCE_REQUIREMENTS,
    IRP_MN_QUERY_STOP_DEVICE, IRP_MN_READ_CONFIG, IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE,
    IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL, IRP_MN_WRITE_CONFIG, Internal,
    PNP_BUS_INFORMATION, PowerDeviceD0, PowerDeviceD3, PowerDeviceUnspecified,
    PowerSystemHibernate, PowerSystemShutdown, PowerSystemSleeping3, PowerSystemUnspecified,
    PowerSystemWorking, TargetDeviceRelation,
};

/// A device on a PV bus.
pub trait ChildDevice: fmt::Debug + Send + Sync + Sized + 'static {
    /// Its bus.
    type Bus: BusDevice<Child = Self>;

    /// The bus.
    fn bus(&self) -> &Arc<Self::Bus>;

    /// Its life.
    fn life(&self) -> &Life<Node<Self::Bus>>;

    /// What it is called.
    fn names(&self) -> &impl Names;

    /// IRP_MN_QUERY_INTERFACE. `None` if it is none of the bus's.
    fn interface(&self, request: &mut InterfaceRequest<'_>) -> Option<Result<()>>;

    /// Whether it may go by surprise.
    fn is_removable(&self) -> bool {
        true
    }

    /// Whether it can be ejected.
    fn is_ejectable(&self) -> bool {
        true
    }

    /// The resources it asks for: an IO_RESOURCE_REQUIREMENTS_LIST.
    fn requirements(&self) -> Option<Result<PagedPool>> {
        None
    }

    /// IRP_MN_START_DEVICE. PASSIVE_LEVEL.
    fn start(self: &Arc<Self>) -> Result<()> {
        Ok(())
    }

    /// It is started no more: IRP_MN_STOP_DEVICE or IRP_MN_REMOVE_DEVICE, the latter also of one that never was.
    /// PASSIVE_LEVEL.
    fn stop(&self) {}

    /// IRP_MN_CANCEL_REMOVE_DEVICE. PASSIVE_LEVEL.
    fn stays(&self) {}

    /// Whether [`ChildDevice::switch`] has something to do.
    const HAS_POWER: bool = false;

    /// Goes to D0, or to D3. PASSIVE_LEVEL.
    fn switch(self: &Arc<Self>, _on: bool) -> Result<()> {
        Ok(())
    }

    /// Its device object is deleted. PASSIVE_LEVEL.
    fn deleted(&self) {}
}

/// Deletes the device object. Only whoever took the child out of its bus's list may do that, once, when Windows sends no
/// more requests: it was never told of the device, or has removed it.
pub(crate) fn delete<C: ChildDevice>(child: Arc<C>) {
    // SAFETY: the documentation of this function says so, and `child` keeps it alive.
    if unsafe { child.life().end() } {
        nt::info!("{child:?} is deleted");
        child.deleted();
    }
}

/// IRP_MJ_PNP.
pub(crate) fn pnp<C: ChildDevice>(child: &Arc<C>, irp: Irp) -> NtStatus {
    match irp.minor() {
        IRP_MN_START_DEVICE => start(child, irp),
        IRP_MN_QUERY_STOP_DEVICE => moved(child, irp, PnpState::StopPending),
        IRP_MN_CANCEL_STOP_DEVICE => back(child, irp, PnpState::StopPending),
        IRP_MN_STOP_DEVICE => {
            child.stop();
            moved(child, irp, PnpState::Stopped)
        }
        IRP_MN_QUERY_REMOVE_DEVICE => moved(child, irp, PnpState::RemovePending),
        IRP_MN_CANCEL_REMOVE_DEVICE => {
            child.stays();
            back(child, irp, PnpState::RemovePending)
        }
        IRP_MN_SURPRISE_REMOVAL => moved(child, irp, PnpState::SurpriseRemovePending),
        IRP_MN_REMOVE_DEVICE => remove(child, irp),
        IRP_MN_EJECT => eject(child, irp),
        IRP_MN_QUERY_DEVICE_RELATIONS => relations(child, irp),
        IRP_MN_QUERY_INTERFACE => interface(child, irp),
        IRP_MN_QUERY_CAPABILITIES => capabilities(child, irp),
        IRP_MN_QUERY_RESOURCE_REQUIREMENTS => match child.requirements() {
            Some(block) => answer(irp, block),
            None => irp.complete_unchanged(),
        },
        IRP_MN_QUERY_ID => {
            let name = irp.id_kind().and_then(|kind| id(child.names(), kind));
            spell(irp, name)
        }
        IRP_MN_QUERY_DEVICE_TEXT => {
            let name = irp.text_kind().and_then(|kind| text(child.names(), kind));
            spell(irp, name)
        }
        IRP_MN_QUERY_BUS_INFORMATION => answer(irp, bus_information()),
        IRP_MN_DEVICE_USAGE_NOTIFICATION => usage(child, irp),
        IRP_MN_READ_CONFIG | IRP_MN_WRITE_CONFIG => irp.complete(NtStatus::NOT_SUPPORTED),
        _ => irp.complete_unchanged(),
    }
}

fn start<C: ChildDevice>(child: &Arc<C>, irp: Irp) -> NtStatus {
    if let Err(status) = child.start() {
        nt::error!("{child:?} does not start: {status}");
        return irp.complete(status);
    }
    if let Some(device) = child.life().object() {
        device.set_power_state(PowerDeviceD0);
    }
    child.life().set_removed(false);
    moved(child, irp, PnpState::Started)
}

fn moved<C: ChildDevice>(child: &Arc<C>, irp: Irp, state: PnpState) -> NtStatus {
    child.life().pnp.lock().set(state);
    irp.complete(NtStatus::SUCCESS)
}

fn back<C: ChildDevice>(child: &Arc<C>, irp: Irp, from: PnpState) -> NtStatus {
    child.life().pnp.lock().restore(from);
    irp.complete(NtStatus::SUCCESS)
}

fn remove<C: ChildDevice>(child: &Arc<C>, irp: Irp) -> NtStatus {
    child.stop();
    let life = child.life();
    life.set_removed(true);
    let gone = life.is_missing() && (life.awaits_removal() || life.is_finished());
    life.pnp.lock().set(if gone {
        PnpState::Deleted
    } else {
        PnpState::Enumerated
    });
    let status = irp.complete(NtStatus::SUCCESS);
    if gone {
        child.bus().children().disown(child);
        delete(Arc::clone(child));
    }
    // What xenstore still names is made anew.
    child.bus().rescan();
    status
}

fn eject<C: ChildDevice>(child: &Arc<C>, irp: Irp) -> NtStatus {
    nt::info!("{child:?}: device ejected");
    child.life().set_missing();
    child.bus().function().physical.invalidate_bus_relations();
    irp.complete(NtStatus::SUCCESS)
}

fn relations<C: ChildDevice>(child: &Arc<C>, mut irp: Irp) -> NtStatus {
    if irp.relations_kind() != Some(TargetDeviceRelation) {
        return irp.complete_unchanged();
    }
    let Some(device) = child.life().object() else {
        return irp.complete(NtStatus::NO_SUCH_DEVICE);
    };
    let added = irp.add_relations(core::slice::from_ref(&device));
    irp.complete(added.into())
}

fn interface<C: ChildDevice>(child: &Arc<C>, mut irp: Irp) -> NtStatus {
    // A filter above may have answered.
    if irp.status() != NtStatus::NOT_SUPPORTED {
        return irp.complete_unchanged();
    }
    let outcome = irp
        .interface_request()
        .and_then(|mut request| child.interface(&mut request));
    match outcome {
        None => irp.complete_unchanged(),
        Some(outcome) => irp.complete_with(outcome.into(), 0),
    }
}

fn capabilities<C: ChildDevice>(child: &Arc<C>, mut irp: Irp) -> NtStatus {
    let Some(capabilities) = irp.capabilities().filter(|c| c.Version == 1) else {
        return irp.complete(NtStatus::INVALID_PARAMETER);
    };
    capabilities.Bits &= !(CAPABILITY_DEVICE_D1
        | CAPABILITY_DEVICE_D2
        | CAPABILITY_LOCK_SUPPORTED
        | CAPABILITY_DOCK_DEVICE
        | CAPABILITY_RAW_DEVICE_OK
        | CAPABILITY_HARDWARE_DISABLED
        | CAPABILITY_NO_DISPLAY_IN_UI
        | CAPABILITY_REMOVABLE
        | CAPABILITY_SURPRISE_REMOVAL_OK
        | CAPABILITY_EJECT_SUPPORTED);
    capabilities.Bits |= CAPABILITY_UNIQUE_ID | CAPABILITY_SILENT_INSTALL;
    if child.is_removable() {
        capabilities.Bits |= CAPABILITY_REMOVABLE | CAPABILITY_SURPRISE_REMOVAL_OK;
    }
    if child.is_ejectable() {
        capabilities.Bits |= CAPABILITY_EJECT_SUPPORTED;
    }
    capabilities.Address = u32::MAX;
    capabilities.UINumber = u32::MAX;
    for (system, device) in (0i32..).zip(&mut capabilities.DeviceState) {
        match system {
            PowerSystemWorking => *device = PowerDeviceD0,
            PowerSystemSleeping3 | PowerSystemHibernate | PowerSystemShutdown => {
                *device = PowerDeviceD3;
            }
            _ => {}
        }
    }
    capabilities.SystemWake = PowerSystemUnspecified;
    capabilities.DeviceWake = PowerDeviceUnspecified;
    capabilities.D1Latency = 0;
    capabilities.D2Latency = 0;
    capabilities.D3Latency = 0;
    irp.complete(NtStatus::SUCCESS)
}

/// What depends on a child depends on its bus.
fn usage<C: ChildDevice>(child: &Arc<C>, irp: Irp) -> NtStatus {
    let stack = *irp.stack();
    let (status, _) = send_pnp(&child.bus().function().physical, |next| {
        next.MinorFunction = stack.MinorFunction;
        next.Parameters = stack.Parameters;
    });
    irp.complete(status)
}

/// IRP_MN_QUERY_ID, by `BusQuery*`.
fn id(names: &impl Names, kind: i32) -> Option<Name> {
    match kind {
        BusQueryDeviceID => Some(names.device_id()),
        BusQueryInstanceID => Some(names.instance_id()),
        BusQueryHardwareIDs | BusQueryCompatibleIDs => Some(names.hardware_ids()),
        BusQueryContainerID => names.container_id(),
        _ => None,
    }
}

/// IRP_MN_QUERY_DEVICE_TEXT, by `DeviceText*`.
fn text(names: &impl Names, kind: i32) -> Option<Name> {
    match kind {
        DeviceTextDescription => Some(names.description()),
        DeviceTextLocationInformation => Some(names.location()),
        _ => None,
    }
}

/// Completes a query with ASCII text, which Windows wants in UTF-16.
fn spell(irp: Irp, text: Option<Name>) -> NtStatus {
    let Some(text) = text else {
        return irp.complete_with(NtStatus::NOT_SUPPORTED, 0);
    };
    let Ok(text) = text else {
        return irp.complete(NtStatus::NO_MEMORY);
    };
    let mut wide = Vec::new();
    if wide.try_reserve_exact(text.len()).is_err() {
        return irp.complete(NtStatus::NO_MEMORY);
    }
    wide.extend(text.iter().map(|&byte| u16::from(byte)));
    irp.complete_with_text(&wide)
}

/// Completes a query with a block that the PnP manager frees.
fn answer(irp: Irp, block: Result<PagedPool>) -> NtStatus {
    match block {
        Ok(block) => irp.complete_with(NtStatus::SUCCESS, block.into_raw().expose_provenance()),
        Err(status) => irp.complete(status),
    }
}

fn bus_information() -> Result<PagedPool> {
    let information = PNP_BUS_INFORMATION {
        BusTypeGuid: GUID_BUS_TYPE_INTERNAL,
        LegacyBusType: Internal,
        BusNumber: 0,
    };
    let mut block = PagedPool::zeroed(size_of::<PNP_BUS_INFORMATION>())?;
    let place = block.bytes_mut().as_mut_ptr().cast::<PNP_BUS_INFORMATION>();
    // SAFETY: the block is that long.
    unsafe { place.write_unaligned(information) };
    Ok(block)
}
