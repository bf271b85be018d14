//! ksecdd.sys: the hash functions of Windows' cryptography for drivers (Microsoft Learn: BCryptCreateHash and its
//! neighbours). SHA-1 and the SHA-2 family, by the `sha1` and `sha2` crates; no HMAC, no other algorithms.
//!
//! Handles are blocks of pool that belong to the module that asked for them, so that one that is not closed is its leak.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;

use nt_sys::{
    HANDLE, NTSTATUS, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER,
    STATUS_NO_MEMORY, STATUS_NOT_FOUND, STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
};
use sha2::digest::DynDigest;

use crate::exports;
use crate::ke::processor;
use crate::mm::pool;
use crate::sync::Mutex;

const TAG: pool::Tag = *b"Cng ";

// bcrypt.h
const BCRYPT_PROV_DISPATCH: u32 = 1;
const BCRYPT_HASH_REUSABLE_FLAG: u32 = 0x20;
/// What a caller may give as memory for a hash: nobody looks into it here.
const OBJECT_LENGTH: u32 = 256;

/// An algorithm: its name and bytes of a block.
type Algorithm = (&'static str, u32, fn() -> Box<dyn DynDigest + Send>);

const ALGORITHMS: [Algorithm; 4] = [
    ("SHA1", 64, || Box::new(sha1::Sha1::default())),
    ("SHA256", 64, || Box::new(sha2::Sha256::default())),
    ("SHA384", 128, || Box::new(sha2::Sha384::default())),
    ("SHA512", 128, || Box::new(sha2::Sha512::default())),
];

/// What a handle stands for.
enum Object {
    Algorithm(&'static Algorithm),
    Hash {
        of: &'static Algorithm,
        /// `None` once it has ended.
        digest: Option<Box<dyn DynDigest + Send>>,
        reusable: bool,
    },
}

static OBJECTS: Mutex<BTreeMap<usize, Object>> = Mutex::new(BTreeMap::new());

fn open(owner: u32, object: Object) -> Option<HANDLE> {
    let memory = pool::allocate_for(owner, 16, TAG)?;
    OBJECTS.lock().insert(memory.as_ptr() as usize, object);
    Some(memory.as_ptr().cast())
}

fn close(handle: HANDLE, is_kind: impl FnOnce(&Object) -> bool) -> NTSTATUS {
    let mut objects = OBJECTS.lock();
    let known = objects.get(&(handle as usize)).is_some_and(is_kind);
    let (true, Some(memory)) = (known, NonNull::new(handle.cast::<u8>())) else {
        return STATUS_INVALID_HANDLE;
    };
    objects.remove(&(handle as usize));
    drop(objects);
    // SAFETY: a known handle is a block of pool, which nobody knows any more.
    unsafe { pool::free(memory) };
    STATUS_SUCCESS
}

/// Text that ends with a NUL.
///
/// # Safety
/// Null, or readable up to the NUL.
unsafe fn text(mut units: *const u16) -> String {
    let mut found = Vec::new();
    while !units.is_null() {
        // SAFETY: the caller's promise.
        let unit = unsafe { units.read() };
        if unit == 0 {
            break;
        }
        found.push(unit);
        // SAFETY: behind it there is at least the NUL.
        units = unsafe { units.add(1) };
    }
    String::from_utf16_lossy(&found)
}

/// Microsoft Learn: BCryptOpenAlgorithmProvider.
///
/// # Safety
/// `handle` is writable, the texts are null or end with a NUL.
pub unsafe extern "win64" fn BCryptOpenAlgorithmProvider(
    handle: *mut HANDLE,
    algorithm: *const u16,
    _implementation: *const u16,
    flags: u32,
) -> NTSTATUS {
    let owner = processor::caller();
    if handle.is_null() || flags & !(BCRYPT_PROV_DISPATCH | BCRYPT_HASH_REUSABLE_FLAG) != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the caller's promise.
    let name = unsafe { text(algorithm) };
    let Some(found) = ALGORITHMS.iter().find(|(known, ..)| *known == name) else {
        return STATUS_NOT_FOUND;
    };
    let Some(opened) = open(owner, Object::Algorithm(found)) else {
        return STATUS_NO_MEMORY;
    };
    // SAFETY: the caller's promise.
    unsafe { handle.write(opened) };
    STATUS_SUCCESS
}

/// Microsoft Learn: BCryptCloseAlgorithmProvider.
pub extern "win64" fn BCryptCloseAlgorithmProvider(handle: HANDLE, _flags: u32) -> NTSTATUS {
    close(handle, |object| matches!(object, Object::Algorithm(_)))
}

/// Microsoft Learn: BCryptGetProperty, of algorithms and hashes.
///
/// # Safety
/// `property` ends with a NUL; `out` is null or has `room` bytes; `needed` is writable.
pub unsafe extern "win64" fn BCryptGetProperty(
    handle: HANDLE,
    property: *const u16,
    out: *mut u8,
    room: u32,
    needed: *mut u32,
    _flags: u32,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let property = unsafe { text(property) };
    let (name, block, make) = match OBJECTS.lock().get(&(handle as usize)) {
        Some(Object::Algorithm(of) | Object::Hash { of, .. }) => **of,
        None => return STATUS_INVALID_HANDLE,
    };
    let number = match property.as_str() {
        "ObjectLength" => OBJECT_LENGTH,
        "HashDigestLength" => make().output_size() as u32,
        "HashBlockLength" => block,
        "AlgorithmName" => 0,
        _ => return STATUS_NOT_SUPPORTED,
    };
    let value: Vec<u8> = match property.as_str() {
        "AlgorithmName" => {
            let units = name.encode_utf16().chain([0]);
            units.flat_map(u16::to_le_bytes).collect()
        }
        _ => number.to_le_bytes().to_vec(),
    };
    if needed.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the caller's promise.
    unsafe { needed.write(value.len() as u32) };
    if out.is_null() {
        return STATUS_SUCCESS;
    }
    if (room as usize) < value.len() {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller's promise.
    unsafe { out.copy_from_nonoverlapping(value.as_ptr(), value.len()) };
    STATUS_SUCCESS
}

/// Microsoft Learn: BCryptCreateHash, without a secret.
///
/// # Safety
/// `handle` is writable.
pub unsafe extern "win64" fn BCryptCreateHash(
    algorithm: HANDLE,
    handle: *mut HANDLE,
    object: *mut u8,
    length: u32,
    secret: *const u8,
    _secret_length: u32,
    flags: u32,
) -> NTSTATUS {
    let owner = processor::caller();
    if handle.is_null() || !secret.is_null() || flags & !BCRYPT_HASH_REUSABLE_FLAG != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    // Who gives no memory has it allocated.
    if !object.is_null() && length < OBJECT_LENGTH {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let of = match OBJECTS.lock().get(&(algorithm as usize)) {
        Some(Object::Algorithm(of)) => *of,
        _ => return STATUS_INVALID_HANDLE,
    };
    let hash = Object::Hash {
        of,
        digest: Some((of.2)()),
        reusable: flags & BCRYPT_HASH_REUSABLE_FLAG != 0,
    };
    let Some(opened) = open(owner, hash) else {
        return STATUS_NO_MEMORY;
    };
    // SAFETY: the caller's promise.
    unsafe { handle.write(opened) };
    STATUS_SUCCESS
}

/// Microsoft Learn: BCryptHashData.
///
/// # Safety
/// `input` is readable for `length` bytes.
pub unsafe extern "win64" fn BCryptHashData(
    handle: HANDLE,
    input: *const u8,
    length: u32,
    _flags: u32,
) -> NTSTATUS {
    let mut objects = OBJECTS.lock();
    let Some(Object::Hash {
        digest: Some(digest),
        ..
    }) = objects.get_mut(&(handle as usize))
    else {
        return STATUS_INVALID_HANDLE;
    };
    if length != 0 {
        // SAFETY: the caller's promise.
        digest.update(unsafe { core::slice::from_raw_parts(input, length as usize) });
    }
    STATUS_SUCCESS
}

/// Microsoft Learn: BCryptFinishHash. A hash that is not reusable takes no more data.
///
/// # Safety
/// `out` has `length` bytes.
pub unsafe extern "win64" fn BCryptFinishHash(
    handle: HANDLE,
    out: *mut u8,
    length: u32,
    _flags: u32,
) -> NTSTATUS {
    let mut objects = OBJECTS.lock();
    let Some(Object::Hash {
        digest: place,
        reusable,
        ..
    }) = objects.get_mut(&(handle as usize))
    else {
        return STATUS_INVALID_HANDLE;
    };
    let Some(digest) = place else {
        return STATUS_INVALID_HANDLE;
    };
    if digest.output_size() != length as usize || out.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    // The longest is that of SHA-512.
    let mut value = [0; 64];
    let value = &mut value[..digest.output_size()];
    if digest.finalize_into_reset(value).is_err() {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the caller's promise.
    unsafe { out.copy_from_nonoverlapping(value.as_ptr(), value.len()) };
    if !*reusable {
        *place = None;
    }
    STATUS_SUCCESS
}

/// Microsoft Learn: BCryptDestroyHash.
pub extern "win64" fn BCryptDestroyHash(handle: HANDLE) -> NTSTATUS {
    close(handle, |object| matches!(object, Object::Hash { .. }))
}

exports!(
    "ksecdd.sys":
    BCryptOpenAlgorithmProvider,
    BCryptCloseAlgorithmProvider,
    BCryptGetProperty,
    BCryptCreateHash,
    BCryptHashData,
    BCryptFinishHash,
    BCryptDestroyHash,
);
