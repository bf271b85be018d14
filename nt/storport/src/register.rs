//! Registration with storport, and its callbacks.

use crate::{Adapter, Miniport, Srb, dispatch};
use nt::{NtStatus, Result};
use nt_sys::imports::{StorPortGetUncachedExtension, StorPortInitialize, StorPortNotification};
use nt_sys::storport::{
    EnablePassiveInitialization, HW_INITIALIZATION_DATA, PORT_CONFIGURATION_INFORMATION,
    SCSI_DMA64_MINIPORT_SUPPORTED, SCSI_DMA64_SYSTEM_SUPPORTED, SCSI_REQUEST_BLOCK,
    SCSI_SUPPORTED_CONTROL_TYPE_LIST, SP_RETURN_BAD_CONFIG, SP_RETURN_FOUND, SRB_STATUS_NO_HBA,
    STOR_FEATURE_FULL_PNP_DEVICE_CAPABILITIES, STOR_MAP_NON_READ_WRITE_BUFFERS,
    ScsiAdapterControlSuccess, ScsiAdapterControlUnsuccessful, ScsiQuerySupportedControlTypes,
    StorSynchronizeFullDuplex,
};
use nt_sys::{BOOLEAN, DRIVER_OBJECT, FALSE, Internal, PAGE_SIZE, PVOID, TRUE, UNICODE_STRING};

/// What a miniport tells storport about its adapter.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Longest transfer in bytes.
    pub max_transfer: u32,
    /// Fragments a scatter-gather list may have.
    pub max_fragments: u32,
    /// Targets on the one bus.
    pub max_targets: u8,
}

/// Registers the miniport, then puts its PnP and power hooks before storport's dispatch routines.
///
/// # Safety
/// The arguments are those of `DriverEntry`, and this is called once, from there.
pub unsafe fn register<M: Miniport>(
    driver: *mut DRIVER_OBJECT,
    registry_path: *mut UNICODE_STRING,
) -> Result<()> {
    let mut data = HW_INITIALIZATION_DATA {
        HwInitializationDataSize: size_of::<HW_INITIALIZATION_DATA>() as u32,
        AdapterInterfaceType: Internal,
        HwInitialize: Some(initialize::<M>),
        HwStartIo: Some(start_io::<M>),
        HwInterrupt: Some(interrupt),
        HwFindAdapter: Some(find_adapter::<M>),
        HwResetBus: Some(reset_bus::<M>),
        HwDmaStarted: None,
        HwAdapterState: None,
        // The adapter itself is the driver's own; storport's extension only has to have an address.
        DeviceExtensionSize: size_of::<usize>() as u32,
        SpecificLuExtensionSize: 0,
        SrbExtensionSize: size_of::<crate::srb::Extension>() as u32,
        NumberOfAccessRanges: 2,
        Reserved: core::ptr::null_mut(),
        MapBuffers: STOR_MAP_NON_READ_WRITE_BUFFERS,
        NeedPhysicalAddresses: TRUE,
        TaggedQueuing: TRUE,
        AutoRequestSense: TRUE,
        MultipleRequestPerLu: TRUE,
        ReceiveEvent: FALSE,
        VendorIdLength: 0,
        VendorId: core::ptr::null_mut(),
        PortVersionFlags: 0,
        DeviceIdLength: 0,
        DeviceId: core::ptr::null_mut(),
        HwAdapterControl: Some(adapter_control),
        HwBuildIo: Some(build_io::<M>),
        HwFreeAdapterResources: None,
        HwProcessServiceRequest: None,
        HwCompleteServiceIrp: None,
        HwInitializeTracing: core::ptr::null_mut(),
        HwCleanupTracing: core::ptr::null_mut(),
        HwTracingEnabled: core::ptr::null_mut(),
        FeatureSupport: STOR_FEATURE_FULL_PNP_DEVICE_CAPABILITIES,
        SrbTypeFlags: 0,
        AddressTypeFlags: 0,
        Reserved1: 0,
        HwUnitControl: None,
    };
    // SAFETY: the arguments are DriverEntry's; storport copies the data.
    let status = unsafe {
        StorPortInitialize(
            driver.cast(),
            registry_path.cast(),
            &mut data,
            core::ptr::null_mut(),
        )
    };
    NtStatus::check(status)?;
    // SAFETY: the driver object is ours while DriverEntry runs.
    unsafe { dispatch::hook::<M>(driver) };
    Ok(())
}

/// Writes a field of a configuration, of which older systems have a shorter form: no reference to the whole is made.
macro_rules! set {
    ($configuration:ident.$field:ident = $value:expr) => {
        // SAFETY: storport passes a configuration that has this field, ours to write in HwFindAdapter.
        unsafe { (*$configuration).$field = $value }
    };
}

