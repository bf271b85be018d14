//! System threads, work items, handles of objects.

use core::ptr::null_mut;
use core::sync::atomic::AtomicU32;

use crate::device;
use crate::suite::{Outcome, at_irql};
use crate::support::*;
use crate::wdk::*;

#[repr(C)]
struct Seen {
    runs: AtomicU32,
    irql: AtomicU32,
    argument: AtomicU32,
    device: AtomicU32,
    event: Signal,
    item: PVOID,
}

unsafe extern "system" fn look(seen: PVOID) {
    // SAFETY: the case waits for its thread.
    let seen = unsafe { context::<Seen>(seen) };
    write(&seen.irql, KeGetCurrentIrql().into());
    add(&seen.runs);
}

/// Learn, PsCreateSystemThread: the routine runs with its context at PASSIVE_LEVEL; the thread ends when it returns.
fn a_system_thread_runs_its_routine() -> Outcome {
    let seen = Pool::<Seen>::zeroed()?;
    let thread = Thread::start(look, seen.context())?;
    equal!(thread.join(), STATUS_SUCCESS, "the wait for the thread");
    equal!(read(&seen.runs), 1, "runs");
    equal!(read(&seen.irql), 0, "the IRQL");
    Ok(())
}

/// Learn, PsTerminateSystemThread: ends the calling thread at once, and satisfies waits for it.
fn a_terminated_thread_is_signaled() -> Outcome {
    unsafe extern "system" fn end(seen: PVOID) {
        // SAFETY: the case waits for its thread.
        add(unsafe { &context::<Seen>(seen).runs });
        let _ = PsTerminateSystemThread(STATUS_SUCCESS);
        // SAFETY: as above.
        add(unsafe { &context::<Seen>(seen).runs });
    }
    let seen = Pool::<Seen>::zeroed()?;
    let thread = Thread::start(end, seen.context())?;
    equal!(thread.join(), STATUS_SUCCESS, "the wait for the thread");
    equal!(
        read(&seen.runs),
        1,
        "what the thread did after PsTerminateSystemThread"
    );
    Ok(())
}

/// Learn, "Thread objects" as dispatcher objects: not signaled while the thread runs, signaled for ever afterwards.
fn a_running_thread_is_not_signaled() -> Outcome {
    unsafe extern "system" fn stay(seen: PVOID) {
        // SAFETY: the case waits for its thread.
        let _ = unsafe { context::<Seen>(seen) }.event.arrives();
    }
    let mut seen = Pool::<Seen>::zeroed()?;
    seen.event.init(NotificationEvent);
    let thread = Thread::start(stay, seen.context())?;
    let early = wait(thread.object(), Some(5 * MILLISECOND));
    seen.event.set();
    let first = wait(thread.object(), Some(PATIENCE));
    let second = wait(thread.object(), Some(0));
    equal!(early, STATUS_TIMEOUT, "a wait while the thread runs");
    equal!(
        (first, second),
        (STATUS_SUCCESS, STATUS_SUCCESS),
        "waits after its end"
    );
    Ok(())
}

/// Learn, KeSetPriorityThread: returns the former priority.
fn setting_a_priority_returns_the_former_one() -> Outcome {
    unsafe extern "system" fn stay(seen: PVOID) {
        // SAFETY: the case waits for its thread.
        let _ = unsafe { context::<Seen>(seen) }.event.arrives();
    }
    let mut seen = Pool::<Seen>::zeroed()?;
    seen.event.init(NotificationEvent);
    let thread = Thread::start(stay, seen.context())?;
    let first = KeSetPriorityThread(thread.object(), 12);
    let second = KeSetPriorityThread(thread.object(), 16);
    let third = KeSetPriorityThread(thread.object(), 8);
    seen.event.set();
    drop(thread);
    equal!(
        (second, third),
        (12, 16),
        "the second and the third KeSetPriorityThread"
    );
    check!(
        (1..=15).contains(&first),
        "a new system thread had priority {first}"
    );
    Ok(())
}

