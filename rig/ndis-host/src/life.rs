//! An adapter's life as its miniport sees it: initialised, restarted, paused, halted. All of it at the adapter's desk.
//!
//! ```text
//!   Halted ─initialize─▶ Paused ─restart─▶ Running ─pause─▶ Paused ─halt─▶ Halted
//! ```

use alloc::format;
use alloc::string::String;
use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use nt_host::exports;
use nt_host::ke::{time, wait};
use nt_host::verifier::Rule;
use nt_sys::PVOID;
use nt_sys::ndis::{
    NDIS_HANDLE, NDIS_MINIPORT_INIT_PARAMETERS, NDIS_MINIPORT_PAUSE_PARAMETERS,
    NDIS_MINIPORT_RESTART_PARAMETERS, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_OBJECT_TYPE_MINIPORT_INIT_PARAMETERS, NDIS_SIZEOF_MINIPORT_INIT_PARAMETERS_REVISION_1,
    NDIS_SIZEOF_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
    NDIS_SIZEOF_MINIPORT_RESTART_PARAMETERS_REVISION_1,
    NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1, NDIS_STATUS, NDIS_STATUS_PENDING,
    NDIS_STATUS_SUCCESS, NET_DEVICE_PNP_EVENT,
};

use crate::adapter::{Adapter, State};
use crate::attributes::Attributes;
use crate::{call, configuration, dma, interface, pool, timer, work};

/// How long a miniport may take for what it says that it completes later, in 100 ns units: two minutes. Only what hangs
/// takes longer.
pub const PATIENCE: u64 = 1_200_000_000;

/// What an operation's time is over at.
pub fn limit() -> u64 {
    time::interrupt_time().saturating_add(PATIENCE)
}

/// Has the miniport initialise the adapter, with the resources that the device was started with (a
/// CM_PARTIAL_RESOURCE_LIST, or null).
pub fn initialize(adapter: &'static Adapter, resources: PVOID) -> Result<(), String> {
    let miniport = &adapter.driver.characteristics;
    let Some(routine) = miniport.InitializeHandlerEx else {
        return Err(String::from("no MiniportInitializeEx"));
    };
    *adapter.attributes.lock() = Attributes::default();
    adapter.filter.store(0, Ordering::Relaxed);
    *adapter.scale.lock() = crate::scale::Scale::default();
    adapter.set_context(null_mut());
    adapter.set_state(State::Initializing);
    // SAFETY: all zero is valid for numbers and null pointers.
    let mut parameters: NDIS_MINIPORT_INIT_PARAMETERS = unsafe { core::mem::zeroed() };
    parameters.Header = NDIS_OBJECT_HEADER::new(
        NDIS_OBJECT_TYPE_MINIPORT_INIT_PARAMETERS,
        1,
        NDIS_SIZEOF_MINIPORT_INIT_PARAMETERS_REVISION_1,
    );
    parameters.AllocatedResources = resources;
    parameters.IfIndex = adapter.index;
    parameters.NetLuid = interface::luid(adapter.index);
    let context = adapter.driver.context as PVOID;
    let given = &raw mut parameters;
    // SAFETY: the miniport's own routine, called as documented.
    let status = call::handler(routine as usize, "MiniportInitializeEx", || unsafe {
        routine(adapter.handle(), context, given)
    });
    if status != NDIS_STATUS_SUCCESS {
        if status == NDIS_STATUS_PENDING {
            wrong_status(routine as usize, "MiniportInitializeEx", status);
        }
        adapter.set_state(State::Halted);
        demand_nothing_left(adapter.handle(), "fails MiniportInitializeEx");
        return Err(format!("MiniportInitializeEx failed with {status:#010x}"));
    }
    let (registered, general) = {
        let attributes = adapter.attributes.lock();
        (attributes.registered, attributes.general)
    };
    if !registered || !general {
        Rule::NdisAttributes.breach_of(
            routine as usize,
            format_args!(
                "returns from MiniportInitializeEx without having set registration and general attributes"
            ),
        );
    }
    adapter.set_state(State::Paused);
    interface::show(adapter);
    Ok(())
}

#[cold]
fn wrong_status(routine: usize, name: &str, status: NDIS_STATUS) -> ! {
    Rule::NdisState.breach_of(
        routine,
        format_args!("returns {status:#010x} from {name}, which must not"),
    )
}

