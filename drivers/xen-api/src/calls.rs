//! The calls of xen.sys with Rust's types: answers instead of out parameters, `Result` instead of a status.

use crate::raw;
use nt::{NtStatus, Result};
use nt_sys::NTSTATUS;
use xen_abi::hvm::{
    PARAM_CALLBACK_IRQ, PARAM_CONSOLE_EVTCHN, PARAM_CONSOLE_PFN, PARAM_STORE_EVTCHN,
    PARAM_STORE_PFN,
};
use xen_abi::shared_info::VcpuInfo;
use xen_abi::{DomId, Gref, Port};

/// Calls `call` with an out parameter and gives what it left there.
fn answer<T: Default>(call: impl FnOnce(*mut T) -> NTSTATUS) -> Result<T> {
    let mut value = T::default();
    NtStatus::check(call(&mut value))?;
    Ok(value)
}

/// A parameter of the guest that its drivers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum HvmParam {
    /// Frame of the xenstore page.
    StorePfn = PARAM_STORE_PFN,
    /// Port to xenstored.
    StoreEvtchn = PARAM_STORE_EVTCHN,
    /// Frame of the console page.
    ConsolePfn = PARAM_CONSOLE_PFN,
    /// Port to the console daemon.
    ConsoleEvtchn = PARAM_CONSOLE_EVTCHN,
}

/// Reads a parameter of the guest. Any IRQL, as all functions here.
///
/// # Errors
/// The hypercall's, as all functions here.
pub fn hvm_param(parameter: HvmParam) -> Result<u64> {
    // SAFETY: `answer` passes a live out parameter; the same below.
    answer(|value| unsafe { raw::HvmGetParam(parameter as u32, value) })
}

/// Has events for vCPU 0 arrive as a line interrupt; 0 for not at all.
///
/// # Errors
/// See [`hvm_param`].
pub fn set_callback_gsi(gsi: u32) -> Result<()> {
    NtStatus::check(raw::HvmSetParam(PARAM_CALLBACK_IRQ, u64::from(gsi)))
}

/// Has events for a vCPU arrive as a vector; 0 for not at all.
///
/// # Errors
/// See [`hvm_param`].
pub fn set_upcall_vector(vcpu: u32, vector: u8) -> Result<()> {
    NtStatus::check(raw::HvmSetEvtchnUpcallVector(vcpu, vector))
}

/// Raises an event on the other end of a port.
///
/// # Errors
/// See [`hvm_param`].
pub fn send(port: Port) -> Result<()> {
    NtStatus::check(raw::EventChannelSend(port.0))
}

/// Makes a port to which `remote` may bind.
///
/// # Errors
/// See [`hvm_param`].
pub fn allocate_unbound(remote: DomId) -> Result<Port> {
    // SAFETY: see `hvm_param`.
    answer(|port| unsafe { raw::EventChannelAllocateUnbound(remote.0, port) }).map(Port)
}

/// Binds a new port to a remote one.
///
/// # Errors
/// See [`hvm_param`].
pub fn bind_interdomain(remote: DomId, remote_port: Port) -> Result<Port> {
    // SAFETY: see `hvm_param`.
    answer(|port| unsafe { raw::EventChannelBindInterDomain(remote.0, remote_port.0, port) })
        .map(Port)
}

/// Binds a new port to a virtual interrupt.
///
/// # Errors
/// See [`hvm_param`].
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<Port> {
    // SAFETY: see `hvm_param`.
    answer(|port| unsafe { raw::EventChannelBindVirq(virq, vcpu, port) }).map(Port)
}

/// Chooses the vCPU that a port interrupts.
///
/// # Errors
/// See [`hvm_param`].
pub fn bind_vcpu(port: Port, vcpu: u32) -> Result<()> {
    NtStatus::check(raw::EventChannelBindVirtualCpu(port.0, vcpu))
}

/// Unmasks a port and delivers what is pending.
///
/// # Errors
/// See [`hvm_param`].
pub fn unmask(port: Port) -> Result<()> {
    NtStatus::check(raw::EventChannelUnmask(port.0))
}

