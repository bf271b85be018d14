//! Kernel timers: one-shot, periodic, cancelled, with a DPC, as something to wait for.

use core::ptr::null_mut;
use core::sync::atomic::AtomicU32;

use crate::suite::{Finding, Outcome, at_irql};
use crate::support::*;
use crate::wdk::*;

/// A timer with a DPC that counts.
#[repr(C)]
struct Alarm {
    timer: KTIMER,
    dpc: KDPC,
    rings: AtomicU32,
    irql: AtomicU32,
    arguments: AtomicU32,
}

unsafe extern "system" fn ring(dpc: *mut KDPC, alarm: PVOID, _first: PVOID, _second: PVOID) {
    // SAFETY: the case cancels the timer and flushes DPCs before it frees the alarm.
    let alarm = unsafe { context::<Alarm>(alarm) };
    write(&alarm.irql, KeGetCurrentIrql().into());
    if !dpc.is_null() {
        add(&alarm.arguments);
    }
    add(&alarm.rings);
}

fn alarm(kind: i32) -> Result<Pool<Alarm>, Finding> {
    let mut alarm = Pool::<Alarm>::zeroed()?;
    KeInitializeTimerEx(&raw mut alarm.timer, kind);
    let context = alarm.context();
    KeInitializeDpc(&raw mut alarm.dpc, ring, context);
    Ok(alarm)
}

/// Declares a timer in place: it must not move once it is initialised.
macro_rules! timer {
    ($name:ident, $kind:expr) => {
        let mut $name = KTIMER::zeroed();
        KeInitializeTimerEx(&raw mut $name, $kind);
    };
}

/// Learn, KeInitializeTimer: a notification timer, not signaled.
fn a_new_timer_is_not_signaled() -> Outcome {
    let mut timer = KTIMER::zeroed();
    KeInitializeTimer(&raw mut timer);
    equal!(KeReadStateTimer(&raw mut timer), 0, "KeReadStateTimer");
    equal!(
        KeCancelTimer(&raw mut timer),
        0,
        "KeCancelTimer of a timer that is not set"
    );
    Ok(())
}

/// Learn, KeSetTimer: the timer is signaled when the relative due time has passed, and not before.
fn a_timer_is_signaled_when_it_is_due() -> Outcome {
    timer!(timer, NotificationTimer);
    let began = now();
    equal!(
        KeSetTimer(&raw mut timer, -20 * MILLISECOND, null_mut()),
        0,
        "KeSetTimer"
    );
    equal!(
        KeReadStateTimer(&raw mut timer),
        0,
        "the state before the timer is due"
    );
    equal!(
        wait(&raw mut timer, Some(PATIENCE)),
        STATUS_SUCCESS,
        "the wait"
    );
    let lasted = now() - began;
    let least = 20 * MILLISECOND - i64::from(KeQueryTimeIncrement());
    check!(lasted >= least, "20 ms lasted {} us", lasted / 10);
    check!(
        KeReadStateTimer(&raw mut timer) != 0,
        "the timer is not signaled after the wait"
    );
    Ok(())
}

/// Learn, KeSetTimer: a positive due time is absolute system time; one in the past is due at once.
fn an_absolute_due_time_is_system_time() -> Outcome {
    timer!(timer, NotificationTimer);
    let mut time = 0;
    KeQuerySystemTimePrecise(&raw mut time);
    KeSetTimer(&raw mut timer, time - 1000 * MILLISECOND, null_mut());
    equal!(
        wait(&raw mut timer, Some(PATIENCE)),
        STATUS_SUCCESS,
        "a due time in the past"
    );
    let began = now();
    KeQuerySystemTimePrecise(&raw mut time);
    KeSetTimer(&raw mut timer, time + 20 * MILLISECOND, null_mut());
    equal!(
        wait(&raw mut timer, Some(PATIENCE)),
        STATUS_SUCCESS,
        "a due time in 20 ms"
    );
    let lasted = now() - began;
    let least = 20 * MILLISECOND - 2 * i64::from(KeQueryTimeIncrement());
    check!(lasted >= least, "20 ms lasted {} us", lasted / 10);
    Ok(())
}

