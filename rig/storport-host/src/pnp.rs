//! An adapter's PnP requests: how a miniport is started and stopped, and its bus scanned.
//!
//! ```text
//!   START: lower START ─> HwFindAdapter ─> HwAdapterControl(query) ─> interrupt ─> HwInitialize at its IRQL
//!          ─> passive initialisation
//! ```

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use nt_host::cm;
use nt_host::io::device::{IoDeleteDevice, IoDetachDevice};
use nt_host::io::driver;
use nt_host::io::incoming::Incoming;
use nt_host::ke::interrupt::{self, Connection};
use nt_host::ke::irql::{KeLowerIrql, KfRaiseIrql};
use nt_host::ke::{border, time, wait};
use nt_host::pnp::bus;
use nt_host::verifier::Rule;
use nt_sys::storport::{
    ACCESS_RANGE, PORT_CONFIGURATION_INFORMATION, SCSI_DMA64_SYSTEM_SUPPORTED, SP_RETURN_FOUND,
    SP_UNINITIALIZED_VALUE, ScsiQuerySupportedControlTypes, ScsiStopAdapter,
    StorSynchronizeHalfDuplex,
};
use nt_sys::{
    BOOLEAN, BusRelations, CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_RESOURCE_INTERRUPT_LATCHED,
    CM_RESOURCE_LIST, CmResourceTypeInterrupt, CmResourceTypeMemory, CmResourceTypePort,
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_QUERY_DEVICE_RELATIONS,
    IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL, KINTERRUPT, Latched,
    LevelSensitive, NTSTATUS, PVOID, STATUS_DEVICE_CONFIGURATION_ERROR,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, nt_success,
};

use crate::adapter::{Adapter, Config, INITIAL_DEPTH, Interrupt};
use crate::watch::Watch;
use crate::{dispatch, lun};

/// Requests for an adapter's device.
pub fn adapter(adapter: &Arc<Adapter>, request: Incoming) -> NTSTATUS {
    match request.function().1 {
        IRP_MN_START_DEVICE => {
            // SAFETY: the adapter is attached to this device.
            let status = unsafe { request.forward(adapter.lower) };
            if !nt_success(status) {
                return request.complete(Err(status));
            }
            // SAFETY: the minor function says that this member of the union is filled in.
            let resources = unsafe { request.parameters().StartDevice };
            match start(adapter, resources.AllocatedResourcesTranslated) {
                Ok(()) => request.complete(Ok(Some(0))),
                Err(why) => {
                    log(adapter, &why);
                    stop(adapter);
                    request.complete(Err(STATUS_DEVICE_CONFIGURATION_ERROR))
                }
            }
        }
        IRP_MN_QUERY_DEVICE_RELATIONS if wants_bus(&request) => {
            let Some(list) = lun::scan(adapter) else {
                return request.complete(Err(STATUS_INSUFFICIENT_RESOURCES));
            };
            request.set(STATUS_SUCCESS, list);
            pass(adapter, request)
        }
        IRP_MN_REMOVE_DEVICE => {
            stop(adapter);
            lun::delete_all(adapter);
            request.set(STATUS_SUCCESS, 0);
            let status = pass(adapter, request);
            remove(adapter);
            status
        }
        IRP_MN_STOP_DEVICE => {
            stop(adapter);
            request.set(STATUS_SUCCESS, 0);
            pass(adapter, request)
        }
        IRP_MN_QUERY_STOP_DEVICE
        | IRP_MN_CANCEL_STOP_DEVICE
        | IRP_MN_QUERY_REMOVE_DEVICE
        | IRP_MN_CANCEL_REMOVE_DEVICE
        | IRP_MN_SURPRISE_REMOVAL => {
            request.set(STATUS_SUCCESS, 0);
            pass(adapter, request)
        }
        _ => pass(adapter, request),
    }
}

fn pass(adapter: &Adapter, request: Incoming) -> NTSTATUS {
    // SAFETY: the adapter is attached to this device.
    unsafe { request.pass(adapter.lower) }
}

