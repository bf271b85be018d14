//! Deferred procedure calls: arguments, order, importance, targets, removal; and what waits for them.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::suite::{Finding, Outcome, at_irql};
use crate::support::*;
use crate::wdk::*;

/// What a DPC notes.
#[repr(C)]
struct Note {
    dpc: KDPC,
    runs: AtomicU32,
    irql: AtomicU32,
    cpu: AtomicU32,
    first: AtomicU32,
    second: AtomicU32,
    same: AtomicU32,
    /// The place among the DPCs of the case.
    place: AtomicU32,
    counter: *const AtomicU32,
}

unsafe extern "system" fn take_note(dpc: *mut KDPC, note: PVOID, first: PVOID, second: PVOID) {
    // SAFETY: the case waits for its DPCs.
    let note = unsafe { context::<Note>(note) };
    write(&note.irql, KeGetCurrentIrql().into());
    write(&note.cpu, cpu());
    write(&note.first, first as u32);
    write(&note.second, second as u32);
    write(
        &note.same,
        u32::from(core::ptr::eq(dpc, &raw const note.dpc)),
    );
    // SAFETY: a counter outlives the DPCs of its case.
    if let Some(counter) = unsafe { note.counter.as_ref() } {
        write(&note.place, add(counter) + 1);
    }
    add(&note.runs);
}

fn note() -> Result<Pool<Note>, Finding> {
    let mut note = Pool::<Note>::zeroed()?;
    let context = note.context();
    KeInitializeDpc(&raw mut note.dpc, take_note, context);
    Ok(note)
}

/// Learn, KDEFERRED_ROUTINE: runs at DISPATCH_LEVEL, with the context and the two system arguments.
fn a_dpc_gets_its_arguments_at_dispatch_level() -> Outcome {
    let mut note = note()?;
    equal!(
        KeInsertQueueDpc(&raw mut note.dpc, 11 as PVOID, 22 as PVOID),
        1,
        "KeInsertQueueDpc"
    );
    until(|| read(&note.runs) == 1, "the DPC")?;
    equal!(read(&note.irql), u32::from(DISPATCH_LEVEL), "its IRQL");
    equal!(
        (read(&note.first), read(&note.second)),
        (11, 22),
        "its arguments"
    );
    Ok(())
}

/// Learn, KeInsertQueueDpc: FALSE when the DPC is queued already; it runs once then.
fn a_queued_dpc_is_not_queued_again() -> Outcome {
    let mut note = note()?;
    let dpc = &raw mut note.dpc;
    let (first, second, early) = at_irql(DISPATCH_LEVEL, || {
        let first = KeInsertQueueDpc(dpc, 1 as PVOID, null_mut());
        let second = KeInsertQueueDpc(dpc, 2 as PVOID, null_mut());
        (first, second, read(&note.runs))
    });
    KeFlushQueuedDpcs();
    equal!((first, second), (1, 0), "KeInsertQueueDpc, twice");
    equal!(early, 0, "runs while this processor was at DISPATCH_LEVEL");
    equal!(read(&note.runs), 1, "runs");
    equal!(read(&note.first), 1, "the argument of the run");
    Ok(())
}

/// Learn, "Introduction to DPCs": a queued DPC runs as soon as the IRQL falls below DISPATCH_LEVEL.
fn a_dpc_runs_when_the_irql_falls() -> Outcome {
    let mut note = note()?;
    let old = KfRaiseIrql(DISPATCH_LEVEL);
    KeInsertQueueDpc(&raw mut note.dpc, null_mut(), null_mut());
    let before = read(&note.runs);
    KeLowerIrql(old);
    let after = read(&note.runs);
    KeFlushQueuedDpcs();
    equal!(before, 0, "runs at DISPATCH_LEVEL");
    equal!(after, 1, "runs after KeLowerIrql");
    Ok(())
}

/// Learn, KeInsertQueueDpc: the DPC is off the queue before its routine runs, which may queue it again.
fn a_dpc_can_queue_itself() -> Outcome {
    unsafe extern "system" fn again(dpc: *mut KDPC, note: PVOID, _: PVOID, _: PVOID) {
        // SAFETY: the case waits for the last run.
        let note = unsafe { context::<Note>(note) };
        if add(&note.runs) < 3 {
            write(
                &note.first,
                KeInsertQueueDpc((&raw const note.dpc).cast_mut(), null_mut(), null_mut()).into(),
            );
        }
        let _ = dpc;
    }
    let mut note = note()?;
    let context = note.context();
    KeInitializeDpc(&raw mut note.dpc, again, context);
    KeInsertQueueDpc(&raw mut note.dpc, null_mut(), null_mut());
    until(|| read(&note.runs) == 4, "the fourth run")?;
    KeFlushQueuedDpcs();
    equal!(read(&note.first), 1, "KeInsertQueueDpc in the routine");
    Ok(())
}

