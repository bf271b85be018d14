//! Operations on a vCPU. public/vcpu.h.

use crate::hypercall::call;
use crate::status::of_hypercall;
use nt_sys::{LARGE_INTEGER, NTSTATUS, PFN_NUMBER, STATUS_INVALID_PARAMETER};
use xen_abi::hypercall::VCPU_OP;
use xen_abi::vcpu::{self, RegisterVcpuInfo, SetPeriodicTimer};

/// # Safety
/// `argument` must be null or point to the structure of the command.
unsafe fn vcpu_operation<A>(command: u32, vcpu: u32, argument: *mut A) -> NTSTATUS {
    let address = argument.expose_provenance() as u64;
    // SAFETY: the caller's duty.
    of_hypercall(unsafe { call(VCPU_OP, [u64::from(command), u64::from(vcpu), address]) })
}

/// Has a vCPU's timer interrupt raised every so many units of 100 ns; null stops it.
///
/// # Safety
/// `period` must be null or valid for a read.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn VcpuSetPeriodicTimer(
    vcpu: u32,
    period: *const LARGE_INTEGER,
) -> NTSTATUS {
    if period.is_null() {
        // SAFETY: the command has no argument.
        return unsafe {
            vcpu_operation::<SetPeriodicTimer>(
                vcpu::STOP_PERIODIC_TIMER,
                vcpu,
                core::ptr::null_mut(),
            )
        };
    }
    // SAFETY: the caller's duty.
    let period = unsafe { period.read() };
    let Some(period_ns) = u64::try_from(period).ok().and_then(|p| p.checked_mul(100)) else {
        return STATUS_INVALID_PARAMETER;
    };
    let mut argument = SetPeriodicTimer { period_ns };
    // SAFETY: the structure is the command's.
    unsafe { vcpu_operation(vcpu::SET_PERIODIC_TIMER, vcpu, &mut argument) }
}

/// Moves a vCPU's `vcpu_info` to a page of the guest. Xen takes it once per boot or resumption.
///
/// # Safety
/// The page must stay allocated for as long as the guest runs.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn VcpuRegisterVcpuInfo(
    vcpu: u32,
    pfn: PFN_NUMBER,
    offset: u32,
) -> NTSTATUS {
    let mut argument = RegisterVcpuInfo {
        gfn: pfn,
        offset,
        rsvd: 0,
    };
    // SAFETY: the structure is the command's.
    unsafe { vcpu_operation(vcpu::REGISTER_VCPU_INFO, vcpu, &mut argument) }
}
