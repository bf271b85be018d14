//! Events, semaphores and mutexes, and waiting for one of them.

use core::ptr::null_mut;
use core::sync::atomic::AtomicU32;

use crate::suite::{Outcome, at_irql};
use crate::support::*;
use crate::wdk::*;

/// Declares an event in place: it must not move once it is initialised.
macro_rules! event {
    ($name:ident, $kind:expr, $set:expr) => {
        let mut $name = KEVENT::zeroed();
        KeInitializeEvent(&raw mut $name, $kind, u8::from($set));
    };
}

/// Learn, KeInitializeEvent: State is the event's initial state.
fn an_event_starts_in_the_state_it_is_given() -> Outcome {
    for kind in [NotificationEvent, SynchronizationEvent] {
        event!(clear, kind, false);
        equal!(
            KeReadStateEvent(&raw mut clear),
            0,
            "a clear event of type {kind}"
        );
        event!(set, kind, true);
        check!(
            KeReadStateEvent(&raw mut set) != 0,
            "a set event of type {kind} reads as clear"
        );
    }
    Ok(())
}

/// Learn, KeSetEvent: returns the previous state, nonzero if it was signaled.
fn setting_returns_the_former_state() -> Outcome {
    event!(event, NotificationEvent, false);
    equal!(KeSetEvent(&raw mut event, 0, 0), 0, "the first KeSetEvent");
    check!(
        KeSetEvent(&raw mut event, 0, 0) != 0,
        "the second KeSetEvent returned 0"
    );
    Ok(())
}

/// Learn, KeResetEvent: returns the previous state and leaves the event not signaled.
fn resetting_returns_the_former_state() -> Outcome {
    event!(event, SynchronizationEvent, true);
    check!(
        KeResetEvent(&raw mut event) != 0,
        "KeResetEvent of a set event returned 0"
    );
    equal!(
        KeResetEvent(&raw mut event),
        0,
        "KeResetEvent of a clear event"
    );
    equal!(KeReadStateEvent(&raw mut event), 0, "the state afterwards");
    Ok(())
}

/// Learn, KeClearEvent: sets the event to a not-signaled state.
fn clearing_makes_an_event_not_signaled() -> Outcome {
    event!(event, NotificationEvent, true);
    KeClearEvent(&raw mut event);
    equal!(KeReadStateEvent(&raw mut event), 0, "the state afterwards");
    Ok(())
}

/// Learn, "Event Objects": a notification event stays signaled until it is reset.
fn a_notification_event_stays_signaled() -> Outcome {
    event!(event, NotificationEvent, true);
    for _ in 0..3 {
        equal!(wait(&raw mut event, Some(0)), STATUS_SUCCESS, "a wait");
    }
    Ok(())
}

/// Learn, "Event Objects": a wait that is satisfied resets a synchronization event.
fn a_synchronization_event_lets_one_wait_through() -> Outcome {
    event!(event, SynchronizationEvent, true);
    equal!(
        wait(&raw mut event, Some(0)),
        STATUS_SUCCESS,
        "the first wait"
    );
    equal!(
        wait(&raw mut event, Some(0)),
        STATUS_TIMEOUT,
        "the second wait"
    );
    equal!(KeReadStateEvent(&raw mut event), 0, "the state afterwards");
    Ok(())
}

/// Learn, KeWaitForSingleObject: a zero timeout tests without waiting, at IRQL up to DISPATCH_LEVEL.
fn a_wait_of_no_time_is_allowed_at_dispatch_level() -> Outcome {
    event!(event, SynchronizationEvent, true);
    let first = at_irql(DISPATCH_LEVEL, || wait(&raw mut event, Some(0)));
    let second = at_irql(DISPATCH_LEVEL, || wait(&raw mut event, Some(0)));
    equal!(first, STATUS_SUCCESS, "a wait for a set event");
    equal!(second, STATUS_TIMEOUT, "a wait for a clear event");
    Ok(())
}

