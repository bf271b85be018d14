//! Cancelling requests: cancel routines, the cancel spin lock, cancel-safe queues.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::device;
use crate::stage::{self, Request, Scene, Stage};
use crate::suite::{Finding, Outcome};
use crate::support::*;
use crate::wdk::*;

/// Keeps a request with a cancel routine that completes it.
fn keep_cancelable(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoSetCancelRoutine(irp, Some(cancel));
    fields(irp).DriverContext[0] = scene.context();
    stage::keep(scene, device, irp)
}

unsafe extern "system" fn cancel(device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let scene = Scene::of(fields(irp).DriverContext[0]);
    write(&scene.cells[0], KeGetCurrentIrql().into());
    write(&scene.cells[1], scene.number(device));
    IoReleaseCancelSpinLock(fields(irp).CancelIrql);
    write(&scene.cells[2], KeGetCurrentIrql().into());
    scene.kept.store(null_mut(), Ordering::SeqCst);
    device::complete(irp, STATUS_CANCELLED, 0);
}

/// Learn, IoCancelIrp: calls the cancel routine at DISPATCH_LEVEL with the lock, which it releases; TRUE.
fn a_kept_request_is_cancelled() -> Outcome {
    let stage = Stage::new(&[keep_cancelable])?;
    let request = Request::new(&stage)?;
    equal!(request.send(), STATUS_PENDING, "IoCallDriver");
    let cancelled = IoCancelIrp(request.irp);
    let back = request.is_back();
    let scene = stage.scene();
    check!(back, "the request did not come back");
    equal!(cancelled, 1, "IoCancelIrp");
    equal!(request.status(), STATUS_CANCELLED, "its status");
    equal!(
        (read(&scene.cells[0]), read(&scene.cells[2])),
        (u32::from(DISPATCH_LEVEL), u32::from(PASSIVE_LEVEL)),
        "the IRQL in the routine, and after IoReleaseCancelSpinLock"
    );
    equal!(read(&scene.cells[1]), 0, "the device that it was given");
    equal!(fields(request.irp).Cancel, 1, "Irp->Cancel");
    Ok(())
}

/// Learn, IoCancelIrp: FALSE for a request without a cancel routine, which is marked nevertheless.
fn a_request_without_a_routine_is_only_marked() -> Outcome {
    let stage = Stage::new(&[stage::keep])?;
    let request = Request::new(&stage)?;
    request.send();
    let cancelled = IoCancelIrp(request.irp);
    let marked = fields(request.irp).Cancel;
    stage::finish(stage.scene(), STATUS_SUCCESS);
    check!(request.is_back(), "the request did not come back");
    equal!((cancelled, marked), (0, 1), "IoCancelIrp, and Irp->Cancel");
    equal!(request.status(), STATUS_SUCCESS, "its status");
    Ok(())
}

/// Learn, IoAcquireCancelSpinLock: raises to DISPATCH_LEVEL and gives the former IRQL.
fn the_cancel_spin_lock_raises_the_irql() -> Outcome {
    let mut old = 0xFF;
    IoAcquireCancelSpinLock(&raw mut old);
    let held = KeGetCurrentIrql();
    IoReleaseCancelSpinLock(old);
    equal!(
        (old, held, KeGetCurrentIrql()),
        (PASSIVE_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL),
        "the IRQL before, inside, after"
    );
    Ok(())
}

/// A queue of a driver's, of up to eight requests.
#[repr(C)]
struct Queue {
    csq: IO_CSQ,
    lock: KSPIN_LOCK,
    irps: [AtomicPtr<IRP>; 8],
    count: AtomicU32,
    /// What the last insertion was given, and whether the next is refused.
    context: AtomicPtr<core::ffi::c_void>,
    refuses: AtomicU32,
    completed: AtomicU32,
    /// The IRQL at which a routine ran: without the lock held, or with it, a bit each for what was wrong.
    wrong: AtomicU32,
}

impl Queue {
    /// # Safety
    /// `csq` is a queue's.
    unsafe fn of<'a>(csq: *mut IO_CSQ) -> &'a Self {
        // SAFETY: the first member of a `Queue`, which lives as long as its requests.
        unsafe { &*csq.cast::<Self>() }
    }