/// Has the miniport move frames.
pub fn restart(adapter: &'static Adapter) -> Result<(), NDIS_STATUS> {
    if adapter.state() != State::Paused {
        return Err(nt_sys::ndis::NDIS_STATUS_INVALID_STATE);
    }
    let Some(routine) = adapter.driver.characteristics.RestartHandler else {
        return Err(nt_sys::ndis::NDIS_STATUS_NOT_SUPPORTED);
    };
    let mut parameters = NDIS_MINIPORT_RESTART_PARAMETERS {
        Header: NDIS_OBJECT_HEADER::new(
            NDIS_OBJECT_TYPE_DEFAULT,
            1,
            NDIS_SIZEOF_MINIPORT_RESTART_PARAMETERS_REVISION_1,
        ),
        RestartAttributes: null_mut(),
        Flags: 0,
    };
    let given = &raw mut parameters;
    adapter.restarting.begin();
    adapter.set_state(State::Restarting);
    // SAFETY: the miniport's own routine, called as documented.
    let status = call::handler(routine as usize, "MiniportRestart", || unsafe {
        routine(adapter.context(), given)
    });
    if status != NDIS_STATUS_PENDING && !adapter.restarting.end(status) {
        wrong_status(
            routine as usize,
            "MiniportRestart, which called NdisMRestartComplete,",
            status,
        );
    }
    if status != NDIS_STATUS_PENDING {
        restarted(adapter, status);
    }
    let Some(status) = adapter.restarting.wait(limit()) else {
        Rule::NdisState.breach_of(
            routine as usize,
            format_args!("returns NDIS_STATUS_PENDING from MiniportRestart and never calls NdisMRestartComplete"),
        );
    };
    match status {
        NDIS_STATUS_SUCCESS => {
            tell(adapter);
            Ok(())
        }
        status => {
            adapter.log(&format!("MiniportRestart failed with {status:#010x}"));
            Err(status)
        }
    }
}

/// The miniport moves frames, or has failed to.
fn restarted(adapter: &Adapter, status: NDIS_STATUS) {
    match status {
        NDIS_STATUS_SUCCESS => {
            adapter.set_state(State::Running);
            adapter.gate.open();
        }
        _ => adapter.set_state(State::Paused),
    }
}

/// Tells the protocol what the adapter does now.
fn tell(adapter: &'static Adapter) {
    if let Some(protocol) = adapter.above() {
        protocol.state(adapter.state());
    }
}

/// Has the miniport stop moving frames, for a reason (NDIS_PAUSE_*). The protocol is paused first: it sends nothing, and
/// what it has sent comes back.
pub fn pause(adapter: &'static Adapter, reason: u32) -> Result<(), NDIS_STATUS> {
    if adapter.state() != State::Running {
        return Err(nt_sys::ndis::NDIS_STATUS_INVALID_STATE);
    }
    let Some(routine) = adapter.driver.characteristics.PauseHandler else {
        return Err(nt_sys::ndis::NDIS_STATUS_NOT_SUPPORTED);
    };
    adapter.gate.close();
    let end = limit();
    while adapter.gate.outstanding() != 0 {
        if time::interrupt_time() > end {
            Rule::NblLost.breach_of(
                routine as usize,
                format_args!(
                    "has {} NET_BUFFER_LISTs that it was given to send long ago",
                    adapter.gate.outstanding()
                ),
            );
        }
        wait::delay(2_000);
    }
    if let Some(protocol) = adapter.above() {
        protocol.state(State::Pausing);
    }
    let mut parameters = NDIS_MINIPORT_PAUSE_PARAMETERS {
        Header: NDIS_OBJECT_HEADER::new(
            NDIS_OBJECT_TYPE_DEFAULT,
            1,
            NDIS_SIZEOF_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
        ),
        Flags: 0,
        PauseReason: reason,
    };
    let given = &raw mut parameters;
    adapter.pausing.begin();
    adapter.set_state(State::Pausing);
    // SAFETY: the miniport's own routine, called as documented.
    let status = call::handler(routine as usize, "MiniportPause", || unsafe {
        routine(adapter.context(), given)
    });
    match status {
        NDIS_STATUS_PENDING => {}
        NDIS_STATUS_SUCCESS if adapter.pausing.end(status) => paused(adapter),
        status => wrong_status(routine as usize, "MiniportPause", status),
    }
    if adapter.pausing.wait(end.saturating_add(PATIENCE)).is_none() {
        Rule::NdisState.breach_of(
            routine as usize,
            format_args!(
                "returns NDIS_STATUS_PENDING from MiniportPause and never calls NdisMPauseComplete"
            ),
        );
    }
    tell(adapter);
    Ok(())
}