/// Learn, KeSetEvent: callable at DISPATCH_LEVEL when Wait is FALSE.
fn an_event_can_be_set_at_dispatch_level() -> Outcome {
    event!(event, NotificationEvent, false);
    at_irql(DISPATCH_LEVEL, || KeSetEvent(&raw mut event, 0, 0));
    equal!(wait(&raw mut event, Some(0)), STATUS_SUCCESS, "a wait");
    Ok(())
}

/// Learn, KeWaitForSingleObject: STATUS_TIMEOUT after the interval, and not before.
fn a_relative_timeout_ends_the_wait_not_before_its_time() -> Outcome {
    event!(event, NotificationEvent, false);
    let began = now();
    equal!(
        wait(&raw mut event, Some(20 * MILLISECOND)),
        STATUS_TIMEOUT,
        "the wait"
    );
    let lasted = now() - began;
    // A clock interrupt earlier is what the documentation of timer accuracy allows.
    let least = 20 * MILLISECOND - i64::from(KeQueryTimeIncrement());
    check!(lasted >= least, "20 ms lasted {} us", lasted / 10);
    Ok(())
}

/// Learn, KeWaitForSingleObject: a positive timeout is an absolute system time.
fn an_absolute_timeout_is_system_time() -> Outcome {
    event!(event, NotificationEvent, false);
    let mut time = 0;
    KeQuerySystemTimePrecise(&raw mut time);
    let began = now();
    let due = time + 20 * MILLISECOND;
    let status = KeWaitForSingleObject(
        (&raw mut event).cast(),
        Executive,
        KernelMode,
        0,
        &raw const due,
    );
    equal!(status, STATUS_TIMEOUT, "the wait");
    let lasted = now() - began;
    let least = 20 * MILLISECOND - 2 * i64::from(KeQueryTimeIncrement());
    check!(lasted >= least, "20 ms lasted {} us", lasted / 10);
    let past = time;
    let status = KeWaitForSingleObject(
        (&raw mut event).cast(),
        Executive,
        KernelMode,
        0,
        &raw const past,
    );
    equal!(status, STATUS_TIMEOUT, "a wait until a time in the past");
    Ok(())
}

#[repr(C)]
struct Gate {
    go: Signal,
    passed: AtomicU32,
}

unsafe extern "system" fn walk_through(gate: PVOID) {
    // SAFETY: the case waits for its threads.
    let gate = unsafe { context::<Gate>(gate) };
    if wait(gate.go.raw(), Some(PATIENCE)) == STATUS_SUCCESS {
        add(&gate.passed);
    }
}

fn gate(kind: i32) -> Result<Pool<Gate>, crate::suite::Finding> {
    let mut gate = Pool::<Gate>::zeroed()?;
    gate.go.init(kind);
    Ok(gate)
}

/// Learn, "Event Objects": setting a notification event satisfies every wait for it.
fn a_notification_event_wakes_every_waiter() -> Outcome {
    let gate = gate(NotificationEvent)?;
    let threads = [
        Thread::start(walk_through, gate.context())?,
        Thread::start(walk_through, gate.context())?,
        Thread::start(walk_through, gate.context())?,
    ];
    sleep(20);
    gate.go.set();
    for thread in threads {
        equal!(thread.join(), STATUS_SUCCESS, "the wait for a thread");
    }
    equal!(read(&gate.passed), 3, "threads that came through");
    Ok(())
}

/// Learn, "Event Objects": setting a synchronization event releases a single thread.
fn a_synchronization_event_wakes_one_waiter() -> Outcome {
    let gate = gate(SynchronizationEvent)?;
    let threads = [
        Thread::start(walk_through, gate.context())?,
        Thread::start(walk_through, gate.context())?,
    ];
    sleep(20);
    gate.go.set();
    until(|| read(&gate.passed) >= 1, "the first thread")?;
    sleep(20);
    let passed = read(&gate.passed);
    gate.go.set();
    drop(threads);
    equal!(passed, 1, "threads that came through");
    equal!(read(&gate.passed), 2, "threads after the second KeSetEvent");
    Ok(())
}

