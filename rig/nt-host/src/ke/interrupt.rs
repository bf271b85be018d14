//! Interrupts: vectors, the objects connected to them, level-triggered lines.
//!
//! [`raise`] marks a vector on a CPU from any host thread; the CPU delivers it at the vector's IRQL when it polls.
//! `IoConnectInterruptEx` ends in [`connect`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use nt_sys::{KINTERRUPT, KIRQL, KMESSAGE_SERVICE_ROUTINE, KSERVICE_ROUTINE, KSPIN_LOCK, PVOID};
use trace::{Class, Event};

use super::processor::{self, Counters, Processor, pending};
use super::spinlock::{self, Kind};
use super::{border, bugcheck, irql, poll};
use crate::exports;
use crate::host::platform;
use crate::sync::Mutex;
use crate::verifier::time::{self, Timed};
use crate::verifier::{Rule, code, locks, stack};

/// Drivers that can share one vector.
const SHARED: usize = 4;
/// Vectors for devices; a vector's IRQL is its upper half, as the local APIC has it.
const DEVICE_VECTORS: core::ops::Range<u8> = 0x50..0xB0;
const NO_LINE: u32 = u32::MAX;
const LINES: usize = 64;

/// The routine of an interrupt.
#[derive(Clone, Copy)]
pub enum Service {
    /// InterruptService.
    Line(KSERVICE_ROUTINE),
    /// InterruptMessageService, and the message's number.
    Message(KMESSAGE_SERVICE_ROUTINE, u32),
}

impl Service {
    fn address(self) -> usize {
        match self {
            Self::Line(routine) => routine as usize,
            Self::Message(routine, _) => routine as usize,
        }
    }
}

/// What a driver connects.
pub struct Connection {
    /// The interrupt's vector.
    pub vector: u8,
    /// The IRQL of the routine (`SynchronizeIrql`).
    pub irql: KIRQL,
    /// The routine.
    pub service: Service,
    /// The routine's second argument.
    pub context: PVOID,
    /// The lock held around the routine; null for one of its own.
    pub lock: *mut KSPIN_LOCK,
}

/// What `PKINTERRUPT` points to.
struct Interrupt {
    connection: Connection,
    own_lock: AtomicUsize,
}

impl Interrupt {
    fn lock(&self) -> *mut KSPIN_LOCK {
        match self.connection.lock.is_null() {
            true => self.own_lock.as_ptr(),
            false => self.connection.lock,
        }
    }

    fn kind(&self) -> Kind {
        Kind::Interrupt(self.connection.irql)
    }
}

struct Vector {
    connected: [AtomicPtr<Interrupt>; SHARED],
    /// CPUs that are running its routines now.
    running: AtomicU32,
    /// The level-triggered line that leads to it.
    line: AtomicU32,
}

static VECTORS: [Vector; 256] = [const {
    Vector {
        connected: [const { AtomicPtr::new(null_mut()) }; SHARED],
        running: AtomicU32::new(0),
        line: AtomicU32::new(NO_LINE),
    }
}; 256];

/// A global system interrupt: where it leads, and whether it is up.
struct Line {
    /// Vector in the low byte, CPU above; 0 for none.
    route: AtomicU32,
    up: AtomicBool,
}

static GSIS: [Line; LINES] = [const {
    Line {
        route: AtomicU32::new(0),
        up: AtomicBool::new(false),
    }
}; LINES];

static TAKEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
static CONNECTING: Mutex<()> = Mutex::new(());

/// A device vector that nobody has, highest IRQL last; `None` when all are taken.
pub fn allocate_vector() -> Option<u8> {
    DEVICE_VECTORS.clone().find(|&vector| {
        let bit = 1u64 << (vector % 64);
        TAKEN[usize::from(vector / 64)].fetch_or(bit, Ordering::AcqRel) & bit == 0
    })
}

/// Gives a vector back; no line leads to it any more.
pub fn free_vector(vector: u8) {
    let line = VECTORS[usize::from(vector)]
        .line
        .swap(NO_LINE, Ordering::AcqRel);
    if let Some(line) = GSIS.get(line as usize) {
        line.route.store(0, Ordering::Release);
    }
    TAKEN[usize::from(vector / 64)].fetch_and(!(1u64 << (vector % 64)), Ordering::AcqRel);
}

/// The IRQL that belongs to a vector.
pub fn irql_of(vector: u8) -> KIRQL {
    vector >> 4
}

/// Leads line `gsi` to `vector` on `cpu`.
pub fn route_gsi(gsi: u32, vector: u8, cpu: u32) {
    let Some(line) = GSIS.get(gsi as usize) else {
        return;
    };
    line.route
        .store(u32::from(vector) | cpu << 8, Ordering::Release);
    VECTORS[usize::from(vector)]
        .line
        .store(gsi, Ordering::Release);
    if line.up.load(Ordering::Acquire) {
        raise(cpu, vector);
    }
}

