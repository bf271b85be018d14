//! `NtStatus`: the kernel's status value, and the `Result` that carries it.

use core::fmt;

/// An NTSTATUS. Use it as the error of a [`Result`]; `NtStatus::check` turns a kernel function's answer into one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
#[must_use]
pub struct NtStatus(pub nt_sys::NTSTATUS);

/// What fallible kernel operations give.
pub type Result<T> = core::result::Result<T, NtStatus>;

impl NtStatus {
    /// Whether the severity is success or information (NT_SUCCESS).
    pub const fn is_success(self) -> bool {
        nt_sys::nt_success(self.0)
    }

    /// `Ok` for a success status, the status as the error otherwise.
    pub const fn ok(self) -> Result<()> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }

    /// `Ok` when the kernel's `status` is a success.
    pub const fn check(status: nt_sys::NTSTATUS) -> Result<()> {
        NtStatus(status).ok()
    }

    /// The status that says what `result` says.
    pub fn of<T>(result: &Result<T>) -> NtStatus {
        match result {
            Ok(_) => NtStatus::SUCCESS,
            Err(status) => *status,
        }
    }
}

impl From<Result<()>> for NtStatus {
    fn from(result: Result<()>) -> NtStatus {
        NtStatus::of(&result)
    }
}

macro_rules! statuses {
    ($($name:ident = $constant:ident,)*) => {
        impl NtStatus {
            $(
                #[doc = concat!("`", stringify!($constant), "` (ntstatus.h).")]
                pub const $name: NtStatus = NtStatus(nt_sys::$constant);
            )*

            fn name(self) -> Option<&'static str> {
                match self {
                    $(NtStatus::$name => Some(stringify!($constant)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = STATUS_SUCCESS,
    TIMEOUT = STATUS_TIMEOUT,
    PENDING = STATUS_PENDING,
    BUFFER_OVERFLOW = STATUS_BUFFER_OVERFLOW,
    NO_MORE_ENTRIES = STATUS_NO_MORE_ENTRIES,
    UNSUCCESSFUL = STATUS_UNSUCCESSFUL,
    NOT_IMPLEMENTED = STATUS_NOT_IMPLEMENTED,
    INVALID_HANDLE = STATUS_INVALID_HANDLE,
    INVALID_PARAMETER = STATUS_INVALID_PARAMETER,
    NO_SUCH_DEVICE = STATUS_NO_SUCH_DEVICE,
    INVALID_DEVICE_REQUEST = STATUS_INVALID_DEVICE_REQUEST,
    MORE_PROCESSING_REQUIRED = STATUS_MORE_PROCESSING_REQUIRED,
    NO_MEMORY = STATUS_NO_MEMORY,
    ACCESS_DENIED = STATUS_ACCESS_DENIED,
    BUFFER_TOO_SMALL = STATUS_BUFFER_TOO_SMALL,
    OBJECT_TYPE_MISMATCH = STATUS_OBJECT_TYPE_MISMATCH,
    OBJECT_NAME_NOT_FOUND = STATUS_OBJECT_NAME_NOT_FOUND,
    OBJECT_PATH_NOT_FOUND = STATUS_OBJECT_PATH_NOT_FOUND,
    QUOTA_EXCEEDED = STATUS_QUOTA_EXCEEDED,
    INSUFFICIENT_RESOURCES = STATUS_INSUFFICIENT_RESOURCES,
    MEDIA_WRITE_PROTECTED = STATUS_MEDIA_WRITE_PROTECTED,
    DEVICE_NOT_READY = STATUS_DEVICE_NOT_READY,
    PIPE_BUSY = STATUS_PIPE_BUSY,
    PIPE_CONNECTED = STATUS_PIPE_CONNECTED,
    NOT_SUPPORTED = STATUS_NOT_SUPPORTED,
    IO_TIMEOUT = STATUS_IO_TIMEOUT,
    IO_DEVICE_ERROR = STATUS_IO_DEVICE_ERROR,
    FILE_IS_A_DIRECTORY = STATUS_FILE_IS_A_DIRECTORY,
    UNEXPECTED_IO_ERROR = STATUS_UNEXPECTED_IO_ERROR,
    DIRECTORY_NOT_EMPTY = STATUS_DIRECTORY_NOT_EMPTY,
    CANCELLED = STATUS_CANCELLED,
    INVALID_BUFFER_SIZE = STATUS_INVALID_BUFFER_SIZE,
    DEVICE_CONFIGURATION_ERROR = STATUS_DEVICE_CONFIGURATION_ERROR,
    INVALID_DEVICE_STATE = STATUS_INVALID_DEVICE_STATE,
    RETRY = STATUS_RETRY,
    PNP_REBOOT_REQUIRED = STATUS_PNP_REBOOT_REQUIRED,
    DELETE_PENDING = STATUS_DELETE_PENDING,
    OBJECTID_EXISTS = STATUS_OBJECTID_EXISTS,
    NOT_FOUND = STATUS_NOT_FOUND,
    REVISION_MISMATCH = STATUS_REVISION_MISMATCH,
    INTEGER_OVERFLOW = STATUS_INTEGER_OVERFLOW,
    DATA_ERROR = STATUS_DATA_ERROR,
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "0x{:08X}", self.0),
        }
    }
}

/// A failed reservation is a lack of memory.
impl From<alloc::collections::TryReserveError> for NtStatus {
    fn from(_: alloc::collections::TryReserveError) -> NtStatus {
        NtStatus::NO_MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_decides_success() {
        assert!(NtStatus::SUCCESS.is_success());
        assert!(NtStatus::PENDING.is_success());
        assert!(!NtStatus::BUFFER_OVERFLOW.is_success());
        assert_eq!(NtStatus::check(nt_sys::STATUS_RETRY), Err(NtStatus::RETRY));
    }

    #[test]
    fn a_status_prints_its_name_or_its_number() {
        assert_eq!(std::format!("{}", NtStatus::NO_MEMORY), "STATUS_NO_MEMORY");
        assert_eq!(
            std::format!("{}", NtStatus(0xC0FF_EE00u32 as i32)),
            "0xC0FFEE00"
        );
    }
}