/// Learn, KeRemoveQueueDpc: TRUE when the DPC was queued; it does not run then.
fn a_removed_dpc_does_not_run() -> Outcome {
    let mut note = note()?;
    let dpc = &raw mut note.dpc;
    let (removed, again) = at_irql(DISPATCH_LEVEL, || {
        KeInsertQueueDpc(dpc, null_mut(), null_mut());
        (KeRemoveQueueDpc(dpc), KeRemoveQueueDpc(dpc))
    });
    KeFlushQueuedDpcs();
    equal!((removed, again), (1, 0), "KeRemoveQueueDpc, twice");
    equal!(read(&note.runs), 0, "runs");
    Ok(())
}

fn run_in_order(importance: [i32; 3]) -> Result<[u32; 3], Finding> {
    let counter = AtomicU32::new(0);
    let mut notes = [note()?, note()?, note()?];
    for (note, importance) in notes.iter_mut().zip(importance) {
        note.counter = &raw const counter;
        KeSetImportanceDpc(&raw mut note.dpc, importance);
    }
    on_cpu(0, || {
        at_irql(DISPATCH_LEVEL, || {
            for note in &mut notes {
                KeInsertQueueDpc(&raw mut note.dpc, null_mut(), null_mut());
            }
        });
    });
    KeFlushQueuedDpcs();
    let places = [
        read(&notes[0].place),
        read(&notes[1].place),
        read(&notes[2].place),
    ];
    check!(!places.contains(&0), "not every DPC ran: {places:?}");
    Ok(places)
}

/// Learn, "Organization of DPC Queues": a DPC goes to the end of its processor's queue.
fn dpcs_run_in_the_order_of_queueing() -> Outcome {
    equal!(
        run_in_order([MediumImportance; 3])?,
        [1, 2, 3],
        "the places"
    );
    Ok(())
}

/// Learn, KeSetImportanceDpc: a DPC of high importance goes to the front of the queue.
fn an_important_dpc_goes_first() -> Outcome {
    let order = [MediumImportance, MediumImportance, HighImportance];
    equal!(run_in_order(order)?, [2, 3, 1], "the places");
    Ok(())
}

/// Learn, KeSetTargetProcessorDpcEx: the DPC runs on the processor it was given.
fn a_dpc_runs_on_its_target_processor() -> Outcome {
    need_cpus(2)?;
    let mut note = note()?;
    for target in [1, 0] {
        let mut number = PROCESSOR_NUMBER {
            Group: 0,
            Number: 0,
            Reserved: 0,
        };
        equal!(
            KeGetProcessorNumberFromIndex(target, &raw mut number),
            STATUS_SUCCESS,
            "KeGetProcessorNumberFromIndex"
        );
        equal!(
            KeSetTargetProcessorDpcEx(&raw mut note.dpc, &raw const number),
            STATUS_SUCCESS,
            "KeSetTargetProcessorDpcEx"
        );
        write(&note.runs, 0);
        on_cpu(1 - target, || {
            KeInsertQueueDpc(&raw mut note.dpc, null_mut(), null_mut())
        });
        until(|| read(&note.runs) == 1, "the DPC")?;
        equal!(read(&note.cpu), target, "the processor it ran on");
    }
    Ok(())
}

/// Learn, KeSetTargetProcessorDpcEx: STATUS_INVALID_PARAMETER for a processor that does not exist.
fn a_target_that_does_not_exist_is_refused() -> Outcome {
    let mut note = note()?;
    for number in [
        PROCESSOR_NUMBER {
            Group: 0x7F,
            Number: 0,
            Reserved: 0,
        },
        PROCESSOR_NUMBER {
            Group: 0,
            Number: 200,
            Reserved: 0,
        },
    ] {
        let status = KeSetTargetProcessorDpcEx(&raw mut note.dpc, &raw const number);
        equal!(
            status,
            STATUS_INVALID_PARAMETER,
            "KeSetTargetProcessorDpcEx for {number:?}"
        );
    }
    Ok(())
}

/// Learn, KeInsertQueueDpc: without a target the DPC runs on the processor that queued it.
fn a_dpc_without_a_target_stays_on_its_processor() -> Outcome {
    let mut note = note()?;
    let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    for index in 0..count.min(4) {
        write(&note.runs, 0);
        on_cpu(index, || {
            KeInsertQueueDpc(&raw mut note.dpc, null_mut(), null_mut())
        });
        until(|| read(&note.runs) == 1, "the DPC")?;
        equal!(read(&note.cpu), index, "the processor it ran on");
    }
    Ok(())
}

