//! Threads, and what they wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nt_host::ke::event::{self, Event};
use nt_host::ke::wait::{self, Timeout};
use nt_host::ke::{affinity, irql, mutex, processor, thread};
use nt_host::ob;
use nt_sys::{
    GROUP_AFFINITY, KEVENT, KMUTEX, KSEMAPHORE, NotificationEvent, STATUS_SUCCESS, STATUS_TIMEOUT,
    SynchronizationEvent, WaitAll, WaitAny,
};

use crate::machine::{CPUS, machine, on_cpu};

const MILLISECOND: u64 = 10_000;

fn kevent(kind: i32) -> Box<KEVENT> {
    let mut event: Box<KEVENT> = Box::new(unsafe_zeroed());
    // SAFETY: the event is on the heap and stays there.
    unsafe { event::KeInitializeEvent(&mut *event, kind, 0) };
    event
}

/// A value of all zeros, for kernel structures that an initialising function fills.
fn unsafe_zeroed<T>() -> T {
    // SAFETY: used for `repr(C)` structures of numbers and pointers only.
    unsafe { std::mem::zeroed() }
}

#[test]
fn a_thread_runs_on_its_cpu_at_passive_level() {
    let _machine = machine();
    for cpu in 0..CPUS {
        assert_eq!(
            on_cpu(cpu, || (processor::current().number, irql::current())),
            (cpu, 0)
        );
    }
}

#[test]
fn an_event_wakes_a_thread_on_another_cpu() {
    let _machine = machine();
    let event = Arc::new(Event::new(false));
    let waiter = event.clone();
    let woken = Arc::new(Event::new(true));
    let answer = woken.clone();
    assert!(thread::run(1, move || {
        assert!(waiter.wait(Timeout::Never));
        answer.set();
    }));
    assert!(on_cpu(0, move || {
        event.set();
        woken.wait(Timeout::after(60_000 * MILLISECOND))
    }));
}

#[test]
fn a_wait_ends_at_its_time() {
    let _machine = machine();
    let elapsed = on_cpu(0, || {
        let start = Instant::now();
        assert!(!Event::new(true).wait(Timeout::after(20 * MILLISECOND)));
        start.elapsed().as_millis()
    });
    assert!(elapsed >= 20, "{elapsed} ms");
}

#[test]
fn a_look_does_not_wait() {
    let _machine = machine();
    assert!(on_cpu(0, || {
        let event = Event::new(false);
        let before = event.wait(Timeout::Now);
        event.set();
        !before && event.wait(Timeout::Now) && !event.wait(Timeout::Now)
    }));
}

#[test]
fn a_wait_for_any_names_the_signalled_one() {
    let _machine = machine();
    let statuses = on_cpu(0, || {
        let (first, second) = (kevent(SynchronizationEvent), kevent(SynchronizationEvent));
        let objects = [
            (&raw const *first).cast_mut().cast(),
            (&raw const *second).cast_mut().cast(),
        ];
        let zero = 0i64;
        let wait = |timeout: *const i64| {
            // SAFETY: both events live on; there are two of them.
            unsafe {
                wait::KeWaitForMultipleObjects(
                    2,
                    objects.as_ptr(),
                    WaitAny,
                    0,
                    0,
                    0,
                    timeout,
                    std::ptr::null_mut(),
                )
            }
        };
        let none = wait(&zero);
        // SAFETY: an initialised event.
        unsafe { event::KeSetEvent(objects[1].cast(), 0, 0) };
        (none, wait(std::ptr::null()), wait(&zero))
    });
    assert_eq!(
        statuses,
        (STATUS_TIMEOUT, STATUS_SUCCESS + 1, STATUS_TIMEOUT)
    );
}

#[test]
fn a_wait_for_all_takes_nothing_until_it_can_take_everything() {
    let _machine = machine();
    on_cpu(0, || {
        let events = Arc::new([Event::new(false), Event::new(false)]);
        let done = Arc::new(Event::new(true));
        let (theirs, finished) = (events.clone(), done.clone());
        assert!(thread::run(1, move || {
            let objects = [theirs[0].object(), theirs[1].object()].map(|object| object.as_ptr());
            // SAFETY: both events live until the thread has ended.
            let status = unsafe {
                wait::KeWaitForMultipleObjects(
                    2,
                    objects.as_ptr().cast(),
                    WaitAll,
                    0,
                    0,
                    0,
                    std::ptr::null(),
                    std::ptr::null_mut(),
                )
            };
            assert_eq!(status, STATUS_SUCCESS);
            finished.set();
        }));
        events[0].set();
        assert!(!done.wait(Timeout::after(20 * MILLISECOND)));
        assert_eq!(
            events[0].object().state(),
            1,
            "the first event keeps its signal"
        );
        events[1].set();
        assert!(done.wait(Timeout::after(60_000 * MILLISECOND)));
        assert_eq!(
            (events[0].object().state(), events[1].object().state()),
            (0, 0)
        );
    });
}

