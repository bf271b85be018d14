//! STORE v2: the xenstore client. Methods at IRQL ≤ DISPATCH_LEVEL; each returns when xenstored has answered.
//!
//! A path is `node`, or `prefix/node` when a prefix is given (an empty prefix makes it absolute).

use crate::{AcquireFn, Boolean, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::{c_char, c_void};

/// GUID_XENBUS_STORE_INTERFACE.
pub const GUID: Guid = Guid::new(0x86824C3B_D34E_4753_B281_2F1E3AD214D7);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 2;
/// Newest version.
pub const VERSION_MAX: u16 = 2;

crate::opaque! {
    /// XENBUS_STORE_TRANSACTION.
    Transaction
}
crate::opaque! {
    /// XENBUS_STORE_WATCH.
    Watch
}

/// XENBUS_STORE_PERMISSION_MASK: no access.
pub const PERMISSION_NONE: u32 = 0;
/// XENBUS_STORE_PERMISSION_MASK: may read.
pub const PERMISSION_READ: u32 = 1;
/// XENBUS_STORE_PERMISSION_MASK: may write.
pub const PERMISSION_WRITE: u32 = 2;

/// XENBUS_STORE_PERMISSION.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The domain to which the mask applies.
    pub domain: u16,
    /// PERMISSION_* bits.
    pub mask: u32,
}
const _: () = assert!(size_of::<Permission>() == 8 && core::mem::offset_of!(Permission, mask) == 4);

/// Frees a buffer which Read or Directory returned.
pub type Free = unsafe extern "win64" fn(This, *mut c_char);
/// Optional transaction, optional prefix, node, out value (two NULs appended).
pub type Read = unsafe extern "win64" fn(
    This,
    *mut Transaction,
    *const c_char,
    *const c_char,
    *mut *mut c_char,
) -> NtStatus;
/// Optional transaction, optional prefix, node, format, arguments: writes the formatted text (at most 1023 bytes).
pub type Printf = unsafe extern "win64" fn(
    This,
    *mut Transaction,
    *const c_char,
    *const c_char,
    *const c_char,
    ...
) -> NtStatus;
/// Optional transaction, optional prefix, node, permissions, their number.
pub type PermissionsSet = unsafe extern "win64" fn(
    This,
    *mut Transaction,
    *const c_char,
    *const c_char,
    *const Permission,
    u32,
) -> NtStatus;
/// Optional transaction, optional prefix, node.
pub type Remove =
    unsafe extern "win64" fn(This, *mut Transaction, *const c_char, *const c_char) -> NtStatus;
/// Optional transaction, optional prefix, node, out names (each NUL-terminated, the last followed by another NUL).
pub type Directory = Read;
/// Out transaction.
pub type TransactionStart = unsafe extern "win64" fn(This, *mut *mut Transaction) -> NtStatus;
/// Transaction, commit. The handle is gone afterwards, whatever the status.
pub type TransactionEnd = unsafe extern "win64" fn(This, *mut Transaction, Boolean) -> NtStatus;
/// Optional prefix, node, `PKEVENT` to set, out watch.
pub type WatchAdd = unsafe extern "win64" fn(
    This,
    *const c_char,
    *const c_char,
    *mut c_void,
    *mut *mut Watch,
) -> NtStatus;
/// The handle is gone afterwards, whatever the status.
pub type WatchRemove = unsafe extern "win64" fn(This, *mut Watch) -> NtStatus;
/// Processes the ring. At DISPATCH_LEVEL.
pub type Poll = unsafe extern "win64" fn(This);

/// XENBUS_STORE_INTERFACE_V2.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct StoreV2 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub free: Free,
    pub read: Read,
    pub printf: Printf,
    pub permissions_set: PermissionsSet,
    pub remove: Remove,
    pub directory: Directory,
    pub transaction_start: TransactionStart,
    pub transaction_end: TransactionEnd,
    pub watch_add: WatchAdd,
    pub watch_remove: WatchRemove,
    pub poll: Poll,
}
crate::table!(StoreV2, "STORE", GUID, version 2, slots 13);