/// Learn, "Scheduling Priorities": a ready thread of higher priority runs before one of lower priority.
fn a_thread_of_higher_priority_runs_first() -> Outcome {
    #[repr(C)]
    struct Race {
        start: Signal,
        order: AtomicU32,
    }
    unsafe extern "system" fn low(race: PVOID) {
        // SAFETY: the case waits for its threads.
        run(unsafe { context::<Race>(race) }, 1);
    }
    unsafe extern "system" fn high(race: PVOID) {
        // SAFETY: as above.
        run(unsafe { context::<Race>(race) }, 2);
    }
    fn run(race: &Race, digit: u32) {
        on_cpu(0, || {
            if race.start.arrives() {
                write(&race.order, read(&race.order) * 16 + digit);
            }
        });
    }
    let mut race = Pool::<Race>::zeroed()?;
    race.start.init(NotificationEvent);
    let threads = [
        Thread::start(low, race.context())?,
        Thread::start(high, race.context())?,
    ];
    KeSetPriorityThread(threads[0].object(), 9);
    KeSetPriorityThread(threads[1].object(), 14);
    sleep(20);
    // Both become ready on this processor before either can run there.
    on_cpu(0, || at_irql(DISPATCH_LEVEL, || race.start.set()));
    drop(threads);
    equal!(read(&race.order), 0x21, "the order, as hexadecimal digits");
    Ok(())
}

unsafe extern "system" fn work(device: *mut DEVICE_OBJECT, seen: PVOID) {
    // SAFETY: the case waits for its work item.
    let seen = unsafe { context::<Seen>(seen) };
    write(&seen.irql, KeGetCurrentIrql().into());
    write(&seen.device, u32::from(device == device::root()));
    add(&seen.runs);
    seen.event.set();
}

const CRITICAL: i32 = 0;
const DELAYED: i32 = 1;

/// Learn, IoQueueWorkItem: the routine runs once, in a system thread at PASSIVE_LEVEL, with device and context.
fn a_work_item_runs_at_passive_level() -> Outcome {
    let mut seen = Pool::<Seen>::zeroed()?;
    seen.event.init(SynchronizationEvent);
    let item = IoAllocateWorkItem(device::root());
    check!(!item.is_null(), "IoAllocateWorkItem returned null");
    for (round, queue) in [(1, DELAYED), (2, CRITICAL)] {
        // Learn: callable at up to DISPATCH_LEVEL.
        at_irql(DISPATCH_LEVEL, || {
            IoQueueWorkItem(item, work, queue, seen.context())
        });
        check!(seen.event.arrives(), "the routine did not run");
        equal!(read(&seen.runs), round, "runs");
        equal!(
            (read(&seen.irql), read(&seen.device)),
            (0, 1),
            "its IRQL, and whether the device was right"
        );
    }
    IoFreeWorkItem(item);
    Ok(())
}

/// Learn, IoFreeWorkItem: the item is not queued once its routine runs, so that the routine can free it or queue it again.
fn a_work_item_is_its_routines() -> Outcome {
    unsafe extern "system" fn again(_: *mut DEVICE_OBJECT, seen: PVOID) {
        // SAFETY: the case waits for the last run.
        let seen = unsafe { context::<Seen>(seen) };
        if add(&seen.runs) < 3 {
            IoQueueWorkItem(
                seen.item,
                again,
                DELAYED,
                (&raw const *seen).cast_mut().cast(),
            );
        } else {
            IoFreeWorkItem(seen.item);
            seen.event.set();
        }
    }
    let mut seen = Pool::<Seen>::zeroed()?;
    seen.event.init(SynchronizationEvent);
    seen.item = IoAllocateWorkItem(device::root());
    check!(!seen.item.is_null(), "IoAllocateWorkItem returned null");
    IoQueueWorkItem(seen.item, again, DELAYED, seen.context());
    check!(seen.event.arrives(), "the last run did not come");
    equal!(read(&seen.runs), 4, "runs");
    Ok(())
}