/// Learn, KeFlushQueuedDpcs: returns after all queued DPCs on all processors have run.
fn flushing_waits_for_the_dpcs_of_every_processor() -> Outcome {
    let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS).min(4);
    let mut notes = [note()?, note()?, note()?, note()?];
    for (index, note) in (0..count).zip(&mut notes) {
        let number = PROCESSOR_NUMBER {
            Group: 0,
            Number: index as u8,
            Reserved: 0,
        };
        let _ = KeSetTargetProcessorDpcEx(&raw mut note.dpc, &raw const number);
        KeInsertQueueDpc(&raw mut note.dpc, null_mut(), null_mut());
    }
    KeFlushQueuedDpcs();
    for note in &notes[..count as usize] {
        equal!(
            read(&note.runs),
            1,
            "runs by the time KeFlushQueuedDpcs returned"
        );
    }
    Ok(())
}

#[repr(C)]
struct Busy {
    dpc: KDPC,
    inside: AtomicBool,
    leave: AtomicBool,
    left: AtomicBool,
}

unsafe extern "system" fn stay(_: *mut KDPC, busy: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: the case waits for its DPC.
    let busy = unsafe { context::<Busy>(busy) };
    busy.inside.store(true, Ordering::SeqCst);
    spin_until(&busy.leave);
    busy.left.store(true, Ordering::SeqCst);
}

/// Learn, KeInsertQueueDpc: a DPC may run on one processor while it is queued again on another.
fn a_running_dpc_can_be_queued_again() -> Outcome {
    need_cpus(2)?;
    let mut busy = Pool::<Busy>::zeroed()?;
    let context = busy.context();
    let dpc = &raw mut busy.dpc;
    KeInitializeDpc(dpc, stay, context);
    let number = PROCESSOR_NUMBER {
        Group: 0,
        Number: 1,
        Reserved: 0,
    };
    let _ = KeSetTargetProcessorDpcEx(dpc, &raw const number);
    let again = on_cpu(0, || {
        KeInsertQueueDpc(dpc, null_mut(), null_mut());
        spin_until(&busy.inside);
        let again = KeInsertQueueDpc(dpc, null_mut(), null_mut());
        busy.leave.store(true, Ordering::SeqCst);
        again
    });
    KeFlushQueuedDpcs();
    equal!(again, 1, "KeInsertQueueDpc of a DPC that is running");
    check!(
        busy.left.load(Ordering::SeqCst),
        "KeFlushQueuedDpcs returned while the DPC ran"
    );
    Ok(())
}

/// Learn, KeInitializeThreadedDpc: runs at PASSIVE_LEVEL, or at DISPATCH_LEVEL where threaded DPCs are disabled.
fn a_threaded_dpc_runs_at_passive_or_dispatch_level() -> Outcome {
    let mut note = note()?;
    let context = note.context();
    let dpc = &raw mut note.dpc;
    KeInitializeThreadedDpc(dpc, take_note, context);
    equal!(
        KeInsertQueueDpc(dpc, 5 as PVOID, 6 as PVOID),
        1,
        "KeInsertQueueDpc"
    );
    until(|| read(&note.runs) == 1, "the DPC")?;
    let irql = read(&note.irql);
    check!(irql == 0 || irql == 2, "it ran at IRQL {irql}");
    equal!(
        (read(&note.first), read(&note.second)),
        (5, 6),
        "its arguments"
    );
    Ok(())
}

/// A DPC may end a thread's wait, and the thread goes on below DISPATCH_LEVEL.
fn a_dpc_can_end_a_wait() -> Outcome {
    #[repr(C)]
    struct Wake {
        dpc: KDPC,
        event: Signal,
    }
    unsafe extern "system" fn wake(_: *mut KDPC, wake: PVOID, _: PVOID, _: PVOID) {
        // SAFETY: the case waits for its DPC.
        unsafe { context::<Wake>(wake) }.event.set();
    }
    let mut all = Pool::<Wake>::zeroed()?;
    let context = all.context();
    all.event.init(SynchronizationEvent);
    KeInitializeDpc(&raw mut all.dpc, wake, context);
    KeInsertQueueDpc(&raw mut all.dpc, null_mut(), null_mut());
    check!(all.event.arrives(), "the event was not set");
    equal!(KeGetCurrentIrql(), PASSIVE_LEVEL, "the IRQL after the wait");
    KeFlushQueuedDpcs();
    Ok(())
}

group!("dpcs":
    a_dpc_gets_its_arguments_at_dispatch_level,
    a_queued_dpc_is_not_queued_again,
    a_dpc_runs_when_the_irql_falls,
    a_dpc_can_queue_itself,
    a_removed_dpc_does_not_run,
    dpcs_run_in_the_order_of_queueing,
    an_important_dpc_goes_first,
    a_dpc_runs_on_its_target_processor,
    a_target_that_does_not_exist_is_refused,
    a_dpc_without_a_target_stays_on_its_processor,
    flushing_waits_for_the_dpcs_of_every_processor,
    a_running_dpc_can_be_queued_again,
    a_threaded_dpc_runs_at_passive_or_dispatch_level,
    a_dpc_can_end_a_wait,
);
