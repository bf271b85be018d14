//! IRQL, spin locks, reader-writer spin locks, interlocked lists.

use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::suite::Outcome;
use crate::support::*;
use crate::wdk::*;

/// Learn, KeRaiseIrql, KeLowerIrql: the new IRQL is in force, the old one is returned.
fn raising_returns_the_former_irql() -> Outcome {
    equal!(
        KeGetCurrentIrql(),
        PASSIVE_LEVEL,
        "the IRQL of a system thread"
    );
    let first = KfRaiseIrql(APC_LEVEL);
    let second = KfRaiseIrql(DISPATCH_LEVEL);
    let third = KfRaiseIrql(HIGH_LEVEL);
    let top = KeGetCurrentIrql();
    KeLowerIrql(third);
    let lowered = KeGetCurrentIrql();
    KeLowerIrql(first);
    equal!(
        [first, second, third],
        [PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL],
        "KfRaiseIrql"
    );
    equal!(
        (top, lowered),
        (HIGH_LEVEL, DISPATCH_LEVEL),
        "KeGetCurrentIrql"
    );
    Ok(())
}

/// Learn, KeAcquireSpinLock: raises to DISPATCH_LEVEL; KeReleaseSpinLock goes back.
fn a_spin_lock_raises_to_dispatch_level() -> Outcome {
    let mut lock: KSPIN_LOCK = 1;
    KeInitializeSpinLock(&raw mut lock);
    let old = KeAcquireSpinLockRaiseToDpc(&raw mut lock);
    let held = KeGetCurrentIrql();
    KeReleaseSpinLock(&raw mut lock, old);
    equal!(
        (old, held),
        (PASSIVE_LEVEL, DISPATCH_LEVEL),
        "the IRQL before and inside"
    );
    equal!(KeGetCurrentIrql(), PASSIVE_LEVEL, "the IRQL afterwards");
    Ok(())
}

/// Learn, KeAcquireSpinLockAtDpcLevel: does not change the IRQL.
fn a_spin_lock_at_dpc_level_keeps_the_irql() -> Outcome {
    let mut lock: KSPIN_LOCK = 0;
    KeInitializeSpinLock(&raw mut lock);
    let old = KfRaiseIrql(DISPATCH_LEVEL);
    KeAcquireSpinLockAtDpcLevel(&raw mut lock);
    let held = KeGetCurrentIrql();
    KeReleaseSpinLockFromDpcLevel(&raw mut lock);
    let released = KeGetCurrentIrql();
    KeLowerIrql(old);
    equal!(
        (held, released),
        (DISPATCH_LEVEL, DISPATCH_LEVEL),
        "the IRQL inside and afterwards"
    );
    Ok(())
}

/// Learn, KeTryToAcquireSpinLockAtDpcLevel: TRUE when the lock was acquired, FALSE when it is held.
fn a_held_spin_lock_is_not_acquired_by_a_try() -> Outcome {
    need_cpus(2)?;
    #[repr(C)]
    struct Shared {
        lock: KSPIN_LOCK,
        held: AtomicBool,
        done: AtomicBool,
    }
    unsafe extern "system" fn hold(shared: PVOID) {
        // SAFETY: the case waits for its thread.
        let shared = unsafe { context::<Shared>(shared) };
        let lock = (&raw const shared.lock).cast_mut();
        on_cpu(1, || {
            let old = KeAcquireSpinLockRaiseToDpc(lock);
            shared.held.store(true, Ordering::SeqCst);
            spin_until(&shared.done);
            KeReleaseSpinLock(lock, old);
        });
    }
    let mut shared = Pool::<Shared>::zeroed()?;
    let lock = &raw mut shared.lock;
    KeInitializeSpinLock(lock);
    let thread = Thread::start(hold, shared.context())?;
    let (held, free) = on_cpu(0, || {
        while !shared.held.load(Ordering::SeqCst) {
            sleep(1);
        }
        let old = KfRaiseIrql(DISPATCH_LEVEL);
        let held = KeTryToAcquireSpinLockAtDpcLevel(lock);
        shared.done.store(true, Ordering::SeqCst);
        let mut free = 0;
        for _ in 0..1_000_000 {
            free = KeTryToAcquireSpinLockAtDpcLevel(lock);
            if free != 0 {
                KeReleaseSpinLockFromDpcLevel(lock);
                break;
            }
        }
        KeLowerIrql(old);
        (held, free)
    });
    drop(thread);
    equal!(held, 0, "a try for a lock that another processor holds");
    equal!(free, 1, "a try for a lock that is free again");
    Ok(())
}

