//! NDIS 6.30 to 6.89 for x64: what a miniport and NDIS.SYS hand each other.
//!
//! ```text
//!   miniport    registration and handlers      attributes  what an adapter says that it is
//!   buffer      NET_BUFFER, NET_BUFFER_LIST    info        out-of-band information of a list, as bits
//!   offload     capabilities and parameters    scale       receive side scaling and hashing
//!   oid         requests and their numbers     indication  status, link state, statistics
//!   resource    configuration, scatter-gather  status      NDIS_STATUS
//! ```
//!
//! Layouts follow Microsoft Learn ("ndis.h", "ntddndis.h", "ndis/nbl*.h"). mingw-w64's ntddndis.h has what is shared
//! with user mode, as of NDIS 6.30, and the tests ask it.

mod attributes;
mod buffer;
mod indication;
mod info;
mod miniport;
mod offload;
mod oid;
mod resource;
mod scale;
mod status;

pub use attributes::*;
pub use buffer::*;
pub use indication::*;
pub use info::*;
pub use miniport::*;
pub use offload::*;
pub use oid::*;
pub use resource::*;
pub use scale::*;
pub use status::*;

use crate::PVOID;

pub type NDIS_HANDLE = PVOID;
pub type NDIS_STATUS = i32;
pub type NDIS_OID = u32;
pub type NDIS_PORT_NUMBER = u32;

pub const NDIS_DEFAULT_PORT_NUMBER: NDIS_PORT_NUMBER = 0;

/// What every extensible structure starts with.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NDIS_OBJECT_HEADER {
    pub Type: u8,
    pub Revision: u8,
    /// Bytes of the structure in this revision, which may be fewer than a newer one's `size_of`.
    pub Size: u16,
}

impl NDIS_OBJECT_HEADER {
    pub const fn new(object: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
        NDIS_OBJECT_HEADER {
            Type: object,
            Revision: revision,
            Size: size,
        }
    }
}

// Object types (ntddndis.h)
pub const NDIS_OBJECT_TYPE_DEFAULT: u8 = 0x80;
pub const NDIS_OBJECT_TYPE_MINIPORT_INIT_PARAMETERS: u8 = 0x81;
pub const NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION: u8 = 0x83;
pub const NDIS_OBJECT_TYPE_RSS_CAPABILITIES: u8 = 0x88;
pub const NDIS_OBJECT_TYPE_RSS_PARAMETERS: u8 = 0x89;
pub const NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS: u8 = 0x8A;
pub const NDIS_OBJECT_TYPE_OID_REQUEST: u8 = 0x96;
pub const NDIS_OBJECT_TYPE_STATUS_INDICATION: u8 = 0x98;
pub const NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES: u8 = 0x9E;
pub const NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES: u8 = 0x9F;
pub const NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES: u8 = 0xA0;
pub const NDIS_OBJECT_TYPE_OFFLOAD: u8 = 0xA7;
pub const NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION: u8 = 0xA8;
pub const NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT: u8 = 0xA9;

// What NdisGetVersion answers: the major version in the upper half, the minor one in the lower (ndis/version.h)
pub const NDIS_RUNTIME_VERSION_630: u32 = 0x0006_001E;
pub const NDIS_RUNTIME_VERSION_640: u32 = 0x0006_0028;
pub const NDIS_RUNTIME_VERSION_650: u32 = 0x0006_0032;
pub const NDIS_RUNTIME_VERSION_660: u32 = 0x0006_003C;
pub const NDIS_RUNTIME_VERSION_670: u32 = 0x0006_0046;
pub const NDIS_RUNTIME_VERSION_680: u32 = 0x0006_0050;
pub const NDIS_RUNTIME_VERSION_683: u32 = 0x0006_0053;
pub const NDIS_RUNTIME_VERSION_685: u32 = 0x0006_0055;
pub const NDIS_RUNTIME_VERSION_689: u32 = 0x0006_0059;

layouts! {
    NDIS_OBJECT_HEADER = 4 { Type: 0, Revision: 1, Size: 2 }
}

#[cfg(test)]
pub(crate) mod layouts {
    pub(crate) use super::LAYOUTS as OBJECT;
    pub(crate) use super::attributes::LAYOUTS as ATTRIBUTES;
    pub(crate) use super::buffer::LAYOUTS as BUFFER;
    pub(crate) use super::indication::LAYOUTS as INDICATION;
    pub(crate) use super::miniport::LAYOUTS as MINIPORT;
    pub(crate) use super::offload::LAYOUTS as OFFLOAD;
    pub(crate) use super::oid::LAYOUTS as OID;
    pub(crate) use super::resource::LAYOUTS as RESOURCE;
    pub(crate) use super::scale::LAYOUTS as SCALE;
}
