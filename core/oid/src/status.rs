//! What a request ends with when it is not simply done.

/// `NDIS_STATUS` (ndis.h).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

#[allow(missing_docs)]
impl Status {
    pub const SUCCESS: Self = Self(0);
    pub const FAILURE: Self = Self(0xC000_0001);
    pub const INVALID_PARAMETER: Self = Self(0xC000_000D);
    pub const NOT_SUPPORTED: Self = Self(0xC000_00BB);
    pub const MULTICAST_FULL: Self = Self(0xC001_0009);
    pub const INVALID_LENGTH: Self = Self(0xC001_0014);
    pub const INVALID_DATA: Self = Self(0xC001_0015);
    pub const BUFFER_TOO_SHORT: Self = Self(0xC001_0016);
    pub const INVALID_OID: Self = Self(0xC001_0017);
}

/// Why a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the request is completed with.
    pub status: Status,
    /// `BytesNeeded`: the length that would do, or 0 where length is not what is wrong.
    pub needed: u32,
}

impl Failure {
    /// Of a request whose length is right.
    pub const fn of(status: Status) -> Self {
        Self { status, needed: 0 }
    }

    /// Of a set request that is too short, or not as long as its number is.
    pub(crate) fn length(needed: usize) -> Self {
        Self {
            status: Status::INVALID_LENGTH,
            needed: u32::try_from(needed).unwrap_or(u32::MAX),
        }
    }

    /// Of a query without room for its answer.
    pub(crate) fn too_short(needed: usize) -> Self {
        Self {
            status: Status::BUFFER_TOO_SHORT,
            ..Self::length(needed)
        }
    }
}

/// The adapter does not have that, at least not now.
pub(crate) const NOT_SUPPORTED: Failure = Failure::of(Status::NOT_SUPPORTED);
/// The block says what it must not.
pub(crate) const INVALID_DATA: Failure = Failure::of(Status::INVALID_DATA);
/// A value asks for what there is not.
pub(crate) const INVALID_PARAMETER: Failure = Failure::of(Status::INVALID_PARAMETER);