/// Whether a query for relations is for those of the bus.
pub fn wants_bus(request: &Incoming) -> bool {
    // SAFETY: called for IRP_MN_QUERY_DEVICE_RELATIONS, where this member of the union is filled in.
    unsafe { request.parameters().QueryDeviceRelations.Type == BusRelations }
}

/// Writes a line about an adapter to the machine's log.
pub fn log(adapter: &Adapter, what: &str) {
    nt_host::host().platform().log(&format!(
        "storport: {}: {what}",
        driver::name(adapter.driver)
    ));
}

/// Refuses a miniport whose INF did not declare it able to do PnP, as storport.sys does.
fn check_registry(adapter: &Adapter) -> Result<(), String> {
    let key = format!(
        "{}\\{}\\Parameters\\PnpInterface",
        cm::SERVICES,
        driver::name(adapter.driver)
    );
    let declared = (0..=17).any(|kind| {
        let value = cm::read(&key, &format!("{kind}"));
        value
            .and_then(|value| value.as_dword())
            .is_some_and(|value| value != 0)
    });
    if declared {
        Ok(())
    } else {
        Err(format!("no bus type has the value 1 in {key}"))
    }
}

fn start(adapter: &Arc<Adapter>, resources: *const CM_RESOURCE_LIST) -> Result<(), String> {
    check_registry(adapter)?;
    // SAFETY: the list of IRP_MN_START_DEVICE.
    let resources = unsafe { descriptors(resources) };
    if adapter.extension().is_null() && !adapter.allocate_extension() {
        return Err(String::from("no memory for the device extension"));
    }
    find_adapter(adapter, &resources)?;
    query_control_types(adapter);
    let irql = connect(adapter, &resources)?;
    let Some(initialize) = adapter.hw.HwInitialize else {
        return Err(String::from("no HwInitialize"));
    };
    let old = KfRaiseIrql(irql);
    // SAFETY: the miniport's own routine, called as documented.
    let done = border::call(|| unsafe { initialize(adapter.extension()) });
    KeLowerIrql(old);
    if done == 0 {
        return Err(String::from("HwInitialize returned FALSE"));
    }
    if let Some(passive) = adapter.take_passive() {
        // SAFETY: as above.
        if border::call(|| unsafe { passive(adapter.extension()) }) == 0 {
            return Err(String::from("passive initialisation returned FALSE"));
        }
    }
    if !Watch::start(adapter) {
        return Err(String::from("no memory for the watch thread"));
    }
    Ok(())
}

/// The descriptors of the one bus of a resource list.
///
/// # Safety
/// `list` is null or a valid resource list.
unsafe fn descriptors(list: *const CM_RESOURCE_LIST) -> Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise; only an address is computed.
    let partial = unsafe { &raw const (*list).List[0].PartialResourceList };
    // SAFETY: part of a valid list.
    let count = unsafe { (*partial).Count } as usize;
    // SAFETY: as above; only an address is computed.
    let first = unsafe { &raw const (*partial).PartialDescriptors }
        .cast::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
    // SAFETY: the list has `count` descriptors.
    (0..count)
        .map(|index| unsafe { first.wrapping_add(index).read_unaligned() })
        .collect()
}

