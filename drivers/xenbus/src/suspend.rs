//! SUSPEND: taking the domain through a suspension, a migration or a checkpoint.
//!
//! ```text
//!   PASSIVE   capture the other processors, each in a DPC: no DISPATCH_LEVEL code runs half-way through
//!   IPI       every processor: interrupts off, wait for all
//!             processor 0: SCHEDOP_shutdown(suspend) … resumed … subsystems, then EARLY callbacks
//!   DISPATCH  processor 0: subsystems, then LATE callbacks; release the others
//! ```
//!
//! A suspension that the toolstack called off runs no callbacks. Nothing is allocated on the way.

use crate::bus::{Bus, context, give_back};
use crate::callbacks::Callbacks;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::asm;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use nt::processor::{self, ProcessorNumber};
use nt::{Dpc, Irql, NtStatus, RaisedIrql, Result, time, try_arc};
use pv_bus::References;
use pv_interfaces::suspend::{
    CALLBACK_EARLY, CALLBACK_LATE, SuspendCallback as Handle, SuspendFunction, SuspendV1,
};
use pv_interfaces::{Interface, This};
use xen_abi::sched::SHUTDOWN_SUSPEND;

/// How long the other processors may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(10);

/// The subsystem.
#[derive(Debug)]
pub struct Suspend {
    references: References,
    callbacks: Callbacks<Callback>,
    /// Resumptions so far.
    count: AtomicU32,
    capture: Capture,
}

/// A client's callback. Its address is the client's handle.
#[derive(Clone, Copy, Debug)]
struct Callback {
    early: bool,
    function: SuspendFunction,
    argument: *mut c_void,
}

// SAFETY: a function and its argument, which the client lets us use on processor 0.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

/// Holds all processors but the current one at DISPATCH_LEVEL.
#[derive(Debug)]
struct Capture {
    gate: Arc<Gate>,
    /// By processor.
    dpcs: Vec<Dpc>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: AtomicBool,
    inside: AtomicU32,
}

impl Capture {
    fn new() -> Result<Self> {
        let gate = try_arc(Gate::default())?;
        let mut dpcs = Vec::new();
        let count = processor::active_count();
        dpcs.try_reserve_exact(count as usize)?;
        for cpu in 0..count {
            let gate = Arc::clone(&gate);
            let dpc = Dpc::new(move || {
                gate.inside.fetch_add(1, Ordering::SeqCst);
                while gate.closed.load(Ordering::SeqCst) {
                    time::stall(1);
                }
                gate.inside.fetch_sub(1, Ordering::SeqCst);
            })?;
            dpc.set_target(ProcessorNumber::from_index(cpu)?)?;
            dpc.set_high_importance();
            dpcs.push(dpc);
        }
        Ok(Self { gate, dpcs })
    }

    /// Captures the others. At DISPATCH_LEVEL.
    fn close(&self) -> Result<()> {
        let here = processor::current_index();
        self.gate.closed.store(true, Ordering::SeqCst);
        let mut others = 0u32;
        for (cpu, dpc) in (0u32..).zip(&self.dpcs) {
            if cpu != here && dpc.queue() {
                others = others.saturating_add(1);
            }
        }
        let deadline = time::since_boot().saturating_add(PATIENCE);
        while self.gate.inside.load(Ordering::SeqCst) != others {
            if time::since_boot() > deadline {
                self.open();
                return Err(NtStatus::IO_TIMEOUT);
            }
            time::stall(1);
        }
        Ok(())
    }

    /// Lets the others go.
    fn open(&self) {
        self.gate.closed.store(false, Ordering::SeqCst);
        for dpc in &self.dpcs {
            // One that did not come in time shall not come later.
            dpc.cancel();
        }
        while self.gate.inside.load(Ordering::SeqCst) != 0 {
            time::stall(1);
        }
    }
}

impl Suspend {
    /// Ready. PASSIVE_LEVEL.
    pub fn new() -> Result<Self> {
        Ok(Self {
            references: References::new(),
            callbacks: Callbacks::new(),
            count: AtomicU32::new(0),
            capture: Capture::new()?,
        })
    }

    /// Suspends the domain; returns after it was resumed. `Ok(false)` if that was called off. PASSIVE_LEVEL.
    pub fn trigger(&self, bus: &Bus) -> Result<bool> {
        let first = ProcessorNumber::from_index(0)?;
        processor::run_on(first, || {
            let _here = RaisedIrql::dispatch();
            self.capture.close()?;
            let outcome = self.suspend(bus);
            if outcome == Ok(()) {
                bus.resume_late();
                self.run(false);
            }
            self.capture.open();
            match outcome {
                Ok(()) => Ok(true),
                Err(NtStatus::CANCELLED) => Ok(false),
                Err(status) => Err(status),
            }
        })
    }

