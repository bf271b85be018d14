//! Executive reader/writer spin locks (`EX_SPIN_LOCK`): a 32-bit word, 0 when free, the number of readers, or
//! [`WRITER`]. A writer that waits sets [`WANTED`], so that new readers let it go first.

use core::sync::atomic::{AtomicU32, Ordering};

use nt_sys::{DISPATCH_LEVEL, KIRQL};

use super::spinlock::{self, TOO_LONG};
use super::{irql, poll, processor};
use crate::exports;
use crate::host::platform;
use crate::verifier::{Rule, locks};

/// `EX_SPIN_LOCK` (wdm.h).
pub type ExSpinLock = i32;

/// A writer has it.
const WRITER: u32 = 1 << 31;
/// A writer waits.
const WANTED: u32 = 1 << 30;
/// More readers than any machine has processors: such a value was never that of a lock.
const TOO_MANY: u32 = 1 << 16;

/// # Safety
/// `lock` points to an initialised lock that lives as long as `'a`.
unsafe fn word<'a>(lock: *mut ExSpinLock) -> &'a AtomicU32 {
    // SAFETY: the caller's promise; every access to the word is atomic.
    unsafe { AtomicU32::from_ptr(lock.cast()) }
}

/// Repeats `attempt` until it succeeds; then this CPU holds the lock.
fn acquire(lock: *mut ExSpinLock, word: &AtomicU32, attempt: impl Fn() -> bool) {
    let cpu = processor::current();
    if locks::holds(cpu, lock as usize) {
        Rule::LockRecursion.bug_check(
            [lock as u64, 0, 0, 0],
            format_args!(
                "acquires reader/writer lock {lock:p}, which this processor holds already"
            ),
        );
    }
    if !attempt() {
        wait(lock, word, attempt);
    }
    locks::taken(cpu, lock as usize, DISPATCH_LEVEL, true);
}

#[cold]
fn wait(lock: *mut ExSpinLock, word: &AtomicU32, attempt: impl Fn() -> bool) {
    let value = word.load(Ordering::Relaxed);
    let readers = value & !(WRITER | WANTED);
    if readers >= TOO_MANY || value & WRITER != 0 && readers != 0 {
        Rule::LockUninitialized.bug_check(
            [lock as u64, u64::from(value), 0, 0],
            format_args!(
                "acquires reader/writer lock {lock:p}, which was never initialised (it holds {value:#x})"
            ),
        );
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

/// This CPU gives the lock back; `is_held` says whether somebody has it in that way.
fn release(lock: *mut ExSpinLock, is_held: bool, how: &str) {
    let cpu = processor::current();
    let is_ours = locks::holds(cpu, lock as usize) || !locks::follows_all(cpu);
    if !is_held || !is_ours {
        let whose = if is_held { " on this processor" } else { "" };
        Rule::LockNotHeld.bug_check(
            [lock as u64, 0, 0, 0],
            format_args!("releases reader/writer lock {lock:p}, which is not held {how}{whose}"),
        );
    }
    locks::given_back(cpu, lock as usize);
}

/// Microsoft Learn: ExAcquireSpinLockSharedAtDpcLevel.
///
/// # Safety
/// `lock` is an initialised lock.
pub unsafe extern "win64" fn ExAcquireSpinLockSharedAtDpcLevel(lock: *mut ExSpinLock) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    acquire(lock, word, || {
        let value = word.load(Ordering::Relaxed);
        value & (WRITER | WANTED) == 0
            && value < TOO_MANY
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
    let value = word.load(Ordering::Relaxed);
    release(
        lock,
        value & WRITER == 0 && value & !WANTED != 0,
        "by a reader",
    );
    word.fetch_sub(1, Ordering::Release);
}

/// Microsoft Learn: ExAcquireSpinLockExclusiveAtDpcLevel.
///
/// # Safety
/// `lock` is an initialised lock.
pub unsafe extern "win64" fn ExAcquireSpinLockExclusiveAtDpcLevel(lock: *mut ExSpinLock) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    acquire(lock, word, || {
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
    let is_held = word.load(Ordering::Relaxed) & WRITER != 0;
    release(lock, is_held, "by a writer");
    word.fetch_and(!WRITER, Ordering::Release);
}

/// Microsoft Learn: ExAcquireSpinLockShared.
///
/// # Safety
/// `lock` is an initialised lock.
pub unsafe extern "win64" fn ExAcquireSpinLockShared(lock: *mut ExSpinLock) -> KIRQL {
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
    spinlock::check_release("ExReleaseSpinLockShared", DISPATCH_LEVEL, old);
    // SAFETY: the caller's promise.
    unsafe { ExReleaseSpinLockSharedFromDpcLevel(lock) };
    spinlock::lower(old);
}

/// Microsoft Learn: ExAcquireSpinLockExclusive.
///
/// # Safety
/// `lock` is an initialised lock.
pub unsafe extern "win64" fn ExAcquireSpinLockExclusive(lock: *mut ExSpinLock) -> KIRQL {
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
    spinlock::check_release("ExReleaseSpinLockExclusive", DISPATCH_LEVEL, old);
    // SAFETY: the caller's promise.
    unsafe { ExReleaseSpinLockExclusiveFromDpcLevel(lock) };
    spinlock::lower(old);
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
