//! Executive reader/writer spin locks (`EX_SPIN_LOCK`): a 32-bit word, 0 when free, the number of readers, or
//! [`WRITER`]. A writer that waits sets [`WANTED`], so that new readers let it go first.

use core::sync::atomic::{AtomicU32, Ordering};

use nt_sys::{DISPATCH_LEVEL, KIRQL};

use super::{bugcheck, irql, poll};
use crate::exports;
use crate::host::platform;
use crate::verifier::Rule;

/// `EX_SPIN_LOCK` (wdm.h).
pub type ExSpinLock = i32;

/// A writer has it.
const WRITER: u32 = 1 << 31;
/// A writer waits.
const WANTED: u32 = 1 << 30;
/// A lock that is waited for this long (100 ns units) is a bug: 20 s.
const TOO_LONG: u64 = 20 * 10_000_000;

/// # Safety
/// `lock` points to an initialised lock that lives as long as `'a`.
unsafe fn word<'a>(lock: *mut ExSpinLock) -> &'a AtomicU32 {
    // SAFETY: the caller's promise; every access to the word is atomic.
    unsafe { AtomicU32::from_ptr(lock.cast()) }
}

/// Repeats `attempt` until it succeeds.
fn spin(lock: *mut ExSpinLock, attempt: impl Fn() -> bool) {
    if attempt() {
        return;
    }
    let start = platform().interrupt_time();
    while !attempt() {
        poll();
        platform().relax();
        if platform().interrupt_time() - start > TOO_LONG {
            Rule::LockStuck.bug_check(
                [lock as u64, 0, 0, 0],
                format_args!("waits for reader/writer lock {lock:p} for 20 s"),
            );
        }
    }
}

fn not_held(lock: *mut ExSpinLock, how: &str) -> ! {
    Rule::LockNotHeld.bug_check(
        [lock as u64, 0, 0, 0],
        format_args!("releases reader/writer lock {lock:p}, which is not held {how}"),
    )
}

/// Microsoft Learn: ExAcquireSpinLockSharedAtDpcLevel.
///
/// # Safety
/// `lock` is an initialised lock.
pub unsafe extern "win64" fn ExAcquireSpinLockSharedAtDpcLevel(lock: *mut ExSpinLock) {
    bugcheck::irql_at_least("ExAcquireSpinLockSharedAtDpcLevel", DISPATCH_LEVEL);
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    spin(lock, || {
        let value = word.load(Ordering::Relaxed);
        value & (WRITER | WANTED) == 0
            && word
                .compare_exchange_weak(value, value + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    });
}

/// Microsoft Learn: ExReleaseSpinLockSharedFromDpcLevel.
///
/// # Safety
/// `lock` is held by the caller as a reader.
pub unsafe extern "win64" fn ExReleaseSpinLockSharedFromDpcLevel(lock: *mut ExSpinLock) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    let value = word.fetch_sub(1, Ordering::Release);
    if value & WRITER != 0 || value & !WANTED == 0 {
        not_held(lock, "by a reader");
    }
}

/// Microsoft Learn: ExAcquireSpinLockExclusiveAtDpcLevel.
///
/// # Safety
/// `lock` is an initialised lock.
pub unsafe extern "win64" fn ExAcquireSpinLockExclusiveAtDpcLevel(lock: *mut ExSpinLock) {
    bugcheck::irql_at_least("ExAcquireSpinLockExclusiveAtDpcLevel", DISPATCH_LEVEL);
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    spin(lock, || {
        let value = word.fetch_or(WANTED, Ordering::Relaxed) | WANTED;
        value == WANTED
            && word
                .compare_exchange(WANTED, WRITER, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    });
}

/// Microsoft Learn: ExReleaseSpinLockExclusiveFromDpcLevel.
///
/// # Safety
/// `lock` is held by the caller as the writer.
pub unsafe extern "win64" fn ExReleaseSpinLockExclusiveFromDpcLevel(lock: *mut ExSpinLock) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    if word.fetch_and(!WRITER, Ordering::Release) & WRITER == 0 {
        not_held(lock, "by a writer");
    }
}

/// Microsoft Learn: ExAcquireSpinLockShared.
///
/// # Safety
/// `lock` is an initialised lock.
pub unsafe extern "win64" fn ExAcquireSpinLockShared(lock: *mut ExSpinLock) -> KIRQL {
    bugcheck::irql_at_most("ExAcquireSpinLockShared", DISPATCH_LEVEL);
    let old = irql::set(DISPATCH_LEVEL);
    // SAFETY: the caller's promise.
    unsafe { ExAcquireSpinLockSharedAtDpcLevel(lock) };
    old
}

/// Microsoft Learn: ExReleaseSpinLockShared.
///
/// # Safety
/// `lock` is held by the caller as a reader; `old` is what acquiring it returned.
pub unsafe extern "win64" fn ExReleaseSpinLockShared(lock: *mut ExSpinLock, old: KIRQL) {
    // SAFETY: the caller's promise.
    unsafe { ExReleaseSpinLockSharedFromDpcLevel(lock) };
    irql::set(old);
    poll();
}

/// Microsoft Learn: ExAcquireSpinLockExclusive.
///
/// # Safety
/// `lock` is an initialised lock.
pub unsafe extern "win64" fn ExAcquireSpinLockExclusive(lock: *mut ExSpinLock) -> KIRQL {
    bugcheck::irql_at_most("ExAcquireSpinLockExclusive", DISPATCH_LEVEL);
    let old = irql::set(DISPATCH_LEVEL);
    // SAFETY: the caller's promise.
    unsafe { ExAcquireSpinLockExclusiveAtDpcLevel(lock) };
    old
}

/// Microsoft Learn: ExReleaseSpinLockExclusive.
///
/// # Safety
/// `lock` is held by the caller as the writer; `old` is what acquiring it returned.
pub unsafe extern "win64" fn ExReleaseSpinLockExclusive(lock: *mut ExSpinLock, old: KIRQL) {
    // SAFETY: the caller's promise.
    unsafe { ExReleaseSpinLockExclusiveFromDpcLevel(lock) };
    irql::set(old);
    poll();
}

exports!(
    "ntoskrnl.exe":
    ExAcquireSpinLockShared,
    ExReleaseSpinLockShared,
    ExAcquireSpinLockExclusive,
    ExReleaseSpinLockExclusive,
    ExAcquireSpinLockSharedAtDpcLevel,
    ExReleaseSpinLockSharedFromDpcLevel,
    ExAcquireSpinLockExclusiveAtDpcLevel,
    ExReleaseSpinLockExclusiveFromDpcLevel,
);
