//! The functions that xen.sys exports, and the numbers that go with them.

use core::ffi::{c_char, c_void};
use nt_sys::{ANSI_STRING, BOOLEAN, HANDLE, LARGE_INTEGER, NTSTATUS, PFN_NUMBER, PHYSICAL_ADDRESS};
use xen_abi::grant::GrantCopy;
use xen_abi::shared_info::VcpuInfo;

/// `LOG_LEVEL` bits.
pub const LOG_LEVEL_ERROR: u32 = 1;
/// `LOG_LEVEL` bits.
pub const LOG_LEVEL_WARNING: u32 = 2;
/// `LOG_LEVEL` bits.
pub const LOG_LEVEL_TRACE: u32 = 4;
/// `LOG_LEVEL` bits.
pub const LOG_LEVEL_INFO: u32 = 8;
/// `LOG_LEVEL` bits.
pub const LOG_LEVEL_CRITICAL: u32 = 0x8000_0000;

/// `UNPLUG_TYPE`: emulated disks.
pub const UNPLUG_DISKS: u32 = 0;
/// `UNPLUG_TYPE`: emulated network cards.
pub const UNPLUG_NICS: u32 = 1;

/// A receiver of log lines that was added; opaque.
#[repr(C)]
#[derive(Debug)]
pub struct LogDisposition {
    _opaque: [u8; 0],
}

/// Argument, text, length in bytes. Called at HIGH_LEVEL.
pub type LogFunction = unsafe extern "win64" fn(*mut c_void, *const c_char, u32);

