//! `ZwOpenKey` and its kin: the registry as drivers call it. All at PASSIVE_LEVEL.
//!
//! A key handle names an object that holds the key's id and the access it was opened with. Access is
//! checked as documented for each function, though Windows itself trusts kernel callers.

use core::ffi::c_void;
use core::ptr::NonNull;

use nt_sys::{
    ACCESS_MASK, DELETE, HANDLE, KEY_ALL_ACCESS, KEY_ENUMERATE_SUB_KEYS, KEY_QUERY_VALUE, KEY_READ,
    KEY_SET_VALUE, KEY_WRITE, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, REG_CREATED_NEW_KEY,
    REG_OPENED_EXISTING_KEY, REG_OPTION_VOLATILE, STATUS_ACCESS_DENIED, STATUS_CANNOT_DELETE,
    STATUS_CHILD_MUST_BE_VOLATILE, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE,
    STATUS_INVALID_PARAMETER, STATUS_KEY_DELETED, STATUS_NO_MORE_ENTRIES,
    STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_PATH_SYNTAX_BAD,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS, UNICODE_STRING,
};

use super::name::Name;
use super::tree::{Key, KeyId, MAX_VALUE_NAME, NewKey, Tree, TreeError};
use super::value::Value;
use super::{record, with};
use crate::exports;
use crate::ob::{self, ObjectType, handle};

/// Key objects.
pub static KEY_TYPE: ObjectType = ObjectType {
    name: "Key",
    delete: |_| (),
};

/// What a key handle refers to.
struct OpenKey {
    id: KeyId,
    access: ACCESS_MASK,
}

impl From<TreeError> for Status {
    fn from(error: TreeError) -> Self {
        Status(match error {
            TreeError::NotFound => STATUS_OBJECT_NAME_NOT_FOUND,
            TreeError::Deleted => STATUS_KEY_DELETED,
            TreeError::BadName => STATUS_OBJECT_NAME_INVALID,
            TreeError::NotEmpty => STATUS_CANNOT_DELETE,
            TreeError::StableBelowVolatile => STATUS_CHILD_MUST_BE_VOLATILE,
        })
    }
}

/// A failing status on its way out.
struct Status(NTSTATUS);

fn finish(result: Result<NTSTATUS, Status>) -> NTSTATUS {
    result.unwrap_or_else(|status| status.0)
}

/// The units of a counted string; none for a null pointer.
///
/// # Safety
/// `string` is null or a valid counted string.
pub(crate) unsafe fn units<'a>(string: *const UNICODE_STRING) -> &'a [u16] {
    // SAFETY: the caller's promise.
    let Some(string) = (unsafe { string.as_ref() }) else {
        return &[];
    };
    if string.Buffer.is_null() {
        return &[];
    }
    // SAFETY: a valid string's buffer holds `Length` bytes.
    unsafe { core::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2)) }
}

/// The key behind a handle, if it was opened with that access.
fn opened(key: HANDLE, access: ACCESS_MASK) -> Result<KeyId, Status> {
    let body = handle::reference(key as usize, Some(&KEY_TYPE)).map_err(|error| match error {
        handle::HandleError::Invalid => Status(STATUS_INVALID_HANDLE),
        handle::HandleError::WrongType => Status(STATUS_OBJECT_TYPE_MISMATCH),
    })?;
    // SAFETY: the object is of the key type, whose bodies are `OpenKey`, and this function holds a reference.
    let (id, granted) = unsafe { body.cast::<OpenKey>().as_ref() }.pair();
    // SAFETY: drops the reference taken above.
    unsafe { ob::dereference(body) };
    if granted & access == access {
        Ok(id)
    } else {
        Err(Status(STATUS_ACCESS_DENIED))
    }
}

impl OpenKey {
    fn pair(&self) -> (KeyId, ACCESS_MASK) {
        (self.id, self.access)
    }
}

/// The key rights that an access mask with generic rights stands for (wdm.h: GENERIC_*, MAXIMUM_ALLOWED).
fn specific(access: ACCESS_MASK) -> ACCESS_MASK {
    let generic = [
        (0x8000_0000, KEY_READ),
        (0x4000_0000, KEY_WRITE),
        (0x1200_0000, KEY_ALL_ACCESS),
    ];
    let implied = generic
        .iter()
        .filter(|(bits, _)| access & bits != 0)
        .fold(0, |all, (_, rights)| all | rights);
    (access & 0x00ff_ffff) | implied
}

