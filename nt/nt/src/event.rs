//! Events, and waiting with an end.

use crate::{Irql, NtStatus, Result, try_box};
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::time::Duration;
use nt_sys::imports::{
    KeClearEvent, KeInitializeEvent, KeReadStateEvent, KeSetEvent, KeWaitForMultipleObjects,
    KeWaitForSingleObject,
};
use nt_sys::{FALSE, KEVENT, KernelMode, PVOID, THREAD_WAIT_OBJECTS};

/// Whether a set event lets one waiter through or all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// Stays set until cleared.
    Notification,
    /// Clears itself as it wakes one waiter.
    Synchronization,
}

/// A kernel event. It lives in pool memory, since waiters are chained to its address.
pub struct Event {
    object: Box<UnsafeCell<MaybeUninit<KEVENT>>>,
}

// SAFETY: the kernel synchronises all access to an event.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// A new event, `set` or not.
    pub fn new(kind: EventKind, set: bool) -> Result<Event> {
        let event = Event {
            object: try_box(UnsafeCell::new(MaybeUninit::uninit()))?,
        };
        let kind = match kind {
            EventKind::Notification => nt_sys::NotificationEvent,
            EventKind::Synchronization => nt_sys::SynchronizationEvent,
        };
        // SAFETY: the memory is the event's own and does not move.
        unsafe { KeInitializeEvent(event.as_ptr(), kind, set.into()) };
        Ok(event)
    }

    /// The address that other drivers are given to set.
    pub fn as_ptr(&self) -> *mut KEVENT {
        self.object.get().cast()
    }

    /// Sets the event. IRQL ≤ DISPATCH_LEVEL.
    pub fn set(&self) {
        // SAFETY: the event is initialised; without `wait` this is allowed up to DISPATCH_LEVEL.
        unsafe { KeSetEvent(self.as_ptr(), 0, FALSE) };
    }

    /// Clears the event. IRQL ≤ DISPATCH_LEVEL.
    pub fn clear(&self) {
        // SAFETY: the event is initialised.
        unsafe { KeClearEvent(self.as_ptr()) };
    }

    /// Whether the event is set. IRQL ≤ DISPATCH_LEVEL.
    pub fn is_set(&self) -> bool {
        // SAFETY: the event is initialised.
        unsafe { KeReadStateEvent(self.as_ptr()) != 0 }
    }

    /// Waits until the event is set, without end. PASSIVE_LEVEL.
    pub fn wait(&self) {
        let _ = self.wait_until(None);
    }

    /// Waits until the event is set or `timeout` has passed; says whether it was set.
    ///
    /// PASSIVE_LEVEL, or up to DISPATCH_LEVEL with a timeout of zero.
    #[must_use]
    pub fn wait_for(&self, timeout: Duration) -> bool {
        self.wait_until(Some(timeout)) == NtStatus::SUCCESS
    }

    fn wait_until(&self, timeout: Option<Duration>) -> NtStatus {
        let timeout = timeout.map(relative);
        let timeout = timeout.as_ref().map_or(core::ptr::null(), |due| due);
        // SAFETY: the event is initialised and outlives the wait, as the timeout does.
        NtStatus(unsafe {
            KeWaitForSingleObject(
                self.as_ptr().cast(),
                nt_sys::Executive,
                KernelMode,
                FALSE,
                timeout,
            )
        })
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").finish_non_exhaustive()
    }
}

/// Waits until one of up to three events is set and gives its index, `None` on a time-out. PASSIVE_LEVEL.
///
/// Fails with STATUS_INVALID_PARAMETER for no or more than three events.
pub fn wait_any(events: &[&Event], timeout: Option<Duration>) -> Result<Option<usize>> {
    debug_assert!(Irql::current() == Irql::PASSIVE);
    if events.is_empty() || events.len() > THREAD_WAIT_OBJECTS {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut objects: [PVOID; THREAD_WAIT_OBJECTS] = [core::ptr::null_mut(); THREAD_WAIT_OBJECTS];
    for (slot, event) in objects.iter_mut().zip(events) {
        *slot = event.as_ptr().cast();
    }
    let timeout = timeout.map(relative);
    let timeout = timeout.as_ref().map_or(core::ptr::null(), |due| due);
    // SAFETY: the events are initialised and outlive the wait; up to three need no wait blocks.
    let status = NtStatus(unsafe {
        KeWaitForMultipleObjects(
            events.len() as u32,
            objects.as_ptr(),
            nt_sys::WaitAny,
            nt_sys::Executive,
            KernelMode,
            FALSE,
            timeout,
            core::ptr::null_mut(),
        )
    });
    match usize::try_from(status.0) {
        Ok(index) if index < events.len() => Ok(Some(index)),
        _ if status == NtStatus::TIMEOUT => Ok(None),
        _ => Err(status),
    }
}

/// `duration` as the kernel's relative time: a negative number of 100 ns.
pub(crate) fn relative(duration: Duration) -> i64 {
    let ticks = duration.as_nanos() / 100;
    i64::try_from(ticks).map_or(i64::MIN, |ticks| -ticks)
}