#[link(name = "xen.sys", kind = "raw-dylib", modifiers = "+verbatim")]
#[allow(missing_docs)]
unsafe extern "win64" {
    pub fn XenTouch(
        name: *const c_char,
        major: u32,
        minor: u32,
        micro: u32,
        build: u32,
    ) -> NTSTATUS;

    pub safe fn HvmSetParam(parameter: u32, value: u64) -> NTSTATUS;
    pub fn HvmGetParam(parameter: u32, value: *mut u64) -> NTSTATUS;
    pub safe fn HvmPagetableDying(address: PHYSICAL_ADDRESS) -> NTSTATUS;
    pub safe fn HvmSetEvtchnUpcallVector(vcpu: u32, vector: u8) -> NTSTATUS;

    pub fn MemoryAddToPhysmap(pfn: PFN_NUMBER, space: u32, offset: usize) -> NTSTATUS;
    pub fn MemoryRemoveFromPhysmap(pfn: PFN_NUMBER) -> NTSTATUS;
    pub fn MemoryDecreaseReservation(
        order: u32,
        count: u32,
        pfns: *mut PFN_NUMBER,
        done: *mut u32,
    ) -> NTSTATUS;
    pub fn MemoryPopulatePhysmap(
        order: u32,
        count: u32,
        pfns: *mut PFN_NUMBER,
        done: *mut u32,
    ) -> NTSTATUS;

    pub safe fn EventChannelSend(port: u32) -> NTSTATUS;
    pub fn EventChannelAllocateUnbound(domain: u16, port: *mut u32) -> NTSTATUS;
    pub fn EventChannelBindInterDomain(
        remote_domain: u16,
        remote_port: u32,
        local_port: *mut u32,
    ) -> NTSTATUS;
    pub fn EventChannelBindVirq(virq: u32, vcpu: u32, local_port: *mut u32) -> NTSTATUS;
    pub fn EventChannelQueryInterDomain(
        local_port: u32,
        domain: *mut u16,
        remote_port: *mut u32,
    ) -> NTSTATUS;
    pub safe fn EventChannelClose(local_port: u32) -> NTSTATUS;
    pub safe fn EventChannelExpandArray(pfn: PFN_NUMBER) -> NTSTATUS;
    pub safe fn EventChannelInitControl(pfn: PFN_NUMBER, vcpu: u32) -> NTSTATUS;
    pub safe fn EventChannelReset() -> NTSTATUS;
    pub safe fn EventChannelBindVirtualCpu(local_port: u32, vcpu: u32) -> NTSTATUS;
    pub safe fn EventChannelUnmask(local_port: u32) -> NTSTATUS;

    pub safe fn GrantTableSetVersion(version: u32) -> NTSTATUS;
    pub fn GrantTableGetVersion(version: *mut u32) -> NTSTATUS;
    pub fn GrantTableCopy(operations: *mut GrantCopy, count: u32) -> NTSTATUS;
    pub fn GrantTableMapForeignPage(
        domain: u16,
        reference: u32,
        address: PHYSICAL_ADDRESS,
        read_only: BOOLEAN,
        handle: *mut u32,
    ) -> NTSTATUS;
    pub safe fn GrantTableUnmapForeignPage(handle: u32, address: PHYSICAL_ADDRESS) -> NTSTATUS;
    pub fn GrantTableQuerySize(current: *mut u32, maximum: *mut u32) -> NTSTATUS;

    pub safe fn SchedShutdownCode(reason: u32) -> NTSTATUS;
    pub safe fn SchedShutdown(reason: u32) -> NTSTATUS;
    pub safe fn SchedYield();
    pub fn SchedWatchdog(id: *mut u32, seconds: u32) -> NTSTATUS;

    pub fn XenVersion(major: *mut u32, minor: *mut u32) -> NTSTATUS;
    pub fn XenVersionExtra(extra: *mut u8) -> NTSTATUS;

    pub fn ModuleLookup(address: usize, name: *mut *const c_char, offset: *mut usize);

    pub safe fn UnplugDevices();
    pub safe fn UnplugIncrementValue(kind: u32) -> NTSTATUS;
    pub safe fn UnplugDecrementValue(kind: u32) -> NTSTATUS;
    pub safe fn UnplugGetRequest(kind: u32) -> BOOLEAN;

    pub fn LogCchVPrintf(level: u32, count: u32, format: *const c_char, arguments: *const u64);
    pub fn LogVPrintf(level: u32, format: *const c_char, arguments: *const u64);
    pub fn LogCchPrintf(level: u32, count: u32, format: *const c_char, ...);
    pub fn LogPrintf(level: u32, format: *const c_char, ...);
    pub safe fn LogResume();
    pub fn LogReadLogLevel(key: HANDLE, name: *const c_char, level: *mut u32) -> NTSTATUS;
    pub fn LogAddDisposition(
        mask: u32,
        function: LogFunction,
        argument: *mut c_void,
        disposition: *mut *mut LogDisposition,
    ) -> NTSTATUS;
    pub fn LogRemoveDisposition(disposition: *mut LogDisposition);

    pub fn SystemProcessorVcpuId(cpu: u32, vcpu: *mut u32) -> NTSTATUS;
    pub fn SystemProcessorVcpuInfo(cpu: u32, info: *mut *const VcpuInfo) -> NTSTATUS;
    pub safe fn SystemProcessorRegisterVcpuInfo(cpu: u32, force: BOOLEAN) -> NTSTATUS;
    pub safe fn SystemMaximumPhysicalAddress() -> PHYSICAL_ADDRESS;
    pub safe fn SystemRealTimeIsUniversal() -> BOOLEAN;
    pub safe fn SystemSetWatchdog(seconds: u32) -> NTSTATUS;
    pub safe fn SystemStopWatchdog();

    pub fn VcpuSetPeriodicTimer(vcpu: u32, period: *const LARGE_INTEGER) -> NTSTATUS;
    pub fn VcpuRegisterVcpuInfo(vcpu: u32, pfn: PFN_NUMBER, offset: u32) -> NTSTATUS;

    pub safe fn FiltersInstall();
    pub safe fn FiltersUninstall();

    pub fn ConfigGetActive(key: *const c_char, value: *mut *mut c_char) -> NTSTATUS;
    pub fn ConfigSetActive(
        device: *const c_char,
        instance: *const c_char,
        location: *const c_char,
    ) -> NTSTATUS;
    pub fn ConfigUpdateActive(
        device: *const c_char,
        instance: *const c_char,
        location: *const c_char,
    ) -> NTSTATUS;
    pub safe fn ConfigClearActive() -> NTSTATUS;
    pub fn ConfigFreeActive(value: *mut c_char);
    pub fn ConfigRequestReboot(parameters: HANDLE, module: *const c_char) -> NTSTATUS;
    pub fn ConfigQuerySystemStartOption(
        key: *const c_char,
        value: *mut *mut ANSI_STRING,
    ) -> NTSTATUS;
    pub fn ConfigFreeSzValue(value: *mut ANSI_STRING);
}
