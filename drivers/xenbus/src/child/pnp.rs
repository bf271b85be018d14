//! PnP requests to a child.

// Microsoft's names of enumerators stand in patterns.
#![allow(non_upper_case_globals)]

use super::Child;
use ::bus::{NoMemory, PnpState};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use nt::irp::send_pnp;
use nt::{Irp, NtStatus, PagedPool, Result};
use nt_sys::{
    ALL_PROCESSOR_GROUPS, BusQueryCompatibleIDs, BusQueryDeviceID, BusQueryHardwareIDs,
    BusQueryInstanceID, CAPABILITY_DEVICE_D1, CAPABILITY_DEVICE_D2, CAPABILITY_DOCK_DEVICE,
    CAPABILITY_EJECT_SUPPORTED, CAPABILITY_HARDWARE_DISABLED, CAPABILITY_LOCK_SUPPORTED,
    CAPABILITY_NO_DISPLAY_IN_UI, CAPABILITY_RAW_DEVICE_OK, CAPABILITY_REMOVABLE,
    CAPABILITY_SILENT_INSTALL, CAPABILITY_SURPRISE_REMOVAL_OK, CAPABILITY_UNIQUE_ID,
    CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE, CM_RESOURCE_MEMORY_PREFETCHABLE,
    CM_RESOURCE_MEMORY_READ_WRITE, CmResourceShareDeviceExclusive, CmResourceTypeInterrupt,
    CmResourceTypeMemory, DeviceTextDescription, DeviceTextLocationInformation,
    GUID_BUS_TYPE_INTERNAL, IO_INTERRUPT, IO_RANGE, IO_RESOURCE, IO_RESOURCE_DESCRIPTOR,
    IO_RESOURCE_LIST, IO_RESOURCE_REQUIREMENTS_LIST, IRP_MN_CANCEL_REMOVE_DEVICE,
    IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_DEVICE_USAGE_NOTIFICATION, IRP_MN_EJECT,
    IRP_MN_QUERY_BUS_INFORMATION, IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_DEVICE_RELATIONS,
    IRP_MN_QUERY_DEVICE_TEXT, IRP_MN_QUERY_ID, IRP_MN_QUERY_INTERFACE, IRP_MN_QUERY_REMOVE_DEVICE,
    IRP_MN_QUERY_RESOURCE_REQUIREMENTS, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_READ_CONFIG,
    IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL,
    IRP_MN_WRITE_CONFIG, Internal, IrqPriorityUndefined, PAGE_SIZE, PNP_BUS_INFORMATION,
    PowerDeviceD0, PowerDeviceD3, PowerDeviceUnspecified, PowerSystemHibernate,
    PowerSystemShutdown, PowerSystemSleeping3, PowerSystemUnspecified, PowerSystemWorking,
    TargetDeviceRelation,
};

/// IRQ_DEVICE_POLICY: wdm.h, `IrqPolicyOneCloseProcessor`.
const ONE_CLOSE_PROCESSOR: u16 = 2;
/// CM_RESOURCE_MEMORY_CACHEABLE (wdm.h).
const MEMORY_CACHEABLE: u16 = 0x0020;

impl Child {
    /// IRP_MJ_PNP.
    pub fn pnp(self: Arc<Self>, irp: Irp) -> NtStatus {
        match irp.minor() {
            IRP_MN_START_DEVICE => self.start(irp),
            IRP_MN_QUERY_STOP_DEVICE => self.moved(irp, PnpState::StopPending),
            IRP_MN_CANCEL_STOP_DEVICE => self.back(irp, PnpState::StopPending),
            IRP_MN_STOP_DEVICE => self.moved(irp, PnpState::Stopped),
            IRP_MN_QUERY_REMOVE_DEVICE => self.moved(irp, PnpState::RemovePending),
            IRP_MN_CANCEL_REMOVE_DEVICE => self.back(irp, PnpState::RemovePending),
            IRP_MN_SURPRISE_REMOVAL => self.moved(irp, PnpState::SurpriseRemovePending),
            IRP_MN_REMOVE_DEVICE => self.remove(irp),
            IRP_MN_EJECT => self.eject(irp),
            IRP_MN_QUERY_DEVICE_RELATIONS => self.relations(irp),
            IRP_MN_QUERY_INTERFACE => self.query_interface(irp),
            IRP_MN_QUERY_CAPABILITIES => self.capabilities(irp),
            IRP_MN_QUERY_RESOURCE_REQUIREMENTS => answer(irp, requirements()),
            IRP_MN_QUERY_ID => self.id(irp),
            IRP_MN_QUERY_DEVICE_TEXT => self.text(irp),
            IRP_MN_QUERY_BUS_INFORMATION => answer(irp, bus_information()),
            IRP_MN_DEVICE_USAGE_NOTIFICATION => self.usage(irp),
            IRP_MN_READ_CONFIG | IRP_MN_WRITE_CONFIG => irp.complete(NtStatus::NOT_SUPPORTED),
            _ => irp.complete_unchanged(),
        }
    }

    fn start(&self, irp: Irp) -> NtStatus {
        if let Some(device) = self.object() {
            device.set_power_state(PowerDeviceD0);
        }
        self.removed.store(false, Ordering::Release);
        self.moved(irp, PnpState::Started)
    }

    fn moved(&self, irp: Irp, state: PnpState) -> NtStatus {
        self.pnp.lock().set(state);
        irp.complete(NtStatus::SUCCESS)
    }

    fn back(&self, irp: Irp, from: PnpState) -> NtStatus {
        self.pnp.lock().restore(from);
        irp.complete(NtStatus::SUCCESS)
    }

