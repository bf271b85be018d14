//! An adapter's PnP requests.
//!
//! | request | the miniport |
//! |---|---|
//! | START | below first; MiniportInitializeEx, MiniportRestart |
//! | QUERY_STOP, QUERY_REMOVE | MiniportDevicePnPEventNotify |
//! | STOP | MiniportPause, MiniportHaltEx |
//! | SURPRISE_REMOVAL | MiniportDevicePnPEventNotify, MiniportPause, MiniportHaltEx |
//! | REMOVE | MiniportPause and MiniportHaltEx if that was not done; the device goes |

use nt_host::io::device::{IoDeleteDevice, IoDetachDevice};
use nt_host::io::incoming::Incoming;
use nt_sys::ndis::{
    NDIS_PAUSE_MINIPORT_DEVICE_REMOVE, NDIS_PAUSE_NDIS_INTERNAL, NdisDevicePnPEventQueryRemoved,
    NdisDevicePnPEventQueryStopped, NdisDevicePnPEventRemoved, NdisDevicePnPEventStopped,
    NdisDevicePnPEventSurpriseRemoved, NdisHaltDeviceDisabled, NdisHaltDeviceStopped,
    NdisHaltDeviceSurpriseRemoved,
};
use nt_sys::{
    CM_RESOURCE_LIST, IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE,
    IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL, NTSTATUS, PVOID,
    STATUS_DEVICE_CONFIGURATION_ERROR, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, nt_success,
};

use crate::adapter::{Adapter, State};
use crate::{dispatch, life};

/// Requests for an adapter's device.
pub fn adapter(adapter: &'static Adapter, request: Incoming) -> NTSTATUS {
    match request.function().1 {
        IRP_MN_START_DEVICE => {
            // SAFETY: the adapter is attached to this device.
            let status = unsafe { request.forward(adapter.lower) };
            if !nt_success(status) {
                return request.complete(Err(status));
            }
            // SAFETY: the minor function says that this member of the union is filled in.
            let resources = unsafe { request.parameters().StartDevice };
            // SAFETY: the list of this request.
            let resources = unsafe { partial(resources.AllocatedResourcesTranslated) };
            match start(adapter, resources) {
                Ok(()) => request.complete(Ok(Some(0))),
                Err(status) => request.complete(Err(status)),
            }
        }
        IRP_MN_QUERY_STOP_DEVICE => {
            ask(adapter, NdisDevicePnPEventQueryStopped);
            succeed(adapter, request)
        }
        IRP_MN_QUERY_REMOVE_DEVICE => {
            ask(adapter, NdisDevicePnPEventQueryRemoved);
            succeed(adapter, request)
        }
        IRP_MN_CANCEL_STOP_DEVICE | IRP_MN_CANCEL_REMOVE_DEVICE => succeed(adapter, request),
        IRP_MN_STOP_DEVICE => {
            stop(
                adapter,
                Some(NdisDevicePnPEventStopped),
                NDIS_PAUSE_NDIS_INTERNAL,
                NdisHaltDeviceStopped,
            );
            succeed(adapter, request)
        }
        IRP_MN_SURPRISE_REMOVAL => {
            stop(
                adapter,
                Some(NdisDevicePnPEventSurpriseRemoved),
                NDIS_PAUSE_MINIPORT_DEVICE_REMOVE,
                NdisHaltDeviceSurpriseRemoved,
            );
            succeed(adapter, request)
        }
        IRP_MN_REMOVE_DEVICE => {
            stop(
                adapter,
                Some(NdisDevicePnPEventRemoved),
                NDIS_PAUSE_MINIPORT_DEVICE_REMOVE,
                NdisHaltDeviceDisabled,
            );
            adapter.desk.close();
            let status = succeed(adapter, request);
            remove(adapter);
            status
        }
        _ => pass(adapter, request),
    }
}

fn succeed(adapter: &Adapter, request: Incoming) -> NTSTATUS {
    request.set(STATUS_SUCCESS, 0);
    pass(adapter, request)
}

/// Passes a request to the device below.
pub fn pass(adapter: &Adapter, request: Incoming) -> NTSTATUS {
    // SAFETY: the adapter is attached to this device.
    unsafe { request.pass(adapter.lower) }
}

/// The CM_PARTIAL_RESOURCE_LIST that miniports get of a resource list.
///
/// # Safety
/// `list` is null or a valid resource list.
unsafe fn partial(list: *const CM_RESOURCE_LIST) -> PVOID {
    if list.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: the caller's promise; only an address is computed.
    let partial = unsafe { &raw const (*list).List[0].PartialResourceList };
    partial.cast_mut().cast()
}

fn start(adapter: &'static Adapter, resources: PVOID) -> Result<(), NTSTATUS> {
    if !adapter.desk.is_open() && !adapter.desk.open() {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let resources = resources as usize;
    let begun = adapter.desk.run(move || {
        life::initialize(adapter, resources as PVOID)?;
        // A miniport that cannot move frames stays paused.
        let _ = life::restart(adapter);
        Ok::<(), alloc::string::String>(())
    });
    match begun {
        Some(Ok(())) => Ok(()),
        Some(Err(why)) => {
            adapter.log(&why);
            Err(STATUS_DEVICE_CONFIGURATION_ERROR)
        }
        None => Err(STATUS_INSUFFICIENT_RESOURCES),
    }
}

fn ask(adapter: &'static Adapter, event: i32) {
    adapter.desk.run(move || life::notify(adapter, event));
}

/// Tells the miniport of an event, and has it pause and halt, if it is not halted.
fn stop(adapter: &'static Adapter, event: Option<i32>, reason: u32, action: i32) {
    adapter.desk.run(move || {
        if adapter.state() == State::Halted {
            return;
        }
        if let Some(event) = event {
            life::notify(adapter, event);
        }
        // Paused already: then there is nothing to pause.
        let _ = life::pause(adapter, reason);
        life::halt(adapter, action);
    });
}

/// Takes the adapter's device away; its miniport has halted it.
fn remove(adapter: &'static Adapter) {
    adapter.cache.empty();
    dispatch::forget(adapter.fdo);
    adapter.close();
    // SAFETY: the adapter's device is attached to it.
    unsafe { IoDetachDevice(adapter.lower) };
    // SAFETY: a removed device, which nothing is attached to any more.
    unsafe { IoDeleteDevice(adapter.fdo) };
}