/// Learn, KeInitializeSemaphore, KeReleaseSemaphore: the count is the state; releasing returns the former one.
fn a_semaphore_counts() -> Outcome {
    let mut semaphore = KSEMAPHORE::zeroed();
    let semaphore = &raw mut semaphore;
    KeInitializeSemaphore(semaphore, 1, 5);
    equal!(KeReadStateSemaphore(semaphore), 1, "the state at first");
    equal!(
        KeReleaseSemaphore(semaphore, 0, 2, 0),
        1,
        "KeReleaseSemaphore"
    );
    equal!(
        KeReadStateSemaphore(semaphore),
        3,
        "the state after a release of two"
    );
    for _ in 0..3 {
        equal!(wait(semaphore, Some(0)), STATUS_SUCCESS, "a wait");
    }
    equal!(
        wait(semaphore, Some(0)),
        STATUS_TIMEOUT,
        "a wait for an empty semaphore"
    );
    Ok(())
}

/// Learn, KeReadStateMutex: 1 when free, less when owned. KeReleaseMutex: 0 when the mutex is free afterwards.
fn a_mutex_is_acquired_as_often_as_its_owner_likes() -> Outcome {
    let mut mutex = KMUTANT::zeroed();
    let mutex = &raw mut mutex;
    KeInitializeMutex(mutex, 0);
    equal!(KeReadStateMutex(mutex), 1, "the state of a free mutex");
    equal!(wait(mutex, Some(0)), STATUS_SUCCESS, "the first wait");
    equal!(
        wait(mutex, Some(0)),
        STATUS_SUCCESS,
        "the owner's second wait"
    );
    equal!(
        KeReadStateMutex(mutex),
        -1,
        "the state of a mutex owned twice"
    );
    check!(
        KeReleaseMutex(mutex, 0) != 0,
        "KeReleaseMutex returned 0 though the mutex is still owned"
    );
    equal!(KeReleaseMutex(mutex, 0), 0, "the last KeReleaseMutex");
    equal!(KeReadStateMutex(mutex), 1, "the state afterwards");
    Ok(())
}

#[repr(C)]
struct Guarded {
    mutex: KMUTANT,
    inside: AtomicU32,
    collisions: AtomicU32,
    rounds: AtomicU32,
}

unsafe extern "system" fn visit(guarded: PVOID) {
    // SAFETY: the case waits for its threads.
    let guarded = unsafe { context::<Guarded>(guarded) };
    let mutex = (&raw const guarded.mutex).cast_mut();
    for round in 0..20 {
        let _ = wait(mutex, None);
        if add(&guarded.inside) != 0 {
            add(&guarded.collisions);
        }
        if round % 5 == 0 {
            sleep(1);
        }
        guarded
            .inside
            .fetch_sub(1, core::sync::atomic::Ordering::SeqCst);
        add(&guarded.rounds);
        KeReleaseMutex(mutex, 0);
    }
}

/// Learn, "Mutex Objects": one thread at a time owns a mutex.
fn a_mutex_excludes_other_threads() -> Outcome {
    let mut guarded = Pool::<Guarded>::zeroed()?;
    KeInitializeMutex(&raw mut guarded.mutex, 0);
    let threads = [
        Thread::start(visit, guarded.context())?,
        Thread::start(visit, guarded.context())?,
        Thread::start(visit, guarded.context())?,
    ];
    drop(threads);
    equal!(read(&guarded.collisions), 0, "threads that met inside");
    equal!(read(&guarded.rounds), 60, "rounds");
    Ok(())
}

/// Learn, KeWaitForSingleObject: STATUS_TIMEOUT for a mutex that another thread owns.
fn a_mutex_of_another_thread_is_not_acquired() -> Outcome {
    unsafe extern "system" fn try_it(guarded: PVOID) {
        // SAFETY: the case waits for its thread.
        let guarded = unsafe { context::<Guarded>(guarded) };
        let status = wait((&raw const guarded.mutex).cast_mut(), Some(0));
        write(&guarded.rounds, status as u32);
    }
    let mut guarded = Pool::<Guarded>::zeroed()?;
    let mutex = &raw mut guarded.mutex;
    KeInitializeMutex(mutex, 0);
    equal!(wait(mutex, Some(0)), STATUS_SUCCESS, "the owner's wait");
    drop(Thread::start(try_it, guarded.context())?);
    KeReleaseMutex(mutex, 0);
    equal!(
        read(&guarded.rounds) as i32,
        STATUS_TIMEOUT,
        "the other thread's wait"
    );
    Ok(())
}

