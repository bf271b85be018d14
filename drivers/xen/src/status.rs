//! Xen's error numbers as NTSTATUS values.

use nt_sys::{
    NTSTATUS, STATUS_ACCESS_DENIED, STATUS_DIRECTORY_NOT_EMPTY, STATUS_FILE_IS_A_DIRECTORY,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER,
    STATUS_MEDIA_WRITE_PROTECTED, STATUS_NO_MEMORY, STATUS_NOT_IMPLEMENTED,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECTID_EXISTS, STATUS_PIPE_BUSY, STATUS_PIPE_CONNECTED,
    STATUS_RETRY, STATUS_SUCCESS, STATUS_UNEXPECTED_IO_ERROR, STATUS_UNSUCCESSFUL,
};
use xen_abi::errno;
use xen_abi::grant::{GNTST_BAD_HANDLE, GNTST_EAGAIN, GNTST_OKAY, GNTST_PERMISSION_DENIED};

/// The status for what a hypercall returned: 0 and above is success, below it lies a negated error number.
pub fn of_hypercall(result: i64) -> NTSTATUS {
    if result >= 0 {
        return STATUS_SUCCESS;
    }
    match result.saturating_neg() {
        errno::EPERM | errno::EACCES => STATUS_ACCESS_DENIED,
        errno::ENOENT => STATUS_OBJECT_NAME_NOT_FOUND,
        errno::EIO => STATUS_UNEXPECTED_IO_ERROR,
        errno::EAGAIN => STATUS_RETRY,
        errno::ENOMEM => STATUS_NO_MEMORY,
        errno::EBUSY => STATUS_PIPE_BUSY,
        errno::EEXIST => STATUS_OBJECTID_EXISTS,
        errno::EISDIR => STATUS_FILE_IS_A_DIRECTORY,
        errno::EINVAL => STATUS_INVALID_PARAMETER,
        errno::ENOSPC => STATUS_INSUFFICIENT_RESOURCES,
        errno::EROFS => STATUS_MEDIA_WRITE_PROTECTED,
        errno::ENOSYS => STATUS_NOT_IMPLEMENTED,
        errno::ENOTEMPTY => STATUS_DIRECTORY_NOT_EMPTY,
        errno::EISCONN => STATUS_PIPE_CONNECTED,
        _ => STATUS_UNSUCCESSFUL,
    }
}

/// The status for the `GNTST_*` value of one grant table operation.
pub fn of_grant(status: i16) -> NTSTATUS {
    match status {
        GNTST_OKAY => STATUS_SUCCESS,
        GNTST_BAD_HANDLE => STATUS_INVALID_HANDLE,
        GNTST_PERMISSION_DENIED => STATUS_ACCESS_DENIED,
        GNTST_EAGAIN => STATUS_RETRY,
        _ => STATUS_UNSUCCESSFUL,
    }
}
