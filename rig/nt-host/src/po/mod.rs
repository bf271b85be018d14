//! The power manager: power IRPs that drivers ask for, and the system's own way to sleep, wake and shut down.
//!
//! ```text
//!   down: children before parents, QUERY_POWER to all, then SET_POWER     up: parents before children
//! ```
//!
//! A device's power policy owner turns the system IRP into a device IRP with PoRequestPowerIrp; port drivers of the rig's
//! own do it with [`policy::device_first`].

pub mod policy;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use nt_sys::{
    DEVICE_OBJECT, DevicePowerState, IO_POWER, IO_STACK_LOCATION, IRP, IRP_MJ_POWER,
    IRP_MN_QUERY_POWER, IRP_MN_SET_POWER, NTSTATUS, PASSIVE_LEVEL, POWER_STATE, PVOID,
    PowerSystemWorking, REQUEST_POWER_COMPLETE, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR,
    SL_INVOKE_ON_SUCCESS, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER_2,
    STATUS_MORE_PROCESSING_REQUIRED, STATUS_NOT_SUPPORTED, STATUS_PENDING, SystemPowerState, UCHAR,
    nt_success,
};

use crate::exports;
use crate::io::complete::IofCallDriver;
use crate::io::{device, irp, request};
use crate::ke::{border, bugcheck, irql, thread};
use crate::mm::pool;
use crate::ob;
use crate::pnp::node::{self, NodeId, State};

/// What a driver wants to hear when its power IRP is done.
struct Wanted {
    device: *mut DEVICE_OBJECT,
    top: *mut DEVICE_OBJECT,
    minor: UCHAR,
    state: POWER_STATE,
    routine: Option<REQUEST_POWER_COMPLETE>,
    context: PVOID,
}

