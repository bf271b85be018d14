//! DPCs, timers, interrupts, inter-processor calls.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use nt_host::ke::event::Event;
use nt_host::ke::wait::{self, Timeout};
use nt_host::ke::{dpc, interrupt, ipi, irql, processor, spinlock, timer};
use nt_sys::{
    HighImportance, KDPC, KINTERRUPT, KTIMER, PROCESSOR_NUMBER, SynchronizationTimer, TRUE,
};

use crate::machine::{CPUS, machine, on_cpu};

const MILLISECOND: u64 = 10_000;

/// What a DPC or interrupt routine saw: a mark, the CPU, the IRQL.
type Seen = Mutex<Vec<(usize, u32, u8)>>;

unsafe extern "win64" fn note(
    _: *mut KDPC,
    context: *mut c_void,
    mark: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: the tests pass a leaked list.
    let seen = unsafe { &*context.cast::<Seen>() };
    seen.lock()
        .unwrap()
        .push((mark as usize, processor::current().number, irql::current()));
}

fn list() -> &'static Seen {
    Box::leak(Box::new(Mutex::new(Vec::new())))
}

fn new_dpc(seen: &'static Seen) -> *mut KDPC {
    // SAFETY: a KDPC is numbers and pointers.
    let storage: &'static mut KDPC = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
    let context = std::ptr::from_ref(seen).cast_mut().cast();
    // SAFETY: the DPC is leaked.
    unsafe { dpc::KeInitializeDpc(storage, Some(note), context) };
    storage
}

fn queue(dpc: *mut KDPC, mark: usize) -> bool {
    // SAFETY: the DPC is leaked and initialised.
    unsafe { dpc::KeInsertQueueDpc(dpc, mark as *mut c_void, std::ptr::null_mut()) != 0 }
}

#[test]
fn dpcs_run_when_the_irql_falls_important_ones_first() {
    let _machine = machine();
    let seen = on_cpu(0, || {
        let seen = list();
        let dpcs = [new_dpc(seen), new_dpc(seen), new_dpc(seen)];
        // SAFETY: the DPC is leaked and not queued.
        unsafe { dpc::KeSetImportanceDpc(dpcs[2], HighImportance) };
        let old = irql::KfRaiseIrql(2);
        assert!(queue(dpcs[0], 1) && queue(dpcs[1], 2) && queue(dpcs[2], 3));
        assert!(!queue(dpcs[0], 4), "a queued DPC is not queued again");
        assert!(seen.lock().unwrap().is_empty());
        irql::KeLowerIrql(old);
        seen.lock().unwrap().clone()
    });
    assert_eq!(seen, [(3, 0, 2), (1, 0, 2), (2, 0, 2)]);
}

#[test]
fn a_targeted_dpc_runs_on_its_cpu_and_flushing_waits_for_it() {
    let _machine = machine();
    let seen = on_cpu(0, || {
        let seen = list();
        let targeted = new_dpc(seen);
        let number = PROCESSOR_NUMBER {
            Group: 0,
            Number: 2,
            Reserved: 0,
        };
        // SAFETY: the DPC is leaked and not queued.
        let status = unsafe { dpc::KeSetTargetProcessorDpcEx(targeted, &number) };
        assert_eq!(status, 0);
        assert!(queue(targeted, 9));
        dpc::KeFlushQueuedDpcs();
        seen.lock().unwrap().clone()
    });
    assert_eq!(seen, [(9, 2, 2)]);
}

#[test]
fn a_removed_dpc_does_not_run() {
    let _machine = machine();
    let seen = on_cpu(0, || {
        let seen = list();
        let removed = new_dpc(seen);
        let old = irql::KfRaiseIrql(2);
        assert!(queue(removed, 1));
        // SAFETY: the DPC is leaked.
        assert_eq!(unsafe { dpc::KeRemoveQueueDpc(removed) }, 1);
        // SAFETY: the DPC is leaked.
        assert_eq!(unsafe { dpc::KeRemoveQueueDpc(removed) }, 0);
        irql::KeLowerIrql(old);
        seen.lock().unwrap().len()
    });
    assert_eq!(seen, 0);
}

#[test]
fn a_periodic_timer_fires_until_it_is_cancelled() {
    let _machine = machine();
    let counts = on_cpu(1, || {
        let seen = list();
        let dpc = new_dpc(seen);
        // SAFETY: a KTIMER is numbers and pointers.
        let storage: &'static mut KTIMER = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
        let timer: *mut KTIMER = storage;
        // SAFETY: the timer is leaked.
        unsafe { timer::KeInitializeTimerEx(timer, SynchronizationTimer) };
        // SAFETY: timer and DPC are leaked.
        let was_set = unsafe { timer::KeSetTimerEx(timer, -(5 * MILLISECOND as i64), 5, dpc) };
        assert_eq!(was_set, 0);
        while seen.lock().unwrap().len() < 5 {
            wait::delay(MILLISECOND);
        }
        // SAFETY: the timer is leaked.
        assert_eq!(unsafe { timer::KeCancelTimer(timer) }, TRUE);
        dpc::KeFlushQueuedDpcs();
        let while_set = seen.lock().unwrap().len();
        wait::delay(20 * MILLISECOND);
        (while_set, seen.lock().unwrap().len())
    });
    assert_eq!(counts.0, counts.1);
}

static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);
static LEVEL: AtomicU32 = AtomicU32::new(0);

unsafe extern "win64" fn service(_: *mut KINTERRUPT, context: *mut c_void) -> u8 {
    LEVEL.store(u32::from(irql::current()), Ordering::Relaxed);
    INTERRUPTS.fetch_add(context as usize, Ordering::Relaxed);
    1
}