    fn remove(self: Arc<Self>, irp: Irp) -> NtStatus {
        self.removed.store(true, Ordering::Release);
        let surprise = self.pnp.lock().get() == PnpState::SurpriseRemovePending;
        let gone = self.is_missing() && (surprise || self.is_finished());
        self.pnp.lock().set(if gone {
            PnpState::Deleted
        } else {
            PnpState::Enumerated
        });
        let fdo = Arc::clone(&self.fdo);
        let status = irp.complete(NtStatus::SUCCESS);
        if gone {
            fdo.disown(&self);
            self.delete();
        }
        // A class that xenstore still names is made anew.
        fdo.rescan();
        status
    }

    fn eject(&self, irp: Irp) -> NtStatus {
        nt::info!("{self:?}: device ejected");
        self.set_missing();
        self.fdo.physical.invalidate_bus_relations();
        irp.complete(NtStatus::SUCCESS)
    }

    fn relations(&self, mut irp: Irp) -> NtStatus {
        if irp.relations_kind() != Some(TargetDeviceRelation) {
            return irp.complete_unchanged();
        }
        let Some(device) = self.object() else {
            return irp.complete(NtStatus::NO_SUCH_DEVICE);
        };
        let added = irp.add_relations(core::slice::from_ref(&device));
        irp.complete(added.into())
    }

    fn capabilities(&self, mut irp: Irp) -> NtStatus {
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
        if self.removable {
            capabilities.Bits |= CAPABILITY_REMOVABLE | CAPABILITY_SURPRISE_REMOVAL_OK;
        }
        if self.ejectable {
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

    fn id(&self, irp: Irp) -> NtStatus {
        let text = match irp.id_kind() {
            Some(BusQueryDeviceID) => self.identity.device_id(),
            Some(BusQueryInstanceID) => self.identity.instance_id(),
            Some(BusQueryHardwareIDs | BusQueryCompatibleIDs) => self.identity.hardware_ids(),
            _ => return irp.complete_with(NtStatus::NOT_SUPPORTED, 0),
        };
        spell(irp, text)
    }

    fn text(&self, irp: Irp) -> NtStatus {
        let text = match irp.text_kind() {
            Some(DeviceTextDescription) => self.identity.description(),
            Some(DeviceTextLocationInformation) => self.identity.location(),
            _ => return irp.complete_with(NtStatus::NOT_SUPPORTED, 0),
        };
        spell(irp, text)
    }

    /// What depends on a child depends on the platform device.
    fn usage(&self, irp: Irp) -> NtStatus {
        let stack = *irp.stack();
        let (status, _) = send_pnp(&self.fdo.physical, |next| {
            next.MinorFunction = stack.MinorFunction;
            next.Parameters = stack.Parameters;
        });
        irp.complete(status)
    }
}

/// Completes a query with ASCII text, which Windows wants in UTF-16.
fn spell(irp: Irp, text: core::result::Result<Vec<u8>, NoMemory>) -> NtStatus {
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

/// A page of memory and an interrupt, which nobody uses: some class drivers will not start a device without resources.
fn requirements() -> Result<PagedPool> {
    let memory = IO_RESOURCE_DESCRIPTOR {
        Option: 0,
        Type: CmResourceTypeMemory,
        ShareDisposition: CmResourceShareDeviceExclusive,
        Spare1: 0,
        Flags: CM_RESOURCE_MEMORY_READ_WRITE | CM_RESOURCE_MEMORY_PREFETCHABLE | MEMORY_CACHEABLE,
        Spare2: 0,
        u: IO_RESOURCE {
            Memory: IO_RANGE {
                Length: PAGE_SIZE as u32,
                Alignment: PAGE_SIZE as u32,
                MinimumAddress: 0,
                MaximumAddress: -1,
            },
        },
    };
    let interrupt = IO_RESOURCE_DESCRIPTOR {
        Option: 0,
        Type: CmResourceTypeInterrupt,
        ShareDisposition: CmResourceShareDeviceExclusive,
        Spare1: 0,
        Flags: CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE,
        Spare2: 0,
        u: IO_RESOURCE {
            Interrupt: IO_INTERRUPT {
                MinimumVector: 0,
                MaximumVector: u32::MAX,
                AffinityPolicy: ONE_CLOSE_PROCESSOR,
                Group: ALL_PROCESSOR_GROUPS,
                PriorityPolicy: IrqPriorityUndefined,
                TargetedProcessors: 0,
            },
        },
    };
    const SIZE: usize =
        size_of::<IO_RESOURCE_REQUIREMENTS_LIST>() + size_of::<IO_RESOURCE_DESCRIPTOR>();
    const SECOND: usize = offset_of!(IO_RESOURCE_REQUIREMENTS_LIST, List)
        + offset_of!(IO_RESOURCE_LIST, Descriptors)
        + size_of::<IO_RESOURCE_DESCRIPTOR>();
    let list = IO_RESOURCE_REQUIREMENTS_LIST {
        ListSize: SIZE as u32,
        InterfaceType: Internal,
        BusNumber: 0,
        SlotNumber: 0,
        Reserved: [0; 3],
        AlternativeLists: 1,
        List: [IO_RESOURCE_LIST {
            Version: 1,
            Revision: 1,
            Count: 2,
            Descriptors: [memory],
        }],
    };
    let mut block = PagedPool::zeroed(SIZE)?;
    let start = block.bytes_mut().as_mut_ptr();
    // SAFETY: the block is long enough for the list with a second descriptor behind it.
    unsafe {
        start
            .cast::<IO_RESOURCE_REQUIREMENTS_LIST>()
            .write_unaligned(list)
    };
    let second = start.wrapping_add(SECOND).cast::<IO_RESOURCE_DESCRIPTOR>();
    // SAFETY: as above.
    unsafe { second.write_unaligned(interrupt) };
    Ok(block)
}