    fn new() -> Result<Pool<Self>, Finding> {
        let mut queue = Pool::<Self>::zeroed()?;
        KeInitializeSpinLock(&raw mut queue.lock);
        let status = IoCsqInitializeEx(
            &raw mut queue.csq,
            insert,
            remove,
            peek,
            acquire,
            release,
            complete,
        );
        equal!(status, STATUS_SUCCESS, "IoCsqInitializeEx");
        Ok(queue)
    }

    fn csq(&self) -> *mut IO_CSQ {
        (&raw const self.csq).cast_mut()
    }

    fn locked(&self) {
        if KeGetCurrentIrql() != DISPATCH_LEVEL {
            self.wrong.fetch_or(1, Ordering::SeqCst);
        }
    }

    fn position(&self, irp: *mut IRP) -> Option<usize> {
        let count = read(&self.count) as usize;
        (0..count).find(|at| self.irps[*at].load(Ordering::SeqCst) == irp)
    }

    fn is_empty(&self) -> bool {
        read(&self.count) == 0
    }
}

unsafe extern "system" fn insert(csq: *mut IO_CSQ, irp: *mut IRP, context: PVOID) -> NTSTATUS {
    // SAFETY: this queue's routine.
    let queue = unsafe { Queue::of(csq) };
    queue.locked();
    queue.context.store(context, Ordering::SeqCst);
    if read(&queue.refuses) != 0 {
        return STATUS_DEVICE_NOT_READY;
    }
    queue.irps[add(&queue.count) as usize].store(irp, Ordering::SeqCst);
    STATUS_SUCCESS
}

unsafe extern "system" fn remove(csq: *mut IO_CSQ, irp: *mut IRP) {
    // SAFETY: this queue's routine.
    let queue = unsafe { Queue::of(csq) };
    queue.locked();
    let Some(at) = queue.position(irp) else {
        queue.wrong.fetch_or(2, Ordering::SeqCst);
        return;
    };
    let count = read(&queue.count) as usize;
    for index in at..count - 1 {
        let next = queue.irps[index + 1].load(Ordering::SeqCst);
        queue.irps[index].store(next, Ordering::SeqCst);
    }
    write(&queue.count, count as u32 - 1);
}

/// The next request whose first word of context is `wanted`; any for null.
unsafe extern "system" fn peek(csq: *mut IO_CSQ, after: *mut IRP, wanted: PVOID) -> *mut IRP {
    // SAFETY: this queue's routine.
    let queue = unsafe { Queue::of(csq) };
    queue.locked();
    let first = queue.position(after).map_or(0, |at| at + 1);
    let count = read(&queue.count) as usize;
    (first..count)
        .map(|at| queue.irps[at].load(Ordering::SeqCst))
        .find(|irp| wanted.is_null() || fields(*irp).DriverContext[0] == wanted)
        .unwrap_or(null_mut())
}

unsafe extern "system" fn acquire(csq: *mut IO_CSQ, irql: *mut KIRQL) {
    // SAFETY: this queue's routine.
    let queue = unsafe { Queue::of(csq) };
    let old = KeAcquireSpinLockRaiseToDpc((&raw const queue.lock).cast_mut());
    // SAFETY: the caller's place for it.
    unsafe { irql.write(old) };
}

unsafe extern "system" fn release(csq: *mut IO_CSQ, irql: KIRQL) {
    // SAFETY: this queue's routine.
    let queue = unsafe { Queue::of(csq) };
    KeReleaseSpinLock((&raw const queue.lock).cast_mut(), irql);
}

unsafe extern "system" fn complete(csq: *mut IO_CSQ, irp: *mut IRP) {
    // SAFETY: this queue's routine.
    let queue = unsafe { Queue::of(csq) };
    if queue.position(irp).is_some() {
        queue.wrong.fetch_or(4, Ordering::SeqCst);
    }
    add(&queue.completed);
    device::complete(irp, STATUS_CANCELLED, 0);
}

/// The queue that `enqueue` puts requests into, and the context of the insertion.
static TARGET: AtomicPtr<Queue> = AtomicPtr::new(null_mut());
static NAMED: AtomicPtr<IO_CSQ_IRP_CONTEXT> = AtomicPtr::new(null_mut());