#[test]
fn an_interrupt_from_another_thread_reaches_its_cpu_above_its_locks() {
    let _machine = machine();
    let vector = interrupt::allocate_vector().unwrap();
    let connection = interrupt::Connection {
        vector,
        irql: interrupt::irql_of(vector),
        service: interrupt::Service::Line(service),
        context: std::ptr::without_provenance_mut(1),
        lock: std::ptr::null_mut(),
    };
    let object = interrupt::connect(connection).unwrap() as usize;
    for count in 1..=100 {
        interrupt::raise(1, vector);
        while INTERRUPTS.load(Ordering::Relaxed) != count {
            std::thread::yield_now();
        }
    }
    assert_eq!(
        LEVEL.load(Ordering::Relaxed),
        u32::from(interrupt::irql_of(vector))
    );
    let held = on_cpu(1, move || {
        // SAFETY: the interrupt is connected.
        let old = unsafe { spin(object) };
        interrupt::raise(1, vector);
        nt_host::ke::poll();
        let while_held = INTERRUPTS.load(Ordering::Relaxed);
        // SAFETY: held since above.
        unsafe { interrupt::KeReleaseInterruptSpinLock(object as *mut KINTERRUPT, old) };
        (while_held, INTERRUPTS.load(Ordering::Relaxed))
    });
    assert_eq!(held, (100, 101));
    // SAFETY: connected above, disconnected once.
    on_cpu(0, move || unsafe {
        interrupt::disconnect(object as *mut KINTERRUPT)
    });
    interrupt::free_vector(vector);
}

/// # Safety
/// `object` is a connected interrupt.
unsafe fn spin(object: usize) -> u8 {
    // SAFETY: the caller's promise.
    unsafe { interrupt::KeAcquireInterruptSpinLock(object as *mut KINTERRUPT) }
}

#[test]
fn a_level_line_interrupts_until_it_falls() {
    static LINE: u32 = 20;
    static SERVED: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "win64" fn lower_at_three(_: *mut KINTERRUPT, _: *mut c_void) -> u8 {
        if SERVED.fetch_add(1, Ordering::Relaxed) == 2 {
            interrupt::set_gsi(LINE, false);
        }
        1
    }
    let _machine = machine();
    let vector = interrupt::allocate_vector().unwrap();
    interrupt::connect(interrupt::Connection {
        vector,
        irql: interrupt::irql_of(vector),
        service: interrupt::Service::Line(lower_at_three),
        context: std::ptr::null_mut(),
        lock: std::ptr::null_mut(),
    })
    .unwrap();
    interrupt::route_gsi(LINE, vector, 0);
    interrupt::set_gsi(LINE, true);
    let served = on_cpu(0, || {
        wait::delay(5 * MILLISECOND);
        SERVED.load(Ordering::Relaxed)
    });
    assert_eq!(served, 3);
}

#[test]
fn an_inter_processor_call_runs_on_every_cpu_even_under_spin_locks() {
    static RAN: AtomicU32 = AtomicU32::new(0);
    unsafe extern "win64" fn mark(argument: usize) -> usize {
        assert_eq!(irql::current(), nt_sys::IPI_LEVEL);
        RAN.fetch_or(1 << processor::current().number, Ordering::AcqRel);
        argument + 1
    }
    let _machine = machine();
    let lock: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    // CPU 1 waits for a spin lock which CPU 0 holds during the call.
    let result = on_cpu(0, move || {
        // SAFETY: the lock is leaked.
        let old = unsafe { spinlock::KeAcquireSpinLockRaiseToDpc(lock.as_ptr()) };
        let inside = Arc::new(Event::new(true));
        let theirs = inside.clone();
        nt_host::ke::inject(
            1,
            Box::new(move || {
                // SAFETY: the lock is leaked.
                unsafe { spinlock::KeAcquireSpinLockAtDpcLevel(lock.as_ptr()) };
                // SAFETY: held since above.
                unsafe { spinlock::KeReleaseSpinLockFromDpcLevel(lock.as_ptr()) };
                theirs.set();
            }),
        );
        // SAFETY: the function takes any argument on any CPU.
        let result = unsafe { ipi::KeIpiGenericCall(mark, 41) };
        // SAFETY: held since above.
        unsafe { spinlock::KeReleaseSpinLock(lock.as_ptr(), old) };
        assert!(inside.wait(Timeout::after(60_000 * MILLISECOND)));
        result
    });
    assert_eq!((result, RAN.load(Ordering::Acquire)), (42, (1 << CPUS) - 1));
}

#[test]
fn a_spin_lock_excludes() {
    let _machine = machine();
    let lock: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let counter: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let ends: Vec<_> = (0..CPUS)
        .map(|cpu| {
            std::thread::spawn(move || {
                on_cpu(cpu, move || {
                    for _ in 0..2000 {
                        // SAFETY: the lock is leaked.
                        let old = unsafe { spinlock::KeAcquireSpinLockRaiseToDpc(lock.as_ptr()) };
                        let value = counter.load(Ordering::Relaxed);
                        counter.store(value + 1, Ordering::Relaxed);
                        // SAFETY: held since above.
                        unsafe { spinlock::KeReleaseSpinLock(lock.as_ptr(), old) };
                    }
                })
            })
        })
        .collect();
    ends.into_iter().for_each(|end| end.join().unwrap());
    assert_eq!(counter.load(Ordering::Relaxed), 2000 * CPUS as usize);
}
