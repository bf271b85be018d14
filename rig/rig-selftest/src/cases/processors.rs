//! Processors: their numbers, affinity, calls to all of them; and the clocks.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::suite::Outcome;
use crate::support::*;
use crate::wdk::*;

/// Learn, KeQueryActiveProcessorCountEx and its kin: the counts and masks of one group agree.
fn the_counts_of_processors_agree() -> Outcome {
    let all = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    let mut mask = 0;
    check!(all >= 1, "no processor is active");
    check!(
        KeQueryMaximumProcessorCountEx(ALL_PROCESSOR_GROUPS) >= all,
        "more are active than there may be"
    );
    let in_group = KeQueryActiveProcessorCountEx(0);
    equal!(
        KeQueryActiveProcessorCount(&raw mut mask),
        in_group,
        "KeQueryActiveProcessorCount, of group 0"
    );
    equal!(mask.count_ones(), in_group, "the bits of its mask");
    equal!(
        KeQueryGroupAffinity(0).count_ones(),
        in_group,
        "the bits of KeQueryGroupAffinity"
    );
    check!(KeQueryActiveGroupCount() >= 1, "no group is active");
    equal!(
        KeQueryActiveProcessorCountEx(0x7F),
        0,
        "processors of a group that does not exist"
    );
    Ok(())
}

/// Learn, KeGetProcessorNumberFromIndex, KeGetProcessorIndexFromNumber: each undoes the other.
fn numbers_and_indexes_belong_together() -> Outcome {
    let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    for index in 0..count {
        let mut number = PROCESSOR_NUMBER {
            Group: 9,
            Number: 9,
            Reserved: 9,
        };
        equal!(
            KeGetProcessorNumberFromIndex(index, &raw mut number),
            STATUS_SUCCESS,
            "the number of {index}"
        );
        equal!(number.Reserved, 0, "the reserved byte");
        equal!(
            KeGetProcessorIndexFromNumber(&raw const number),
            index,
            "the index of {number:?}"
        );
    }
    let mut number = PROCESSOR_NUMBER {
        Group: 0,
        Number: 0,
        Reserved: 0,
    };
    let most = KeQueryMaximumProcessorCountEx(ALL_PROCESSOR_GROUPS);
    equal!(
        KeGetProcessorNumberFromIndex(most.max(1024), &raw mut number),
        STATUS_INVALID_PARAMETER,
        "the number of an index that is too high"
    );
    let none = PROCESSOR_NUMBER {
        Group: 0x7F,
        Number: 0,
        Reserved: 0,
    };
    // wdm.h: INVALID_PROCESSOR_INDEX.
    equal!(
        KeGetProcessorIndexFromNumber(&raw const none),
        u32::MAX,
        "the index of a number that does not exist"
    );
    Ok(())
}

/// Learn, KeSetSystemGroupAffinityThread: the thread runs on a processor of the mask when the function returns.
fn a_thread_moves_to_the_processor_it_asks_for() -> Outcome {
    let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    for index in (0..count.min(8)).chain([0]) {
        let affinity = GROUP_AFFINITY {
            Mask: 1 << index,
            Group: 0,
            Reserved: [0; 3],
        };
        let mut previous = affinity;
        KeSetSystemGroupAffinityThread(&raw const affinity, &raw mut previous);
        let mut number = PROCESSOR_NUMBER {
            Group: 9,
            Number: 9,
            Reserved: 9,
        };
        let here = KeGetCurrentProcessorNumberEx(&raw mut number);
        KeRevertToUserGroupAffinityThread(&raw const previous);
        equal!(here, index, "the processor's index");
        equal!(
            (number.Group, u32::from(number.Number)),
            (0, index),
            "its number"
        );
    }
    Ok(())
}

/// Learn, KeSetSystemGroupAffinityThread: PreviousAffinity of a nested call is what the first one set.
fn nested_affinities_are_given_back_in_turn() -> Outcome {
    let outer = GROUP_AFFINITY {
        Mask: 1,
        Group: 0,
        Reserved: [0; 3],
    };
    let (mut first, mut second) = (outer, outer);
    KeSetSystemGroupAffinityThread(&raw const outer, &raw mut first);
    let all = GROUP_AFFINITY {
        Mask: KeQueryGroupAffinity(0),
        Group: 0,
        Reserved: [0; 3],
    };
    KeSetSystemGroupAffinityThread(&raw const all, &raw mut second);
    KeRevertToUserGroupAffinityThread(&raw const second);
    let here = cpu();
    KeRevertToUserGroupAffinityThread(&raw const first);
    equal!(second.Mask, 1, "the previous mask of the inner call");
    equal!(
        first.Mask,
        0,
        "the previous mask of the outer call, when no affinity was set before"
    );
    equal!(here, 0, "the processor after the inner call was undone");
    Ok(())
}

#[repr(C)]
struct Visits {
    count: AtomicU32,
    mask: AtomicU32,
    irql: AtomicU32,
    inside: AtomicU32,
}