/// The miniport says that it has stopped: nothing of its own may be above it.
fn paused(adapter: &Adapter) {
    let out = adapter.indicated.load(Ordering::Acquire);
    if out != 0 {
        Rule::NblAtPause.breach(format_args!(
            "completes its pause with {out} NET_BUFFER_LISTs indicated that have not come back"
        ));
    }
    adapter.set_state(State::Paused);
}

/// Has the miniport forget the adapter, for a reason (NdisHalt*).
pub fn halt(adapter: &'static Adapter, action: i32) {
    if adapter.state() != State::Paused {
        return;
    }
    let Some(routine) = adapter.driver.characteristics.HaltHandlerEx else {
        return;
    };
    // SAFETY: the miniport's own routine, called as documented.
    call::handler(routine as usize, "MiniportHaltEx", || unsafe {
        routine(adapter.context(), action)
    });
    adapter.set_state(State::Halted);
    demand_nothing_left(adapter.handle(), "returns from MiniportHaltEx");
    adapter.set_context(null_mut());
    interface::hide(adapter);
    tell(adapter);
}

/// Nothing that belongs to an adapter's or a driver's handle may be left.
pub fn demand_nothing_left(owner: NDIS_HANDLE, when: &str) {
    if let Some(left) = pool::left_by(owner) {
        Rule::NblPoolLeak.breach(format_args!("{when} and leaves {left}"));
    }
    let left = configuration::left_by(owner)
        .or_else(|| dma::left_by(owner))
        .or_else(|| timer::left_by(owner))
        .or_else(|| work::left_by(owner));
    if let Some(left) = left {
        Rule::NdisLeak.breach(format_args!("{when} and leaves {left}"));
    }
}

/// Tells the miniport what becomes of its device (NdisDevicePnPEvent*).
pub fn notify(adapter: &'static Adapter, event: i32) {
    if adapter.state() == State::Halted {
        return;
    }
    let Some(routine) = adapter.driver.characteristics.DevicePnPEventNotifyHandler else {
        return;
    };
    let mut given = NET_DEVICE_PNP_EVENT {
        Header: NDIS_OBJECT_HEADER::new(
            NDIS_OBJECT_TYPE_DEFAULT,
            1,
            NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1,
        ),
        PortNumber: 0,
        DevicePnPEvent: event,
        InformationBuffer: null_mut(),
        InformationBufferLength: 0,
        NdisReserved: [0; 16],
    };
    let given = &raw mut given;
    // SAFETY: the miniport's own routine, called as documented.
    call::handler(
        routine as usize,
        "MiniportDevicePnPEventNotify",
        || unsafe { routine(adapter.context(), given) },
    );
}

/// Tells the miniport that the system goes down (NdisShutdown*).
pub fn shut_down(adapter: &'static Adapter, action: i32) {
    if adapter.state() == State::Halted {
        return;
    }
    let Some(routine) = adapter.driver.characteristics.ShutdownHandlerEx else {
        return;
    };
    // SAFETY: the miniport's own routine, called as documented.
    call::handler(routine as usize, "MiniportShutdownEx", || unsafe {
        routine(adapter.context(), action)
    });
}

/// Microsoft Learn: NdisMPauseComplete.
pub extern "win64" fn NdisMPauseComplete(handle: NDIS_HANDLE) {
    let adapter = Adapter::of(handle, "NdisMPauseComplete");
    if adapter.state() != State::Pausing {
        Rule::NdisState.breach(format_args!(
            "calls NdisMPauseComplete for an adapter that is {:?}",
            adapter.state()
        ));
    }
    paused(adapter);
    adapter.pausing.end(NDIS_STATUS_SUCCESS);
}

/// Microsoft Learn: NdisMRestartComplete.
pub extern "win64" fn NdisMRestartComplete(handle: NDIS_HANDLE, status: NDIS_STATUS) {
    let adapter = Adapter::of(handle, "NdisMRestartComplete");
    if adapter.state() != State::Restarting || status == NDIS_STATUS_PENDING {
        Rule::NdisState.breach(format_args!(
            "calls NdisMRestartComplete with {status:#010x} for an adapter that is {:?}",
            adapter.state()
        ));
    }
    restarted(adapter, status);
    adapter.restarting.end(status);
}

exports!("ndis.sys": NdisMPauseComplete, NdisMRestartComplete);
