//! IoConnectInterruptEx and IoDisconnectInterruptEx, onto the kernel's interrupt objects.
//!
//! | version | finds the vector |
//! |---|---|
//! | fully specified | in the parameters: one that START_DEVICE gave |
//! | line-based | in the device's resources |
//! | message-based | all of the device's messages; without one, its line, if there is a routine to fall back to |

use alloc::vec::Vec;
use core::ptr::NonNull;

use nt_sys::{
    CONNECT_FULLY_SPECIFIED, CONNECT_FULLY_SPECIFIED_GROUP, CONNECT_LINE_BASED,
    CONNECT_MESSAGE_BASED, DEVICE_OBJECT, IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS,
    IO_CONNECT_INTERRUPT_PARAMETERS, IO_DISCONNECT_INTERRUPT_PARAMETERS, IO_INTERRUPT_MESSAGE_INFO,
    IO_INTERRUPT_MESSAGE_INFO_ENTRY, KINTERRUPT, KIRQL, KMESSAGE_SERVICE_ROUTINE, KSPIN_LOCK,
    Latched, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_NOT_FOUND, STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
};

use crate::exports;
use crate::ke::interrupt::{self, Connection, Service};
use crate::mm::pool;
use crate::pnp::node;
use crate::pnp::resources::{Given, Resource, message};
use crate::verifier::Rule;

