//! Executive spin locks (`KSPIN_LOCK`): a word that is 0 when free.
//!
//! A held lock contains the number of the CPU that holds it plus one, so that taking a lock twice and releasing a lock
//! that another CPU holds are found at once. Waiting CPUs poll: an inter-processor call or an interrupt above the
//! current IRQL gets through.

use core::sync::atomic::{AtomicUsize, Ordering};

use nt_sys::{DISPATCH_LEVEL, KIRQL, KSPIN_LOCK};

use super::{bugcheck, irql, poll, processor};
use crate::exports;
use crate::host::platform;
use crate::verifier::{Rule, locks};

/// A spin lock that is held or waited for this long (100 ns units) is a bug: 20 s.
const TOO_LONG: u64 = 20 * 10_000_000;

/// # Safety
/// `lock` points to a spin lock that lives as long as `'a`.
unsafe fn word<'a>(lock: *mut KSPIN_LOCK) -> &'a AtomicUsize {
    // SAFETY: the caller's promise; every access to a spin lock's word is atomic.
    unsafe { AtomicUsize::from_ptr(lock) }
}

/// Takes the lock at the current IRQL.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe fn acquire(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    let cpu = processor::current();
    let owner = cpu.number as usize + 1;
    match word.compare_exchange(0, owner, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => {}
        Err(holder) => contended(lock, word, owner, holder),
    }
    locks::taken(cpu, lock as usize, true);
}

#[cold]
fn contended(lock: *mut KSPIN_LOCK, word: &AtomicUsize, owner: usize, holder: usize) {
    if holder == owner {
        Rule::LockRecursion.bug_check(
            [lock as u64, 0, 0, 0],
            format_args!("acquires spin lock {lock:p}, which this processor holds already"),
        );
    }
    if holder > processor::all().len() {
        Rule::LockUninitialized.bug_check(
            [lock as u64, holder as u64, 0, 0],
            format_args!(
                "acquires spin lock {lock:p}, which was never initialised (it holds {holder:#x})"
            ),
        );
    }
    let start = platform().interrupt_time();
    let mut spins = 0u32;
    while word
        .compare_exchange_weak(0, owner, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        poll();
        platform().relax();
        spins = spins.wrapping_add(1);
        if spins.is_multiple_of(1024) && platform().interrupt_time() - start > TOO_LONG {
            let holder = word.load(Ordering::Relaxed).wrapping_sub(1);
            Rule::LockStuck.bug_check(
                [lock as u64, holder as u64, 0, 0],
                format_args!("waits for spin lock {lock:p} for 20 s; processor {holder} holds it"),
            );
        }
    }
}

/// Releases the lock; the IRQL stays.
///
/// # Safety
/// `lock` points to a spin lock that this CPU holds.
pub unsafe fn release(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    let cpu = processor::current();
    let owner = cpu.number as usize + 1;
    let holder = word.load(Ordering::Relaxed);
    if holder != owner {
        Rule::LockNotHeld.bug_check(
            [lock as u64, holder as u64, 0, 0],
            format_args!("releases spin lock {lock:p}, which this processor does not hold"),
        );
    }
    locks::given_back(cpu, lock as usize);
    word.store(0, Ordering::Release);
}

/// Microsoft Learn: KeInitializeSpinLock.
///
/// # Safety
/// `lock` points to writable memory.
pub unsafe extern "win64" fn KeInitializeSpinLock(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's promise.
    unsafe { word(lock) }.store(0, Ordering::Relaxed);
}

/// Microsoft Learn: KeAcquireSpinLock, whose x64 form this is.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe extern "win64" fn KeAcquireSpinLockRaiseToDpc(lock: *mut KSPIN_LOCK) -> KIRQL {
    bugcheck::irql_at_most("KeAcquireSpinLock", DISPATCH_LEVEL);
    let old = irql::set(DISPATCH_LEVEL);
    // SAFETY: the caller's promise.
    unsafe { acquire(lock) };
    old
}

/// Microsoft Learn: KeReleaseSpinLock.
///
/// # Safety
/// `lock` points to a spin lock that this CPU holds.
pub unsafe extern "win64" fn KeReleaseSpinLock(lock: *mut KSPIN_LOCK, old: KIRQL) {
    let current = irql::current();
    if current != DISPATCH_LEVEL || old > DISPATCH_LEVEL {
        Rule::LockReleaseIrql.breach(format_args!(
            "KeReleaseSpinLock at IRQL {current} (new IRQL {old}); it is called at DISPATCH_LEVEL"
        ));
    }
    // SAFETY: the caller's promise.
    unsafe { release(lock) };
    if old < DISPATCH_LEVEL {
        locks::lowered();
    }
    irql::set(old);
    poll();
}

/// Microsoft Learn: KeAcquireSpinLockAtDpcLevel.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe extern "win64" fn KeAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK) {
    bugcheck::irql_at_least("KeAcquireSpinLockAtDpcLevel", DISPATCH_LEVEL);
    // SAFETY: the caller's promise.
    unsafe { acquire(lock) };
}

/// Microsoft Learn: KeReleaseSpinLockFromDpcLevel.
///
/// # Safety
/// `lock` points to a spin lock that this CPU holds.
pub unsafe extern "win64" fn KeReleaseSpinLockFromDpcLevel(lock: *mut KSPIN_LOCK) {
    bugcheck::irql_at_least("KeReleaseSpinLockFromDpcLevel", DISPATCH_LEVEL);
    // SAFETY: the caller's promise.
    unsafe { release(lock) };
    poll();
}

/// Microsoft Learn: KeTryToAcquireSpinLockAtDpcLevel.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe extern "win64" fn KeTryToAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK) -> u8 {
    bugcheck::irql_at_least("KeTryToAcquireSpinLockAtDpcLevel", DISPATCH_LEVEL);
    let cpu = processor::current();
    let owner = cpu.number as usize + 1;
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    let taken = word
        .compare_exchange(0, owner, Ordering::Acquire, Ordering::Relaxed)
        .is_ok();
    if taken {
        locks::taken(cpu, lock as usize, false);
    }
    u8::from(taken)
}

exports!(
    "ntoskrnl.exe":
    KeInitializeSpinLock,
    KeAcquireSpinLockRaiseToDpc,
    KeReleaseSpinLock,
    KeAcquireSpinLockAtDpcLevel,
    KeReleaseSpinLockFromDpcLevel,
    KeTryToAcquireSpinLockAtDpcLevel,
);
