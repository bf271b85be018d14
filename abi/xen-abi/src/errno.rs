//! Xen's error numbers. A failing hypercall returns one of them negated. public/errno.h: `XEN_ERRNO`.

/// Operation not permitted.
pub const EPERM: i64 = 1;
/// No such entity.
pub const ENOENT: i64 = 2;
/// No such domain or vCPU.
pub const ESRCH: i64 = 3;
/// Input or output error.
pub const EIO: i64 = 5;
/// No such device.
pub const ENXIO: i64 = 6;
/// Argument list (or value) too long.
pub const E2BIG: i64 = 7;
/// Try again.
pub const EAGAIN: i64 = 11;
/// Out of memory.
pub const ENOMEM: i64 = 12;
/// Permission denied.
pub const EACCES: i64 = 13;
/// Bad address of an argument.
pub const EFAULT: i64 = 14;
/// In use.
pub const EBUSY: i64 = 16;
/// Exists already.
pub const EEXIST: i64 = 17;
/// Cross-device link.
pub const EXDEV: i64 = 18;
/// No such device.
pub const ENODEV: i64 = 19;
/// Is a directory.
pub const EISDIR: i64 = 21;
/// Invalid argument.
pub const EINVAL: i64 = 22;
/// No space, or no free port.
pub const ENOSPC: i64 = 28;
/// Read-only.
pub const EROFS: i64 = 30;
/// Number out of range.
pub const ERANGE: i64 = 34;
/// No such hypercall or sub-operation.
pub const ENOSYS: i64 = 38;
/// Not empty.
pub const ENOTEMPTY: i64 = 39;
/// No buffer space.
pub const ENOBUFS: i64 = 105;
/// Already connected.
pub const EISCONN: i64 = 106;
/// Operation not supported.
pub const EOPNOTSUPP: i64 = 95;