    /// All processors together through the suspension, with interrupts off. DISPATCH_LEVEL, the others captured.
    fn suspend(&self, bus: &Bus) -> Result<()> {
        let processors = processor::active_count();
        let arrived = AtomicU32::new(0);
        let left = AtomicU32::new(0);
        let status = AtomicU32::new(0);
        let done = AtomicBool::new(false);
        processor::run_on_all(&|| {
            let _alone = RaisedIrql::to(Irql::HIGH);
            let _quiet = InterruptsOff::new();
            let cpu = processor::current_index();
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) != processors {
                time::stall(1);
            }
            if cpu == 0 {
                let outcome = xen_api::SchedShutdown(SHUTDOWN_SUSPEND);
                status.store(outcome as u32, Ordering::SeqCst);
                if NtStatus::check(outcome).is_ok() {
                    self.count.fetch_add(1, Ordering::SeqCst);
                    xen_api::SystemProcessorRegisterVcpuInfo(cpu, 1);
                    xen_api::UnplugDevices();
                    bus.resume_early();
                    self.run(true);
                }
                done.store(true, Ordering::SeqCst);
            } else {
                while !done.load(Ordering::SeqCst) {
                    time::stall(1);
                }
                if NtStatus::check(status.load(Ordering::SeqCst) as i32).is_ok() {
                    xen_api::SystemProcessorRegisterVcpuInfo(cpu, 1);
                }
            }
            left.fetch_add(1, Ordering::SeqCst);
            while left.load(Ordering::SeqCst) != processors {
                time::stall(1);
            }
        });
        NtStatus::check(status.load(Ordering::SeqCst) as i32)
    }

    /// Runs the early or the late callbacks, in the order of their registration.
    fn run(&self, early: bool) {
        // A callback may lower the level from HIGH_LEVEL no more than it may raise it from DISPATCH_LEVEL, so the list's
        // lock is not held while it runs. The list cannot change meanwhile: the other processors are captured.
        let mut index = 0usize;
        while let Some(callback) = self.callbacks.nth(index) {
            if callback.early == early {
                // SAFETY: the client's function and argument, until it deregisters them.
                unsafe { (callback.function)(callback.argument) };
            }
            index = index.saturating_add(1);
        }
    }
}

/// This processor takes no interrupts until this is dropped.
struct InterruptsOff;

impl InterruptsOff {
    fn new() -> Self {
        // SAFETY: at HIGH_LEVEL nothing that is masked could come anyway; the drop undoes it.
        unsafe { asm!("cli", options(nomem, nostack)) };
        Self
    }
}

impl Drop for InterruptsOff {
    fn drop(&mut self) {
        // SAFETY: undoes `new`.
        unsafe { asm!("sti", options(nomem, nostack)) };
    }
}

/// The call table. Every method's duty: `this` is a table that this driver filled in, a callback is a handle that Register
/// gave, and other pointers are what the table's documentation says.
pub const V1: SuspendV1 = SuspendV1 {
    header: Interface::EMPTY,
    acquire,
    release,
    register,
    deregister,
    trigger,
    get_count,
};

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the table; the same in every method.
    unsafe { context(this) }.suspend.references.acquire();
    NtStatus::SUCCESS.0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the table.
    give_back(&unsafe { context(this) }.suspend.references);
}

unsafe extern "win64" fn register(
    this: This,
    kind: u32,
    function: SuspendFunction,
    argument: *mut c_void,
    out: *mut *mut Handle,
) -> i32 {
    // SAFETY: see the table.
    let suspend = &unsafe { context(this) }.suspend;
    let add = || {
        let early = match kind {
            CALLBACK_EARLY => true,
            CALLBACK_LATE => false,
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        suspend.callbacks.register(Callback {
            early,
            function,
            argument,
        })
    };
    NtStatus::from(add().map(|handle| {
        // SAFETY: an out parameter of the caller.
        unsafe { out.write(handle.cast_mut().cast()) }
    }))
    .0
}

unsafe extern "win64" fn deregister(this: This, handle: *mut Handle) {
    // SAFETY: see the table.
    unsafe { context(this) }
        .suspend
        .callbacks
        .deregister(handle.cast_const().cast());
}

unsafe extern "win64" fn trigger(this: This) -> i32 {
    // SAFETY: see the table.
    let bus = unsafe { context(this) };
    NtStatus::from(bus.suspend.trigger(bus).map(|_resumed| ())).0
}

unsafe extern "win64" fn get_count(this: This) -> u32 {
    // SAFETY: see the table.
    unsafe { context(this) }
        .suspend
        .count
        .load(Ordering::SeqCst)
}