/// Microsoft Learn: PoRequestPowerIrp. Any IRQL up to DISPATCH_LEVEL.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn PoRequestPowerIrp(
    device: *mut DEVICE_OBJECT,
    minor: UCHAR,
    state: POWER_STATE,
    routine: Option<REQUEST_POWER_COMPLETE>,
    context: PVOID,
    out: *mut *mut IRP,
) -> NTSTATUS {
    if !matches!(minor, IRP_MN_SET_POWER | IRP_MN_QUERY_POWER) {
        return STATUS_INVALID_PARAMETER_2;
    }
    // SAFETY: the caller's promise.
    let top = unsafe { device::attached_reference(device) };
    // SAFETY: the top was just referenced.
    let stack = unsafe { (*top).StackSize };
    // One location more, above the stack, is the power manager's own.
    let power = irp::IoAllocateIrp(stack.saturating_add(1), 0);
    let memory = pool::allocate(size_of::<Wanted>(), *b"PoIr");
    let (false, Some(memory)) = (power.is_null(), memory) else {
        // SAFETY: drops the reference just taken.
        unsafe { ob::give_up(top.cast()) };
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let wanted = memory.cast::<Wanted>();
    // SAFETY: fresh memory of that size.
    unsafe {
        wanted.write(Wanted {
            device,
            top,
            minor,
            state,
            routine,
            context,
        })
    };
    // SAFETY: the IRP was just made; its highest location becomes the power manager's.
    unsafe { irp::enter(power) };
    // SAFETY: the IRP was just made with at least two locations.
    fill(
        unsafe { irp::next(power) },
        minor,
        DevicePowerState,
        state,
        0,
    );
    // SAFETY: as above.
    let next = unsafe { irp::next(power) };
    next.Control = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
    next.CompletionRoutine = Some(done);
    next.Context = wanted.as_ptr().cast();
    // SAFETY: the IRP was just made.
    unsafe { (*power).IoStatus.Status = STATUS_NOT_SUPPORTED };
    if !out.is_null() {
        // SAFETY: the caller's promise.
        unsafe { out.write(power) };
    }
    if irql::current() == PASSIVE_LEVEL {
        // SAFETY: the top is referenced until the IRP is done.
        unsafe { IofCallDriver(top, power) };
    } else {
        // Drivers of pageable devices get power IRPs at PASSIVE_LEVEL.
        let (top, power) = (top as usize, power as usize);
        let send = move || {
            // SAFETY: as above.
            unsafe { IofCallDriver(top as *mut DEVICE_OBJECT, power as *mut IRP) };
        };
        if !thread::run(0, send) {
            bugcheck::give_up(format_args!("no memory to send a power IRP"));
        }
    }
    STATUS_PENDING
}

unsafe extern "win64" fn done(
    _device: *mut DEVICE_OBJECT,
    power: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    let Some(memory) = core::ptr::NonNull::new(context.cast::<Wanted>()) else {
        return STATUS_MORE_PROCESSING_REQUIRED;
    };
    // SAFETY: the context that PoRequestPowerIrp gave.
    let Wanted {
        device,
        top,
        minor,
        state,
        routine,
        context,
    } = unsafe { memory.read() };
    // SAFETY: the IRP is at its maker.
    let mut status = unsafe { (*power).IoStatus };
    if let Some(routine) = routine {
        // SAFETY: the driver's own routine, called as documented.
        border::call(|| unsafe { routine(device, minor, state, context, &raw mut status) });
    }
    // SAFETY: its location above the stack is given up.
    unsafe { irp::skip(power) };
    // SAFETY: the IRP was made by PoRequestPowerIrp and is done.
    unsafe { irp::IoFreeIrp(power) };
    // SAFETY: allocated by PoRequestPowerIrp.
    unsafe { pool::free(memory.cast()) };
    // SAFETY: referenced by PoRequestPowerIrp.
    unsafe { ob::give_up(top.cast()) };
    STATUS_MORE_PROCESSING_REQUIRED
}

fn fill(location: &mut IO_STACK_LOCATION, minor: u8, kind: i32, state: POWER_STATE, action: i32) {
    location.MajorFunction = IRP_MJ_POWER;
    location.MinorFunction = minor;
    location.Parameters.Power = IO_POWER {
        SystemContext: 0,
        _Pad0: 0,
        Type: kind,
        _Pad1: 0,
        State: state,
        _Pad2: 0,
        ShutdownType: action,
    };
}

/// Microsoft Learn: PoSetPowerState; returns the state told before.
///
/// # Safety
/// `device` is a live device object.
pub unsafe extern "win64" fn PoSetPowerState(
    device: *mut DEVICE_OBJECT,
    kind: i32,
    state: POWER_STATE,
) -> POWER_STATE {
    if kind != DevicePowerState {
        return state;
    }
    // SAFETY: every member of the union is a number.
    let state = unsafe { state.DeviceState };
    // SAFETY: the caller's promise.
    let before = unsafe { device::set_power(device, state) };
    POWER_STATE {
        DeviceState: before,
    }
}

/// Microsoft Learn: PoStartNextPowerIrp, which does nothing since Windows Vista.
pub extern "win64" fn PoStartNextPowerIrp(_irp: *mut IRP) {}

/// Microsoft Learn: PoCallDriver, which is IoCallDriver since Windows Vista.
///
/// # Safety
/// As for IofCallDriver.
#[unsafe(naked)]
pub unsafe extern "win64" fn PoCallDriver(_device: *mut DEVICE_OBJECT, _irp: *mut IRP) -> NTSTATUS {
    core::arch::naked_asm!("jmp {function}", function = sym IofCallDriver)
}

/// Takes all started devices to a system power state (PowerSystem*), for a reason (PowerAction*). On the PnP
/// manager's thread. Going down, a device that refuses stops it.
pub fn transition(state: i32, action: i32) -> Result<(), String> {
    let Some(root) = node::root() else {
        return Ok(());
    };
    let mut devices: Vec<NodeId> = node::subtree(root);
    let down = state != PowerSystemWorking;
    if down {
        devices.reverse();
        for (count, id) in devices.iter().enumerate() {
            if let Err(refused) = send(*id, IRP_MN_QUERY_POWER, state, action) {
                reaffirm(&devices[..count]);
                return Err(refused);
            }
        }
    }
    for id in devices {
        send(id, IRP_MN_SET_POWER, state, action)?;
    }
    Ok(())
}

/// After a query that failed: tells those who agreed that the system stays in the state it is in (Microsoft Learn, "Power
/// IRPs for the System").
fn reaffirm(agreed: &[NodeId]) {
    for id in agreed.iter().rev() {
        if let Err(why) = send(*id, IRP_MN_SET_POWER, PowerSystemWorking, 0) {
            crate::pnp::log(why);
        }
    }
}

fn send(id: NodeId, minor: u8, state: i32, action: i32) -> Result<(), String> {
    let Some(node) =
        node::get(id).filter(|node| node.state == State::Started && node.parent.is_some())
    else {
        return Ok(());
    };
    let power = POWER_STATE { SystemState: state };
    // SAFETY: the node holds a reference of its PDO, and the location is filled in.
    let outcome = unsafe {
        request::send(
            node.pdo.as_ptr(),
            IRP_MJ_POWER,
            minor,
            STATUS_NOT_SUPPORTED,
            |location| {
                fill(location, minor, SystemPowerState, power, action);
            },
        )
    };
    // A bus that leaves a power IRP alone has no say.
    if nt_success(outcome.status) || outcome.status == STATUS_NOT_SUPPORTED {
        return Ok(());
    }
    Err(format!(
        "{}: power IRP {minor} for state {state} failed with {:#010x}",
        node.instance, outcome.status
    ))
}

exports!("ntoskrnl.exe": PoRequestPowerIrp, PoSetPowerState, PoStartNextPowerIrp, PoCallDriver);