/// A new handle to a key, for the host's own functions that return one.
pub(crate) fn open_handle(id: KeyId, access: ACCESS_MASK) -> Option<HANDLE> {
    let body = ob::create(
        &KEY_TYPE,
        OpenKey {
            id,
            access: specific(access),
        },
    )?
    .cast::<c_void>();
    // SAFETY: the object was just made.
    let opened = unsafe { handle::open(body) };
    // SAFETY: the handle holds a reference of its own; this one is the creator's.
    unsafe { ob::dereference(body) };
    Some(opened as HANDLE)
}

fn give(out: *mut HANDLE, id: KeyId, access: ACCESS_MASK) -> Result<NTSTATUS, Status> {
    let opened = open_handle(id, access).ok_or(Status(STATUS_INSUFFICIENT_RESOURCES))?;
    let out = NonNull::new(out).ok_or(Status(STATUS_INVALID_PARAMETER))?;
    // SAFETY: the caller of the Zw function gave a place for a handle.
    unsafe { out.write(opened) };
    Ok(STATUS_SUCCESS)
}

/// Where a name begins and what it is.
///
/// # Safety
/// `attributes` is a valid OBJECT_ATTRIBUTES.
unsafe fn target<'a>(
    attributes: *const OBJECT_ATTRIBUTES,
) -> Result<(Option<KeyId>, &'a [u16]), Status> {
    // SAFETY: the caller's promise.
    let Some(attributes) = (unsafe { attributes.as_ref() }) else {
        return Err(Status(STATUS_INVALID_PARAMETER));
    };
    if attributes.Length as usize != size_of::<OBJECT_ATTRIBUTES>() {
        return Err(Status(STATUS_INVALID_PARAMETER));
    }
    // SAFETY: part of a valid OBJECT_ATTRIBUTES.
    let path = unsafe { units(attributes.ObjectName) };
    let absolute = path.first() == Some(&u16::from(b'\\'));
    // A name is either absolute or relative to a root, never both and never neither.
    if attributes.RootDirectory.is_null() != absolute {
        return Err(Status(STATUS_OBJECT_PATH_SYNTAX_BAD));
    }
    let root = match attributes.RootDirectory.is_null() {
        true => None,
        false => Some(opened(attributes.RootDirectory, 0)?),
    };
    Ok((root, path))
}

/// Microsoft Learn: ZwOpenKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn ZwOpenKey(
    out: *mut HANDLE,
    access: ACCESS_MASK,
    attributes: *const OBJECT_ATTRIBUTES,
) -> NTSTATUS {
    let open = || {
        // SAFETY: the caller's promise.
        let (root, path) = unsafe { target(attributes) }?;
        let id = with(|tree| tree.open(root.unwrap_or(tree.root()), path))?;
        give(out, id, access)
    };
    finish(open())
}

/// Microsoft Learn: ZwCreateKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn ZwCreateKey(
    out: *mut HANDLE,
    access: ACCESS_MASK,
    attributes: *const OBJECT_ATTRIBUTES,
    _title: u32,
    class: *const UNICODE_STRING,
    options: u32,
    disposition: *mut u32,
) -> NTSTATUS {
    let create = || {
        // SAFETY: the caller's promise.
        let (root, path) = unsafe { target(attributes) }?;
        // SAFETY: the caller's promise.
        let class = Name::new(unsafe { units(class) });
        let new = NewKey {
            volatile: options & REG_OPTION_VOLATILE != 0,
            class,
        };
        let (id, made) = with(|tree| tree.create(root.unwrap_or(tree.root()), path, new))?;
        if let Some(disposition) = NonNull::new(disposition) {
            let what = if made {
                REG_CREATED_NEW_KEY
            } else {
                REG_OPENED_EXISTING_KEY
            };
            // SAFETY: the caller's promise.
            unsafe { disposition.write(what) };
        }
        give(out, id, access)
    };
    finish(create())
}

/// Runs a closure on the key behind a handle.
fn on_key<R>(
    key: HANDLE,
    access: ACCESS_MASK,
    use_it: impl FnOnce(&mut Key) -> Result<R, Status>,
) -> Result<R, Status> {
    let id = opened(key, access)?;
    with(|tree: &mut Tree| use_it(tree.key_mut(id)?))
}

/// Microsoft Learn: ZwQueryValueKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn ZwQueryValueKey(
    key: HANDLE,
    name: *const UNICODE_STRING,
    class: i32,
    out: PVOID,
    room: u32,
    needed: *mut u32,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let name = Name::new(unsafe { units(name) });
    let record = on_key(key, KEY_QUERY_VALUE, |key| {
        let (name, value) = key
            .value(&name)
            .ok_or(Status(STATUS_OBJECT_NAME_NOT_FOUND))?;
        record::of_value(class, name, value).ok_or(Status(STATUS_INVALID_PARAMETER))
    });
    // SAFETY: the caller's promise.
    finish(record.map(|record| unsafe { record.deliver(out, room, needed) }))
}

