//! Callback objects (Microsoft Learn: ExCreateCallback): named lists of routines that someone calls.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

use nt_sys::{
    BOOLEAN, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};

use crate::exports;
use crate::ke::border;
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
    /// Whether more than one routine may register.
    multiple: bool,
    registrations: Mutex<Vec<Arc<Registration>>>,
}

/// What `ExRegisterCallback`'s handle stands for.
struct Registration {
    id: usize,
    object: Object,
    routine: Routine,
    context: usize,
    /// Calls of the routine that have not returned.
    calls: AtomicUsize,
}

/// A callback object that someone holds a reference of.
#[derive(Clone, Copy)]
struct Object(NonNull<Callback>);
// SAFETY: callback objects may be used from any thread; the owner of the value owns a reference.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

/// Callback objects with a name; they live as long as the machine.
static NAMED: Mutex<BTreeMap<String, Object>> = Mutex::new(BTreeMap::new());
/// Every registration, by its handle.
static REGISTERED: Mutex<BTreeMap<usize, Arc<Registration>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// The callback objects that Windows makes at boot (Microsoft Learn, "Using a System-Defined Callback Object").
const OF_THE_SYSTEM: [&str; 3] = [
    "\\callback\\powerstate",
    "\\callback\\setsystemtime",
    "\\callback\\processoradd",
];

/// How long ExUnregisterCallback sleeps between two looks at a routine that runs, in 100 ns units.
const LOOK: u64 = 1_000;

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
    allow_multiple: BOOLEAN,
) -> NTSTATUS {
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
        None if create == 0 && !OF_THE_SYSTEM.contains(&name.as_str()) => {
            return STATUS_OBJECT_NAME_NOT_FOUND;
        }
        None => {
            let fresh = Callback {
                multiple: allow_multiple != 0 || OF_THE_SYSTEM.contains(&name.as_str()),
                registrations: Mutex::new(Vec::new()),
            };
            let Some(body) = ob::create(&CALLBACK, fresh) else {
                return STATUS_INSUFFICIENT_RESOURCES;
            };
            if !name.is_empty() {
                // SAFETY: the object was just made; the table's reference is its own.
                unsafe { ob::reference(body.cast()) };
                NAMED.lock().insert(name, Object(body));
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
    let Some(routine) = routine else {
        return null_mut();
    };
    // SAFETY: the caller's promise.
    let callback = unsafe { body(object) };
    let Some(object) = NonNull::new(object.cast::<Callback>()) else {
        return null_mut();
    };
    let mut registrations = callback.registrations.lock();
    if !callback.multiple && !registrations.is_empty() {
        return null_mut();
    }
    // SAFETY: the caller's promise; the registration's reference is given back when it ends.
    unsafe { ob::reference(object.cast()) };
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let registration = Arc::new(Registration {
        id,
        object: Object(object),
        routine,
        context: context as usize,
        calls: AtomicUsize::new(0),
    });
    registrations.push(registration.clone());
    drop(registrations);
    REGISTERED.lock().insert(id, registration);
    id as PVOID
}

/// Microsoft Learn: ExUnregisterCallback; the routine does not run any more when this returns.
pub extern "win64" fn ExUnregisterCallback(registration: PVOID) {
    let Some(registration) = REGISTERED.lock().remove(&(registration as usize)) else {
        return;
    };
    // SAFETY: the registration holds a reference.
    let callback = unsafe { registration.object.0.as_ref() };
    let mut registrations = callback.registrations.lock();
    registrations.retain(|entry| entry.id != registration.id);
    drop(registrations);
    while registration.calls.load(Ordering::Acquire) != 0 {
        crate::ke::wait::delay(LOOK);
    }
    // SAFETY: the reference that the registration held.
    unsafe { ob::dereference(registration.object.0.cast()) };
}

/// Takes the registrations away whose routines are in an image: the routines' addresses.
pub(crate) fn take_of(image: &Range<usize>) -> Vec<usize> {
    let registered = REGISTERED.lock();
    let own = registered
        .values()
        .map(|entry| (entry.id, entry.routine as usize));
    let own: Vec<_> = own.filter(|(_, routine)| image.contains(routine)).collect();
    drop(registered);
    let unregister = |(id, routine): (usize, usize)| {
        ExUnregisterCallback(id as PVOID);
        routine
    };
    own.into_iter().map(unregister).collect()
}

/// Microsoft Learn: ExNotifyCallback.
///
/// # Safety
/// `object` is a live callback object; its routines take these arguments.
pub unsafe extern "win64" fn ExNotifyCallback(object: PVOID, first: PVOID, second: PVOID) {
    let entries = {
        // SAFETY: the caller's promise.
        let registrations = unsafe { body(object) }.registrations.lock();
        for entry in registrations.iter() {
            entry.calls.fetch_add(1, Ordering::AcqRel);
        }
        registrations.clone()
    };
    for entry in entries {
        // SAFETY: the driver registered this routine and context.
        border::call(|| unsafe { (entry.routine)(entry.context as PVOID, first, second) });
        entry.calls.fetch_sub(1, Ordering::AcqRel);
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
