//! Callback objects (Microsoft Learn: ExCreateCallback): named lists of routines that someone calls.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use nt_sys::{
    BOOLEAN, NTSTATUS, OBJECT_ATTRIBUTES, PASSIVE_LEVEL, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};

use crate::exports;
use crate::ke::bugcheck;
use crate::ob::{self, ObjectType};
use crate::rtl::unicode;
use crate::sync::Mutex;

/// A routine of a callback object (wdm.h: PCALLBACK_FUNCTION).
pub type Routine = unsafe extern "win64" fn(context: PVOID, first: PVOID, second: PVOID);

/// The type of callback objects.
pub static CALLBACK: ObjectType = ObjectType {
    name: "Callback",
    delete,
};

/// The body of a callback object.
struct Callback {
    registrations: Mutex<Vec<Registration>>,
}

#[derive(Clone, Copy)]
struct Registration {
    id: usize,
    routine: Routine,
    context: PVOID,
}

struct Named(NonNull<Callback>);
// SAFETY: callback objects may be used from any thread; the entry owns a reference.
unsafe impl Send for Named {}

/// Callback objects with a name; they live as long as the machine.
static NAMED: Mutex<BTreeMap<String, Named>> = Mutex::new(BTreeMap::new());
static NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(1);

/// # Safety
/// `body` is a callback object's that nothing uses any more.
unsafe fn delete(body: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { body.cast::<Callback>().drop_in_place() };
}

/// Microsoft Learn: ExCreateCallback.
///
/// # Safety
/// `object` is writable; `attributes` is valid.
pub unsafe extern "win64" fn ExCreateCallback(
    object: *mut PVOID,
    attributes: *const OBJECT_ATTRIBUTES,
    create: BOOLEAN,
    _allow_multiple: BOOLEAN,
) -> NTSTATUS {
    bugcheck::irql_at_most("ExCreateCallback", PASSIVE_LEVEL);
    // SAFETY: the caller's promise.
    let name = unsafe { (*attributes).ObjectName };
    let name = match name.is_null() {
        true => String::new(),
        // SAFETY: the caller's promise.
        false => unsafe { unicode::to_text(name) }.to_ascii_lowercase(),
    };
    let known = NAMED.lock().get(&name).map(|named| named.0);
    let body = match known {
        Some(body) => {
            // SAFETY: the table holds a reference, so the object lives.
            unsafe { ob::reference(body.cast()) };
            body
        }
        // Windows makes the power state's and a few others at boot.
        None if create == 0 && !name.starts_with("\\callback\\") => {
            return STATUS_OBJECT_NAME_NOT_FOUND;
        }
        None => {
            let fresh = Callback {
                registrations: Mutex::new(Vec::new()),
            };
            let Some(body) = ob::create(&CALLBACK, fresh) else {
                return STATUS_INSUFFICIENT_RESOURCES;
            };
            if !name.is_empty() {
                // SAFETY: the object was just made; the table's reference is its own.
                unsafe { ob::reference(body.cast()) };
                NAMED.lock().insert(name, Named(body));
            }
            body
        }
    };
    // SAFETY: the caller's promise.
    unsafe { object.write(body.as_ptr().cast()) };
    STATUS_SUCCESS
}

/// # Safety
/// `object` is a live callback object.
unsafe fn body<'a>(object: PVOID) -> &'a Callback {
    // SAFETY: the caller's promise.
    unsafe { &*object.cast::<Callback>() }
}

/// Microsoft Learn: ExRegisterCallback; a handle for [`ExUnregisterCallback`].
///
/// # Safety
/// `object` is a live callback object.
pub unsafe extern "win64" fn ExRegisterCallback(
    object: PVOID,
    routine: Option<Routine>,
    context: PVOID,
) -> PVOID {
    bugcheck::irql_at_most("ExRegisterCallback", nt_sys::APC_LEVEL);
    let Some(routine) = routine else {
        return null_mut();
    };
    let id = NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    // SAFETY: the caller's promise.
    let callback = unsafe { body(object) };
    callback.registrations.lock().push(Registration {
        id,
        routine,
        context,
    });
    id as PVOID
}

/// Microsoft Learn: ExUnregisterCallback.
pub extern "win64" fn ExUnregisterCallback(registration: PVOID) {
    bugcheck::irql_at_most("ExUnregisterCallback", nt_sys::APC_LEVEL);
    for named in NAMED.lock().values() {
        // SAFETY: the table holds a reference, so the object lives.
        let callback = unsafe { named.0.as_ref() };
        callback
            .registrations
            .lock()
            .retain(|entry| entry.id as PVOID != registration);
    }
}

/// Microsoft Learn: ExNotifyCallback.
///
/// # Safety
/// `object` is a live callback object; its routines take these arguments.
pub unsafe extern "win64" fn ExNotifyCallback(object: PVOID, first: PVOID, second: PVOID) {
    // SAFETY: the caller's promise.
    let entries: Vec<Registration> = unsafe { body(object) }.registrations.lock().clone();
    for entry in entries {
        // SAFETY: the driver registered this routine and context.
        unsafe { (entry.routine)(entry.context, first, second) };
    }
}

/// Calls the routines of the named callback object, if there is one. PASSIVE_LEVEL.
pub fn notify(name: &str, first: usize, second: usize) {
    let known = NAMED
        .lock()
        .get(&name.to_ascii_lowercase())
        .map(|named| named.0);
    if let Some(object) = known {
        let (first, second) = (first as *mut c_void, second as *mut c_void);
        // SAFETY: the table holds a reference; the object's name says what its arguments are.
        unsafe { ExNotifyCallback(object.as_ptr().cast(), first, second) };
    }
}

exports!(
    "ntoskrnl.exe":
    ExCreateCallback,
    ExRegisterCallback,
    ExUnregisterCallback,
    ExNotifyCallback,
);
