//! Registration with NDIS, and its handlers.

use crate::version::Version;
use crate::{
    Adapter, CancelId, NdisStatus, OidRequest, RegistrationFlags, Returned, Sends, attributes,
};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, Ordering};
use nt::{NtStatus, Result};
use nt_sys::imports::{
    NdisGetVersion, NdisMDeregisterMiniportDriver, NdisMPauseComplete, NdisMRegisterMiniportDriver,
};
use nt_sys::ndis::*;
use nt_sys::{DRIVER_OBJECT, PVOID, UNICODE_STRING};

/// How a pause goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Nothing is under way any more.
    Done,
    /// [`Adapter::paused`] follows.
    Pending,
}

/// Why an adapter goes (`NDIS_HALT_ACTION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt(pub i32);

impl Halt {
    /// Whether the device is gone already.
    pub const fn is_surprise(self) -> bool {
        self.0 == NdisHaltDeviceSurpriseRemoved
    }
}

/// An adapter of a miniport driver. NDIS keeps the box from [`Miniport::create`] until [`Miniport::halt`].
pub trait Miniport: Sized + Send + Sync + 'static {
    /// What registration says of every adapter.
    const FLAGS: RegistrationFlags;

    /// Makes an adapter. PASSIVE_LEVEL. Nothing but creation may be done with `adapter` yet.
    fn create(adapter: Adapter) -> core::result::Result<Box<Self>, NdisStatus>;

    /// NDIS' name for it, which [`Miniport::create`] was given.
    fn adapter(&self) -> Adapter;

    /// Sets the general and offload attributes, and what else belongs to the start. PASSIVE_LEVEL. After an error the
    /// adapter is dropped.
    fn describe(&self) -> core::result::Result<(), NdisStatus>;

    /// From here on frames go both ways. PASSIVE_LEVEL.
    fn restart(&self) -> core::result::Result<(), NdisStatus>;

    /// Stops the frames: gives back every list of NDIS', and waits for its own. No send comes from now on until the
    /// next restart. PASSIVE_LEVEL.
    fn pause(&self) -> Pause;

    /// The end. The adapter is paused, or never ran. PASSIVE_LEVEL.
    fn halt(self: Box<Self>, why: Halt);

    /// The system goes down. PASSIVE_LEVEL, or any level where it is a crash.
    fn shutdown(&self, crash: bool);

    /// The device is gone; a pause and a halt follow. PASSIVE_LEVEL.
    fn surprise_removed(&self);

    /// A request, of which one is under way at a time. IRQL ≤ DISPATCH_LEVEL.
    fn request(&self, request: &mut OidRequest<'_>) -> NdisStatus;

    /// Lists to be sent, in their order. IRQL ≤ DISPATCH_LEVEL, on several processors at once.
    fn send(&self, sends: Sends);

    /// Received lists that nobody above uses any more. IRQL ≤ DISPATCH_LEVEL, on several processors at once.
    fn returned(&self, lists: Returned);

    /// Lists with this identification are not to be sent if they were not yet. IRQL ≤ DISPATCH_LEVEL.
    fn cancel(&self, id: CancelId);

    /// The driver goes; no adapter is left. PASSIVE_LEVEL.
    fn unload() {}
}

/// NDIS' handle of the driver; null while there is none.
static DRIVER: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(core::ptr::null_mut());

/// What `NdisGetVersion` says: `NDIS_RUNTIME_VERSION_*`.
pub fn runtime_version() -> u32 {
    // SAFETY: no arguments, any level.
    unsafe { NdisGetVersion() }
}

/// Registers the driver; `driver_version` is major and minor of its own. What goes with the version it was registered as.
///
/// # Safety
/// `driver` and `registry_path` are those of the DriverEntry that runs, and this is called once.
pub unsafe fn register<M: Miniport>(
    driver: *mut DRIVER_OBJECT,
    registry_path: *mut UNICODE_STRING,
    driver_version: (u8, u8),
) -> Result<Version> {
    let version = Version::of(runtime_version());
    let mut characteristics = NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
        Header: version
            .characteristics
            .header(NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS),
        MajorNdisVersion: version.reported.0,
        MinorNdisVersion: version.reported.1,
        MajorDriverVersion: driver_version.0,
        MinorDriverVersion: driver_version.1,
        Flags: NDIS_WDM_DRIVER,
        SetOptionsHandler: None,
        InitializeHandlerEx: Some(initialize::<M>),
        HaltHandlerEx: Some(halt::<M>),
        UnloadHandler: Some(unload::<M>),
        PauseHandler: Some(pause::<M>),
        RestartHandler: Some(restart::<M>),
        OidRequestHandler: Some(oid_request::<M>),
        SendNetBufferListsHandler: Some(send::<M>),
        ReturnNetBufferListsHandler: Some(returned::<M>),
        CancelSendHandler: Some(cancel::<M>),
        CheckForHangHandlerEx: None,
        ResetHandlerEx: None,
        DevicePnPEventNotifyHandler: Some(event::<M>),
        ShutdownHandlerEx: Some(shutdown::<M>),
        CancelOidRequestHandler: Some(cancel_oid_request),
        DirectOidRequestHandler: None,
        CancelDirectOidRequestHandler: None,
        SynchronousOidRequestHandler: None,
    };
    let mut handle = core::ptr::null_mut();
    // SAFETY: the caller's duty; the structure is of the revision that its header says.
    NtStatus::check(unsafe {
        NdisMRegisterMiniportDriver(
            driver,
            registry_path,
            core::ptr::null_mut(),
            &mut characteristics,
            &mut handle,
        )
    })?;
    DRIVER.store(handle, Ordering::Release);
    Ok(version)
}

