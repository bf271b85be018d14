//! IoConnectInterruptEx and IoDisconnectInterruptEx, onto the kernel's interrupt objects.
//!
//! Fully specified connections name a vector that START_DEVICE gave; line-based ones find it in the
//! device's resources. Message-based connection is not offered: as documented, it gets
//! STATUS_NOT_SUPPORTED and the version that is.

use nt_sys::{
    CONNECT_FULLY_SPECIFIED, CONNECT_FULLY_SPECIFIED_GROUP, CONNECT_LINE_BASED, DEVICE_OBJECT,
    IO_CONNECT_INTERRUPT_PARAMETERS, IO_DISCONNECT_INTERRUPT_PARAMETERS, KINTERRUPT, KIRQL,
    KSERVICE_ROUTINE, KSPIN_LOCK, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
};

use crate::exports;
use crate::ke::interrupt::{self, Connection};
use crate::pnp::node;
use crate::pnp::resources::Given;
use crate::verifier::Rule;

/// What every version asks for.
struct Wanted {
    device: *mut DEVICE_OBJECT,
    out: *mut *mut KINTERRUPT,
    routine: Option<KSERVICE_ROUTINE>,
    context: PVOID,
    lock: *mut KSPIN_LOCK,
    irql: KIRQL,
    vector: u32,
}

/// Microsoft Learn: IoConnectInterruptEx.
///
/// # Safety
/// `parameters` is valid as documented.
pub unsafe extern "win64" fn IoConnectInterruptEx(
    parameters: *mut IO_CONNECT_INTERRUPT_PARAMETERS,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let parameters = unsafe { &mut *parameters };
    let wanted = match parameters.Version {
        CONNECT_FULLY_SPECIFIED | CONNECT_FULLY_SPECIFIED_GROUP => {
            // SAFETY: the version says that this member of the union is filled in.
            let full = unsafe { parameters.Anonymous.FullySpecified };
            if parameters.Version == CONNECT_FULLY_SPECIFIED_GROUP && full.Group != 0 {
                return STATUS_INVALID_PARAMETER;
            }
            Wanted {
                device: full.PhysicalDeviceObject,
                out: full.InterruptObject,
                routine: full.ServiceRoutine,
                context: full.ServiceContext,
                lock: full.SpinLock,
                irql: full.SynchronizeIrql,
                vector: full.Vector,
            }
        }
        CONNECT_LINE_BASED => {
            // SAFETY: the version says that this member of the union is filled in.
            let line = unsafe { parameters.Anonymous.LineBased };
            let Some(vector) = line_of(line.PhysicalDeviceObject) else {
                return STATUS_NOT_FOUND;
            };
            Wanted {
                device: line.PhysicalDeviceObject,
                out: line.InterruptObject,
                routine: line.ServiceRoutine,
                context: line.ServiceContext,
                lock: line.SpinLock,
                irql: line.SynchronizeIrql,
                vector,
            }
        }
        _ => {
            parameters.Version = CONNECT_LINE_BASED;
            return STATUS_NOT_SUPPORTED;
        }
    };
    connect(wanted)
}

fn connect(wanted: Wanted) -> NTSTATUS {
    let (Some(routine), Ok(vector)) = (wanted.routine, u8::try_from(wanted.vector)) else {
        return STATUS_INVALID_PARAMETER;
    };
    if !given(wanted.device, wanted.vector) {
        Rule::InterruptConnect.breach(format_args!(
            "IoConnectInterruptEx: vector {vector:#x} is none that {} was started with",
            super::device::describe(wanted.device)
        ));
    }
    let irql = interrupt::irql_of(vector);
    // Zero leaves the choice to the system; else it must be at least the interrupt's own.
    if wanted.irql != 0 && wanted.irql < irql {
        Rule::InterruptConnect.breach(format_args!(
            "IoConnectInterruptEx: SynchronizeIrql {} is below the interrupt's IRQL {irql}",
            wanted.irql
        ));
    }
    let irql = wanted.irql.max(irql);
    let connection = Connection {
        vector,
        irql,
        routine,
        context: wanted.context,
        lock: wanted.lock,
    };
    let Some(object) = interrupt::connect(connection) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the caller of IoConnectInterruptEx gave a place for the object.
    unsafe { wanted.out.write(object) };
    crate::ke::poll();
    STATUS_SUCCESS
}

/// Whether a device was given a vector.
fn given(device: *mut DEVICE_OBJECT, wanted: u32) -> bool {
    let resources = node::by_pdo(device)
        .and_then(node::get)
        .map(|node| node.resources)
        .unwrap_or_default();
    resources.iter().any(
        |resource| matches!(resource.what, Given::Interrupt { vector, .. } if vector == wanted),
    )
}

/// The vector of a device's line interrupt.
fn line_of(device: *mut DEVICE_OBJECT) -> Option<u32> {
    let resources = node::by_pdo(device).and_then(node::get)?.resources;
    resources.iter().find_map(|resource| match resource.what {
        Given::Interrupt { vector, .. } if !resource.is_message() => Some(vector),
        _ => None,
    })
}

/// Microsoft Learn: IoDisconnectInterruptEx.
///
/// # Safety
/// `parameters` names a connection that is not disconnected yet.
pub unsafe extern "win64" fn IoDisconnectInterruptEx(
    parameters: *mut IO_DISCONNECT_INTERRUPT_PARAMETERS,
) {
    // SAFETY: the caller's promise.
    let context = unsafe { (*parameters).ConnectionContext };
    // SAFETY: every version that is offered connects one interrupt object.
    let object = unsafe { context.InterruptObject };
    // SAFETY: the caller's promise.
    unsafe { interrupt::disconnect(object) };
}

exports!("ntoskrnl.exe": IoConnectInterruptEx, IoDisconnectInterruptEx);