/// A counter that is no atomic: only the lock around it keeps its count right.
#[repr(C)]
struct Counter {
    lock: KSPIN_LOCK,
    rw: i32,
    value: UnsafeCell<u32>,
    readers: AtomicU32,
    most: AtomicU32,
    errors: AtomicU32,
}

const ROUNDS: u32 = 2000;

impl Counter {
    fn bump(&self) {
        // SAFETY: the caller holds the lock; where the lock does not work, the count shows it.
        let value = unsafe { &mut *self.value.get() };
        let seen = *value;
        core::hint::spin_loop();
        *value = seen + 1;
    }
}

/// Learn, "Introduction to Spin Locks": one processor at a time holds a spin lock.
fn a_spin_lock_excludes_other_processors() -> Outcome {
    unsafe extern "system" fn count(counter: PVOID) {
        // SAFETY: the case waits for its threads.
        let counter = unsafe { context::<Counter>(counter) };
        let lock = (&raw const counter.lock).cast_mut();
        for _ in 0..ROUNDS {
            let old = KeAcquireSpinLockRaiseToDpc(lock);
            counter.bump();
            KeReleaseSpinLock(lock, old);
        }
    }
    let mut counter = Pool::<Counter>::zeroed()?;
    KeInitializeSpinLock(&raw mut counter.lock);
    let threads = [
        Thread::start(count, counter.context())?,
        Thread::start(count, counter.context())?,
    ];
    drop(threads);
    equal!(
        *counter.value.get_mut(),
        2 * ROUNDS,
        "the count of two threads"
    );
    Ok(())
}

/// Learn, KeAcquireInStackQueuedSpinLock: raises to DISPATCH_LEVEL; releasing by the handle goes back. The AtDpcLevel
/// form leaves the IRQL as it is.
fn a_queued_spin_lock_raises_to_dispatch_level() -> Outcome {
    let (mut outer, mut inner): (KSPIN_LOCK, KSPIN_LOCK) = (1, 1);
    KeInitializeSpinLock(&raw mut outer);
    KeInitializeSpinLock(&raw mut inner);
    let mut handles = [const { KLOCK_QUEUE_HANDLE::zeroed() }; 2];
    KeAcquireInStackQueuedSpinLock(&raw mut outer, &raw mut handles[0]);
    let held = KeGetCurrentIrql();
    KeAcquireInStackQueuedSpinLockAtDpcLevel(&raw mut inner, &raw mut handles[1]);
    let both = KeGetCurrentIrql();
    KeReleaseInStackQueuedSpinLockFromDpcLevel(&raw mut handles[1]);
    let one = KeGetCurrentIrql();
    KeReleaseInStackQueuedSpinLock(&raw mut handles[0]);
    equal!(
        [held, both, one, KeGetCurrentIrql()],
        [
            DISPATCH_LEVEL,
            DISPATCH_LEVEL,
            DISPATCH_LEVEL,
            PASSIVE_LEVEL
        ],
        "the IRQL with one, both, one and none of them"
    );
    equal!((outer, inner), (0, 0), "the locks afterwards");
    Ok(())
}

/// Learn, ExAcquireSpinLockExclusive, ExAcquireSpinLockShared: raise to DISPATCH_LEVEL and return the old IRQL.
fn a_reader_writer_lock_raises_to_dispatch_level() -> Outcome {
    let mut lock = 0;
    for shared in [false, true] {
        let old = match shared {
            true => ExAcquireSpinLockShared(&raw mut lock),
            false => ExAcquireSpinLockExclusive(&raw mut lock),
        };
        let held = KeGetCurrentIrql();
        match shared {
            true => ExReleaseSpinLockShared(&raw mut lock, old),
            false => ExReleaseSpinLockExclusive(&raw mut lock, old),
        }
        equal!(
            (old, held),
            (PASSIVE_LEVEL, DISPATCH_LEVEL),
            "the IRQL before and inside, shared {shared}"
        );
        equal!(
            KeGetCurrentIrql(),
            PASSIVE_LEVEL,
            "the IRQL afterwards, shared {shared}"
        );
        equal!(lock, 0, "the lock afterwards, shared {shared}");
    }
    Ok(())
}

