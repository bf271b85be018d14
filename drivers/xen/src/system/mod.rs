//! Facts about the machine: processors and their vCPU ids, memory, the clock; and the domain's watchdog.

mod vcpu_info;

use crate::hypercall;
use crate::sched::SchedWatchdog;
use crate::vcpu::VcpuRegisterVcpuInfo;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU32, Ordering};
use nt::registry::{Access, CONTROL};
use nt::{Global, Irql, NtStatus, Result, SpinLock, processor, try_box};
use nt_sys::{BOOLEAN, NTSTATUS, PHYSICAL_ADDRESS, REG_DWORD, REG_QWORD};
use vcpu_info::VcpuInfoBlock;
use xen_abi::cpuid;
use xen_abi::shared_info::VcpuInfo;

struct System {
    /// By processor index.
    vcpus: Vec<AtomicU32>,
    /// Where vCPUs keep their `vcpu_info`, if not in the shared info page.
    infos: Option<VcpuInfoBlock>,
    /// The last byte of RAM.
    top: u64,
    /// Whether the real-time clock runs on UTC.
    universal: bool,
}

/// The id of a processor that has not run since this was loaded.
const UNKNOWN: u32 = u32::MAX;

static SYSTEM: Global<System> = Global::new();
/// The watchdog's id, 0 before the first.
static WATCHDOG: SpinLock<u32> = SpinLock::new(0);

/// Looks at the machine. PASSIVE_LEVEL.
pub fn initialise() -> Result<()> {
    let top = match nt::system::physical_memory() {
        Ok(ranges) => ranges
            .iter()
            .map(|range| range.end)
            .max()
            .unwrap_or(0)
            .saturating_sub(1),
        Err(status) => return Err(status),
    };
    let count = processor::maximum_count();
    let mut vcpus = Vec::new();
    vcpus.try_reserve_exact(count as usize)?;
    vcpus.extend((0..count).map(|_| AtomicU32::new(UNKNOWN)));
    let infos = if hypercall::is_xen() {
        VcpuInfoBlock::find_or_make(count)?
    } else {
        None
    };
    let system = System {
        vcpus,
        infos,
        top,
        universal: clock_is_universal(),
    };
    if hypercall::is_xen() {
        processor::run_on_all(&|| learn(&system.vcpus));
        nt::info!(
            "{} of {count} processors, RAM up to {top:#x}",
            processor::active_count()
        );
    }
    // Loaded once, so the place is free.
    let _ = SYSTEM.set(try_box(system)?);
    Ok(())
}

pub fn teardown() {
    // SAFETY: the drivers that import this library, which are the users, are gone.
    drop(unsafe { SYSTEM.take() });
}

/// Stores the vCPU id of this processor. DISPATCH_LEVEL or above.
fn learn(vcpus: &[AtomicU32]) {
    let index = processor::current_index();
    if let Some(slot) = vcpus.get(index as usize) {
        slot.store(own_vcpu_id(index), Ordering::Relaxed);
    }
}

/// The id that Xen gave this processor; on a Xen that does not say, ids follow the processors' order.
fn own_vcpu_id(index: u32) -> u32 {
    let Some(base) = hypercall::leaves() else {
        return index;
    };
    if __cpuid(base).eax < base + cpuid::LEAF_HVM {
        return index;
    }
    let leaf = __cpuid(base + cpuid::LEAF_HVM);
    if leaf.eax & cpuid::HVM_VCPU_ID_PRESENT != 0 {
        leaf.ebx
    } else {
        index
    }
}

/// Control\TimeZoneInformation\RealTimeIsUniversal: a number, or nothing.
fn clock_is_universal() -> bool {
    let value = crate::keys::open(CONTROL, "TimeZoneInformation", Access::Read)
        .and_then(|key| key.value("RealTimeIsUniversal"));
    value.is_ok_and(|value| {
        matches!(value.kind, REG_DWORD | REG_QWORD) && value.data.iter().any(|byte| *byte != 0)
    })
}

