//! Executive spin locks (`KSPIN_LOCK`): a word that is 0 when free.
//!
//! A held lock contains the number of the CPU that holds it plus one, and how it was acquired, so that taking a lock
//! twice, releasing a lock that another CPU holds and mixing kinds are found at once. Waiting CPUs poll: an
//! inter-processor call or an interrupt above the current IRQL gets through.

use core::sync::atomic::{AtomicUsize, Ordering};

use nt_sys::{DISPATCH_LEVEL, KIRQL, KSPIN_LOCK};

use super::{irql, poll, processor};
use crate::exports;
use crate::host::platform;
use crate::verifier::{Rule, locks};

/// A spin lock that is held or waited for this long (100 ns units) is a bug: 20 s.
pub(super) const TOO_LONG: u64 = 20 * 10_000_000;

/// By which functions a lock is acquired and released: always the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// KeAcquireSpinLock and its like.
    Ordinary,
    /// KeAcquireInStackQueuedSpinLock and its like.
    Queued,
    /// An interrupt's: KeAcquireInterruptSpinLock, KeSynchronizeExecution, the routine itself. With its IRQL.
    Interrupt(KIRQL),
}

const QUEUED: usize = 1 << 16;
const INTERRUPT: usize = 1 << 17;

impl Kind {
    /// What the word of a held lock contains besides its holder.
    fn mark(self) -> usize {
        match self {
            Self::Ordinary => 0,
            Self::Queued => QUEUED,
            Self::Interrupt(_) => INTERRUPT,
        }
    }

    /// The lowest IRQL at which it may be held.
    fn irql(self) -> KIRQL {
        match self {
            Self::Ordinary | Self::Queued => DISPATCH_LEVEL,
            Self::Interrupt(irql) => irql,
        }
    }
}

/// How a held lock was acquired, in words.
fn how(word: usize) -> &'static str {
    match word & (QUEUED | INTERRUPT) {
        0 => "an ordinary one",
        QUEUED => "a queued one",
        _ => "an interrupt's",
    }
}

/// # Safety
/// `lock` points to a spin lock that lives as long as `'a`.
unsafe fn word<'a>(lock: *mut KSPIN_LOCK) -> &'a AtomicUsize {
    // SAFETY: the caller's promise; every access to a spin lock's word is atomic.
    unsafe { AtomicUsize::from_ptr(lock) }
}

/// Takes an ordinary lock at the current IRQL.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe fn acquire(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's promise.
    unsafe { acquire_as(lock, Kind::Ordinary) };
}

/// Takes the lock at the current IRQL.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub(super) unsafe fn acquire_as(lock: *mut KSPIN_LOCK, kind: Kind) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    let cpu = processor::current();
    let owner = (cpu.number as usize + 1) | kind.mark();
    match word.compare_exchange(0, owner, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => {}
        Err(holder) => contended(lock, word, owner, holder),
    }
    locks::taken(cpu, lock as usize, kind.irql(), true);
}

#[cold]
fn contended(lock: *mut KSPIN_LOCK, word: &AtomicUsize, owner: usize, holder: usize) {
    let number = |word: usize| word & !(QUEUED | INTERRUPT);
    if number(holder) == number(owner) {
        Rule::LockRecursion.bug_check(
            [lock as u64, 0, 0, 0],
            format_args!("acquires spin lock {lock:p}, which this processor holds already"),
        );
    }
    if number(holder) > processor::all().len() {
        Rule::LockUninitialized.bug_check(
            [lock as u64, holder as u64, 0, 0],
            format_args!(
                "acquires spin lock {lock:p}, which was never initialised (it holds {holder:#x})"
            ),
        );
    }
    if number(holder) != 0 && how(holder) != how(owner) {
        Rule::LockKind.bug_check(
            [lock as u64, holder as u64, owner as u64, 0],
            format_args!(
                "acquires spin lock {lock:p} as {}, which is held as {}",
                how(owner),
                how(holder)
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
            let holder = number(word.load(Ordering::Relaxed)).wrapping_sub(1);
            Rule::LockStuck.bug_check(
                [lock as u64, holder as u64, 0, 0],
                format_args!("waits for spin lock {lock:p} for 20 s; processor {holder} holds it"),
            );
        }
    }
}

/// Releases an ordinary lock; the IRQL stays.
///
/// # Safety
/// `lock` points to a spin lock that this CPU holds.
pub unsafe fn release(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's promise.
    unsafe { release_as(lock, Kind::Ordinary) };
}

/// Releases the lock; the IRQL stays.
///
/// # Safety
/// `lock` points to a spin lock that this CPU holds.
pub(super) unsafe fn release_as(lock: *mut KSPIN_LOCK, kind: Kind) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    let cpu = processor::current();
    let owner = (cpu.number as usize + 1) | kind.mark();
    let holder = word.load(Ordering::Relaxed);
    if holder != owner {
        not_held(lock, owner, holder);
    }
    locks::given_back(cpu, lock as usize);
    word.store(0, Ordering::Release);
}

#[cold]
fn not_held(lock: *mut KSPIN_LOCK, owner: usize, holder: usize) -> ! {
    if (holder ^ owner) & !(QUEUED | INTERRUPT) == 0 {
        Rule::LockKind.bug_check(
            [lock as u64, holder as u64, owner as u64, 0],
            format_args!(
                "releases spin lock {lock:p} as {}, which was acquired as {}",
                how(owner),
                how(holder)
            ),
        );
    }
    Rule::LockNotHeld.bug_check(
        [lock as u64, holder as u64, 0, 0],
        format_args!("releases spin lock {lock:p}, which this processor does not hold"),
    )
}

/// A lock is released by `function` at the current IRQL, which becomes `old`: the one at which it is held, and not a
/// higher one.
pub(super) fn check_release(function: &str, held_at: KIRQL, old: KIRQL) {
    let current = irql::current();
    if current != held_at || old > held_at {
        Rule::LockReleaseIrql.breach(format_args!(
            "{function} at IRQL {current} (new IRQL {old}); it is called at IRQL {held_at}"
        ));
    }
}

/// Sets the IRQL to what it was before a lock was acquired, and delivers what that allows.
pub(super) fn lower(old: KIRQL) {
    locks::lowered(old);
    irql::set(old);
    poll();
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
    check_release("KeReleaseSpinLock", DISPATCH_LEVEL, old);
    // SAFETY: the caller's promise.
    unsafe { release(lock) };
    lower(old);
}

/// Microsoft Learn: KeAcquireSpinLockAtDpcLevel.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe extern "win64" fn KeAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's promise.
    unsafe { acquire(lock) };
}

/// Microsoft Learn: KeReleaseSpinLockFromDpcLevel.
///
/// # Safety
/// `lock` points to a spin lock that this CPU holds.
pub unsafe extern "win64" fn KeReleaseSpinLockFromDpcLevel(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's promise.
    unsafe { release(lock) };
    poll();
}

/// Microsoft Learn: KeTryToAcquireSpinLockAtDpcLevel.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe extern "win64" fn KeTryToAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK) -> u8 {
    let cpu = processor::current();
    let owner = cpu.number as usize + 1;
    // SAFETY: the caller's promise.
    let word = unsafe { word(lock) };
    let taken = word
        .compare_exchange(0, owner, Ordering::Acquire, Ordering::Relaxed)
        .is_ok();
    if taken {
        locks::taken(cpu, lock as usize, DISPATCH_LEVEL, false);
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
