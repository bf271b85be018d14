//! Event objects: events with a handle and a name, which live in the object manager instead of in a driver's memory.
//!
//! `\KernelObjects\LowMemoryCondition` and its kin exist from the start, as the memory manager makes them. There is no
//! pressure on memory here, so they keep their first state.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use nt_sys::{HANDLE, KEVENT, NotificationEvent, SynchronizationEvent, UNICODE_STRING};

use crate::exports;
use crate::ke::event::KeInitializeEvent;
use crate::ob::{self, ObjectType, handle};
use crate::rtl::unicode;
use crate::sync::Mutex;

/// The type of event objects: what `*ExEventObjectType` is.
pub static EVENT: ObjectType = ObjectType {
    name: "Event",
    delete: |_| (),
};

/// What drivers read to get the event type (wdm.h: `extern POBJECT_TYPE *ExEventObjectType`).
pub static ExEventObjectType: &ObjectType = &EVENT;

/// Events that the system itself makes (Microsoft Learn: "Standard Event Objects"), and whether they are signalled.
const STANDARD: [(&str, bool); 4] = [
    ("\\kernelobjects\\highmemorycondition", true),
    ("\\kernelobjects\\lowmemorycondition", false),
    ("\\kernelobjects\\lowcommitcondition", false),
    ("\\kernelobjects\\highcommitcondition", false),
];

/// A reference to an event object.
struct Named(NonNull<KEVENT>);
// SAFETY: events may be used from any thread; the entry's reference keeps the object alive.
unsafe impl Send for Named {}

/// Named events by their name in lower case. They live as long as the machine.
static NAMED: Mutex<BTreeMap<String, Named>> = Mutex::new(BTreeMap::new());

fn create(kind: i32, signalled: bool) -> Option<NonNull<KEVENT>> {
    let event = ob::allocate(&EVENT, size_of::<KEVENT>())?.cast::<KEVENT>();
    // SAFETY: fresh memory of an event's size.
    unsafe { KeInitializeEvent(event.as_ptr(), kind, u8::from(signalled)) };
    Some(event)
}

/// The event of that name, with a reference that the list of names owns; `kind` and signalled when it has to be made.
fn open_named(name: &str, kind: i32) -> Option<NonNull<KEVENT>> {
    let name = name.to_ascii_lowercase();
    let mut named = NAMED.lock();
    if let Some(Named(event)) = named.get(&name) {
        return Some(*event);
    }
    let standard = STANDARD.iter().find(|(known, _)| *known == name);
    let event = create(kind, standard.is_none_or(|&(_, signalled)| signalled))?;
    named.insert(name, Named(event));
    Some(event)
}

/// # Safety
/// `name` is null or a valid string; `out` is writable.
unsafe fn open(kind: i32, name: *const UNICODE_STRING, out: *mut HANDLE) -> *mut KEVENT {
    // SAFETY: the caller's promise.
    let text = match name.is_null() {
        true => String::new(),
        // SAFETY: the caller's promise.
        false => unsafe { unicode::to_text(name) },
    };
    let event = match text.is_empty() {
        true => create(kind, true),
        false => open_named(&text, kind),
    };
    let Some(event) = event else {
        return null_mut();
    };
    let body = event.cast::<c_void>();
    // SAFETY: the object lives: it was just made, or the list of names refers to it.
    let opened = unsafe { handle::open(body) };
    if text.is_empty() {
        // SAFETY: the creator's reference; the handle has its own, and keeps the event as long as it is open.
        unsafe { ob::dereference(body) };
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(opened as HANDLE) };
    event.as_ptr()
}

/// Microsoft Learn: IoCreateNotificationEvent; a new event is signalled. IRQL PASSIVE_LEVEL.
///
/// # Safety
/// `name` is null or a valid string; `out` is writable.
pub unsafe extern "win64" fn IoCreateNotificationEvent(
    name: *const UNICODE_STRING,
    out: *mut HANDLE,
) -> *mut KEVENT {
    // SAFETY: the caller's promise.
    unsafe { open(NotificationEvent, name, out) }
}

/// Microsoft Learn: IoCreateSynchronizationEvent; a new event is signalled. IRQL PASSIVE_LEVEL.
///
/// # Safety
/// `name` is null or a valid string; `out` is writable.
pub unsafe extern "win64" fn IoCreateSynchronizationEvent(
    name: *const UNICODE_STRING,
    out: *mut HANDLE,
) -> *mut KEVENT {
    // SAFETY: the caller's promise.
    unsafe { open(SynchronizationEvent, name, out) }
}

exports!(
    "ntoskrnl.exe":
    IoCreateNotificationEvent,
    IoCreateSynchronizationEvent;
    data ExEventObjectType,
);