/// Learn, "System Worker Threads": a routine that waits does not keep other work items from running.
fn a_waiting_work_item_holds_up_no_other() -> Outcome {
    unsafe extern "system" fn hold(_: *mut DEVICE_OBJECT, seen: PVOID) {
        // SAFETY: the case waits for its work item.
        let seen = unsafe { context::<Seen>(seen) };
        if seen.event.arrives() {
            add(&seen.runs);
        }
        IoFreeWorkItem(seen.item);
        add(&seen.argument);
    }
    let mut first = Pool::<Seen>::zeroed()?;
    let mut second = Pool::<Seen>::zeroed()?;
    first.event.init(SynchronizationEvent);
    second.event.init(SynchronizationEvent);
    first.item = IoAllocateWorkItem(device::root());
    let item = IoAllocateWorkItem(device::root());
    check!(
        !first.item.is_null() && !item.is_null(),
        "IoAllocateWorkItem returned null"
    );
    IoQueueWorkItem(first.item, hold, DELAYED, first.context());
    IoQueueWorkItem(item, work, DELAYED, second.context());
    let came = second.event.arrives();
    first.event.set();
    until(|| read(&first.argument) == 1, "the first routine's end")?;
    IoFreeWorkItem(item);
    check!(
        came,
        "the second routine did not run while the first one waited"
    );
    equal!(
        read(&first.runs),
        1,
        "waits of the first routine that were satisfied"
    );
    Ok(())
}

/// Learn, ObReferenceObjectByHandle: STATUS_OBJECT_TYPE_MISMATCH for a handle of another type, and the object for its own.
fn a_handle_knows_the_type_of_its_object() -> Outcome {
    let seen = Pool::<Seen>::zeroed()?;
    let mut handle = null_mut();
    let attributes = object_attributes(core::ptr::null(), OBJ_KERNEL_HANDLE, null_mut());
    let status = PsCreateSystemThread(
        &raw mut handle,
        THREAD_ALL_ACCESS,
        &raw const attributes,
        null_mut(),
        null_mut(),
        look,
        seen.context(),
    );
    equal!(status, STATUS_SUCCESS, "PsCreateSystemThread");
    let refer = |handle, kind| {
        let mut object = null_mut();
        let status = ObReferenceObjectByHandle(
            handle,
            THREAD_ALL_ACCESS,
            kind,
            KernelMode,
            &raw mut object,
            null_mut(),
        );
        (status, object)
    };
    // SAFETY: variables of the kernel that never change.
    let (thread_type, event_type) = unsafe { (PsThreadType, ExEventObjectType) };
    let (right, thread) = refer(handle, thread_type);
    let (wrong, _) = refer(handle, event_type);
    let joined = match right {
        STATUS_SUCCESS => wait(thread, Some(PATIENCE)),
        other => other,
    };
    if right == STATUS_SUCCESS {
        ObfDereferenceObject(thread);
    }
    let closed = ZwClose(handle);
    until(|| read(&seen.runs) == 1, "the thread")?;
    equal!(
        right,
        STATUS_SUCCESS,
        "ObReferenceObjectByHandle with *PsThreadType"
    );
    equal!(
        wrong,
        STATUS_OBJECT_TYPE_MISMATCH,
        "ObReferenceObjectByHandle with *ExEventObjectType"
    );
    equal!(
        (joined, closed),
        (STATUS_SUCCESS, STATUS_SUCCESS),
        "the wait for the object, and ZwClose"
    );
    Ok(())
}

/// Learn, ObReferenceObject, ObDereferenceObject: an object lives as long as it has references.
fn references_are_counted() -> Outcome {
    let seen = Pool::<Seen>::zeroed()?;
    let thread = Thread::start(look, seen.context())?;
    let more = ObfReferenceObject(thread.object());
    let less = ObfDereferenceObject(thread.object());
    equal!(
        wait(thread.object(), Some(PATIENCE)),
        STATUS_SUCCESS,
        "the wait for the thread"
    );
    equal!(more - less, 1, "the difference of the two counts");
    Ok(())
}

group!("threads":
    a_system_thread_runs_its_routine,
    a_terminated_thread_is_signaled,
    a_running_thread_is_not_signaled,
    setting_a_priority_returns_the_former_one,
    a_thread_of_higher_priority_runs_first,
    a_work_item_runs_at_passive_level,
    a_work_item_is_its_routines,
    a_waiting_work_item_holds_up_no_other,
    a_handle_knows_the_type_of_its_object,
    references_are_counted,
);
