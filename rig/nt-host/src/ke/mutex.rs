//! Mutexes (`KMUTEX`): owned by a thread, which may take them again.
//!
//! The signal state is 1 when free, 0 when taken once, and falls by one with each further taking by the owner.

use core::ptr::null_mut;

use nt_sys::{BOOLEAN, KMUTEX, LIST_ENTRY, MutantObject};

use super::dispatcher::{self, Object};
use super::{poll, thread};
use crate::exports;
use crate::verifier::Rule;

/// Microsoft Learn: KeInitializeMutex.
///
/// # Safety
/// `mutex` is writable and not in use.
pub unsafe extern "win64" fn KeInitializeMutex(mutex: *mut KMUTEX, _level: u32) {
    let fresh = KMUTEX {
        Header: dispatcher::header(MutantObject, size_of::<KMUTEX>(), 1),
        MutantListEntry: LIST_ENTRY {
            Flink: null_mut(),
            Blink: null_mut(),
        },
        OwnerThread: null_mut(),
        Abandoned: 0,
        ApcDisable: 1,
    };
    // SAFETY: the caller's promise.
    unsafe { mutex.write(fresh) };
    // SAFETY: the mutex is fresh and at its final address.
    unsafe { dispatcher::init_list(Object::new(mutex.cast())) };
}

/// Microsoft Learn: KeReleaseMutex; returns the former signal state.
///
/// # Safety
/// `mutex` is an initialised mutex.
pub unsafe extern "win64" fn KeReleaseMutex(mutex: *mut KMUTEX, wait: BOOLEAN) -> i32 {
    let mut locked = Object::new(mutex.cast()).lock();
    let old = locked.state();
    if old > 0 || !locked.owned_by(thread::current()) {
        drop(locked);
        Rule::MutexOwner.bug_check(
            [
                thread::current().as_pvoid().as_ptr() as u64,
                mutex as u64,
                0,
                0,
            ],
            format_args!("releases mutex {mutex:p}, which its thread does not own"),
        );
    }
    locked.set_state(old + 1);
    if old == 0 {
        locked.disown();
        locked.release_and_wake();
    }
    if wait == 0 {
        poll();
    }
    old
}

/// Microsoft Learn: KeReadStateMutex.
///
/// # Safety
/// `mutex` is an initialised mutex.
pub unsafe extern "win64" fn KeReadStateMutex(mutex: *mut KMUTEX) -> i32 {
    Object::new(mutex.cast()).state()
}

exports!("ntoskrnl.exe": KeInitializeMutex, KeReleaseMutex, KeReadStateMutex);