fn find_adapter(
    adapter: &Arc<Adapter>,
    resources: &[CM_PARTIAL_RESOURCE_DESCRIPTOR],
) -> Result<(), String> {
    let hw = &adapter.hw;
    let range = |resource: &CM_PARTIAL_RESOURCE_DESCRIPTOR| {
        // SAFETY: every member of the union is plain numbers.
        let range = unsafe { resource.u.Generic };
        let memory = resource.Type == CmResourceTypeMemory;
        ACCESS_RANGE {
            RangeStart: range.Start,
            RangeLength: range.Length,
            RangeInMemory: memory.into(),
        }
    };
    let kinds = [CmResourceTypeMemory, CmResourceTypePort];
    let mut ranges: Vec<ACCESS_RANGE> = resources
        .iter()
        .filter(|resource| kinds.contains(&resource.Type))
        .map(range)
        .collect();
    let none = ACCESS_RANGE {
        RangeStart: 0,
        RangeLength: 0,
        RangeInMemory: 0,
    };
    ranges.resize(hw.NumberOfAccessRanges as usize, none);
    // SAFETY: an all-zero configuration is valid.
    let mut config: PORT_CONFIGURATION_INFORMATION = unsafe { core::mem::zeroed() };
    config.Length = size_of::<PORT_CONFIGURATION_INFORMATION>() as u32;
    config.AdapterInterfaceType = hw.AdapterInterfaceType;
    config.MaximumTransferLength = SP_UNINITIALIZED_VALUE;
    config.NumberOfPhysicalBreaks = SP_UNINITIALIZED_VALUE;
    config.DmaChannel = SP_UNINITIALIZED_VALUE;
    config.DmaPort = SP_UNINITIALIZED_VALUE;
    config.NumberOfAccessRanges = hw.NumberOfAccessRanges;
    config.AccessRanges = ranges.as_mut_ptr();
    config.InitiatorBusId = [-1; 8];
    config.MapBuffers = hw.MapBuffers;
    config.NeedPhysicalAddresses = hw.NeedPhysicalAddresses;
    config.TaggedQueuing = hw.TaggedQueuing;
    config.AutoRequestSense = hw.AutoRequestSense;
    config.MultipleRequestPerLu = hw.MultipleRequestPerLu;
    config.ReceiveEvent = hw.ReceiveEvent;
    config.MaximumNumberOfTargets = 8;
    config.MaximumNumberOfLogicalUnits = 8;
    config.DeviceExtensionSize = hw.DeviceExtensionSize;
    config.SpecificLuExtensionSize = hw.SpecificLuExtensionSize;
    config.SrbExtensionSize = hw.SrbExtensionSize;
    config.Dma64BitAddresses = SCSI_DMA64_SYSTEM_SUPPORTED;
    config.SynchronizationModel = StorSynchronizeHalfDuplex;
    config.InitialLunQueueDepth = INITIAL_DEPTH;
    config.MaxIOsPerLun = u8::MAX.into();
    if let Some(interrupt) = resources
        .iter()
        .find(|resource| resource.Type == CmResourceTypeInterrupt)
    {
        // SAFETY: every member of the union is plain numbers.
        let line = unsafe { interrupt.u.Interrupt };
        config.BusInterruptLevel = line.Level.into();
        config.BusInterruptVector = line.Vector;
        let latched = interrupt.Flags & CM_RESOURCE_INTERRUPT_LATCHED != 0;
        config.InterruptMode = if latched { Latched } else { LevelSensitive };
    }
    let Some(find) = hw.HwFindAdapter else {
        return Err(String::from("no HwFindAdapter"));
    };
    let mut again: BOOLEAN = 0;
    let mut argument = 0u8;
    let (config_out, again_out, argument) = (&raw mut config, &raw mut again, &raw mut argument);
    // SAFETY: the miniport's own routine, called as documented.
    let found = border::call(|| unsafe {
        find(
            adapter.extension(),
            null_mut(),
            null_mut(),
            argument,
            config_out,
            again_out,
        )
    });
    config.AccessRanges = null_mut();
    if found != SP_RETURN_FOUND {
        return Err(format!(
            "HwFindAdapter returned {found}, not SP_RETURN_FOUND"
        ));
    }
    if config.MaximumNumberOfTargets == 0 || config.NumberOfBuses == 0 {
        return Err(String::from("HwFindAdapter left no bus or no target"));
    }
    *adapter.config.lock() = Config(config);
    Ok(())
}

/// Asks which controls the miniport takes; remembered in the adapter.
fn query_control_types(adapter: &Adapter) {
    const TYPES: usize = 16;
    let Some(control) = adapter.hw.HwAdapterControl else {
        return;
    };
    // SCSI_SUPPORTED_CONTROL_TYPE_LIST: a count, then a byte a type.
    let mut list = [0u32; 1 + TYPES / 4];
    list[0] = TYPES as u32;
    // SAFETY: the miniport's own routine, called as documented.
    unsafe {
        control(
            adapter.extension(),
            ScsiQuerySupportedControlTypes,
            list.as_mut_ptr().cast(),
        )
    };
    let supported = list[1..].iter().flat_map(|word| word.to_le_bytes());
    let bits = supported
        .enumerate()
        .filter(|(_, byte)| *byte != 0)
        .fold(0, |bits, (kind, _)| bits | 1u32 << kind);
    adapter.controls.store(bits, Ordering::Relaxed);
}