/// Learn, "Reader-Writer Spin Locks": several readers at a time, or one writer alone.
fn a_writer_excludes_readers_and_writers() -> Outcome {
    unsafe extern "system" fn work(counter: PVOID) {
        // SAFETY: the case waits for its threads.
        let counter = unsafe { context::<Counter>(counter) };
        let lock = (&raw const counter.rw).cast_mut();
        for round in 0..ROUNDS {
            if round % 4 == 0 {
                let old = ExAcquireSpinLockExclusive(lock);
                if read(&counter.readers) != 0 {
                    add(&counter.errors);
                }
                counter.bump();
                ExReleaseSpinLockExclusive(lock, old);
            } else {
                let old = ExAcquireSpinLockShared(lock);
                add(&counter.readers);
                counter.readers.fetch_sub(1, Ordering::SeqCst);
                ExReleaseSpinLockShared(lock, old);
            }
        }
    }
    let mut counter = Pool::<Counter>::zeroed()?;
    let threads = [
        Thread::start(work, counter.context())?,
        Thread::start(work, counter.context())?,
    ];
    drop(threads);
    equal!(read(&counter.errors), 0, "readers that a writer met");
    equal!(
        *counter.value.get_mut(),
        2 * ROUNDS / 4,
        "the writers' count"
    );
    Ok(())
}

/// Learn, ExAcquireSpinLockShared: a second reader gets the lock while the first holds it.
fn readers_share_the_lock() -> Outcome {
    need_cpus(2)?;
    unsafe extern "system" fn meet(counter: PVOID) {
        // SAFETY: the case waits for its threads.
        let counter = unsafe { context::<Counter>(counter) };
        let lock = (&raw const counter.rw).cast_mut();
        on_cpu(add(&counter.most) % 2, || {
            let old = ExAcquireSpinLockShared(lock);
            add(&counter.readers);
            // Bounded, so that a lock which does not share ends the case and not the machine.
            for _ in 0..1000 {
                if read(&counter.readers) == 2 {
                    break;
                }
                KeStallExecutionProcessor(100);
            }
            if read(&counter.readers) != 2 {
                add(&counter.errors);
            }
            ExReleaseSpinLockShared(lock, old);
        });
    }
    let counter = Pool::<Counter>::zeroed()?;
    let threads = [
        Thread::start(meet, counter.context())?,
        Thread::start(meet, counter.context())?,
    ];
    drop(threads);
    equal!(
        read(&counter.errors),
        0,
        "readers that waited for the other in vain"
    );
    Ok(())
}

#[repr(C)]
struct Lists {
    head: LIST_ENTRY,
    entries: [LIST_ENTRY; 3],
    lock: KSPIN_LOCK,
}

/// Learn, ExInterlockedInsertHeadList, -TailList, -RemoveHeadList: the former first or last entry, null when empty.
fn interlocked_lists_keep_their_order() -> Outcome {
    let mut lists = Pool::<Lists>::zeroed()?;
    let head = &raw mut lists.head;
    lists.head = LIST_ENTRY {
        Flink: head,
        Blink: head,
    };
    let [a, b, c] = [0, 1, 2].map(|index| &raw mut lists.entries[index]);
    let lock = &raw mut lists.lock;
    KeInitializeSpinLock(lock);
    check!(
        ExInterlockedRemoveHeadList(head, lock).is_null(),
        "an entry came from an empty list"
    );
    check!(
        ExInterlockedInsertTailList(head, b, lock).is_null(),
        "the first insertion returned an entry"
    );
    equal!(
        ExInterlockedInsertTailList(head, c, lock),
        c.wrapping_sub(1),
        "the last entry before an insertion at the tail"
    );
    equal!(
        ExInterlockedInsertHeadList(head, a, lock),
        b,
        "the first entry before an insertion at the head"
    );
    for entry in [a, b, c] {
        equal!(
            ExInterlockedRemoveHeadList(head, lock),
            entry,
            "the next entry"
        );
    }
    equal!(
        ExInterlockedRemoveHeadList(head, lock),
        null_mut(),
        "the end of the list"
    );
    Ok(())
}

group!("locks":
    raising_returns_the_former_irql,
    a_spin_lock_raises_to_dispatch_level,
    a_spin_lock_at_dpc_level_keeps_the_irql,
    a_held_spin_lock_is_not_acquired_by_a_try,
    a_spin_lock_excludes_other_processors,
    a_queued_spin_lock_raises_to_dispatch_level,
    a_reader_writer_lock_raises_to_dispatch_level,
    a_writer_excludes_readers_and_writers,
    readers_share_the_lock,
    interlocked_lists_keep_their_order,
);