/// Learn, KeIpiGenericCall: the routine runs on every processor at IPI_LEVEL; the caller's own result is returned.
fn a_call_reaches_every_processor_at_ipi_level() -> Outcome {
    unsafe extern "system" fn visit(visits: usize) -> usize {
        // SAFETY: KeIpiGenericCall returns when every processor has.
        let visits = unsafe { context::<Visits>(visits as PVOID) };
        add(&visits.count);
        visits.mask.fetch_or(1 << cpu(), Ordering::SeqCst);
        visits
            .irql
            .fetch_max(KeGetCurrentIrql().into(), Ordering::SeqCst);
        0x100 + cpu() as usize
    }
    let visits = Pool::<Visits>::zeroed()?;
    let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    let result = on_cpu(0, || KeIpiGenericCall(visit, visits.context() as usize));
    equal!(read(&visits.count), count, "runs");
    equal!(read(&visits.mask).count_ones(), count, "processors");
    equal!(read(&visits.irql), u32::from(IPI_LEVEL), "the IRQL");
    equal!(result, 0x100, "the result");
    equal!(KeGetCurrentIrql(), PASSIVE_LEVEL, "the IRQL afterwards");
    Ok(())
}

/// Learn, KeIpiGenericCall: the routine runs on all processors at the same time.
fn a_call_runs_on_all_processors_at_a_time() -> Outcome {
    need_cpus(2)?;
    unsafe extern "system" fn meet(visits: usize) -> usize {
        // SAFETY: as above.
        let visits = unsafe { context::<Visits>(visits as PVOID) };
        add(&visits.inside);
        let count = read(&visits.count);
        for _ in 0..1_000_000 {
            if read(&visits.inside) == count {
                return 1;
            }
            KeStallExecutionProcessor(1);
        }
        0
    }
    let visits = Pool::<Visits>::zeroed()?;
    write(
        &visits.count,
        KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS),
    );
    equal!(
        KeIpiGenericCall(meet, visits.context() as usize),
        1,
        "whether all met"
    );
    Ok(())
}

/// Learn, KeRegisterProcessorChangeCallback: with KE_PROCESSOR_CHANGE_ADD_EXISTING it hears of each active processor.
fn a_processor_callback_hears_of_those_that_exist() -> Outcome {
    const ADD_EXISTING: u32 = 1;
    unsafe extern "system" fn hear(visits: PVOID, change: *const u32, _: *mut NTSTATUS) {
        // SAFETY: the case deregisters the routine; KE_PROCESSOR_CHANGE_NOTIFY_CONTEXT is State, NtNumber, Status.
        let (visits, number) = unsafe { (context::<Visits>(visits), *change.wrapping_add(1)) };
        visits.mask.fetch_or(1 << number, Ordering::SeqCst);
    }
    let visits = Pool::<Visits>::zeroed()?;
    let handle = KeRegisterProcessorChangeCallback(hear, visits.context(), ADD_EXISTING);
    check!(
        !handle.is_null(),
        "KeRegisterProcessorChangeCallback returned null"
    );
    KeDeregisterProcessorChangeCallback(handle);
    let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    equal!(read(&visits.mask).count_ones(), count, "processors");
    Ok(())
}

/// Learn, KeQueryInterruptTime, KeQueryPerformanceCounter: neither goes back, also from one processor to another.
fn clocks_do_not_go_back() -> Outcome {
    let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    let (mut time, mut precise, mut counter) = (0, 0, 0);
    for round in 0..200 {
        let (next, next_precise, next_counter) = on_cpu(round % count, || {
            (
                KeQueryInterruptTime(),
                KeQueryInterruptTimePrecise(&mut 0),
                KeQueryPerformanceCounter(null_mut()),
            )
        });
        check!(next >= time, "interrupt time went back by {}", time - next);
        check!(
            next_precise >= precise,
            "precise interrupt time went back by {}",
            precise - next_precise
        );
        check!(
            next_counter >= counter,
            "the counter went back by {}",
            counter - next_counter
        );
        (time, precise, counter) = (next, next_precise, next_counter);
    }
    Ok(())
}

/// Learn, KeQueryPerformanceCounter: counter and frequency give elapsed time; KeStallExecutionProcessor spends it.
fn the_counter_measures_a_stall() -> Outcome {
    let mut frequency = 0;
    let began = KeQueryPerformanceCounter(&raw mut frequency);
    check!(frequency > 0, "the frequency is {frequency}");
    KeStallExecutionProcessor(50);
    let ticks = KeQueryPerformanceCounter(null_mut()) - began;
    let microseconds = ticks * 1_000_000 / frequency;
    check!(
        microseconds >= 49,
        "a stall of 50 us lasted {microseconds} us"
    );
    Ok(())
}

/// Learn, KeQuerySystemTimePrecise: 100 ns units since 1601; runs on with interrupt time.
fn system_time_runs_with_interrupt_time() -> Outcome {
    let (mut first, mut second) = (0, 0);
    KeQuerySystemTimePrecise(&raw mut first);
    let began = now();
    sleep(20);
    KeQuerySystemTimePrecise(&raw mut second);
    let lasted = now() - began;
    // The first of January 2020.
    check!(first > 132_223_104_000_000_000, "system time is {first:#x}");
    let difference = (second - first - lasted).abs();
    check!(
        difference < 50 * MILLISECOND,
        "they differ by {difference} of 100 ns"
    );
    check!(
        (1..=200_000).contains(&KeQueryTimeIncrement()),
        "the time increment is {}",
        KeQueryTimeIncrement()
    );
    Ok(())
}

group!("processors":
    the_counts_of_processors_agree,
    numbers_and_indexes_belong_together,
    a_thread_moves_to_the_processor_it_asks_for,
    nested_affinities_are_given_back_in_turn,
    a_call_reaches_every_processor_at_ipi_level,
    a_call_runs_on_all_processors_at_a_time,
    a_processor_callback_hears_of_those_that_exist,
    clocks_do_not_go_back,
    the_counter_measures_a_stall,
    system_time_runs_with_interrupt_time,
);
