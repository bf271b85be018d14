//! The call table of STORE, version 2.
//!
//! Every method's duty: `this` is a table that this driver filled in, strings are NUL-terminated, handles are ones that the
//! table gave, and other pointers are what the table's documentation says.

use super::{Watch, path};
use crate::bus::{context, give_back};
use crate::cstr::cstr;
use alloc::vec::Vec;
use core::ffi::{c_char, c_void};
use core::mem::transmute;
use core::sync::atomic::Ordering;
use nt::va_list::VaArgs;
use nt::{NtStatus, Result};
use nt_sys::imports::{ExAllocatePoolWithTag, ExFreePoolWithTag};
use pv_interfaces::store::{
    PERMISSION_READ, PERMISSION_WRITE, Permission as RawPermission, Printf, StoreV2,
    Transaction as TransactionHandle, Watch as WatchHandle,
};
use pv_interfaces::{Interface, This};
use xen_abi::DomId;
use xenstore::{Mask, Operation, Permission, Transaction};

/// Pool tag of the buffers that clients get.
const TAG: u32 = u32::from_le_bytes(*b"STOR");
/// Longest text of Printf in bytes.
const PRINTF_MAX: usize = 1023;

// SAFETY: `printf` passes its arguments on as an array, whatever their number, as the variadic type says.
const PRINTF: Printf = unsafe { transmute::<unsafe extern "win64" fn(), Printf>(printf) };

/// The call table.
pub const V2: StoreV2 = StoreV2 {
    header: Interface::EMPTY,
    acquire,
    release,
    free,
    read,
    printf: PRINTF,
    permissions_set,
    remove,
    directory,
    transaction_start,
    transaction_end,
    watch_add,
    watch_remove,
    poll,
};

fn raw(result: Result<()>) -> i32 {
    NtStatus::from(result).0
}

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    let store = &unsafe { context(this) }.store;
    raw(store.running.need().map(|_| store.references.acquire()))
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    give_back(&unsafe { context(this) }.store.references);
}

unsafe extern "win64" fn free(this: This, buffer: *mut c_char) {
    if buffer.is_null() {
        return;
    }
    // SAFETY: see the top.
    let store = &unsafe { context(this) }.store;
    store.buffers.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: a buffer that `hand_out` allocated.
    unsafe { ExFreePoolWithTag(buffer.cast(), TAG) };
}

/// A pool buffer with `bytes` and two NULs.
fn hand_out(bytes: &[u8]) -> Result<*mut c_char> {
    let length = bytes.len().checked_add(2).ok_or(NtStatus::NO_MEMORY)?;
    // SAFETY: the size is not 0.
    let buffer = unsafe { ExAllocatePoolWithTag(nt_sys::NonPagedPoolNx, length, TAG) };
    let buffer = buffer.cast::<u8>();
    if buffer.is_null() {
        return Err(NtStatus::NO_MEMORY);
    }
    // SAFETY: the buffer is longer than the bytes, and new.
    unsafe { buffer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    // SAFETY: within the buffer.
    let end = unsafe { buffer.add(bytes.len()) };
    // SAFETY: two bytes are left.
    unsafe { end.write_bytes(0, 2) };
    Ok(buffer.cast())
}

/// Asks for bytes and hands them out.
///
/// # Safety
/// See the top.
unsafe fn fetch<'a>(
    this: This,
    transaction: *mut TransactionHandle,
    operation: Result<Operation<'a>>,
    out: *mut *mut c_char,
    accept: impl FnOnce(&[u8]) -> Result<()>,
) -> Result<()> {
    // SAFETY: see the top.
    let store = &unsafe { context(this) }.store;
    let transaction = store.transaction(transaction.cast())?;
    let buffer = store.ask(transaction.as_ref(), operation?, |_, reply| {
        accept(reply)?;
        hand_out(reply)
    })?;
    store.buffers.fetch_add(1, Ordering::Relaxed);
    // SAFETY: an out parameter of the caller.
    unsafe { out.write(buffer) };
    Ok(())
}

/// Asks for something that has no answer but its status.
///
/// # Safety
/// See the top.
unsafe fn tell<'a>(
    this: This,
    transaction: *mut TransactionHandle,
    operation: Result<Operation<'a>>,
) -> Result<()> {
    // SAFETY: see the top.
    let store = &unsafe { context(this) }.store;
    let transaction = store.transaction(transaction.cast())?;
    store.ask(transaction.as_ref(), operation?, |_, _| Ok(()))
}

/// The path that a caller names.
///
/// # Safety
/// See the top.
unsafe fn named<'a>(prefix: *const c_char, node: *const c_char) -> Result<xenstore::Path<'a>> {
    // SAFETY: see the top.
    let prefix = unsafe { cstr(prefix) };
    // SAFETY: see the top.
    let node = unsafe { cstr(node) }.ok_or(NtStatus::INVALID_PARAMETER)?;
    path(prefix, node)
}

unsafe extern "win64" fn read(
    this: This,
    transaction: *mut TransactionHandle,
    prefix: *const c_char,
    node: *const c_char,
    value: *mut *mut c_char,
) -> i32 {
    // SAFETY: see the top.
    let operation = unsafe { named(prefix, node) }.map(Operation::Read);
    // SAFETY: see the top.
    raw(unsafe { fetch(this, transaction, operation, value, |_| Ok(())) })
}