/// Closes a port.
///
/// # Errors
/// See [`hvm_param`].
pub fn close(port: Port) -> Result<()> {
    NtStatus::check(raw::EventChannelClose(port.0))
}

/// Frames that the grant table may have.
///
/// # Errors
/// See [`hvm_param`].
pub fn max_grant_frames() -> Result<u32> {
    // SAFETY: see `hvm_param`; the first pointer may be null.
    answer(|maximum| unsafe { raw::GrantTableQuerySize(core::ptr::null_mut(), maximum) })
}

/// Maps a granted page at a guest-physical address and gives the mapping's handle.
///
/// # Safety
/// Nobody may use what is at that address.
///
/// # Errors
/// See [`hvm_param`].
pub unsafe fn map_foreign_page(
    domain: DomId,
    gref: Gref,
    address: u64,
    read_only: bool,
) -> Result<u32> {
    let address = i64::try_from(address).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    answer(|handle| {
        // SAFETY: see `hvm_param`; the address is the caller's duty.
        unsafe {
            raw::GrantTableMapForeignPage(domain.0, gref.0, address, read_only.into(), handle)
        }
    })
}

/// Takes a mapping away.
///
/// # Errors
/// See [`hvm_param`].
pub fn unmap_foreign_page(handle: u32, address: u64) -> Result<()> {
    let address = i64::try_from(address).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    NtStatus::check(raw::GrantTableUnmapForeignPage(handle, address))
}

/// Shows a page of Xen's at a guest frame.
///
/// # Safety
/// Nobody may use what is at that frame.
///
/// # Errors
/// See [`hvm_param`].
pub unsafe fn add_to_physmap(pfn: u64, space: u32, index: usize) -> Result<()> {
    // SAFETY: the caller's duty.
    NtStatus::check(unsafe { raw::MemoryAddToPhysmap(pfn, space, index) })
}

/// Leaves a hole at a guest frame.
///
/// # Safety
/// Nobody may use what is at that frame.
///
/// # Errors
/// See [`hvm_param`].
pub unsafe fn remove_from_physmap(pfn: u64) -> Result<()> {
    // SAFETY: the caller's duty.
    NtStatus::check(unsafe { raw::MemoryRemoveFromPhysmap(pfn) })
}

/// Gives pages back to Xen, and tells how many went.
///
/// # Safety
/// Nobody may use the pages.
///
/// # Errors
/// See [`hvm_param`].
pub unsafe fn decrease_reservation(pfns: &mut [u64]) -> Result<u32> {
    let count = u32::try_from(pfns.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let first = pfns.as_mut_ptr();
    // SAFETY: see `hvm_param`; the pages are the caller's duty.
    answer(|done| unsafe { raw::MemoryDecreaseReservation(0, count, first, done) })
}

/// Puts memory behind frames that have none, and tells how many were filled.
///
/// # Errors
/// See [`hvm_param`].
pub fn populate_physmap(pfns: &mut [u64]) -> Result<u32> {
    let count = u32::try_from(pfns.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let first = pfns.as_mut_ptr();
    // SAFETY: see `hvm_param`.
    answer(|done| unsafe { raw::MemoryPopulatePhysmap(0, count, first, done) })
}

/// Xen's number of a processor.
///
/// # Errors
/// STATUS_UNSUCCESSFUL and STATUS_NOT_SUPPORTED for processors that xen.sys does not know.
pub fn vcpu_id(cpu: u32) -> Result<u32> {
    // SAFETY: see `hvm_param`.
    answer(|vcpu| unsafe { raw::SystemProcessorVcpuId(cpu, vcpu) })
}

/// The `vcpu_info` that was registered for a processor, if one was. It stays valid as long as xen.sys is loaded.
pub fn registered_vcpu_info(cpu: u32) -> Option<&'static VcpuInfo> {
    let mut info = core::ptr::null();
    // SAFETY: the out parameter is live.
    let status = unsafe { raw::SystemProcessorVcpuInfo(cpu, &mut info) };
    NtStatus::check(status).ok()?;
    // SAFETY: xen.sys answers null or a registered page, which is never freed, and which atomics make up.
    unsafe { info.as_ref() }
}