/// Learn, KeDelayExecutionThread: STATUS_SUCCESS when the interval is over.
fn a_delay_lasts_its_interval() -> Outcome {
    let began = now();
    let interval = -15 * MILLISECOND;
    equal!(
        KeDelayExecutionThread(KernelMode, 0, &raw const interval),
        STATUS_SUCCESS,
        "the delay"
    );
    let lasted = now() - began;
    let least = 15 * MILLISECOND - i64::from(KeQueryTimeIncrement());
    check!(lasted >= least, "15 ms lasted {} us", lasted / 10);
    Ok(())
}

fn many(objects: &[PVOID], kind: i32, limit: Option<i64>) -> NTSTATUS {
    let timeout = limit.map(|limit| -limit);
    let timeout = timeout
        .as_ref()
        .map_or(core::ptr::null(), core::ptr::from_ref);
    let count = objects.len() as u32;
    KeWaitForMultipleObjects(
        count,
        objects.as_ptr(),
        kind,
        Executive,
        KernelMode,
        0,
        timeout,
        null_mut(),
    )
}

/// Learn, KeWaitForMultipleObjects, WaitAny: the index of the object that satisfied the wait; lower ones come first.
fn a_wait_for_any_names_the_first_that_is_signaled() -> Outcome {
    event!(a, SynchronizationEvent, false);
    event!(b, SynchronizationEvent, true);
    event!(c, SynchronizationEvent, true);
    let objects = [
        (&raw mut a).cast(),
        (&raw mut b).cast(),
        (&raw mut c).cast(),
    ];
    equal!(
        many(&objects, WaitAny, Some(0)),
        STATUS_WAIT_1,
        "the first wait"
    );
    equal!(
        many(&objects, WaitAny, Some(0)),
        STATUS_WAIT_2,
        "the second wait"
    );
    equal!(
        many(&objects, WaitAny, Some(0)),
        STATUS_TIMEOUT,
        "the third wait"
    );
    Ok(())
}

/// Learn, KeWaitForMultipleObjects: only the object that satisfied a wait for any has its state changed.
fn a_wait_for_any_takes_one_signal_only() -> Outcome {
    event!(a, SynchronizationEvent, true);
    event!(b, SynchronizationEvent, true);
    let objects = [(&raw mut a).cast(), (&raw mut b).cast()];
    equal!(many(&objects, WaitAny, None), STATUS_SUCCESS, "the wait");
    equal!(KeReadStateEvent(&raw mut a), 0, "the first event");
    check!(
        KeReadStateEvent(&raw mut b) != 0,
        "the second event was reset, too"
    );
    Ok(())
}

/// Learn, KeWaitForMultipleObjects, WaitAll: no object's state changes until all are signaled.
fn a_wait_for_all_takes_all_signals_or_none() -> Outcome {
    event!(a, SynchronizationEvent, true);
    event!(b, SynchronizationEvent, false);
    let objects = [(&raw mut a).cast(), (&raw mut b).cast()];
    equal!(
        many(&objects, WaitAll, Some(2 * MILLISECOND)),
        STATUS_TIMEOUT,
        "the wait for one set and one clear event"
    );
    check!(
        KeReadStateEvent(&raw mut a) != 0,
        "a wait that timed out reset an event"
    );
    KeSetEvent(&raw mut b, 0, 0);
    equal!(
        many(&objects, WaitAll, Some(0)),
        STATUS_SUCCESS,
        "the wait for two set events"
    );
    equal!(
        KeReadStateEvent(&raw mut a) + KeReadStateEvent(&raw mut b),
        0,
        "the states afterwards"
    );
    Ok(())
}

#[repr(C)]
struct Pair {
    first: Signal,
    second: Signal,
    status: AtomicU32,
}