#[test]
fn a_mutex_lets_its_owner_in_again_and_others_wait() {
    let _machine = machine();
    on_cpu(0, || {
        let storage: usize = Box::leak(Box::new(unsafe_zeroed::<KMUTEX>())) as *mut KMUTEX as usize;
        let lock = storage as *mut KMUTEX;
        let take = move || {
            // SAFETY: the mutex is leaked.
            let status = unsafe {
                wait::KeWaitForSingleObject(storage as *mut _, 0, 0, 0, std::ptr::null())
            };
            assert_eq!(status, STATUS_SUCCESS);
        };
        // SAFETY: the mutex is leaked.
        unsafe { mutex::KeInitializeMutex(lock, 0) };
        take();
        take();
        let got = Arc::new(Event::new(true));
        let theirs = got.clone();
        assert!(thread::run(1, move || {
            take();
            theirs.set();
            // SAFETY: taken above.
            unsafe { mutex::KeReleaseMutex(storage as *mut KMUTEX, 0) };
        }));
        // SAFETY: this thread owns it.
        assert_eq!(unsafe { mutex::KeReleaseMutex(lock, 0) }, -1);
        assert!(!got.wait(Timeout::after(20 * MILLISECOND)));
        // SAFETY: this thread owns it.
        assert_eq!(unsafe { mutex::KeReleaseMutex(lock, 0) }, 0);
        assert!(got.wait(Timeout::after(60_000 * MILLISECOND)));
    });
}

#[test]
fn a_semaphore_lets_as_many_through_as_it_counts() {
    let _machine = machine();
    let passed = on_cpu(0, || {
        let mut semaphore: Box<KSEMAPHORE> = Box::new(unsafe_zeroed());
        // SAFETY: the semaphore is on the heap and stays there.
        unsafe { event::KeInitializeSemaphore(&mut *semaphore, 2, 8) };
        let object = (&raw mut *semaphore).cast();
        let zero = 0i64;
        // SAFETY: an initialised semaphore.
        (0..4)
            .filter(|_| unsafe { wait::KeWaitForSingleObject(object, 0, 0, 0, &zero) } == STATUS_SUCCESS)
            .count()
    });
    assert_eq!(passed, 2);
}

#[test]
fn a_notification_event_wakes_everyone() {
    let _machine = machine();
    let event = Arc::new(Event::new(true));
    let (woken, all) = (Arc::new(AtomicU32::new(0)), Arc::new(Event::new(true)));
    for cpu in 0..9 {
        let (event, woken, all) = (event.clone(), woken.clone(), all.clone());
        assert!(thread::run(cpu % CPUS, move || {
            event.wait(Timeout::Never);
            if woken.fetch_add(1, Ordering::Relaxed) == 8 {
                all.set();
            }
        }));
    }
    assert!(on_cpu(0, move || {
        wait::delay(10 * MILLISECOND);
        event.set();
        all.wait(Timeout::after(60_000 * MILLISECOND))
    }));
}

#[test]
fn a_thread_moves_where_its_affinity_says() {
    let _machine = machine();
    let path = on_cpu(0, || {
        let mut previous: GROUP_AFFINITY = unsafe_zeroed();
        let wanted = GROUP_AFFINITY {
            Mask: 0b100,
            Group: 0,
            Reserved: [0; 3],
        };
        // SAFETY: both live on this stack.
        unsafe { affinity::KeSetSystemGroupAffinityThread(&wanted, &mut previous) };
        let there = processor::current().number;
        // SAFETY: as above.
        unsafe { affinity::KeRevertToUserGroupAffinityThread(&previous) };
        (there, processor::current().number, previous.Mask)
    });
    assert_eq!((path.0, path.2), (2, 0));
}