/// The vCPU id of the processor with the index `cpu`.
fn vcpu_id(cpu: u32) -> Result<u32> {
    let system = SYSTEM
        .get()
        .filter(|_| hypercall::is_xen())
        .ok_or(NtStatus::NOT_SUPPORTED)?;
    let slot = system
        .vcpus
        .get(cpu as usize)
        .ok_or(NtStatus::UNSUCCESSFUL)?;
    if slot.load(Ordering::Relaxed) == UNKNOWN && Irql::current() <= Irql::DISPATCH {
        // A processor that was added since: all that run say who they are.
        processor::run_on_all(&|| learn(&system.vcpus));
    }
    match slot.load(Ordering::Relaxed) {
        UNKNOWN => Err(NtStatus::UNSUCCESSFUL),
        id => Ok(id),
    }
}

/// Finds the vCPU id of a processor. IRQL ≤ DISPATCH_LEVEL, any for processors known at load.
///
/// # Safety
/// `vcpu` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn SystemProcessorVcpuId(cpu: u32, vcpu: *mut u32) -> NTSTATUS {
    let result = vcpu_id(cpu);
    if let Ok(id) = result {
        // SAFETY: the duty is the caller's.
        unsafe { vcpu.write(id) };
    }
    NtStatus::of(&result).0
}

/// Finds the registered `vcpu_info` of a processor; STATUS_NOT_SUPPORTED where it is in the shared info page. Any IRQL.
///
/// # Safety
/// `info` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn SystemProcessorVcpuInfo(
    cpu: u32,
    info: *mut *const VcpuInfo,
) -> NTSTATUS {
    let found = SYSTEM
        .get()
        .and_then(|system| system.infos.as_ref())
        .ok_or(NtStatus::NOT_SUPPORTED)
        .and_then(|infos| infos.registered(cpu));
    if let Ok(found) = found {
        // SAFETY: the duty is the caller's.
        unsafe { info.write(found) };
    }
    NtStatus::of(&found).0
}

/// Moves this processor's `vcpu_info` to memory of our own, where that is in use; with `force` after a resumption,
/// which makes Xen forget. To be called on the processor `cpu`, which must not change. Any IRQL.
#[unsafe(no_mangle)]
pub extern "win64" fn SystemProcessorRegisterVcpuInfo(cpu: u32, force: BOOLEAN) -> NTSTATUS {
    let Some(system) = SYSTEM.get() else {
        return NtStatus::NOT_SUPPORTED.0;
    };
    let Some(infos) = &system.infos else {
        // The shared info page has room for every vCPU: nothing to do.
        return NtStatus::SUCCESS.0;
    };
    if cpu != processor::current_index() {
        return NtStatus::INVALID_PARAMETER.0;
    }
    let result = infos.register(cpu, force != 0, |frame, offset| {
        let vcpu = vcpu_id(cpu)?;
        // SAFETY: the block is never freed.
        NtStatus::check(unsafe { VcpuRegisterVcpuInfo(vcpu, frame, offset) })
    });
    NtStatus::from(result).0
}

/// The last byte of RAM. Any IRQL.
#[unsafe(no_mangle)]
pub extern "win64" fn SystemMaximumPhysicalAddress() -> PHYSICAL_ADDRESS {
    SYSTEM.get().map_or(0, |system| {
        PHYSICAL_ADDRESS::try_from(system.top).unwrap_or(PHYSICAL_ADDRESS::MAX)
    })
}

/// Whether the real-time clock ran on UTC when this was loaded. Any IRQL.
#[unsafe(no_mangle)]
pub extern "win64" fn SystemRealTimeIsUniversal() -> BOOLEAN {
    SYSTEM.get().is_some_and(|system| system.universal).into()
}

/// Arms the domain's watchdog anew: without another call within `seconds` Xen ends the domain. IRQL ≤ DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "win64" fn SystemSetWatchdog(seconds: u32) -> NTSTATUS {
    if seconds == 0 {
        return NtStatus::INVALID_PARAMETER.0;
    }
    let mut id = WATCHDOG.lock();
    // SAFETY: the id is live.
    let status = unsafe { SchedWatchdog(&mut *id, seconds) };
    if *id == 0 || NtStatus(status).is_success() {
        return status;
    }
    // A resumed domain has lost its watchdog, so the old id means nothing any more.
    *id = 0;
    // SAFETY: the id is live.
    unsafe { SchedWatchdog(&mut *id, seconds) }
}

/// Disarms the watchdog. IRQL ≤ DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "win64" fn SystemStopWatchdog() {
    let mut id = WATCHDOG.lock();
    if *id != 0 {
        // SAFETY: the id is live.
        unsafe { SchedWatchdog(&mut *id, 0) };
        *id = 0;
    }
}
