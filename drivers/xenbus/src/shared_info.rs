//! SHARED_INFO: the page that Xen shares with every guest: event channel bits, vCPU records, the wall clock.

use crate::bus::{Bus, context};
use crate::hole::Hole;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};
use evtchn::{Cursor, TwoLevel};
use nt::{NtStatus, RaisedIrql, Result, processor};
use pv_bus::{References, Running};
use pv_interfaces::shared_info::{EventFunction, SharedInfoV2, SharedInfoV3, SharedInfoV4};
use pv_interfaces::{Interface, This};
use xen_abi::Port;
use xen_abi::memory::SPACE_SHARED_INFO;
use xen_abi::shared_info::{SharedInfo as Page, VcpuInfo};

/// The subsystem.
#[derive(Debug)]
pub struct SharedInfo {
    references: References,
    running: Running<State>,
}

#[derive(Debug)]
struct State {
    /// Holds the page's place; what `page` refers to goes when this does.
    hole: Hole,
    page: &'static Page,
    cpus: Vec<Cpu>,
}

/// What is known of one processor.
#[derive(Debug)]
struct Cpu {
    vcpu: u32,
    info: Option<&'static VcpuInfo>,
    /// Where the next scan begins, as `Cursor::to_bits`. Only its own processor uses it.
    cursor: AtomicU32,
}

impl SharedInfo {
    /// Not started.
    pub const fn new() -> Self {
        Self {
            references: References::new(),
            running: Running::new(),
        }
    }

    /// Maps the page. PASSIVE_LEVEL.
    pub fn start(&self) -> Result<()> {
        if self.running.get().is_some() {
            return Ok(());
        }
        let hole = Hole::new(1)?;
        let pfn = hole.pfn(0).ok_or(NtStatus::UNSUCCESSFUL)?;
        // SAFETY: the frame is a hole of our own.
        unsafe { xen_api::add_to_physmap(pfn, SPACE_SHARED_INFO, 0) }?;
        // SAFETY: Xen shows its page there until `stop`; it is made of atomics.
        let page = unsafe { hole.shared::<Page>(0) }.ok_or(NtStatus::UNSUCCESSFUL)?;
        TwoLevel::new(page).mask_all();
        let cpus = match cpus(page) {
            Ok(cpus) => cpus,
            Err(status) => {
                remove(&hole);
                return Err(status);
            }
        };
        let state = self.running.start(State { hole, page, cpus })?;
        nt::info!(
            "shared info at frame {pfn:#x}, {} processors",
            state.cpus.len()
        );
        Ok(())
    }

    /// Unmaps the page, unless a client still holds the interface. PASSIVE_LEVEL.
    ///
    /// # Safety
    /// No interrupt is on its way here: the upcalls are off and their processors have been through.
    pub unsafe fn stop(&self) {
        if self.references.count() != 0 {
            nt::warning!("{} references are left", self.references.count());
            return;
        }
        // SAFETY: no client, and no interrupt by the caller's duty.
        if let Some(state) = unsafe { self.running.stop() } {
            remove(&state.hole);
        }
    }

    /// After a resume: shows the new page at the old place. HIGH_LEVEL, alone on the machine.
    pub fn resume_early(&self) {
        let Some(state) = self.running.get() else {
            return;
        };
        if let Some(pfn) = state.hole.pfn(0) {
            // SAFETY: the frame is a hole of our own.
            let outcome = unsafe { xen_api::add_to_physmap(pfn, SPACE_SHARED_INFO, 0) };
            if let Err(status) = outcome {
                nt::error!("the shared info page is lost: {status}");
                return;
            }
        }
        TwoLevel::new(state.page).mask_all();
    }

    /// The bits of the event channels.
    pub fn two_level(&self) -> Option<TwoLevel<'_>> {
        self.running.get().map(|state| TwoLevel::new(state.page))
    }

    /// Xen's number of a processor which can be interrupted for events.
    pub fn vcpu(&self, cpu: u32) -> Option<u32> {
        let cpu = self.running.get()?.cpus.get(cpu as usize)?;
        cpu.info.map(|_| cpu.vcpu)
    }

    /// Takes note of the upcall that is pending on a processor. Any IRQL.
    pub fn upcall_pending(&self, cpu: u32) -> bool {
        self.info(cpu)
            .is_some_and(|info| info.evtchn_upcall_pending.swap(0, Ordering::SeqCst) != 0)
    }

    /// Calls `deliver` for each pending port. On the processor itself, in its upcall.
    pub fn scan(&self, cpu: u32, deliver: impl FnMut(Port) -> bool) -> bool {
        let Some(state) = self.running.get() else {
            return false;
        };
        let Some(record) = state.cpus.get(cpu as usize) else {
            return false;
        };
        let Some(info) = record.info else {
            return false;
        };
        let mut cursor = Cursor::from_bits(record.cursor.load(Ordering::Relaxed));
        let done = TwoLevel::new(state.page).scan(&info.evtchn_pending_sel, &mut cursor, deliver);
        record.cursor.store(cursor.to_bits(), Ordering::Relaxed);
        done
    }

    /// The wall clock in 100 ns since 1601. IRQL ≤ DISPATCH_LEVEL.
    pub fn wall_clock(&self) -> Option<i64> {
        // The time record belongs to the processor whose counter is read.
        let _here = RaisedIrql::dispatch();
        let state = self.running.get()?;
        let record = self.info(processor::current_index())?;
        clock::wall_clock(state.page, &record.time, || {
            // SAFETY: reading the time stamp counter.
            unsafe { core::arch::x86_64::_rdtsc() }
        })
    }

    fn info(&self, cpu: u32) -> Option<&'static VcpuInfo> {
        self.running.get()?.cpus.get(cpu as usize)?.info
    }
}

