//! NdisMRegisterMiniportDriver: a miniport hands its driver object over to NDIS.

use nt_host::exports;
use nt_host::io::driver;
use nt_host::verifier::Rule;
use nt_sys::ndis::{
    NDIS_HANDLE, NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
    NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1,
    NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
    NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3, NDIS_STATUS,
    NDIS_STATUS_BAD_CHARACTERISTICS, NDIS_STATUS_BAD_VERSION, NDIS_STATUS_RESOURCES,
    NDIS_STATUS_SUCCESS,
};
use nt_sys::{DRIVER_OBJECT, IRP_MJ_MAXIMUM_FUNCTION, PVOID};

use crate::attributes::{Revision, header};
use crate::handle::Handles;
use crate::{call, dispatch, version};

/// A miniport driver that is registered.
pub struct Driver {
    handle: usize,
    /// Its driver object.
    pub object: usize,
    /// MiniportDriverContext.
    pub context: usize,
    /// Its handlers and what it said of itself.
    pub characteristics: NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
}

static DRIVERS: Handles<Driver> = Handles::new(2, "a miniport driver");

/// What a driver object registered, if it did.
pub fn find(object: *mut DRIVER_OBJECT) -> Option<&'static Driver> {
    DRIVERS
        .all()
        .find(|driver| driver.object == object as usize)
}

/// Whether a handle is a registered driver's.
pub fn is_driver(handle: NDIS_HANDLE) -> bool {
    DRIVERS.find(handle).is_some()
}

/// The registered driver of a handle.
pub fn by_handle(handle: NDIS_HANDLE) -> Option<&'static Driver> {
    DRIVERS.find(handle)
}

/// Sizes of the revisions of NDIS_MINIPORT_DRIVER_CHARACTERISTICS.
const SIZES: &[Revision] = &[
    (1, NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1, 0),
    (
        2,
        NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
        10,
    ),
    (
        3,
        NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
        80,
    ),
];

/// Whether every handler is there that a miniport must have (Microsoft Learn,
/// "NDIS_MINIPORT_DRIVER_CHARACTERISTICS").
fn is_complete(miniport: &NDIS_MINIPORT_DRIVER_CHARACTERISTICS) -> bool {
    miniport.InitializeHandlerEx.is_some()
        && miniport.HaltHandlerEx.is_some()
        && miniport.UnloadHandler.is_some()
        && miniport.PauseHandler.is_some()
        && miniport.RestartHandler.is_some()
        && miniport.OidRequestHandler.is_some()
        && miniport.SendNetBufferListsHandler.is_some()
        && miniport.ReturnNetBufferListsHandler.is_some()
        && miniport.CancelSendHandler.is_some()
        && miniport.DevicePnPEventNotifyHandler.is_some()
        && miniport.ShutdownHandlerEx.is_some()
        && miniport.CancelOidRequestHandler.is_some()
}

/// Microsoft Learn: NdisMRegisterMiniportDriver.
///
/// # Safety
/// The pointers are valid as documented; `object` is the caller's driver object.
pub unsafe extern "win64" fn NdisMRegisterMiniportDriver(
    object: *mut DRIVER_OBJECT,
    _path: PVOID,
    context: NDIS_HANDLE,
    characteristics: *const NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    // SAFETY: the caller's promise.
    let size = unsafe {
        header(
            characteristics.cast(),
            "NDIS_MINIPORT_DRIVER_CHARACTERISTICS",
            NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
            SIZES,
        )
    };
    // SAFETY: all zero is valid for numbers and missing routines.
    let mut miniport: NDIS_MINIPORT_DRIVER_CHARACTERISTICS = unsafe { core::mem::zeroed() };
    let copy = (&raw mut miniport).cast::<u8>();
    // SAFETY: the header says that so many bytes are there, and no revision has more than the structure.
    unsafe { copy.copy_from_nonoverlapping(characteristics.cast(), size) };
    let asked = (miniport.MajorNdisVersion, miniport.MinorNdisVersion);
    // A driver of a newer version than NDIS' own is refused, and so is what came before NDIS 6.
    if asked.0 != 6 || asked.1 > version::minor() {
        return NDIS_STATUS_BAD_VERSION;
    }
    if !is_complete(&miniport) || find(object).is_some() {
        return NDIS_STATUS_BAD_CHARACTERISTICS;
    }
    let opened = DRIVERS.open(|handle| Driver {
        handle: handle as usize,
        object: object as usize,
        context: context as usize,
        characteristics: miniport,
    });
    let Some(registered) = opened else {
        return NDIS_STATUS_RESOURCES;
    };
    let handle = registered.handle as NDIS_HANDLE;
    // SAFETY: the caller's place for the handle.
    unsafe { out.write(handle) };
    // SAFETY: the caller's promise.
    let fields = unsafe { &mut *object };
    fields.MajorFunction = [Some(dispatch::dispatch); IRP_MJ_MAXIMUM_FUNCTION + 1];
    fields.DriverUnload = Some(unload);
    // SAFETY: a driver object's extension lives as long as it.
    unsafe { (*fields.DriverExtension).AddDevice = Some(dispatch::add_device) };
    let Some(set_options) = miniport.SetOptionsHandler else {
        return NDIS_STATUS_SUCCESS;
    };
    let routine = set_options as usize;
    // SAFETY: the miniport's own routine, called as documented.
    let status = call::handler(routine, "MiniportSetOptions", || unsafe {
        set_options(handle, context)
    });
    if status != NDIS_STATUS_SUCCESS {
        DRIVERS.close(handle, "MiniportSetOptions");
    }
    status
}

/// Microsoft Learn: NdisMDeregisterMiniportDriver.
pub extern "win64" fn NdisMDeregisterMiniportDriver(handle: NDIS_HANDLE) {
    DRIVERS.close(handle, "NdisMDeregisterMiniportDriver");
    crate::life::demand_nothing_left(handle, "deregisters");
}

/// NDIS' part of unloading a miniport: its own routine, which must deregister it.
unsafe extern "win64" fn unload(object: *mut DRIVER_OBJECT) {
    let Some(registered) = find(object) else {
        return;
    };
    let Some(routine) = registered.characteristics.UnloadHandler else {
        return;
    };
    // SAFETY: the miniport's own routine, called as documented.
    call::handler(routine as usize, "MiniportDriverUnload", || unsafe {
        routine(object)
    });
    if find(object).is_some() {
        Rule::NdisRegistered.breach_of(
            routine as usize,
            format_args!(
                "{} returns from MiniportDriverUnload without having called NdisMDeregisterMiniportDriver",
                driver::name(object)
            ),
        );
    }
}

exports!("ndis.sys": NdisMRegisterMiniportDriver, NdisMDeregisterMiniportDriver);
