//! The xenstore wire protocol: page, message header, message types, error names. public/io/xs_wire.h.

use core::sync::atomic::{AtomicU8, AtomicU32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XENSTORE_RING_SIZE`: bytes in each direction.
pub const RING_SIZE: usize = 1024;
/// `XENSTORE_PAYLOAD_MAX`: bytes after a header.
pub const PAYLOAD_MAX: usize = 4096;
/// `XENSTORE_ABS_PATH_MAX`: characters of an absolute path, NUL not counted.
pub const ABS_PATH_MAX: usize = 3072;
/// `XENSTORE_REL_PATH_MAX`: characters of a path relative to the domain's own.
pub const REL_PATH_MAX: usize = 2048;

/// `XENSTORE_SERVER_FEATURE_RECONNECTION`: the guest may ask for a fresh ring.
pub const SERVER_FEATURE_RECONNECTION: u32 = 1;
/// `XENSTORE_SERVER_FEATURE_ERROR`: the server reports errors of the ring in the page.
pub const SERVER_FEATURE_ERROR: u32 = 2;
/// `XENSTORE_CONNECTED`: the steady state of `connection`.
pub const CONNECTED: u32 = 0;
/// `XENSTORE_RECONNECT`: the guest wants a fresh ring; the server answers with [`CONNECTED`].
pub const RECONNECT: u32 = 1;

/// `struct xenstore_domain_interface`. Indices run freely; a byte lies at index modulo [`RING_SIZE`].
#[derive(Debug)]
#[repr(C)]
pub struct XenstoreInterface {
    /// Requests, from the guest.
    pub req: [AtomicU8; RING_SIZE],
    /// Replies and watch events, to the guest.
    pub rsp: [AtomicU8; RING_SIZE],
    /// Consumed by xenstored.
    pub req_cons: AtomicU32,
    /// Produced by the guest.
    pub req_prod: AtomicU32,
    /// Consumed by the guest.
    pub rsp_cons: AtomicU32,
    /// Produced by xenstored.
    pub rsp_prod: AtomicU32,
    /// `SERVER_FEATURE_*`.
    pub server_features: AtomicU32,
    /// [`CONNECTED`] or [`RECONNECT`].
    pub connection: AtomicU32,
}
layout!(
    XenstoreInterface, 2072, req @ 0, rsp @ 1024, req_cons @ 2048, req_prod @ 2052, rsp_cons @ 2056, rsp_prod @ 2060,
    server_features @ 2064, connection @ 2068
);

/// `struct xsd_sockmsg`: the header of every message.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// One of `XS_*`.
    pub kind: u32,
    /// Chosen by the client, echoed in the answer.
    pub req_id: u32,
    /// The transaction, 0 for none.
    pub tx_id: u32,
    /// Bytes of payload that follow.
    pub len: u32,
}
layout!(Header, 16, kind @ 0, req_id @ 4, tx_id @ 8, len @ 12);

/// `XS_DEBUG`, called `XS_CONTROL` in newer headers.
pub const XS_DEBUG: u32 = 0;
/// `XS_DIRECTORY`: path; answers with the children's names.
pub const XS_DIRECTORY: u32 = 1;
/// `XS_READ`: path; answers with the value, without NUL.
pub const XS_READ: u32 = 2;
/// `XS_GET_PERMS`: path; answers with permission strings.
pub const XS_GET_PERMS: u32 = 3;
/// `XS_WATCH`: path, token.
pub const XS_WATCH: u32 = 4;
/// `XS_UNWATCH`: path, token.
pub const XS_UNWATCH: u32 = 5;
/// `XS_TRANSACTION_START`: answers with the id in decimal.
pub const XS_TRANSACTION_START: u32 = 6;
/// `XS_TRANSACTION_END`: "T" to commit, "F" to abort.
pub const XS_TRANSACTION_END: u32 = 7;
/// `XS_INTRODUCE`: dom0 only.
pub const XS_INTRODUCE: u32 = 8;
/// `XS_RELEASE`: dom0 only.
pub const XS_RELEASE: u32 = 9;
/// `XS_GET_DOMAIN_PATH`: domid in decimal; answers with its path.
pub const XS_GET_DOMAIN_PATH: u32 = 10;
/// `XS_WRITE`: path, NUL, value without NUL.
pub const XS_WRITE: u32 = 11;
/// `XS_MKDIR`: path.
pub const XS_MKDIR: u32 = 12;
/// `XS_RM`: path.
pub const XS_RM: u32 = 13;
/// `XS_SET_PERMS`: path, permission strings.
pub const XS_SET_PERMS: u32 = 14;
/// `XS_WATCH_EVENT`, from the server: path, token.
pub const XS_WATCH_EVENT: u32 = 15;
/// `XS_ERROR`, from the server: an error name.
pub const XS_ERROR: u32 = 16;
/// `XS_IS_DOMAIN_INTRODUCED`: domid; answers "T" or "F".
pub const XS_IS_DOMAIN_INTRODUCED: u32 = 17;
/// `XS_RESUME`: dom0 only.
pub const XS_RESUME: u32 = 18;
/// `XS_SET_TARGET`: dom0 only.
pub const XS_SET_TARGET: u32 = 19;
/// `XS_RESTRICT`, obsolete.
pub const XS_RESTRICT: u32 = 20;
/// `XS_RESET_WATCHES`: drops the caller's watches and transactions.
pub const XS_RESET_WATCHES: u32 = 21;
/// `XS_DIRECTORY_PART`: path, offset; answers with a generation and a part of the list.
pub const XS_DIRECTORY_PART: u32 = 22;

/// What an error answer says, as the text in its payload. The wire header's table, and `EQUOTA`, which oxenstored sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XsError {
    /// Malformed request.
    Einval,
    /// Permission denied.
    Eacces,
    /// Exists already.
    Eexist,
    /// Is a directory.
    Eisdir,
    /// No such node.
    Enoent,
    /// Out of memory.
    Enomem,
    /// A quota is used up (xenstored).
    Enospc,
    /// Failure of the server.
    Eio,
    /// Not empty.
    Enotempty,
    /// Unknown message type.
    Enosys,
    /// The transaction cannot write.
    Erofs,
    /// Too many.
    Ebusy,
    /// The transaction conflicts: start again.
    Eagain,
    /// Already connected.
    Eisconn,
    /// Too long: value, or directory list.
    E2big,
    /// A quota is used up (oxenstored).
    Equota,
}

impl XsError {
    /// Every error with its name on the wire, NUL not included.
    pub const NAMES: [(Self, &'static str); 16] = [
        (Self::Einval, "EINVAL"),
        (Self::Eacces, "EACCES"),
        (Self::Eexist, "EEXIST"),
        (Self::Eisdir, "EISDIR"),
        (Self::Enoent, "ENOENT"),
        (Self::Enomem, "ENOMEM"),
        (Self::Enospc, "ENOSPC"),
        (Self::Eio, "EIO"),
        (Self::Enotempty, "ENOTEMPTY"),
        (Self::Enosys, "ENOSYS"),
        (Self::Erofs, "EROFS"),
        (Self::Ebusy, "EBUSY"),
        (Self::Eagain, "EAGAIN"),
        (Self::Eisconn, "EISCONN"),
        (Self::E2big, "E2BIG"),
        (Self::Equota, "EQUOTA"),
    ];
}