/// Learn, KeInitializeTimerEx: a notification timer stays signaled and lets every waiter through.
fn a_notification_timer_stays_signaled() -> Outcome {
    timer!(timer, NotificationTimer);
    KeSetTimer(&raw mut timer, -MILLISECOND, null_mut());
    equal!(
        wait(&raw mut timer, Some(PATIENCE)),
        STATUS_SUCCESS,
        "the first wait"
    );
    equal!(
        wait(&raw mut timer, Some(0)),
        STATUS_SUCCESS,
        "the second wait"
    );
    Ok(())
}

/// Learn, KeInitializeTimerEx: a synchronization timer is reset when a wait is satisfied.
fn a_synchronization_timer_lets_one_wait_through() -> Outcome {
    timer!(timer, SynchronizationTimer);
    KeSetTimer(&raw mut timer, -MILLISECOND, null_mut());
    equal!(
        wait(&raw mut timer, Some(PATIENCE)),
        STATUS_SUCCESS,
        "the first wait"
    );
    equal!(
        wait(&raw mut timer, Some(0)),
        STATUS_TIMEOUT,
        "the second wait"
    );
    Ok(())
}

/// Learn, KeSetTimer: TRUE when the timer was in the queue already, and the former setting is cancelled.
fn setting_a_timer_again_replaces_its_time() -> Outcome {
    timer!(timer, NotificationTimer);
    equal!(
        KeSetTimer(&raw mut timer, -PATIENCE, null_mut()),
        0,
        "the first KeSetTimer"
    );
    equal!(
        KeSetTimer(&raw mut timer, -5 * MILLISECOND, null_mut()),
        1,
        "the second KeSetTimer"
    );
    equal!(
        wait(&raw mut timer, Some(PATIENCE / 2)),
        STATUS_SUCCESS,
        "the wait"
    );
    equal!(
        KeCancelTimer(&raw mut timer),
        0,
        "KeCancelTimer of a timer that has expired"
    );
    Ok(())
}

/// Learn, KeSetTimer: sets the timer to a not-signaled state.
fn setting_a_timer_makes_it_not_signaled() -> Outcome {
    timer!(timer, NotificationTimer);
    KeSetTimer(&raw mut timer, -MILLISECOND, null_mut());
    equal!(
        wait(&raw mut timer, Some(PATIENCE)),
        STATUS_SUCCESS,
        "the wait"
    );
    KeSetTimer(&raw mut timer, -PATIENCE, null_mut());
    let state = KeReadStateTimer(&raw mut timer);
    KeCancelTimer(&raw mut timer);
    equal!(state, 0, "the state");
    Ok(())
}

/// Learn, KeCancelTimer: TRUE when the timer was in the queue; it does not expire any more.
fn a_cancelled_timer_does_not_expire() -> Outcome {
    timer!(timer, NotificationTimer);
    KeSetTimer(&raw mut timer, -20 * MILLISECOND, null_mut());
    equal!(KeCancelTimer(&raw mut timer), 1, "the first KeCancelTimer");
    equal!(KeCancelTimer(&raw mut timer), 0, "the second KeCancelTimer");
    equal!(
        wait(&raw mut timer, Some(40 * MILLISECOND)),
        STATUS_TIMEOUT,
        "the wait"
    );
    Ok(())
}

/// Learn, KeCancelTimer: does not change the signal state of an expired timer.
fn cancelling_leaves_the_signal_of_an_expired_timer() -> Outcome {
    timer!(timer, NotificationTimer);
    KeSetTimer(&raw mut timer, -MILLISECOND, null_mut());
    equal!(
        wait(&raw mut timer, Some(PATIENCE)),
        STATUS_SUCCESS,
        "the wait"
    );
    equal!(KeCancelTimer(&raw mut timer), 0, "KeCancelTimer");
    check!(
        KeReadStateTimer(&raw mut timer) != 0,
        "KeCancelTimer reset the timer"
    );
    Ok(())
}

/// Learn, KeSetTimer: a due timer queues its DPC, which runs at DISPATCH_LEVEL, once.
fn a_timer_queues_its_dpc_once() -> Outcome {
    let mut alarm = alarm(NotificationTimer)?;
    let (timer, dpc) = (&raw mut alarm.timer, &raw mut alarm.dpc);
    KeSetTimer(timer, -5 * MILLISECOND, dpc);
    let came = until(|| read(&alarm.rings) != 0, "the DPC");
    sleep(30);
    KeCancelTimer(timer);
    KeFlushQueuedDpcs();
    came?;
    equal!(read(&alarm.rings), 1, "runs of the DPC");
    equal!(
        read(&alarm.irql),
        u32::from(DISPATCH_LEVEL),
        "the DPC's IRQL"
    );
    equal!(read(&alarm.arguments), 1, "runs with the DPC's own address");
    check!(KeReadStateTimer(timer) != 0, "the timer is not signaled");
    Ok(())
}