/// Microsoft Learn: ZwEnumerateValueKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn ZwEnumerateValueKey(
    key: HANDLE,
    index: u32,
    class: i32,
    out: PVOID,
    room: u32,
    needed: *mut u32,
) -> NTSTATUS {
    let record = on_key(key, KEY_QUERY_VALUE, |key| {
        let (name, value) = key
            .values()
            .get(index as usize)
            .ok_or(Status(STATUS_NO_MORE_ENTRIES))?;
        record::of_value(class, name, value).ok_or(Status(STATUS_INVALID_PARAMETER))
    });
    // SAFETY: the caller's promise.
    finish(record.map(|record| unsafe { record.deliver(out, room, needed) }))
}

/// Microsoft Learn: ZwSetValueKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn ZwSetValueKey(
    key: HANDLE,
    name: *const UNICODE_STRING,
    _title: u32,
    kind: u32,
    data: PVOID,
    size: u32,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let name = Name::new(unsafe { units(name) });
    if name.units().len() > MAX_VALUE_NAME || (data.is_null() && size != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    let data = match size {
        0 => alloc::vec::Vec::new(),
        // SAFETY: the caller's promise: `size` bytes of data.
        _ => unsafe { core::slice::from_raw_parts(data.cast::<u8>(), size as usize) }.to_vec(),
    };
    let set = on_key(key, KEY_SET_VALUE, |key| {
        key.set(name, Value { kind, data });
        Ok(STATUS_SUCCESS)
    });
    finish(set)
}

/// Microsoft Learn: ZwDeleteValueKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn ZwDeleteValueKey(
    key: HANDLE,
    name: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let name = Name::new(unsafe { units(name) });
    let deleted = on_key(key, KEY_SET_VALUE, |key| match key.delete_value(&name) {
        true => Ok(STATUS_SUCCESS),
        false => Err(Status(STATUS_OBJECT_NAME_NOT_FOUND)),
    });
    finish(deleted)
}

/// Microsoft Learn: ZwDeleteKey.
///
/// # Safety
/// `key` is a handle.
pub unsafe extern "win64" fn ZwDeleteKey(key: HANDLE) -> NTSTATUS {
    let delete = || {
        let id = opened(key, DELETE)?;
        with(|tree| tree.delete(id))?;
        Ok(STATUS_SUCCESS)
    };
    finish(delete())
}

/// Microsoft Learn: ZwEnumerateKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn ZwEnumerateKey(
    key: HANDLE,
    index: u32,
    class: i32,
    out: PVOID,
    room: u32,
    needed: *mut u32,
) -> NTSTATUS {
    let enumerate = || {
        let id = opened(key, KEY_ENUMERATE_SUB_KEYS)?;
        with(|tree| {
            let child = tree
                .key(id)?
                .children()
                .nth(index as usize)
                .ok_or(Status(STATUS_NO_MORE_ENTRIES))?
                .1;
            record::of_key(class, tree.key(child)?, &tree.path(child))
                .ok_or(Status(STATUS_INVALID_PARAMETER))
        })
    };
    // SAFETY: the caller's promise.
    finish(enumerate().map(|record| unsafe { record.deliver(out, room, needed) }))
}

/// Microsoft Learn: ZwQueryKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn ZwQueryKey(
    key: HANDLE,
    class: i32,
    out: PVOID,
    room: u32,
    needed: *mut u32,
) -> NTSTATUS {
    let query = || {
        let id = opened(key, KEY_QUERY_VALUE)?;
        with(|tree| {
            record::of_key(class, tree.key(id)?, &tree.path(id))
                .ok_or(Status(STATUS_INVALID_PARAMETER))
        })
    };
    // SAFETY: the caller's promise.
    finish(query().map(|record| unsafe { record.deliver(out, room, needed) }))
}

/// Microsoft Learn: ZwClose, for handles of every type.
///
/// # Safety
/// `handle` is a handle that nothing else uses.
pub unsafe extern "win64" fn ZwClose(handle: HANDLE) -> NTSTATUS {
    match handle::close(handle as usize) {
        Ok(()) => STATUS_SUCCESS,
        Err(_) => STATUS_INVALID_HANDLE,
    }
}

exports!("ntoskrnl.exe": ZwOpenKey, ZwCreateKey, ZwQueryValueKey, ZwEnumerateValueKey, ZwSetValueKey,
    ZwDeleteValueKey, ZwDeleteKey, ZwEnumerateKey, ZwQueryKey, ZwClose);
