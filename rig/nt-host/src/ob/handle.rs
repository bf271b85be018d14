//! The handle table of the system process.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use nt_sys::{
    HANDLE, NTSTATUS, PVOID, STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};

use super::ObjectType;
use crate::exports;
use crate::ke::processor;
use crate::sync::Mutex;

/// A handle: a multiple of four, as Windows gives them; 0 is none.
pub type Handle = usize;

struct Table {
    objects: BTreeMap<Handle, Entry>,
    next: Handle,
}

struct Entry {
    body: NonNull<c_void>,
    /// The module that opened it.
    owner: u32,
}

// SAFETY: an entry owns a reference to an object; objects may be used from any thread.
unsafe impl Send for Entry {}

static TABLE: Mutex<Table> = Mutex::new(Table {
    objects: BTreeMap::new(),
    next: 4,
});

/// Why a handle names no usable object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleError {
    /// No such handle: STATUS_INVALID_HANDLE.
    Invalid,
    /// The object is of another type: STATUS_OBJECT_TYPE_MISMATCH.
    WrongType,
}

/// A handle to the object, which keeps a reference of its own.
///
/// # Safety
/// `body` is the body of a live object.
pub unsafe fn open(body: NonNull<c_void>) -> Handle {
    // SAFETY: the caller's promise.
    unsafe { super::reference(body) };
    let mut table = TABLE.lock();
    let handle = table.next;
    table.next += 4;
    let owner = processor::try_current().map_or(0, |cpu| cpu.caller.load(Ordering::Relaxed));
    table.objects.insert(handle, Entry { body, owner });
    handle
}

/// The object behind `handle` with a reference for the caller, if it is of type `kind` (any type for `None`).
pub fn reference(
    handle: Handle,
    kind: Option<&'static ObjectType>,
) -> Result<NonNull<c_void>, HandleError> {
    let table = TABLE.lock();
    let body = table.objects.get(&handle).ok_or(HandleError::Invalid)?.body;
    // SAFETY: the table holds a reference, so the object lives.
    let actual = unsafe { super::type_of(body) };
    if kind.is_some_and(|kind| !core::ptr::eq(kind, actual)) {
        return Err(HandleError::WrongType);
    }
    // SAFETY: the table holds a reference, so the object lives.
    unsafe { super::reference(body) };
    Ok(body)
}

/// Closes a handle and drops its reference.
pub fn close(handle: Handle) -> Result<(), HandleError> {
    let entry = TABLE
        .lock()
        .objects
        .remove(&handle)
        .ok_or(HandleError::Invalid)?;
    // SAFETY: the handle owned this reference.
    unsafe { super::dereference(entry.body) };
    Ok(())
}

/// The open handles of a module, with the types of their objects.
pub fn opened_by(owner: u32) -> Vec<(Handle, &'static str)> {
    let table = TABLE.lock();
    let own = table
        .objects
        .iter()
        .filter(|(_, entry)| entry.owner == owner);
    let described = own.map(|(&handle, entry)| {
        // SAFETY: the table holds a reference, so the object lives.
        (handle, unsafe { super::type_of(entry.body) }.name)
    });
    described.collect()
}

/// Microsoft Learn: ObReferenceObjectByHandle; a null type matches every object. IRQL PASSIVE_LEVEL.
///
/// # Safety
/// `object` is writable; `kind` is null or what an exported type variable holds.
pub unsafe extern "win64" fn ObReferenceObjectByHandle(
    handle: HANDLE,
    _access: u32,
    kind: *const ObjectType,
    _mode: i8,
    object: *mut PVOID,
    _information: PVOID,
) -> NTSTATUS {
    // SAFETY: the caller's promise; object types live forever.
    let kind: Option<&'static ObjectType> = unsafe { kind.as_ref() };
    match reference(handle as Handle, kind) {
        Ok(body) => {
            super::note(body, 1);
            // SAFETY: the caller's promise.
            unsafe { object.write(body.as_ptr()) };
            STATUS_SUCCESS
        }
        Err(HandleError::Invalid) => STATUS_INVALID_HANDLE,
        Err(HandleError::WrongType) => STATUS_OBJECT_TYPE_MISMATCH,
    }
}

exports!("ntoskrnl.exe": ObReferenceObjectByHandle);