/// The adapter behind a context.
///
/// # Safety
/// `context` is what `initialize` gave NDIS, and the adapter was not halted.
unsafe fn behind<'a, M>(context: NDIS_HANDLE) -> &'a M {
    // SAFETY: the caller's duty.
    unsafe { &*context.cast::<M>() }
}

unsafe extern "win64" fn initialize<M: Miniport>(
    miniport: NDIS_HANDLE,
    _driver: NDIS_HANDLE,
    _parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS,
) -> NDIS_STATUS {
    let Some(handle) = Adapter::new(miniport) else {
        return NDIS_STATUS_FAILURE;
    };
    let made = match M::create(handle) {
        Ok(made) => made,
        Err(status) => return status.0,
    };
    let context = Box::into_raw(made);
    // SAFETY: the box was just given up and nobody has taken it.
    let made = unsafe { &*context };
    let outcome =
        attributes::register(handle, context.cast(), M::FLAGS).and_then(|()| made.describe());
    match outcome {
        Ok(()) => NDIS_STATUS_SUCCESS,
        Err(status) => {
            // SAFETY: NDIS makes no call to an adapter whose initialisation fails.
            drop(unsafe { Box::from_raw(context) });
            status.0
        }
    }
}

unsafe extern "win64" fn halt<M: Miniport>(context: NDIS_HANDLE, action: i32) {
    // SAFETY: the box that `initialize` gave up; no call follows this one, and none is under way.
    let made = unsafe { Box::from_raw(context.cast::<M>()) };
    made.halt(Halt(action));
}

unsafe extern "win64" fn unload<M: Miniport>(_: *mut DRIVER_OBJECT) {
    M::unload();
    let handle = DRIVER.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !handle.is_null() {
        // SAFETY: registered once, and every adapter is halted.
        unsafe { NdisMDeregisterMiniportDriver(handle) };
    }
}

unsafe extern "win64" fn pause<M: Miniport>(
    context: NDIS_HANDLE,
    _parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS passes the context of an adapter that runs; so in all that follow.
    match unsafe { behind::<M>(context) }.pause() {
        Pause::Done => NDIS_STATUS_SUCCESS,
        Pause::Pending => NDIS_STATUS_PENDING,
    }
}

unsafe extern "win64" fn restart<M: Miniport>(
    context: NDIS_HANDLE,
    _parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: see `pause`.
    match unsafe { behind::<M>(context) }.restart() {
        Ok(()) => NDIS_STATUS_SUCCESS,
        Err(status) => status.0,
    }
}

unsafe extern "win64" fn oid_request<M: Miniport>(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    // SAFETY: NDIS passes a live request, which is this call's until it returns.
    let Some(mut request) = (unsafe { OidRequest::new(request) }) else {
        return NDIS_STATUS_FAILURE;
    };
    // SAFETY: see `pause`.
    let status = unsafe { behind::<M>(context) }.request(&mut request);
    // Requests are answered at once, so none is pending.
    if status.0 == NDIS_STATUS_PENDING {
        NDIS_STATUS_FAILURE
    } else {
        status.0
    }
}

unsafe extern "win64" fn send<M: Miniport>(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    _port: NDIS_PORT_NUMBER,
    flags: u32,
) {
    // SAFETY: see `pause`.
    let made = unsafe { behind::<M>(context) };
    let dispatch = flags & NDIS_SEND_FLAGS_DISPATCH_LEVEL != 0;
    // SAFETY: NDIS hands over lists, which are the miniport's until it completes them.
    made.send(unsafe { Sends::new(lists, made.adapter(), dispatch) });
}

unsafe extern "win64" fn returned<M: Miniport>(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    _flags: u32,
) {
    // SAFETY: see `pause`.
    let made = unsafe { behind::<M>(context) };
    // SAFETY: the lists are ones that this miniport indicated, and its own again.
    made.returned(unsafe { Returned::new(lists) });
}

unsafe extern "win64" fn cancel<M: Miniport>(context: NDIS_HANDLE, id: PVOID) {
    // SAFETY: see `pause`.
    unsafe { behind::<M>(context) }.cancel(CancelId(id as usize));
}

unsafe extern "win64" fn event<M: Miniport>(
    context: NDIS_HANDLE,
    event: *mut NET_DEVICE_PNP_EVENT,
) {
    // SAFETY: NDIS passes a live event.
    let event = unsafe { event.as_ref() };
    if event.is_some_and(|event| event.DevicePnPEvent == NdisDevicePnPEventSurpriseRemoved) {
        // SAFETY: see `pause`.
        unsafe { behind::<M>(context) }.surprise_removed();
    }
}

unsafe extern "win64" fn shutdown<M: Miniport>(context: NDIS_HANDLE, action: i32) {
    // SAFETY: see `pause`.
    unsafe { behind::<M>(context) }.shutdown(action == NdisShutdownBugCheck);
}

/// Requests are answered at once, so there is none to cancel.
unsafe extern "win64" fn cancel_oid_request(_: NDIS_HANDLE, _: PVOID) {}

impl Adapter {
    /// A pause that was [`Pause::Pending`] is done. IRQL ≤ DISPATCH_LEVEL.
    pub fn paused(self) {
        // SAFETY: the handle names a live adapter, whose pause NDIS waits for.
        unsafe { NdisMPauseComplete(self.as_ptr()) };
    }
}
