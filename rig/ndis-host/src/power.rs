//! Power requests: NDIS is the power policy owner of its adapters.
//!
//! ```text
//!   down: system IRP ─▶ device IRP: MiniportPause, OID_PNP_SET_POWER or MiniportHaltEx ─▶ below      ─▶ system IRP below
//!   up:   system IRP ─▶ device IRP: below ─▶ OID_PNP_SET_POWER or MiniportInitializeEx, MiniportRestart ─▶ system IRP below
//! ```
//! A miniport that does not say NO_HALT_ON_SUSPEND is halted before its device loses power.

use nt_host::io::incoming::Incoming;
use nt_host::po::{PoSetPowerState, policy};
use nt_sys::ndis::{
    NDIS_PAUSE_LOW_POWER, NDIS_STATUS_SUCCESS, NdisDeviceStateD0, NdisDeviceStateD3,
    NdisHaltDevicePoweredDown, NdisShutdownPowerOff, OID_PNP_QUERY_POWER, OID_PNP_SET_POWER,
};
use nt_sys::{
    DevicePowerState, IRP_MN_QUERY_POWER, IRP_MN_SET_POWER, NTSTATUS, PowerDeviceD0,
    PowerSystemShutdown, SystemPowerState, nt_success,
};

use crate::adapter::{Adapter, State};
use crate::oid::{self, Kind, OidRequest};
use crate::{life, pnp};

/// Power requests for an adapter's device.
pub fn adapter(adapter: &'static Adapter, request: Incoming) -> NTSTATUS {
    // SAFETY: power requests have this member of the union filled in.
    let power = unsafe { request.parameters().Power };
    let minor = request.function().1;
    if !matches!(minor, IRP_MN_SET_POWER | IRP_MN_QUERY_POWER) {
        return pnp::pass(adapter, request);
    }
    if power.Type == SystemPowerState {
        // SAFETY: every member of the union is a number.
        let state = unsafe { power.State.SystemState };
        if state == PowerSystemShutdown && minor == IRP_MN_SET_POWER {
            adapter
                .desk
                .run(move || life::shut_down(adapter, NdisShutdownPowerOff));
        }
        let on = move |request| {
            pnp::pass(adapter, request);
        };
        // SAFETY: the adapter's device lives while a request is at it.
        return unsafe { policy::device_first(adapter.fdo, request, on) };
    }
    // SAFETY: every member of the union is a number.
    let state = unsafe { power.State.DeviceState };
    match (minor, state == PowerDeviceD0) {
        (IRP_MN_QUERY_POWER, false) => {
            adapter.desk.run(move || {
                say(adapter, Kind::Query, OID_PNP_QUERY_POWER, NdisDeviceStateD3);
            });
            pnp::pass(adapter, request)
        }
        (IRP_MN_SET_POWER, false) => {
            adapter.desk.run(move || down(adapter));
            // SAFETY: the adapter's device lives while a request is at it.
            unsafe { PoSetPowerState(adapter.fdo, DevicePowerState, power.State) };
            pnp::pass(adapter, request)
        }
        (IRP_MN_SET_POWER, true) => {
            // SAFETY: the adapter is attached to this device.
            let status = unsafe { request.forward(adapter.lower) };
            if !nt_success(status) {
                return request.complete(Err(status));
            }
            // SAFETY: the adapter's device lives while a request is at it.
            unsafe { PoSetPowerState(adapter.fdo, DevicePowerState, power.State) };
            adapter.desk.run(move || up(adapter));
            request.finish()
        }
        _ => pnp::pass(adapter, request),
    }
}

/// The device loses its power; at the desk.
fn down(adapter: &'static Adapter) {
    // Paused already: then there is nothing to pause.
    let _ = life::pause(adapter, NDIS_PAUSE_LOW_POWER);
    match adapter.attributes.lock().stays() {
        true => {}
        false => return life::halt(adapter, NdisHaltDevicePoweredDown),
    }
    say(adapter, Kind::Set, OID_PNP_SET_POWER, NdisDeviceStateD3);
}

/// The device has power again; at the desk.
fn up(adapter: &'static Adapter) {
    match adapter.state() {
        State::Halted => {
            if let Err(why) = life::initialize(adapter, core::ptr::null_mut()) {
                return adapter.log(&why);
            }
        }
        _ => say(adapter, Kind::Set, OID_PNP_SET_POWER, NdisDeviceStateD0),
    }
    // A miniport that cannot move frames stays paused, and has said so.
    let _ = life::restart(adapter);
}

/// Tells or asks the miniport of a state of its device.
fn say(adapter: &'static Adapter, kind: Kind, oid: u32, state: i32) {
    let mut request = OidRequest::set(oid, &state.to_le_bytes());
    request.kind = kind;
    let answer = oid::send(adapter, request);
    if answer.status != NDIS_STATUS_SUCCESS {
        adapter.log(&alloc::format!(
            "OID {oid:#010x} for device power state {state}: {:#010x}",
            answer.status
        ));
    }
}
