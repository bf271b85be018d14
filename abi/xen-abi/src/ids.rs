//! The numbers by which domains name each other and what they share.

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A domain. public/xen.h: `domid_t`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct DomId(pub u16);

impl DomId {
    /// The control domain.
    pub const DOM0: Self = Self(0);
    /// public/xen.h: `DOMID_FIRST_RESERVED`; numbers from here on are not domains.
    pub const FIRST_RESERVED: Self = Self(0x7FF0);
    /// The calling domain. public/xen.h: `DOMID_SELF`.
    pub const SELF: Self = Self(0x7FF0);
    /// Pages of I/O memory. public/xen.h: `DOMID_IO`.
    pub const IO: Self = Self(0x7FF1);
    /// Xen itself. public/xen.h: `DOMID_XEN`.
    pub const XEN: Self = Self(0x7FF2);
    /// No domain. public/xen.h: `DOMID_INVALID`.
    pub const INVALID: Self = Self(0x7FF4);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One end of an event channel, local to a domain. public/event_channel.h: `evtchn_port_t`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Port(pub u32);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An index into the granting domain's grant table. public/grant_table.h: `grant_ref_t`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Gref(pub u32);

impl fmt::Display for Gref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
