//! Objects: counted things with a type, and the handles that name them.
//!
//! An object is a header followed by its body; drivers hold pointers to the body and count their references with
//! `ObfReferenceObject`. A handle holds one reference.

pub mod handle;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicIsize, Ordering};

use crate::exports;
use crate::ke::processor;
use crate::sync::Mutex;

/// A kind of object; drivers see its address as `POBJECT_TYPE`.
#[derive(Debug)]
pub struct ObjectType {
    /// The name in reports: "Thread", "Key".
    pub name: &'static str,
    /// Called with the body when the last reference goes, before its memory is freed.
    ///
    /// The duty of the caller: the body is that of an object of this type, and nothing uses it any more.
    pub delete: unsafe fn(NonNull<u8>),
}

/// What precedes every body.
#[repr(C, align(16))]
struct Header {
    references: AtomicIsize,
    kind: &'static ObjectType,
    /// Size of header and body in bytes.
    size: usize,
    magic: usize,
}

const MAGIC: usize = 0x7463_656a_624f_746e;
const HEADER: usize = size_of::<Header>();

/// A new object with a zeroed body of `size` bytes (16-byte aligned) and one reference, or `None` without memory.
pub fn allocate(kind: &'static ObjectType, size: usize) -> Option<NonNull<u8>> {
    let total = HEADER.checked_add(size)?;
    let memory = crate::mm::pool::allocate_zeroed(total, *b"ObjH")?;
    // SAFETY: the allocation is aligned to 16 bytes and at least a header long.
    unsafe {
        memory.cast::<Header>().write(Header {
            references: AtomicIsize::new(1),
            kind,
            size: total,
            magic: MAGIC,
        })
    };
    // SAFETY: the allocation is `HEADER + size` bytes long.
    Some(unsafe { memory.add(HEADER) })
}

/// A new object whose body is `body`.
pub fn create<T>(kind: &'static ObjectType, body: T) -> Option<NonNull<T>> {
    const { assert!(align_of::<T>() <= 16) };
    let memory = allocate(kind, size_of::<T>())?.cast::<T>();
    // SAFETY: fresh memory of the body's size and alignment.
    unsafe { memory.write(body) };
    Some(memory)
}

/// # Safety
/// `body` is the body of a live object.
unsafe fn header<'a>(body: NonNull<c_void>) -> &'a Header {
    // SAFETY: every body is preceded by its header.
    let header = unsafe { body.cast::<u8>().sub(HEADER) }.cast::<Header>();
    // SAFETY: the caller says that the object lives.
    unsafe { header.as_ref() }
}

/// The type of an object.
///
/// # Safety
/// `body` is the body of a live object.
pub unsafe fn type_of(body: NonNull<c_void>) -> &'static ObjectType {
    // SAFETY: the caller's promise.
    unsafe { header(body) }.kind
}

/// Adds a reference; returns the new count. Any IRQL up to DISPATCH_LEVEL.
///
/// # Safety
/// `body` is the body of a live object.
pub unsafe fn reference(body: NonNull<c_void>) -> isize {
    // SAFETY: the caller's promise.
    unsafe { header(body) }
        .references
        .fetch_add(1, Ordering::Relaxed)
        + 1
}

/// Drops a reference and, with the last one, the object; returns the new count.
///
/// # Safety
/// `body` is the body of a live object, and the caller owns a reference.
pub unsafe fn dereference(body: NonNull<c_void>) -> isize {
    // SAFETY: the caller's promise.
    let header = unsafe { header(body) };
    let left = header.references.fetch_sub(1, Ordering::AcqRel) - 1;
    if left == 0 {
        REFERENCES
            .lock()
            .retain(|&(_, object), _| object != body.as_ptr() as usize);
        // SAFETY: the last reference is gone, so nothing uses the body; its type is the one it was made with.
        unsafe { (header.kind.delete)(body.cast()) };
        // SAFETY: the memory came from the pool, starts at the header, and is dead now.
        unsafe { crate::mm::pool::free(NonNull::from(header).cast()) };
    }
    left
}

/// Adds a reference of the executive's own, to the object of a pointer as drivers have it; null is none.
///
/// # Safety
/// As for [`reference`].
pub unsafe fn keep(object: *mut c_void) {
    if let Some(body) = NonNull::new(object) {
        // SAFETY: the caller's promise.
        unsafe { reference(body) };
    }
}

/// Drops what [`keep`] added.
///
/// # Safety
/// As for [`dereference`].
pub unsafe fn give_up(object: *mut c_void) {
    if let Some(body) = NonNull::new(object) {
        // SAFETY: the caller's promise.
        unsafe { dereference(body) };
    }
}

/// By module and object: references that the module took, less those that it gave back.
static REFERENCES: Mutex<BTreeMap<(u32, usize), isize>> = Mutex::new(BTreeMap::new());

/// The driver that calls takes references, or gives them back.
pub(crate) fn note(body: NonNull<c_void>, references: isize) {
    let key = (processor::caller(), body.as_ptr() as usize);
    let mut all = REFERENCES.lock();
    let count = all.entry(key).or_default();
    *count += references;
    if *count == 0 {
        all.remove(&key);
    }
}

/// The objects of which a module has taken more references than it gave back: address, type, how many.
pub fn referenced_by(module: u32) -> Vec<(usize, &'static str, isize)> {
    let all = REFERENCES.lock();
    let own = all.range((module, 0)..=(module, usize::MAX));
    let left = own.filter(|&(_, &count)| count > 0);
    let described = left.filter_map(|(&(_, object), &count)| {
        let body = NonNull::new(object as *mut c_void)?;
        // SAFETY: an object's entries go with it, so it lives.
        Some((object, unsafe { type_of(body) }.name, count))
    });
    described.collect()
}

/// Whether `body` looks like an object's body; for checks on pointers that drivers pass.
pub fn is_object(body: *mut c_void) -> bool {
    let address = (body as usize).wrapping_sub(HEADER);
    if body.is_null() || !address.is_multiple_of(16) {
        return false;
    }
    if !crate::host::platform().readable(address as u64, HEADER) {
        return false;
    }
    let magic = (address + core::mem::offset_of!(Header, magic)) as *const usize;
    // SAFETY: the header's memory is readable and aligned; any bytes are a valid `usize`.
    unsafe { magic.read_volatile() == MAGIC }
}

/// Microsoft Learn: ObfReferenceObject.
///
/// # Safety
/// `object` is the body of a live object.
pub unsafe extern "win64" fn ObfReferenceObject(object: *mut c_void) -> isize {
    match NonNull::new(object) {
        Some(body) => {
            note(body, 1);
            // SAFETY: the caller's promise.
            unsafe { reference(body) }
        }
        None => 0,
    }
}

/// Microsoft Learn: ObfDereferenceObject.
///
/// # Safety
/// `object` is the body of a live object and the caller owns a reference.
pub unsafe extern "win64" fn ObfDereferenceObject(object: *mut c_void) -> isize {
    match NonNull::new(object) {
        Some(body) => {
            note(body, -1);
            // SAFETY: the caller's promise.
            unsafe { dereference(body) }
        }
        None => 0,
    }
}

exports!("ntoskrnl.exe": ObfReferenceObject, ObfDereferenceObject);