/// Learn, KeCancelTimer: the DPC of a cancelled timer is not queued.
fn a_cancelled_timer_queues_no_dpc() -> Outcome {
    let mut alarm = alarm(NotificationTimer)?;
    let (timer, dpc) = (&raw mut alarm.timer, &raw mut alarm.dpc);
    KeSetTimer(timer, -15 * MILLISECOND, dpc);
    let was_set = KeCancelTimer(timer);
    sleep(30);
    KeFlushQueuedDpcs();
    equal!(was_set, 1, "KeCancelTimer");
    equal!(read(&alarm.rings), 0, "runs of the DPC");
    Ok(())
}

/// Learn, KeSetTimerEx: a timer with a period in milliseconds expires again and again until it is cancelled.
fn a_periodic_timer_rings_until_it_is_cancelled() -> Outcome {
    let mut alarm = alarm(NotificationTimer)?;
    let (timer, dpc) = (&raw mut alarm.timer, &raw mut alarm.dpc);
    KeSetTimerEx(timer, -2 * MILLISECOND, 2, dpc);
    let came = until(|| read(&alarm.rings) >= 4, "the fourth run of the DPC");
    let was_set = KeCancelTimer(timer);
    KeFlushQueuedDpcs();
    let rings = read(&alarm.rings);
    sleep(20);
    let later = read(&alarm.rings);
    came?;
    equal!(was_set, 1, "KeCancelTimer of a periodic timer");
    equal!(
        later,
        rings,
        "runs of the DPC after KeCancelTimer and KeFlushQueuedDpcs"
    );
    Ok(())
}

/// Learn, KeSetTimerEx: the first expiration is at the due time, the others a period apart from it.
fn a_periodic_timer_keeps_its_period() -> Outcome {
    let mut alarm = alarm(NotificationTimer)?;
    let (timer, dpc) = (&raw mut alarm.timer, &raw mut alarm.dpc);
    let began = now();
    KeSetTimerEx(timer, -10 * MILLISECOND, 10, dpc);
    let came = until(|| read(&alarm.rings) >= 5, "the fifth run of the DPC");
    let lasted = now() - began;
    KeCancelTimer(timer);
    KeFlushQueuedDpcs();
    came?;
    let least = 50 * MILLISECOND - 2 * i64::from(KeQueryTimeIncrement());
    check!(
        lasted >= least,
        "five periods of 10 ms lasted {} us",
        lasted / 10
    );
    Ok(())
}

/// Learn, KeSetTimerEx: a periodic synchronization timer is something to wait for each period.
fn a_periodic_timer_signals_each_period() -> Outcome {
    timer!(timer, SynchronizationTimer);
    KeSetTimerEx(&raw mut timer, -2 * MILLISECOND, 2, null_mut());
    let mut waits = 0;
    while waits < 4 && wait(&raw mut timer, Some(PATIENCE)) == STATUS_SUCCESS {
        waits += 1;
    }
    let was_set = KeCancelTimer(&raw mut timer);
    equal!(waits, 4, "waits that were satisfied");
    equal!(was_set, 1, "KeCancelTimer");
    Ok(())
}

/// Learn, KeSetTimerEx: setting a periodic timer once more without a period makes it a one-shot timer.
fn a_period_ends_with_the_next_setting() -> Outcome {
    let mut alarm = alarm(NotificationTimer)?;
    let (timer, dpc) = (&raw mut alarm.timer, &raw mut alarm.dpc);
    KeSetTimerEx(timer, -PATIENCE, 1, dpc);
    equal!(KeSetTimer(timer, -2 * MILLISECOND, dpc), 1, "KeSetTimer");
    let came = until(|| read(&alarm.rings) != 0, "the DPC");
    sleep(20);
    let was_set = KeCancelTimer(timer);
    KeFlushQueuedDpcs();
    came?;
    equal!(
        was_set,
        0,
        "KeCancelTimer of a one-shot timer that has expired"
    );
    equal!(read(&alarm.rings), 1, "runs of the DPC");
    Ok(())
}