/// Connects the miniport's interrupt, if it has one; returns the IRQL that HwInitialize runs at.
fn connect(
    adapter: &Arc<Adapter>,
    resources: &[CM_PARTIAL_RESOURCE_DESCRIPTOR],
) -> Result<u8, String> {
    let found = resources
        .iter()
        .find(|resource| resource.Type == CmResourceTypeInterrupt);
    let (Some(resource), Some(_)) = (found, adapter.hw.HwInterrupt) else {
        return Ok(nt_sys::DISPATCH_LEVEL);
    };
    // SAFETY: every member of the union is plain numbers.
    let line = unsafe { resource.u.Interrupt };
    let vector =
        u8::try_from(line.Vector).map_err(|_| String::from("an interrupt vector above 255"))?;
    let irql = interrupt::irql_of(vector);
    let context = Arc::as_ptr(adapter).cast_mut().cast();
    let connection = Connection {
        vector,
        irql,
        service: interrupt::Service::Line(service),
        context,
        lock: null_mut(),
    };
    let object = interrupt::connect(connection).ok_or("the interrupt cannot be connected")?;
    *adapter.interrupt.lock() = Interrupt(object);
    Ok(irql)
}

unsafe extern "win64" fn service(_interrupt: *mut KINTERRUPT, context: PVOID) -> BOOLEAN {
    // SAFETY: the interrupt is disconnected before its adapter is freed.
    let adapter = unsafe { &*context.cast::<Adapter>() };
    match adapter.hw.HwInterrupt {
        // SAFETY: the miniport's own routine, called as documented.
        Some(routine) => border::call(|| unsafe { routine(adapter.extension()) }),
        None => 0,
    }
}

/// Stops the miniport: no request may be at it any more, and no interrupt reaches it.
fn stop(adapter: &Arc<Adapter>) {
    /// How long requests may take to come back, in 100 ns units: 30 s.
    const PATIENCE: u64 = 300_000_000;
    adapter.watch.stop();
    let limit = time::interrupt_time().saturating_add(PATIENCE);
    while adapter.outstanding() != 0 {
        if time::interrupt_time() > limit {
            let name = driver::name(adapter.driver);
            Rule::SrbAtStop.breach(format_args!(
                "{name} is being stopped and still has {} SRBs",
                adapter.outstanding()
            ));
        }
        wait::delay(100_000);
    }
    if let Some(control) = adapter
        .hw
        .HwAdapterControl
        .filter(|_| adapter.takes_control(ScsiStopAdapter))
    {
        // SAFETY: the miniport's own routine, called as documented.
        border::call(|| unsafe { control(adapter.extension(), ScsiStopAdapter, null_mut()) });
    }
    let object = core::mem::replace(&mut adapter.interrupt.lock().0, null_mut());
    if !object.is_null() {
        // SAFETY: connected by `connect`, and taken out of the adapter just now.
        unsafe { interrupt::disconnect(object) };
    }
}

/// Takes the adapter's device away; its miniport is stopped.
fn remove(adapter: &Arc<Adapter>) {
    if let Some(free) = adapter
        .hw
        .HwFreeAdapterResources
        .filter(|_| !adapter.extension().is_null())
    {
        // SAFETY: the miniport's own routine, called as documented.
        border::call(|| unsafe { free(adapter.extension()) });
    }
    adapter.free_slots();
    adapter.free_extension();
    dispatch::forget(adapter.fdo);
    // SAFETY: the adapter's device is attached to it.
    unsafe { IoDetachDevice(adapter.lower) };
    // SAFETY: a removed device, which nothing is attached to any more.
    unsafe { IoDeleteDevice(adapter.fdo) };
}

/// A list of relations for a set of live PDOs.
pub fn relations(pdos: &[*mut nt_sys::DEVICE_OBJECT]) -> Option<usize> {
    // SAFETY: the PDOs of units that are known live until they are forgotten.
    unsafe { bus::relations(pdos) }
}