/// Puts a request into the queue; one that it refuses is completed with its status.
fn enqueue(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    scene.pass_by(scene.number(device));
    let csq = TARGET.load(Ordering::SeqCst).cast::<IO_CSQ>();
    let marker = scene.context();
    // The first argument of the request tells requests apart.
    fields(irp).DriverContext[0] = IoGetCurrentIrpStackLocation(irp).Arguments[0] as PVOID;
    match IoCsqInsertIrpEx(csq, irp, NAMED.load(Ordering::SeqCst), marker) {
        STATUS_SUCCESS => STATUS_PENDING,
        status => device::complete(irp, status, 0),
    }
}

fn setup() -> Result<(Stage, Pool<Queue>), Finding> {
    let queue = Queue::new()?;
    TARGET.store(queue.context().cast(), Ordering::SeqCst);
    NAMED.store(null_mut(), Ordering::SeqCst);
    Ok((Stage::new(&[enqueue])?, queue))
}

/// A request with this first argument, sent into the queue.
fn sent(stage: &Stage, argument: usize) -> Result<Request, Finding> {
    let request = Request::new(stage)?;
    IoGetNextIrpStackLocation(request.irp).Arguments[0] = argument;
    equal!(request.send(), STATUS_PENDING, "IoCallDriver");
    Ok(request)
}

/// Completes a removed request, which comes back to its maker.
fn finish(irp: *mut IRP, request: &Request) -> Outcome {
    equal!(irp, request.irp, "the request that was removed");
    device::complete(irp, STATUS_SUCCESS, 0);
    check!(request.is_back(), "the request did not come back");
    Ok(())
}

/// Learn, IoCsqInsertIrpEx, IoCsqRemoveNextIrp: marked pending, removed in the order of the driver's queue; null when empty.
fn a_queue_gives_requests_back() -> Outcome {
    let (stage, queue) = setup()?;
    let (first, second) = (sent(&stage, 1)?, sent(&stage, 2)?);
    equal!(
        queue.context.load(Ordering::SeqCst),
        stage.scene().context(),
        "the context of the insertion"
    );
    check!(
        fields(first.irp).CancelRoutine.is_some(),
        "a queued request has no cancel routine"
    );
    let one = IoCsqRemoveNextIrp(queue.csq(), null_mut());
    equal!(one, first.irp, "the first request");
    check!(
        fields(one).CancelRoutine.is_none(),
        "a removed request has a cancel routine"
    );
    finish(one, &first)?;
    let two = IoCsqRemoveNextIrp(queue.csq(), null_mut());
    equal!(two, second.irp, "the second request");
    finish(two, &second)?;
    let none = IoCsqRemoveNextIrp(queue.csq(), null_mut());
    check!(none.is_null(), "an empty queue gave {none:p}");
    check!(first.was_pending(), "the request was not marked pending");
    equal!(read(&queue.wrong), 0, "what the routines saw");
    Ok(())
}

/// Learn, IoCsqRemoveNextIrp: the peek context chooses.
fn a_queue_gives_what_is_asked_for() -> Outcome {
    let (stage, queue) = setup()?;
    let requests = [sent(&stage, 1)?, sent(&stage, 2)?, sent(&stage, 2)?];
    let two = IoCsqRemoveNextIrp(queue.csq(), 2 as PVOID);
    let other = IoCsqRemoveNextIrp(queue.csq(), 7 as PVOID);
    equal!(two, requests[1].irp, "the first of its kind");
    check!(other.is_null(), "one of another kind was found");
    finish(two, &requests[1])?;
    for request in [&requests[0], &requests[2]] {
        let next = IoCsqRemoveNextIrp(queue.csq(), null_mut());
        equal!(next, request.irp, "the next request");
        finish(next, request)?;
    }
    Ok(())
}

/// Learn, IoCsqRemoveIrp: by its context, once.
fn a_request_is_removed_by_its_context() -> Outcome {
    let (stage, queue) = setup()?;
    let mut context = Pool::<IO_CSQ_IRP_CONTEXT>::zeroed()?;
    let other = sent(&stage, 1)?;
    NAMED.store(&raw mut *context, Ordering::SeqCst);
    let named = sent(&stage, 2)?;
    let found = IoCsqRemoveIrp(queue.csq(), &raw mut *context);
    let again = IoCsqRemoveIrp(queue.csq(), &raw mut *context);
    equal!(found, named.irp, "the request of the context");
    check!(again.is_null(), "it was found twice");
    finish(found, &named)?;
    finish(IoCsqRemoveNextIrp(queue.csq(), null_mut()), &other)?;
    Ok(())
}