fn remove(hole: &Hole) {
    if let Some(pfn) = hole.pfn(0) {
        // SAFETY: the frame is ours, and nobody looks at the page any more.
        if let Err(status) = unsafe { xen_api::remove_from_physmap(pfn) } {
            nt::warning!("removing the shared info page: {status}");
        }
    }
}

/// The processors that run now, each with the record that Xen keeps for it.
fn cpus(page: &'static Page) -> Result<Vec<Cpu>> {
    let mut cpus = Vec::new();
    let count = processor::active_count();
    cpus.try_reserve_exact(count as usize)?;
    for cpu in 0..count {
        let vcpu = xen_api::vcpu_id(cpu)?;
        // On request of xen.sys' settings the record lives in a page of the guest.
        processor::run_on(processor::ProcessorNumber::from_index(cpu)?, || {
            xen_api::SystemProcessorRegisterVcpuInfo(cpu, 0)
        });
        let info = xen_api::registered_vcpu_info(cpu).or(page.vcpu_info.get(vcpu as usize));
        if info.is_none() {
            nt::warning!("processor {cpu} (vCPU {vcpu}) cannot have events");
        }
        cpus.push(Cpu {
            vcpu,
            info,
            cursor: AtomicU32::new(0),
        });
    }
    Ok(cpus)
}

/// The call table of version 2.
pub const V2: SharedInfoV2 = SharedInfoV2 {
    header: Interface::EMPTY,
    acquire,
    release,
    upcall_pending,
    evtchn_poll,
    evtchn_ack,
    evtchn_mask,
    evtchn_unmask,
    get_time: get_time_v2,
};
/// The call table of version 3.
pub const V3: SharedInfoV3 = SharedInfoV3 {
    header: Interface::EMPTY,
    acquire,
    release,
    upcall_pending,
    evtchn_poll,
    evtchn_ack,
    evtchn_mask,
    evtchn_unmask,
    get_time,
};
/// The call table of version 4.
pub const V4: SharedInfoV4 = SharedInfoV4 {
    header: Interface::EMPTY,
    acquire,
    release,
    upcall_supported,
    upcall_pending,
    evtchn_poll,
    evtchn_ack,
    evtchn_mask,
    evtchn_unmask,
    get_time,
};

/// # Safety
/// As every method of a call table: `this` is a table that this driver filled in, and pointers are what the table's
/// documentation says.
unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: the caller's duty; the same in every method.
    let shared = &unsafe { context(this) }.shared_info;
    NtStatus::of(&shared.running.need().map(|_| shared.references.acquire())).0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see `acquire`.
    crate::bus::give_back(&unsafe { context(this) }.shared_info.references);
}

unsafe extern "win64" fn upcall_supported(this: This, cpu: u32) -> u8 {
    // SAFETY: see `acquire`.
    unsafe { context(this) }
        .shared_info
        .vcpu(cpu)
        .is_some()
        .into()
}

unsafe extern "win64" fn upcall_pending(this: This, cpu: u32) -> u8 {
    // SAFETY: see `acquire`.
    unsafe { context(this) }
        .shared_info
        .upcall_pending(cpu)
        .into()
}

unsafe extern "win64" fn evtchn_poll(
    this: This,
    cpu: u32,
    function: EventFunction,
    argument: *mut c_void,
) -> u8 {
    // SAFETY: see `acquire`.
    let bus: &Bus = unsafe { context(this) };
    bus.shared_info
        .scan(cpu, |port| {
            // SAFETY: the client's function and its argument.
            unsafe { function(argument, port.0) != 0 }
        })
        .into()
}

unsafe extern "win64" fn evtchn_ack(this: This, port: u32) {
    // SAFETY: see `acquire`.
    if let Some(bits) = unsafe { context(this) }.shared_info.two_level() {
        bits.ack(Port(port));
    }
}

unsafe extern "win64" fn evtchn_mask(this: This, port: u32) {
    // SAFETY: see `acquire`.
    if let Some(bits) = unsafe { context(this) }.shared_info.two_level() {
        bits.mask(Port(port));
    }
}

unsafe extern "win64" fn evtchn_unmask(this: This, port: u32) -> u8 {
    // SAFETY: see `acquire`.
    let bits = unsafe { context(this) }.shared_info.two_level();
    bits.is_some_and(|bits| bits.unmask(Port(port))).into()
}

unsafe extern "win64" fn get_time_v2(this: This) -> i64 {
    // SAFETY: see `acquire`.
    unsafe { context(this) }
        .shared_info
        .wall_clock()
        .unwrap_or(0)
}

unsafe extern "win64" fn get_time(this: This, time: *mut i64, local: *mut u8) {
    // SAFETY: see `acquire`.
    let now = unsafe { context(this) }
        .shared_info
        .wall_clock()
        .unwrap_or(0);
    if !time.is_null() {
        // SAFETY: an out parameter of the caller.
        unsafe { time.write(now) };
    }
    if !local.is_null() {
        let universal = xen_api::SystemRealTimeIsUniversal() != 0;
        // SAFETY: an out parameter of the caller.
        unsafe { local.write((!universal).into()) };
    }
}