/// What every version asks for.
struct Wanted {
    device: *mut DEVICE_OBJECT,
    service: Option<Service>,
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
    let (wanted, out) = match parameters.Version {
        CONNECT_FULLY_SPECIFIED | CONNECT_FULLY_SPECIFIED_GROUP => {
            // SAFETY: the version says that this member of the union is filled in.
            let full = unsafe { parameters.Anonymous.FullySpecified };
            if parameters.Version == CONNECT_FULLY_SPECIFIED_GROUP && full.Group != 0 {
                return STATUS_INVALID_PARAMETER;
            }
            let wanted = Wanted {
                device: full.PhysicalDeviceObject,
                service: full.ServiceRoutine.map(Service::Line),
                context: full.ServiceContext,
                lock: full.SpinLock,
                irql: full.SynchronizeIrql,
                vector: full.Vector,
            };
            (wanted, full.InterruptObject)
        }
        CONNECT_LINE_BASED => {
            // SAFETY: the version says that this member of the union is filled in.
            let line = unsafe { parameters.Anonymous.LineBased };
            let Some(vector) = line_of(line.PhysicalDeviceObject) else {
                return STATUS_NOT_FOUND;
            };
            let wanted = Wanted {
                device: line.PhysicalDeviceObject,
                service: line.ServiceRoutine.map(Service::Line),
                context: line.ServiceContext,
                lock: line.SpinLock,
                irql: line.SynchronizeIrql,
                vector,
            };
            (wanted, line.InterruptObject)
        }
        CONNECT_MESSAGE_BASED => {
            // SAFETY: the version says that this member of the union is filled in.
            let messages = unsafe { parameters.Anonymous.MessageBased };
            let (status, version) = connect_messages(&messages);
            parameters.Version = version;
            return status;
        }
        _ => {
            parameters.Version = CONNECT_MESSAGE_BASED;
            return STATUS_NOT_SUPPORTED;
        }
    };
    match connect(&wanted) {
        Ok(object) => {
            // SAFETY: the caller gave a place for the object.
            unsafe { out.write(object) };
            crate::ke::poll();
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

fn connect(wanted: &Wanted) -> Result<*mut KINTERRUPT, NTSTATUS> {
    let (Some(service), Ok(vector)) = (wanted.service, u8::try_from(wanted.vector)) else {
        return Err(STATUS_INVALID_PARAMETER);
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
    let connection = Connection {
        vector,
        irql: wanted.irql.max(irql),
        service,
        context: wanted.context,
        lock: wanted.lock,
    };
    interrupt::connect(connection).ok_or(STATUS_INSUFFICIENT_RESOURCES)
}

/// Connects every message, or the line; also says which of the two.
fn connect_messages(parameters: &IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS) -> (NTSTATUS, u32) {
    let device = parameters.PhysicalDeviceObject;
    let messages: Vec<Resource> = resources(device)
        .into_iter()
        .filter(Resource::is_message)
        .collect();
    let wanted = |service, vector, irql| Wanted {
        device,
        service,
        context: parameters.ServiceContext,
        lock: parameters.SpinLock,
        irql,
        vector,
    };
    if messages.is_empty() {
        let line = line_of(device).zip(parameters.FallBackServiceRoutine);
        let Some((vector, routine)) = line else {
            return (STATUS_NOT_FOUND, CONNECT_MESSAGE_BASED);
        };
        let service = Some(Service::Line(routine));
        return match connect(&wanted(service, vector, parameters.SynchronizeIrql)) {
            Ok(object) => {
                // SAFETY: every member of the union is a pointer.
                let out = unsafe { parameters.ConnectionContext.InterruptObject };
                // SAFETY: the caller gave a place for the object.
                unsafe { out.write(object) };
                crate::ke::poll();
                (STATUS_SUCCESS, CONNECT_LINE_BASED)
            }
            Err(status) => (status, CONNECT_LINE_BASED),
        };
    }
    let Some(routine) = parameters.MessageServiceRoutine else {
        return (STATUS_INVALID_PARAMETER, CONNECT_MESSAGE_BASED);
    };
    // One routine, hence one IRQL for all.
    let highest = messages.iter().filter_map(level).max();
    let unified = parameters.SynchronizeIrql.max(highest.unwrap_or_default());
    let connected = connect_each(&messages, unified, routine, wanted);
    match connected {
        Ok(table) => {
            // SAFETY: every member of the union is a pointer.
            let out = unsafe { parameters.ConnectionContext.InterruptMessageTable };
            // SAFETY: the caller gave a place for the table.
            unsafe { out.write(table.as_ptr()) };
            crate::ke::poll();
            (STATUS_SUCCESS, CONNECT_MESSAGE_BASED)
        }
        Err(status) => (status, CONNECT_MESSAGE_BASED),
    }
}

/// The IRQL of an interrupt's vector.
fn level(resource: &Resource) -> Option<KIRQL> {
    match resource.what {
        Given::Interrupt { vector, .. } => u8::try_from(vector).ok().map(interrupt::irql_of),
        _ => None,
    }
}

/// The place of a table's entry.
fn entry(
    table: NonNull<IO_INTERRUPT_MESSAGE_INFO>,
    index: usize,
) -> *mut IO_INTERRUPT_MESSAGE_INFO_ENTRY {
    // SAFETY: only an address within the table is computed.
    let first = unsafe { &raw mut (*table.as_ptr()).MessageInfo };
    first
        .cast::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>()
        .wrapping_add(index)
}

/// Makes the table of messages and connects each; none stays connected after a failure.
fn connect_each(
    messages: &[Resource],
    unified: KIRQL,
    routine: KMESSAGE_SERVICE_ROUTINE,
    wanted: impl Fn(Option<Service>, u32, KIRQL) -> Wanted,
) -> Result<NonNull<IO_INTERRUPT_MESSAGE_INFO>, NTSTATUS> {
    let size = size_of::<IO_INTERRUPT_MESSAGE_INFO>()
        + messages.len() * size_of::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>();
    let memory = pool::allocate_zeroed(size, *b"IoIm").ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let table = memory.cast::<IO_INTERRUPT_MESSAGE_INFO>();
    for (index, resource) in messages.iter().enumerate() {
        let Given::Interrupt {
            vector, processors, ..
        } = resource.what
        else {
            continue;
        };
        let service = Service::Message(routine, index as u32);
        let object = match connect(&wanted(Some(service), vector, unified)) {
            Ok(object) => object,
            Err(status) => {
                // SAFETY: the table holds what was connected so far.
                unsafe { disconnect_table(table) };
                return Err(status);
            }
        };
        let (address, data) = message(vector, processors);
        let described = IO_INTERRUPT_MESSAGE_INFO_ENTRY {
            MessageAddress: address.cast_signed(),
            TargetProcessorSet: processors,
            InterruptObject: object,
            MessageData: data,
            Vector: vector,
            Irql: level(resource).unwrap_or_default(),
            Mode: Latched,
            // KINTERRUPT_POLARITY: unknown, as messages have none.
            Polarity: 0,
        };
        // SAFETY: the table has room for an entry of each message.
        unsafe { entry(table, index).write(described) };
        // SAFETY: the table was just made.
        let head = unsafe { &mut *table.as_ptr() };
        head.UnifiedIrql = unified;
        head.MessageCount = index as u32 + 1;
    }
    Ok(table)
}

/// Disconnects every message of a table and frees it.
///
/// # Safety
/// It came from [`connect_each`], and this is its end.
unsafe fn disconnect_table(table: NonNull<IO_INTERRUPT_MESSAGE_INFO>) {
    // SAFETY: the caller's promise.
    let count = unsafe { (*table.as_ptr()).MessageCount };
    for index in 0..count as usize {
        // SAFETY: the table has as many entries.
        let object = unsafe { (*entry(table, index)).InterruptObject };
        // SAFETY: connected when the entry was made.
        unsafe { interrupt::disconnect(object) };
    }
    // SAFETY: allocated by `connect_each`.
    unsafe { pool::free(table.cast()) };
}

fn resources(device: *mut DEVICE_OBJECT) -> Vec<Resource> {
    let node = node::by_pdo(device).and_then(node::get);
    node.map(|node| node.resources).unwrap_or_default()
}

/// Whether a device was given a vector.
fn given(device: *mut DEVICE_OBJECT, wanted: u32) -> bool {
    resources(device).iter().any(
        |resource| matches!(resource.what, Given::Interrupt { vector, .. } if vector == wanted),
    )
}

/// The vector of a device's line interrupt.
fn line_of(device: *mut DEVICE_OBJECT) -> Option<u32> {
    resources(device)
        .iter()
        .find_map(|resource| match resource.what {
            Given::Interrupt { vector, .. } if !resource.is_message() => Some(vector),
            _ => None,
        })
}

/// Microsoft Learn: IoDisconnectInterruptEx.
///
/// # Safety
/// `parameters` names a connection that is not disconnected yet, with the version that it has.
pub unsafe extern "win64" fn IoDisconnectInterruptEx(
    parameters: *mut IO_DISCONNECT_INTERRUPT_PARAMETERS,
) {
    // SAFETY: the caller's promise.
    let parameters = unsafe { &*parameters };
    let context = parameters.ConnectionContext;
    if parameters.Version == CONNECT_MESSAGE_BASED {
        // SAFETY: the version says that this member of the union is filled in.
        let table = unsafe { context.InterruptMessageTable };
        if let Some(table) = NonNull::new(table) {
            // SAFETY: the caller's promise.
            unsafe { disconnect_table(table) };
        }
        return;
    }
    // SAFETY: every other version connects one interrupt object.
    let object = unsafe { context.InterruptObject };
    // SAFETY: the caller's promise.
    unsafe { interrupt::disconnect(object) };
}

exports!("ntoskrnl.exe": IoConnectInterruptEx, IoDisconnectInterruptEx);