#[test]
fn a_system_thread_can_be_waited_for_by_its_handle() {
    let _machine = machine();
    unsafe extern "win64" fn routine(context: *mut std::ffi::c_void) {
        wait::delay(10 * MILLISECOND);
        // SAFETY: the test passes a counter that lives longer.
        unsafe { &*context.cast::<AtomicU32>() }.store(7, Ordering::Release);
        thread::PsTerminateSystemThread(0);
    }
    let value = on_cpu(0, || {
        let counter = AtomicU32::new(0);
        let mut handle = std::ptr::null_mut();
        let context = (&raw const counter).cast_mut().cast();
        let null = std::ptr::null_mut();
        // SAFETY: the counter lives until the thread has ended, which is waited for.
        let status = unsafe {
            thread::PsCreateSystemThread(&mut handle, 0, null, null, null, Some(routine), context)
        };
        assert_eq!(status, STATUS_SUCCESS);
        let body = ob::handle::reference(handle as usize, Some(&thread::THREAD)).unwrap();
        ob::handle::close(handle as usize).unwrap();
        // SAFETY: the reference keeps the thread object.
        unsafe { wait::KeWaitForSingleObject(body.as_ptr(), 0, 0, 0, std::ptr::null()) };
        // SAFETY: the reference is ours.
        unsafe { ob::dereference(body) };
        counter.load(Ordering::Acquire)
    });
    assert_eq!(value, 7);
}

#[test]
fn a_better_thread_runs_first_and_equals_take_turns() {
    let _machine = machine();
    let order = on_cpu(0, || {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let go = Arc::new(Event::new(true));
        for (name, priority) in [("low", 4), ("high", 12), ("same", 8)] {
            let (order, go) = (order.clone(), go.clone());
            assert!(thread::run(0, move || {
                let me = thread::KeGetCurrentThread();
                // SAFETY: the current thread lives.
                unsafe { thread::KeSetPriorityThread(me, priority) };
                go.wait(Timeout::Never);
                order.lock().unwrap().push(name);
            }));
        }
        wait::delay(5 * MILLISECOND);
        go.set();
        nt_host::ke::poll();
        order.lock().unwrap().push("setter");
        wait::delay(5 * MILLISECOND);
        order.lock().unwrap().clone()
    });
    assert_eq!(order, ["high", "setter", "same", "low"]);
}

#[test]
fn two_threads_hand_over_a_hundred_thousand_times() {
    let _machine = machine();
    for partner in [0, 1] {
        let rounds = 100_000 / (1 + partner * 9);
        let pair = Arc::new([Event::new(false), Event::new(false)]);
        let theirs = pair.clone();
        assert!(thread::run(partner, move || {
            for _ in 0..rounds {
                theirs[0].wait(Timeout::Never);
                theirs[1].set();
            }
        }));
        let time = on_cpu(0, move || {
            let start = Instant::now();
            for _ in 0..rounds {
                pair[0].set();
                assert!(pair[1].wait(Timeout::after(60_000 * MILLISECOND)));
            }
            start.elapsed()
        });
        println!(
            "cpu 0 to {partner} and back: {} ns",
            time.as_nanos() / u128::from(rounds)
        );
    }
}

#[test]
fn events_of_many_threads_are_never_lost() {
    let _machine = machine();
    let gate = Arc::new(Event::new(false));
    let (sum, done) = (Arc::new(AtomicU32::new(0)), Arc::new(Event::new(true)));
    gate_threads(&gate, &sum, &done);
    assert!(on_cpu(0, move || {
        gate.set();
        done.wait(Timeout::after(60_000 * MILLISECOND))
    }));
    assert_eq!(sum.load(Ordering::Relaxed), 6000);
}

/// Six threads that pass one synchronization event around, as a lock.
fn gate_threads(gate: &Arc<Event>, sum: &Arc<AtomicU32>, done: &Arc<Event>) {
    for cpu in 0..6 {
        let (gate, sum, done) = (gate.clone(), sum.clone(), done.clone());
        assert!(thread::run(cpu % CPUS, move || {
            for _ in 0..1000 {
                gate.wait(Timeout::Never);
                let value = sum.load(Ordering::Relaxed);
                sum.store(value + 1, Ordering::Relaxed);
                gate.set();
                if value + 1 == 6000 {
                    done.set();
                }
            }
        }));
    }
}

#[test]
fn a_null_event_kind_is_a_notification() {
    let _machine = machine();
    let twice = on_cpu(0, || {
        let mut event = kevent(NotificationEvent);
        // SAFETY: an initialised event.
        unsafe { event::KeSetEvent(&mut *event, 0, 0) };
        // SAFETY: an initialised event.
        let look = || unsafe { event::KeReadStateEvent((&raw const *event).cast_mut()) };
        (look(), look())
    });
    assert_eq!(twice, (1, 1));
}