unsafe extern "win64" fn find_adapter<M: Miniport>(
    extension: PVOID,
    _hw_context: PVOID,
    _bus_information: PVOID,
    _arguments: *mut u8,
    configuration: *mut PORT_CONFIGURATION_INFORMATION,
    again: *mut BOOLEAN,
) -> u32 {
    if configuration.is_null() {
        return SP_RETURN_BAD_CONFIG;
    }
    if !again.is_null() {
        // SAFETY: an out parameter of storport's.
        unsafe { again.write(FALSE) };
    }
    set!(configuration.MaximumTransferLength = M::CONFIG.max_transfer);
    set!(configuration.NumberOfPhysicalBreaks = M::CONFIG.max_fragments);
    set!(configuration.AlignmentMask = 0);
    set!(configuration.NumberOfBuses = 1);
    set!(configuration.InitiatorBusId = [1, 0, 0, 0, 0, 0, 0, 0]);
    set!(configuration.ScatterGather = TRUE);
    set!(configuration.Master = TRUE);
    set!(configuration.CachesData = FALSE);
    set!(configuration.MapBuffers = STOR_MAP_NON_READ_WRITE_BUFFERS);
    set!(configuration.MaximumNumberOfTargets = M::CONFIG.max_targets);
    set!(configuration.MaximumNumberOfLogicalUnits = 1);
    set!(configuration.WmiDataProvider = FALSE);
    set!(configuration.SynchronizationModel = StorSynchronizeFullDuplex);
    // SAFETY: as in `set!`.
    let dma64 = unsafe { (*configuration).Dma64BitAddresses };
    if dma64 & SCSI_DMA64_SYSTEM_SUPPORTED != 0 {
        set!(configuration.Dma64BitAddresses = SCSI_DMA64_MINIPORT_SUPPORTED);
    }
    // A bus master without an uncached extension gets no scatter-gather lists (Microsoft Learn:
    // StorPortGetUncachedExtension), so one is asked for and not used.
    // SAFETY: called in HwFindAdapter with its own arguments, after the configuration is filled in.
    unsafe { StorPortGetUncachedExtension(extension, configuration, PAGE_SIZE as u32) };
    SP_RETURN_FOUND
}

unsafe extern "win64" fn initialize<M: Miniport>(extension: PVOID) -> BOOLEAN {
    let routine: nt_sys::storport::HW_PASSIVE_INITIALIZE_ROUTINE = passive_initialize::<M>;
    let mut accepted = 0u32;
    // SAFETY: this notification takes the routine and a pointer to a 4-byte answer, which is live.
    unsafe {
        StorPortNotification(
            EnablePassiveInitialization,
            extension,
            routine,
            &raw mut accepted,
        );
    }
    if accepted != 0 { TRUE } else { FALSE }
}

unsafe extern "win64" fn passive_initialize<M: Miniport>(extension: PVOID) -> BOOLEAN {
    let Some(adapter) = Adapter::new(extension) else {
        return FALSE;
    };
    if dispatch::miniport::<M>().is_some() {
        // Storport initialises again after a stop. A second adapter has nothing to drive.
        return if dispatch::is_started(adapter) {
            TRUE
        } else {
            FALSE
        };
    }
    match M::start(adapter) {
        Ok(miniport) => {
            dispatch::publish(adapter, miniport);
            TRUE
        }
        Err(_) => FALSE,
    }
}

unsafe extern "win64" fn build_io<M: Miniport>(
    extension: PVOID,
    block: *mut SCSI_REQUEST_BLOCK,
) -> BOOLEAN {
    let Some(adapter) = Adapter::new(extension) else {
        return FALSE;
    };
    // SAFETY: storport has just passed us the request.
    let Some(srb) = (unsafe { Srb::receive(block, adapter) }) else {
        return FALSE;
    };
    let Some(miniport) = dispatch::miniport::<M>() else {
        srb.complete(SRB_STATUS_NO_HBA);
        return FALSE;
    };
    match miniport.prepare(srb) {
        Some(srb) => {
            srb.into_raw();
            TRUE
        }
        None => FALSE,
    }
}

unsafe extern "win64" fn start_io<M: Miniport>(
    extension: PVOID,
    block: *mut SCSI_REQUEST_BLOCK,
) -> BOOLEAN {
    let Some(adapter) = Adapter::new(extension) else {
        return FALSE;
    };
    // SAFETY: storport passes on a request that `build_io` gave back.
    let Some(srb) = (unsafe { Srb::resume(block, adapter) }) else {
        return FALSE;
    };
    match dispatch::miniport::<M>() {
        Some(miniport) => miniport.start_io(srb),
        None => srb.complete(SRB_STATUS_NO_HBA),
    }
    TRUE
}

unsafe extern "win64" fn reset_bus<M: Miniport>(_extension: PVOID, _path: u32) -> BOOLEAN {
    if let Some(miniport) = dispatch::miniport::<M>() {
        miniport.reset();
    }
    TRUE
}

/// There is no interrupt; events arrive by event channels.
unsafe extern "win64" fn interrupt(_extension: PVOID) -> BOOLEAN {
    TRUE
}

unsafe extern "win64" fn adapter_control(
    _extension: PVOID,
    control: i32,
    parameters: PVOID,
) -> i32 {
    if control != ScsiQuerySupportedControlTypes {
        return ScsiAdapterControlSuccess;
    }
    if parameters.is_null() {
        return ScsiAdapterControlUnsuccessful;
    }
    let list = parameters.cast::<SCSI_SUPPORTED_CONTROL_TYPE_LIST>();
    // SAFETY: for this control storport passes such a list, ours to fill in.
    let entries = unsafe { (*list).MaxControlType };
    // SAFETY: as above; the entries follow the count.
    let first = unsafe { (&raw mut (*list).SupportedTypeList).cast::<BOOLEAN>() };
    if entries > ScsiQuerySupportedControlTypes as u32 {
        // SAFETY: the list has an entry of this index.
        let entry = unsafe { first.add(ScsiQuerySupportedControlTypes as usize) };
        // SAFETY: as above.
        unsafe { entry.write(TRUE) };
    }
    ScsiAdapterControlSuccess
}
