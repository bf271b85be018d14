//! Event channel operations. public/event_channel.h.

use crate::hypercall::operation;
use crate::status::of_hypercall;
use nt_sys::{NTSTATUS, PFN_NUMBER, STATUS_INVALID_PARAMETER};
use xen_abi::evtchn::{
    self, AllocUnbound, BindInterdomain, BindVcpu, BindVirq, ExpandArray, InitControl, PortArg,
    Reset, Status,
};
use xen_abi::hypercall::EVENT_CHANNEL_OP;
use xen_abi::{DomId, Port};
use zerocopy::{FromBytes, IntoBytes};

/// # Safety
/// `A` must be the argument of `command`.
unsafe fn event_channel<A: FromBytes + IntoBytes>(command: u32, argument: &mut A) -> NTSTATUS {
    // SAFETY: the caller's duty.
    of_hypercall(unsafe { operation(EVENT_CHANNEL_OP, command, argument) })
}

/// Stores an answer in a caller's variable.
///
/// # Safety
/// `out` must be valid for a write.
unsafe fn answer<T>(status: NTSTATUS, out: *mut T, value: T) -> NTSTATUS {
    if nt_sys::nt_success(status) {
        // SAFETY: the caller's duty.
        unsafe { out.write(value) };
    }
    status
}

/// Raises an event on the other end. Any IRQL.
#[unsafe(no_mangle)]
pub extern "win64" fn EventChannelSend(port: u32) -> NTSTATUS {
    // SAFETY: the structure is the command's; the same below.
    unsafe { event_channel(evtchn::SEND, &mut PortArg { port: Port(port) }) }
}

/// Makes a port to which `domain` may bind.
///
/// # Safety
/// `port` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn EventChannelAllocateUnbound(domain: u16, port: *mut u32) -> NTSTATUS {
    let mut argument = AllocUnbound {
        dom: DomId::SELF,
        remote_dom: DomId(domain),
        port: Port(0),
    };
    // SAFETY: the structure is the command's.
    let status = unsafe { event_channel(evtchn::ALLOC_UNBOUND, &mut argument) };
    // SAFETY: the caller's duty.
    unsafe { answer(status, port, argument.port.0) }
}

/// Binds a new local port to a remote one.
///
/// # Safety
/// `local_port` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn EventChannelBindInterDomain(
    remote_domain: u16,
    remote_port: u32,
    local_port: *mut u32,
) -> NTSTATUS {
    let mut argument = BindInterdomain {
        remote_dom: DomId(remote_domain),
        remote_port: Port(remote_port),
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    let status = unsafe { event_channel(evtchn::BIND_INTERDOMAIN, &mut argument) };
    // SAFETY: the caller's duty.
    unsafe { answer(status, local_port, argument.local_port.0) }
}

/// Binds a new local port to a virtual interrupt of a vCPU.
///
/// # Safety
/// `local_port` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn EventChannelBindVirq(
    virq: u32,
    vcpu: u32,
    local_port: *mut u32,
) -> NTSTATUS {
    let mut argument = BindVirq {
        virq,
        vcpu,
        port: Port(0),
    };
    // SAFETY: the structure is the command's.
    let status = unsafe { event_channel(evtchn::BIND_VIRQ, &mut argument) };
    // SAFETY: the caller's duty.
    unsafe { answer(status, local_port, argument.port.0) }
}

/// Tells the other end of a port. A port that is not bound to a domain is an invalid parameter.
///
/// # Safety
/// `domain` and `remote_port` must be valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn EventChannelQueryInterDomain(
    local_port: u32,
    domain: *mut u16,
    remote_port: *mut u32,
) -> NTSTATUS {
    let mut argument = Status {
        dom: DomId::SELF,
        port: Port(local_port),
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    let status = unsafe { event_channel(evtchn::STATUS, &mut argument) };
    if nt_sys::nt_success(status) && argument.status != evtchn::STATUS_INTERDOMAIN {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the caller's duty.
    let status = unsafe { answer(status, domain, (argument.peer & 0xFFFF) as u16) };
    // SAFETY: the caller's duty.
    unsafe { answer(status, remote_port, argument.peer_port.0) }
}

/// Closes a local port.
#[unsafe(no_mangle)]
pub extern "win64" fn EventChannelClose(local_port: u32) -> NTSTATUS {
    // SAFETY: the structure is the command's.
    unsafe {
        event_channel(
            evtchn::CLOSE,
            &mut PortArg {
                port: Port(local_port),
            },
        )
    }
}

/// Adds a page to the FIFO ABI's event array.
#[unsafe(no_mangle)]
pub extern "win64" fn EventChannelExpandArray(pfn: PFN_NUMBER) -> NTSTATUS {
    // SAFETY: the structure is the command's.
    unsafe { event_channel(evtchn::EXPAND_ARRAY, &mut ExpandArray { array_gfn: pfn }) }
}

/// Gives a vCPU the control block of the FIFO ABI.
#[unsafe(no_mangle)]
pub extern "win64" fn EventChannelInitControl(pfn: PFN_NUMBER, vcpu: u32) -> NTSTATUS {
    let mut argument = InitControl {
        control_gfn: pfn,
        vcpu,
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    unsafe { event_channel(evtchn::INIT_CONTROL, &mut argument) }
}

/// Closes all ports and returns to the two-level ABI.
#[unsafe(no_mangle)]
pub extern "win64" fn EventChannelReset() -> NTSTATUS {
    // SAFETY: the structure is the command's.
    unsafe { event_channel(evtchn::RESET, &mut Reset { dom: DomId::SELF }) }
}

/// Chooses the vCPU that a port interrupts.
#[unsafe(no_mangle)]
pub extern "win64" fn EventChannelBindVirtualCpu(local_port: u32, vcpu: u32) -> NTSTATUS {
    let mut argument = BindVcpu {
        port: Port(local_port),
        vcpu,
    };
    // SAFETY: the structure is the command's.
    unsafe { event_channel(evtchn::BIND_VCPU, &mut argument) }
}

/// Unmasks a port and delivers what is pending.
#[unsafe(no_mangle)]
pub extern "win64" fn EventChannelUnmask(local_port: u32) -> NTSTATUS {
    // SAFETY: the structure is the command's.
    unsafe {
        event_channel(
            evtchn::UNMASK,
            &mut PortArg {
                port: Port(local_port),
            },
        )
    }
}