unsafe extern "system" fn wait_for_both(pair: PVOID) {
    // SAFETY: the case waits for its thread.
    let pair = unsafe { context::<Pair>(pair) };
    let objects = [pair.first.raw().cast(), pair.second.raw().cast()];
    write(
        &pair.status,
        many(&objects, WaitAll, Some(PATIENCE)) as u32 | 0x8000,
    );
}

/// Learn, KeWaitForMultipleObjects, WaitAll: the wait ends when the last object becomes signaled.
fn a_wait_for_all_sleeps_until_the_last() -> Outcome {
    let mut pair = Pool::<Pair>::zeroed()?;
    pair.first.init(SynchronizationEvent);
    pair.second.init(SynchronizationEvent);
    let thread = Thread::start(wait_for_both, pair.context())?;
    sleep(10);
    pair.first.set();
    sleep(20);
    let early = read(&pair.status);
    pair.second.set();
    drop(thread);
    equal!(early, 0, "the wait with one of two events set");
    equal!(
        read(&pair.status),
        0x8000,
        "the status of the wait, with a mark"
    );
    Ok(())
}

/// Learn, KeWaitForMultipleObjects: up to THREAD_WAIT_OBJECTS (3) without wait blocks, MAXIMUM_WAIT_OBJECTS (64) with.
fn a_wait_for_many_objects_takes_wait_blocks() -> Outcome {
    /// KWAIT_BLOCK is 48 bytes on x64.
    #[repr(C)]
    struct Many {
        blocks: [[u64; 6]; 64],
        events: [KEVENT; 64],
    }
    let mut all = Pool::<Many>::zeroed()?;
    for event in &mut all.events {
        KeInitializeEvent(event, SynchronizationEvent, 0);
    }
    let mut objects: [PVOID; 64] = [null_mut(); 64];
    for (object, event) in objects.iter_mut().zip(&mut all.events) {
        *object = core::ptr::from_mut(event).cast();
    }
    KeSetEvent(objects[63].cast(), 0, 0);
    let timeout = -PATIENCE;
    let blocks = (&raw mut all.blocks).cast();
    let status = KeWaitForMultipleObjects(
        64,
        objects.as_ptr(),
        WaitAny,
        Executive,
        KernelMode,
        0,
        &raw const timeout,
        blocks,
    );
    equal!(status, 63, "the wait");
    Ok(())
}

/// Learn, KeWaitForSingleObject: Alertable TRUE changes nothing for a thread that nobody alerts.
fn an_alertable_wait_without_an_alert_is_a_wait() -> Outcome {
    event!(event, SynchronizationEvent, false);
    let timeout = -2 * MILLISECOND;
    let status = KeWaitForSingleObject(
        (&raw mut event).cast(),
        Executive,
        KernelMode,
        1,
        &raw const timeout,
    );
    equal!(status, STATUS_TIMEOUT, "an alertable wait");
    equal!(
        KeDelayExecutionThread(KernelMode, 1, &raw const timeout),
        STATUS_SUCCESS,
        "an alertable delay"
    );
    Ok(())
}

group!("events":
    an_event_starts_in_the_state_it_is_given,
    setting_returns_the_former_state,
    resetting_returns_the_former_state,
    clearing_makes_an_event_not_signaled,
    a_notification_event_stays_signaled,
    a_synchronization_event_lets_one_wait_through,
    a_wait_of_no_time_is_allowed_at_dispatch_level,
    an_event_can_be_set_at_dispatch_level,
    a_relative_timeout_ends_the_wait_not_before_its_time,
    an_absolute_timeout_is_system_time,
    a_notification_event_wakes_every_waiter,
    a_synchronization_event_wakes_one_waiter,
    a_semaphore_counts,
    a_mutex_is_acquired_as_often_as_its_owner_likes,
    a_mutex_excludes_other_threads,
    a_mutex_of_another_thread_is_not_acquired,
    a_delay_lasts_its_interval,
    a_wait_for_any_names_the_first_that_is_signaled,
    a_wait_for_any_takes_one_signal_only,
    a_wait_for_all_takes_all_signals_or_none,
    a_wait_for_all_sleeps_until_the_last,
    a_wait_for_many_objects_takes_wait_blocks,
    an_alertable_wait_without_an_alert_is_a_wait,
);
