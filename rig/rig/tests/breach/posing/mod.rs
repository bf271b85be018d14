//! Code of this program in place of a driver, for what needs more than a root-enumerated device: an interrupt, a
//! miniport of storport's or of NDIS', another driver's IRP.

mod miniport;
mod network;

use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use nt_host::io::complete::{IofCallDriver, IofCompleteRequest};
use nt_host::io::device::IoCreateDevice;
use nt_host::io::{driver, irp};
use nt_host::ke::interrupt::{self, Connection};
use nt_host::ke::{irql, processor, thread, time};
use nt_host::pe::modules::{self, Module};
use nt_host::pnp::PciFunction;
use nt_sys::{
    DEVICE_OBJECT, DISPATCH_LEVEL, DRIVER_INITIALIZE, FILE_DEVICE_UNKNOWN, IRP, IRP_MJ_READ,
    KINTERRUPT, KSERVICE_ROUTINE, NTSTATUS, PVOID, SL_PENDING_RETURNED, STATUS_PENDING,
    STATUS_SUCCESS,
};

/// What the case needs of the machine before its devices start: its PCI functions.
pub fn prepare(case: &str) -> Vec<PciFunction> {
    let mut functions = miniport::prepare(case);
    functions.extend(network::prepare(case));
    functions
}

/// Plays the case when the devices are started, if it is one of these.
pub fn play(case: &str) {
    match case {
        "raises-in-an-interrupt" => on_thread(|| interrupt_with(raises)),
        "leaves-an-interrupt" => on_thread(|| {
            let breaker = modules::by_name("rig-breaker.sys").expect("the breaker is loaded");
            let routine = breaker.entry().expect("an entry point");
            // SAFETY: it is never called.
            let _ = connect(unsafe { std::mem::transmute::<usize, KSERVICE_ROUTINE>(routine) });
        }),
        "releases-an-interrupts-lock-below-it" => on_thread(|| {
            let interrupt = connect(raises);
            // SAFETY: the interrupt is connected.
            let old = unsafe { interrupt::KeAcquireInterruptSpinLock(interrupt) };
            processor::current()
                .irql
                .store(DISPATCH_LEVEL, Ordering::Relaxed);
            // SAFETY: as above; the IRQL is the case.
            unsafe { interrupt::KeReleaseInterruptSpinLock(interrupt, old) };
        }),
        "lowers-with-an-interrupts-lock" => on_thread(|| {
            // SAFETY: the interrupt is connected.
            unsafe { interrupt::KeAcquireInterruptSpinLock(connect(raises)) };
            irql::KeLowerIrql(DISPATCH_LEVEL);
        }),
        "acquires-an-interrupts-lock-twice" => on_thread(|| {
            let interrupt = connect(raises);
            for _ in 0..2 {
                // SAFETY: the interrupt is connected; that the lock is held is the case.
                unsafe { interrupt::KeAcquireInterruptSpinLock(interrupt) };
            }
        }),
        "keeps-an-srb-while-stopped" | "transfers-too-little" => miniport::read(),
        "writes-a-completed-srb" => miniport::write_completed(),
        "stalls-in-an-interrupt" => on_thread(|| interrupt_with(stalls)),
        "completes-what-another-has" => on_thread(complete_anothers),
        _ => network::play(case),
    }
}

/// Plays the case when the drivers are unloaded, if it is one of these.
pub fn play_unloaded(case: &str) {
    if case == "runs-unloaded-code" {
        let breaker = modules::all().find(|module| module.name == "rig-breaker.sys");
        let routine = breaker
            .and_then(Module::entry)
            .expect("the breaker was loaded");
        // SAFETY: DriverEntry has such a type; that it is not there any more is the case.
        let routine: DRIVER_INITIALIZE = unsafe { std::mem::transmute(routine) };
        on_thread(move || {
            // SAFETY: as above.
            unsafe { routine(null_mut(), null_mut()) };
        });
    }
}

/// Runs `body` on an NT thread of the machine.
pub fn on_thread(body: impl FnOnce() + Send + 'static) {
    let (send, receive) = channel();
    assert!(thread::run(0, move || {
        body();
        // The receiver waits, or has given up.
        let _ = send.send(());
    }));
    rig::wait::receive(&receive, Duration::from_secs(10)).expect("the case comes to its end");
}

const VECTOR: u8 = 0x51;

fn connect(routine: KSERVICE_ROUTINE) -> *mut KINTERRUPT {
    let connected = interrupt::connect(Connection {
        vector: VECTOR,
        irql: interrupt::irql_of(VECTOR),
        service: interrupt::Service::Line(routine),
        context: null_mut(),
        lock: null_mut(),
    });
    connected.expect("a free place at the vector")
}

fn interrupt_with(routine: KSERVICE_ROUTINE) {
    connect(routine);
    interrupt::raise(0, VECTOR);
    irql::KeLowerIrql(irql::KfRaiseIrql(1));
}

unsafe extern "win64" fn stalls(_: *mut KINTERRUPT, _: PVOID) -> u8 {
    time::KeStallExecutionProcessor(1_000_000);
    1
}

unsafe extern "win64" fn raises(_: *mut KINTERRUPT, _: PVOID) -> u8 {
    irql::KfRaiseIrql(15);
    1
}

static KEPT: AtomicUsize = AtomicUsize::new(0);

unsafe extern "win64" fn keeps(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let location = unsafe { irp::current_location(irp) };
    // SAFETY: the location is the routine's until it returns.
    unsafe { (*location).Control |= SL_PENDING_RETURNED };
    KEPT.store(irp as usize, Ordering::SeqCst);
    STATUS_PENDING
}

/// A driver of the host keeps an IRP, and the breaker completes it.
fn complete_anothers() {
    let object = driver::create_host("keeper");
    // SAFETY: a live driver object.
    unsafe { (*object).MajorFunction[usize::from(IRP_MJ_READ)] = Some(keeps) };
    let mut device = null_mut();
    // SAFETY: a live driver object, and a place for the result.
    let status = unsafe {
        IoCreateDevice(
            object,
            0,
            std::ptr::null(),
            FILE_DEVICE_UNKNOWN,
            0,
            0,
            &raw mut device,
        )
    };
    assert_eq!(status, STATUS_SUCCESS);
    let irp = irp::IoAllocateIrp(1, 0);
    // SAFETY: the IRP was just made with a location.
    unsafe { irp::next(irp) }.MajorFunction = IRP_MJ_READ;
    // SAFETY: the device and the IRP live.
    unsafe { IofCallDriver(device, irp) };
    let breaker = modules::by_name("rig-breaker.sys").expect("the breaker is loaded");
    processor::current()
        .caller
        .store(breaker.id, Ordering::Relaxed);
    // SAFETY: the IRP lives; that it is another's is the case.
    unsafe { IofCompleteRequest(KEPT.load(Ordering::SeqCst) as *mut IRP, 0) };
}
