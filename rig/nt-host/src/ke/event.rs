//! Events and semaphores.

use nt_sys::{
    BOOLEAN, EventNotificationObject, EventSynchronizationObject, KEVENT, KSEMAPHORE,
    NotificationEvent, SemaphoreObject,
};

use super::dispatcher::{self, Object};
use super::poll;
use super::wait::{self, Timeout};
use crate::exports;
use crate::verifier::Rule;

/// An event of the executive's own, at a fixed address.
pub struct Event(alloc::boxed::Box<core::cell::UnsafeCell<KEVENT>>);

// SAFETY: every access to the event goes through its own lock.
unsafe impl Sync for Event {}
// SAFETY: as for `Sync`; the box keeps its address.
unsafe impl Send for Event {}

impl Event {
    /// An unsignalled event; `true` for one that stays signalled until it is reset.
    pub fn new(notification: bool) -> Self {
        let kind = if notification {
            EventNotificationObject
        } else {
            EventSynchronizationObject
        };
        let header = dispatcher::header(kind, size_of::<KEVENT>(), 0);
        let event = Self(alloc::boxed::Box::new(core::cell::UnsafeCell::new(
            KEVENT { Header: header },
        )));
        // SAFETY: the event is fresh and at its final address.
        unsafe { dispatcher::init_list(event.object()) };
        event
    }

    /// The event as something to wait for.
    pub fn object(&self) -> Object {
        Object::new(self.0.get().cast())
    }

    /// Signals it. IRQL up to DISPATCH_LEVEL, on a virtual CPU.
    pub fn set(&self) {
        self.object().signal(1);
    }

    /// Waits for it; `false` when the time is over. IRQL below DISPATCH_LEVEL.
    pub fn wait(&self, timeout: Timeout) -> bool {
        wait::wait_one(self.object(), timeout)
    }
}

/// Microsoft Learn: KeInitializeEvent.
///
/// # Safety
/// `event` is writable and not in use.
pub unsafe extern "win64" fn KeInitializeEvent(event: *mut KEVENT, kind: i32, state: BOOLEAN) {
    let kind = if kind == NotificationEvent {
        EventNotificationObject
    } else {
        EventSynchronizationObject
    };
    let header = dispatcher::header(kind, size_of::<KEVENT>(), i32::from(state != 0));
    // SAFETY: the caller's promise.
    unsafe { event.write(KEVENT { Header: header }) };
    // SAFETY: the event is fresh and at its final address.
    unsafe { dispatcher::init_list(Object::new(event.cast())) };
}

/// Microsoft Learn: KeSetEvent; returns the former state.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe extern "win64" fn KeSetEvent(event: *mut KEVENT, _increment: i32, wait: BOOLEAN) -> i32 {
    let old = Object::new(event.cast()).signal(1);
    if wait == 0 {
        poll();
    }
    old
}

/// Microsoft Learn: KeResetEvent; returns the former state.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe extern "win64" fn KeResetEvent(event: *mut KEVENT) -> i32 {
    Object::new(event.cast()).reset()
}

/// Microsoft Learn: KeClearEvent.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe extern "win64" fn KeClearEvent(event: *mut KEVENT) {
    Object::new(event.cast()).reset();
}

/// Microsoft Learn: KeReadStateEvent.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe extern "win64" fn KeReadStateEvent(event: *mut KEVENT) -> i32 {
    let state = Object::new(event.cast()).state();
    poll();
    state
}

/// Microsoft Learn: KeInitializeSemaphore.
///
/// # Safety
/// `semaphore` is writable and not in use.
pub unsafe extern "win64" fn KeInitializeSemaphore(
    semaphore: *mut KSEMAPHORE,
    count: i32,
    limit: i32,
) {
    let header = dispatcher::header(SemaphoreObject, size_of::<KSEMAPHORE>(), count);
    // SAFETY: the caller's promise.
    unsafe {
        semaphore.write(KSEMAPHORE {
            Header: header,
            Limit: limit,
        })
    };
    // SAFETY: the semaphore is fresh and at its final address.
    unsafe { dispatcher::init_list(Object::new(semaphore.cast())) };
}

/// Microsoft Learn: KeReleaseSemaphore; returns the former count.
///
/// # Safety
/// `semaphore` is an initialised semaphore.
pub unsafe extern "win64" fn KeReleaseSemaphore(
    semaphore: *mut KSEMAPHORE,
    _increment: i32,
    adjustment: i32,
    wait: BOOLEAN,
) -> i32 {
    // SAFETY: the caller's promise; the limit never changes.
    let limit = unsafe { (*semaphore).Limit };
    let mut locked = Object::new(semaphore.cast()).lock();
    let old = locked.state();
    match old.checked_add(adjustment) {
        Some(new) if new <= limit && adjustment > 0 => locked.set_state(new),
        _ => {
            drop(locked);
            Rule::SemaphoreLimit.breach(format_args!(
                "KeReleaseSemaphore of {adjustment} at {old} beyond its limit {limit} (STATUS_SEMAPHORE_LIMIT_EXCEEDED)"
            ));
        }
    }
    locked.release_and_wake();
    if wait == 0 {
        poll();
    }
    old
}

/// Microsoft Learn: KeReadStateSemaphore.
///
/// # Safety
/// `semaphore` is an initialised semaphore.
pub unsafe extern "win64" fn KeReadStateSemaphore(semaphore: *mut KSEMAPHORE) -> i32 {
    Object::new(semaphore.cast()).state()
}

exports!(
    "ntoskrnl.exe":
    KeInitializeEvent,
    KeSetEvent,
    KeResetEvent,
    KeClearEvent,
    KeReadStateEvent,
    KeInitializeSemaphore,
    KeReleaseSemaphore,
    KeReadStateSemaphore,
);