/// Puts line `gsi` up or down. Callable from any host thread.
pub fn set_gsi(gsi: u32, up: bool) {
    let Some(line) = GSIS.get(gsi as usize) else {
        return;
    };
    if line.up.swap(up, Ordering::AcqRel) || !up {
        return;
    }
    let route = line.route.load(Ordering::Acquire);
    if route != 0 {
        raise(route >> 8, route as u8);
    }
}

/// Requests `vector` on `cpu`. Callable from any host thread.
pub fn raise(cpu: u32, vector: u8) {
    let Some(cpu) = processor::all().get(cpu as usize) else {
        return;
    };
    trace::emit(Class::Kernel, || Event::InterruptRaise {
        on: u64::from(cpu.number),
        vector: u64::from(vector),
    });
    cpu.vectors[usize::from(vector / 64)].fetch_or(1 << (vector % 64), Ordering::AcqRel);
    super::request(cpu, pending::INTERRUPT);
}

/// Whether the level-triggered line that leads to a vector is up, if one does.
fn is_up(vector: &Vector) -> bool {
    let line = vector.line.load(Ordering::Acquire);
    GSIS.get(line as usize)
        .is_some_and(|line| line.up.load(Ordering::Acquire))
}

/// Connects a routine to its vector; `None` when too many share it. A line that is up already interrupts at once: as long
/// as nobody is connected, it is masked.
pub fn connect(connection: Connection) -> Option<*mut KINTERRUPT> {
    code::demand_nonpageable(connection.service.address(), "IoConnectInterruptEx");
    let _connecting = CONNECTING.lock();
    let vector = &VECTORS[usize::from(connection.vector)];
    let slot = vector
        .connected
        .iter()
        .find(|slot| slot.load(Ordering::Relaxed).is_null())?;
    let number = connection.vector;
    let interrupt = Box::into_raw(Box::new(Interrupt {
        connection,
        own_lock: AtomicUsize::new(0),
    }));
    slot.store(interrupt, Ordering::Release);
    if is_up(vector) {
        let line = vector.line.load(Ordering::Acquire);
        let route = GSIS
            .get(line as usize)
            .map_or(0, |line| line.route.load(Ordering::Acquire));
        raise(route >> 8, number);
    }
    Some(interrupt.cast())
}

/// Disconnects; the routine does not run any more when this returns. IRQL PASSIVE_LEVEL.
///
/// # Safety
/// `interrupt` came from [`connect`] and is disconnected once.
pub unsafe fn disconnect(interrupt: *mut KINTERRUPT) {
    let interrupt: *mut Interrupt = interrupt.cast();
    // SAFETY: the caller's promise.
    let number = unsafe { (*interrupt).connection.vector };
    let vector = &VECTORS[usize::from(number)];
    for slot in &vector.connected {
        let _ = slot.compare_exchange(interrupt, null_mut(), Ordering::AcqRel, Ordering::Relaxed);
    }
    while vector.running.load(Ordering::Acquire) != 0 {
        poll();
        platform().relax();
    }
    // SAFETY: it is in no slot any more and no CPU runs its routine.
    drop(unsafe { Box::from_raw(interrupt) });
}

/// Disconnects what is connected to routines in an image: vectors and routines.
pub(crate) fn take_of(image: Range<usize>) -> Vec<(usize, usize)> {
    let slots = VECTORS.iter().flat_map(|vector| &vector.connected);
    let own = slots.filter_map(|slot| {
        let interrupt = slot.load(Ordering::Acquire);
        // SAFETY: what is in a slot lives until it is disconnected.
        let connection = &unsafe { interrupt.as_ref() }?.connection;
        let routine = connection.service.address();
        let vector = usize::from(connection.vector);
        image
            .contains(&routine)
            .then_some((interrupt, (vector, routine)))
    });
    let own: Vec<_> = own.collect();
    let disconnect = |(interrupt, what): (*mut Interrupt, _)| {
        // SAFETY: it was in its slot, and the driver that might disconnect it is gone.
        unsafe { disconnect(interrupt.cast()) };
        what
    };
    own.into_iter().map(disconnect).collect()
}

/// The requested vector with the highest IRQL above `level`.
fn highest(cpu: &Processor, level: KIRQL) -> Option<u8> {
    let word = (0..4).rev().find_map(|index| {
        let bits = cpu.vectors[index].load(Ordering::Acquire);
        bits.checked_ilog2()
            .map(|bit| (index as u32 * 64 + bit) as u8)
    })?;
    (irql_of(word) > level).then_some(word)
}

/// Runs the routines of the highest requested vector if the IRQL allows; whether it did.
pub(super) fn deliver(cpu: &Processor, level: KIRQL) -> bool {
    if !cpu.interrupts_enabled.load(Ordering::Relaxed) {
        return false;
    }
    let Some(number) = highest(cpu, level) else {
        if cpu
            .vectors
            .iter()
            .all(|word| word.load(Ordering::Acquire) == 0)
        {
            clear_request(cpu);
        }
        return false;
    };
    cpu.vectors[usize::from(number / 64)].fetch_and(!(1 << (number % 64)), Ordering::AcqRel);
    let vector = &VECTORS[usize::from(number)];
    vector.running.fetch_add(1, Ordering::AcqRel);
    let mut served = false;
    for slot in &vector.connected {
        // SAFETY: `disconnect` frees an object only after it left its slot and `running` fell to 0.
        if let Some(interrupt) = unsafe { slot.load(Ordering::Acquire).as_ref() } {
            serve(cpu, interrupt);
            served = true;
        }
    }
    vector.running.fetch_sub(1, Ordering::AcqRel);
    irql::set(level);
    platform().interrupt_done(cpu.number);
    if served && is_up(vector) {
        raise(cpu.number, number);
    }
    true
}