/// Learn, "Cancel-Safe IRP Queues": a cancelled request leaves the queue, and the driver's routine completes it.
fn a_queued_request_is_cancelled() -> Outcome {
    let (stage, queue) = setup()?;
    let mut context = Pool::<IO_CSQ_IRP_CONTEXT>::zeroed()?;
    NAMED.store(&raw mut *context, Ordering::SeqCst);
    let request = sent(&stage, 1)?;
    let cancelled = IoCancelIrp(request.irp);
    check!(request.is_back(), "the request did not come back");
    equal!(
        (cancelled, request.status(), read(&queue.completed)),
        (1, STATUS_CANCELLED, 1),
        "IoCancelIrp, the status, CsqCompleteCanceledIrp calls"
    );
    check!(queue.is_empty(), "it is still in the queue");
    let found = IoCsqRemoveIrp(queue.csq(), &raw mut *context);
    check!(found.is_null(), "its context still leads to it");
    equal!(read(&queue.wrong), 0, "what the routines saw");
    Ok(())
}

/// Learn, IoCsqInsertIrpEx: a request that was cancelled before is completed at once.
fn a_request_that_was_cancelled_before_is_not_queued() -> Outcome {
    let (stage, queue) = setup()?;
    let request = Request::new(&stage)?;
    IoCancelIrp(request.irp);
    equal!(request.send(), STATUS_PENDING, "IoCallDriver");
    check!(request.is_back(), "the request did not come back");
    equal!(
        (request.status(), read(&queue.completed), queue.is_empty()),
        (STATUS_CANCELLED, 1, true),
        "the status, CsqCompleteCanceledIrp calls, whether the queue is empty"
    );
    Ok(())
}

/// Learn, CsqInsertIrpEx: its failure is IoCsqInsertIrpEx's, and the request stays the caller's.
fn a_queue_refuses_a_request() -> Outcome {
    let (stage, queue) = setup()?;
    write(&queue.refuses, 1);
    let request = Request::new(&stage)?;
    equal!(
        request.send(),
        STATUS_DEVICE_NOT_READY,
        "IoCallDriver of a refused request"
    );
    check!(request.is_back(), "the request did not come back");
    check!(!request.was_pending(), "it was marked pending");
    equal!(request.status(), STATUS_DEVICE_NOT_READY, "its status");
    Ok(())
}

/// Learn, "Cancel-Safe IRP Queues": removal and cancellation race, and each request has one of the two.
fn removal_and_cancellation_race() -> Outcome {
    #[repr(C)]
    struct Race {
        irp: AtomicPtr<IRP>,
        start: core::sync::atomic::AtomicBool,
    }
    unsafe extern "system" fn canceller(race: PVOID) {
        // SAFETY: the case waits for the thread.
        let race = unsafe { context::<Race>(race) };
        while !race.start.load(Ordering::SeqCst) {
            KeStallExecutionProcessor(1);
        }
        IoCancelIrp(race.irp.load(Ordering::SeqCst));
    }
    need_cpus(2)?;
    for _ in 0..100 {
        let (stage, queue) = setup()?;
        let request = sent(&stage, 1)?;
        let race = Pool::<Race>::zeroed()?;
        race.irp.store(request.irp, Ordering::SeqCst);
        let thread = Thread::start(canceller, race.context())?;
        race.start.store(true, Ordering::SeqCst);
        let removed = IoCsqRemoveNextIrp(queue.csq(), null_mut());
        thread.join();
        if removed.is_null() {
            check!(request.is_back(), "the request did not come back");
        } else {
            finish(removed, &request)?;
        }
        let expected = match removed.is_null() {
            true => (STATUS_CANCELLED, 1),
            false => (STATUS_SUCCESS, 0),
        };
        equal!(
            (request.status(), read(&queue.completed)),
            expected,
            "the status, and CsqCompleteCanceledIrp calls"
        );
    }
    Ok(())
}

group!("queues":
    a_kept_request_is_cancelled,
    a_request_without_a_routine_is_only_marked,
    the_cancel_spin_lock_raises_the_irql,
    a_queue_gives_requests_back,
    a_queue_gives_what_is_asked_for,
    a_request_is_removed_by_its_context,
    a_queued_request_is_cancelled,
    a_request_that_was_cancelled_before_is_not_queued,
    a_queue_refuses_a_request,
    removal_and_cancellation_race,
);