/// Learn, KeSetTimer, KeCancelTimer: callable at DISPATCH_LEVEL.
fn a_timer_can_be_set_and_cancelled_at_dispatch_level() -> Outcome {
    timer!(timer, NotificationTimer);
    let (set, cancelled) = at_irql(DISPATCH_LEVEL, || {
        let set = KeSetTimer(&raw mut timer, -PATIENCE, null_mut());
        (set, KeCancelTimer(&raw mut timer))
    });
    equal!((set, cancelled), (0, 1), "KeSetTimer and KeCancelTimer");
    Ok(())
}

/// A driver may set the timer again from its own DPC, as watchdogs do.
fn a_timer_can_be_set_again_in_its_dpc() -> Outcome {
    unsafe extern "system" fn again(dpc: *mut KDPC, alarm: PVOID, _: PVOID, _: PVOID) {
        // SAFETY: the case waits for the last run.
        let alarm = unsafe { context::<Alarm>(alarm) };
        if add(&alarm.rings) < 4 {
            KeSetTimer(
                (&raw const alarm.timer).cast_mut(),
                -MILLISECOND,
                dpc_of(alarm),
            );
        }
        let _ = dpc;
    }
    fn dpc_of(alarm: &Alarm) -> *mut KDPC {
        (&raw const alarm.dpc).cast_mut()
    }
    let mut alarm = alarm(NotificationTimer)?;
    let context = alarm.context();
    let (timer, dpc) = (&raw mut alarm.timer, &raw mut alarm.dpc);
    KeInitializeDpc(dpc, again, context);
    KeSetTimer(timer, -MILLISECOND, dpc);
    let came = until(|| read(&alarm.rings) == 5, "the fifth run of the DPC");
    KeCancelTimer(timer);
    KeFlushQueuedDpcs();
    came
}

/// Timers expire in the order of their due times.
fn timers_expire_in_the_order_of_their_times() -> Outcome {
    #[repr(C)]
    struct Race {
        timers: [KTIMER; 3],
        dpcs: [KDPC; 3],
        order: AtomicU32,
    }
    unsafe extern "system" fn arrive(_: *mut KDPC, race: PVOID, _: PVOID, _: PVOID) {
        // SAFETY: as below.
        let cell = unsafe { context::<(AtomicU32, u32, *const AtomicU32)>(race) };
        write(&cell.0, 1);
        // SAFETY: the race outlives its runners.
        let order = unsafe { &*cell.2 };
        write(order, read(order) * 10 + cell.1);
    }
    let mut race = Pool::<Race>::zeroed()?;
    let order = &raw const race.order;
    let runners = [
        (AtomicU32::new(0), 1, order),
        (AtomicU32::new(0), 2, order),
        (AtomicU32::new(0), 3, order),
    ];
    on_cpu(0, || {
        for (index, due) in [(0, 30), (1, 10), (2, 20)] {
            let runner = (&raw const runners[index]).cast_mut().cast();
            let (timer, dpc) = (&raw mut race.timers[index], &raw mut race.dpcs[index]);
            KeInitializeTimer(timer);
            KeInitializeDpc(dpc, arrive, runner);
            KeSetTimer(timer, -due * MILLISECOND, dpc);
        }
        let came = until(
            || runners.iter().all(|runner| read(&runner.0) != 0),
            "the DPCs",
        );
        for timer in &mut race.timers {
            KeCancelTimer(timer);
        }
        KeFlushQueuedDpcs();
        came
    })?;
    equal!(
        read(&race.order),
        231,
        "the order of expiry, as digits in decimal 231 = {:#x}",
        231
    );
    Ok(())
}

group!("timers":
    a_new_timer_is_not_signaled,
    a_timer_is_signaled_when_it_is_due,
    an_absolute_due_time_is_system_time,
    a_notification_timer_stays_signaled,
    a_synchronization_timer_lets_one_wait_through,
    setting_a_timer_again_replaces_its_time,
    setting_a_timer_makes_it_not_signaled,
    a_cancelled_timer_does_not_expire,
    cancelling_leaves_the_signal_of_an_expired_timer,
    a_timer_queues_its_dpc_once,
    a_cancelled_timer_queues_no_dpc,
    a_periodic_timer_rings_until_it_is_cancelled,
    a_periodic_timer_keeps_its_period,
    a_periodic_timer_signals_each_period,
    a_period_ends_with_the_next_setting,
    a_timer_can_be_set_and_cancelled_at_dispatch_level,
    a_timer_can_be_set_again_in_its_dpc,
    timers_expire_in_the_order_of_their_times,
);