/// Takes the request back when no vector is set, without losing one that is set meanwhile.
fn clear_request(cpu: &Processor) {
    cpu.pending.fetch_and(!pending::INTERRUPT, Ordering::AcqRel);
    if cpu
        .vectors
        .iter()
        .any(|word| word.load(Ordering::Acquire) != 0)
    {
        cpu.pending.fetch_or(pending::INTERRUPT, Ordering::AcqRel);
    }
}

fn serve(cpu: &Processor, interrupt: &Interrupt) {
    let Connection {
        irql: level,
        service,
        context,
        ..
    } = interrupt.connection;
    let routine = service.address();
    irql::set(level);
    let lock = interrupt.lock();
    let object: *mut KINTERRUPT = core::ptr::from_ref(interrupt).cast_mut().cast();
    // SAFETY: the lock is the driver's or the object's own; both live as long as the connection.
    unsafe { spinlock::acquire_as(lock, interrupt.kind()) };
    let vector = u64::from(interrupt.connection.vector);
    trace::emit(Class::Kernel, || {
        let (driver, rva) = crate::place::of_code(routine as u64);
        Event::InterruptRun {
            vector,
            driver,
            rva,
        }
    });
    Counters::count(&cpu.counters.interrupts);
    locks::is_of_routine(cpu);
    let locks = locks::held();
    let outer = time::begin(cpu, Timed::Interrupt, routine);
    let serve = || match service {
        // SAFETY: the driver connected this routine and context.
        Service::Line(routine) => unsafe { routine(object, context) },
        // SAFETY: as above.
        Service::Message(routine, number) => unsafe { routine(object, context, number) },
    };
    stack::apart(cpu, || border::call(serve));
    time::end(cpu, Timed::Interrupt, outer);
    trace::emit(Class::Kernel, || Event::InterruptEnd { vector });
    locks::check(locks, routine, "an interrupt routine");
    // SAFETY: taken above.
    unsafe { spinlock::release_as(lock, interrupt.kind()) };
    let after = irql::current();
    if after != level {
        Rule::IrqlAfterInterrupt.breach_of(
            routine,
            format_args!("returns from an interrupt routine at IRQL {after}, called at {level}"),
        );
    }
}

/// Microsoft Learn: KeAcquireInterruptSpinLock.
///
/// # Safety
/// `interrupt` is connected.
pub unsafe extern "win64" fn KeAcquireInterruptSpinLock(interrupt: *mut KINTERRUPT) -> KIRQL {
    // SAFETY: the caller's promise.
    let interrupt = unsafe { &*interrupt.cast::<Interrupt>() };
    bugcheck::irql_at_most("KeAcquireInterruptSpinLock", interrupt.connection.irql);
    let old = irql::set(interrupt.connection.irql);
    // SAFETY: the lock lives as long as the connection.
    unsafe { spinlock::acquire_as(interrupt.lock(), interrupt.kind()) };
    old
}

/// Microsoft Learn: KeReleaseInterruptSpinLock.
///
/// # Safety
/// `interrupt` is connected and this CPU holds its lock.
pub unsafe extern "win64" fn KeReleaseInterruptSpinLock(interrupt: *mut KINTERRUPT, old: KIRQL) {
    // SAFETY: the caller's promise.
    let interrupt = unsafe { &*interrupt.cast::<Interrupt>() };
    spinlock::check_release("KeReleaseInterruptSpinLock", interrupt.connection.irql, old);
    // SAFETY: the caller's promise.
    unsafe { spinlock::release_as(interrupt.lock(), interrupt.kind()) };
    spinlock::lower(old);
}

/// Microsoft Learn: KeSynchronizeExecution.
///
/// # Safety
/// `interrupt` is connected; `routine` may be called with `context`.
pub unsafe extern "win64" fn KeSynchronizeExecution(
    interrupt: *mut KINTERRUPT,
    routine: unsafe extern "win64" fn(PVOID) -> u8,
    context: PVOID,
) -> u8 {
    // SAFETY: the caller's promise.
    let old = unsafe { KeAcquireInterruptSpinLock(interrupt) };
    // SAFETY: the caller's promise.
    let result = border::call(|| unsafe { routine(context) });
    // SAFETY: acquired above.
    unsafe { KeReleaseInterruptSpinLock(interrupt, old) };
    result
}

exports!(
    "ntoskrnl.exe":
    KeAcquireInterruptSpinLock,
    KeReleaseInterruptSpinLock,
    KeSynchronizeExecution,
);