unsafe extern "win64" fn directory(
    this: This,
    transaction: *mut TransactionHandle,
    prefix: *const c_char,
    node: *const c_char,
    names: *mut *mut c_char,
) -> i32 {
    // SAFETY: see the top.
    let operation = unsafe { named(prefix, node) }.map(Operation::Directory);
    let accept = |reply: &[u8]| {
        if reply.is_empty() {
            Err(NtStatus::OBJECT_PATH_NOT_FOUND)
        } else {
            Ok(())
        }
    };
    // SAFETY: see the top.
    raw(unsafe { fetch(this, transaction, operation, names, accept) })
}

nt::variadic! {
    /// Printf: the arguments after the fifth depend on the format.
    fn printf => printf_arguments
}

/// # Safety
/// `arguments` points to the arguments of Printf, of which those after the fifth are what the format says.
unsafe extern "win64" fn printf_arguments(arguments: *const u64) -> i32 {
    // SAFETY: the caller passes these five.
    let word = |n: usize| unsafe { arguments.wrapping_add(n).read() };
    let write = || {
        // SAFETY: see the top.
        let format =
            unsafe { cstr(word(4) as *const c_char) }.ok_or(NtStatus::INVALID_PARAMETER)?;
        // SAFETY: the arguments after the fifth are what the format says.
        let mut rest = unsafe { VaArgs::new(arguments.wrapping_add(5)) };
        let mut text = Vec::new();
        text.try_reserve_exact(PRINTF_MAX)?;
        let mut fits = true;
        printf::format(format, &mut rest, &mut |byte| {
            fits &= text.len() < PRINTF_MAX;
            if fits {
                text.push(byte);
            }
        });
        if !fits {
            return Err(NtStatus::INVALID_BUFFER_SIZE);
        }
        // SAFETY: see the top.
        let path = unsafe { named(word(2) as *const c_char, word(3) as *const c_char) };
        let operation = path.map(|path| Operation::Write(path, &text));
        // SAFETY: see the top.
        unsafe {
            tell(
                word(0) as This,
                word(1) as *mut TransactionHandle,
                operation,
            )
        }
    };
    raw(write())
}

unsafe extern "win64" fn permissions_set(
    this: This,
    transaction: *mut TransactionHandle,
    prefix: *const c_char,
    node: *const c_char,
    permissions: *const RawPermission,
    count: u32,
) -> i32 {
    let set = || {
        if permissions.is_null() || count == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        // SAFETY: see the top.
        let given = unsafe { core::slice::from_raw_parts(permissions, count as usize) };
        let mut list = Vec::new();
        list.try_reserve_exact(given.len())?;
        list.extend(given.iter().map(|p| Permission {
            domain: DomId(p.domain),
            mask: mask(p.mask),
        }));
        // SAFETY: see the top.
        let path = unsafe { named(prefix, node) };
        let operation = path.map(|path| Operation::SetPermissions(path, &list));
        // SAFETY: see the top.
        unsafe { tell(this, transaction, operation) }
    };
    raw(set())
}

fn mask(bits: u32) -> Mask {
    match (bits & PERMISSION_READ != 0, bits & PERMISSION_WRITE != 0) {
        (false, false) => Mask::None,
        (true, false) => Mask::Read,
        (false, true) => Mask::Write,
        (true, true) => Mask::Both,
    }
}

unsafe extern "win64" fn remove(
    this: This,
    transaction: *mut TransactionHandle,
    prefix: *const c_char,
    node: *const c_char,
) -> i32 {
    // SAFETY: see the top.
    let operation = unsafe { named(prefix, node) }.map(Operation::Remove);
    // SAFETY: see the top.
    raw(unsafe { tell(this, transaction, operation) })
}

unsafe extern "win64" fn transaction_start(
    this: This,
    transaction: *mut *mut TransactionHandle,
) -> i32 {
    // SAFETY: see the top.
    let begun = unsafe { context(this) }.store.begin();
    raw(begun.map(|handle| {
        // SAFETY: an out parameter of the caller.
        unsafe { transaction.write(handle.cast_mut().cast()) }
    }))
}

unsafe extern "win64" fn transaction_end(
    this: This,
    transaction: *mut TransactionHandle,
    commit: u8,
) -> i32 {
    // SAFETY: see the top.
    let store = &unsafe { context(this) }.store;
    raw(store.end(transaction.cast_const().cast::<Transaction>(), commit != 0))
}

unsafe extern "win64" fn watch_add(
    this: This,
    prefix: *const c_char,
    node: *const c_char,
    event: *mut c_void,
    watch: *mut *mut WatchHandle,
) -> i32 {
    // SAFETY: see the top.
    let store = &unsafe { context(this) }.store;
    // SAFETY: see the top.
    let prefix = unsafe { cstr(prefix) };
    // SAFETY: see the top.
    let Some(node) = (unsafe { cstr(node) }) else {
        return NtStatus::INVALID_PARAMETER.0;
    };
    // SAFETY: the client keeps its event until it has removed the watch.
    let added = unsafe { store.add_watch(prefix, node, event.cast()) };
    raw(added.map(|handle| {
        // SAFETY: an out parameter of the caller.
        unsafe { watch.write(handle.cast_mut().cast()) }
    }))
}

unsafe extern "win64" fn watch_remove(this: This, watch: *mut WatchHandle) -> i32 {
    // SAFETY: see the top.
    let store = &unsafe { context(this) }.store;
    raw(store.remove_watch(watch.cast_const().cast::<Watch>()))
}

unsafe extern "win64" fn poll(this: This) {
    // SAFETY: see the top.
    unsafe { context(this) }.store.pump();
}
