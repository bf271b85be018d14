//! PCI configuration space, as read through `BUS_INTERFACE_STANDARD` or IRP_MN_READ_CONFIG.

use crate::UCHAR;

/// The first 64 bytes of a type 0 header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PCI_COMMON_HEADER {
    pub VendorID: u16,
    pub DeviceID: u16,
    pub Command: u16,
    pub Status: u16,
    pub RevisionID: UCHAR,
    pub ProgIf: UCHAR,
    pub SubClass: UCHAR,
    pub BaseClass: UCHAR,
    pub CacheLineSize: UCHAR,
    pub LatencyTimer: UCHAR,
    pub HeaderType: UCHAR,
    pub BIST: UCHAR,
    pub u: PCI_HEADER_TYPE_0,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PCI_HEADER_TYPE_0 {
    pub BaseAddresses: [u32; 6],
    pub CIS: u32,
    pub SubVendorID: u16,
    pub SubSystemID: u16,
    pub ROMBaseAddress: u32,
    pub CapabilitiesPtr: UCHAR,
    pub Reserved1: [UCHAR; 3],
    pub Reserved2: u32,
    pub InterruptLine: UCHAR,
    pub InterruptPin: UCHAR,
    pub MinimumGrant: UCHAR,
    pub MaximumLatency: UCHAR,
}

/// Which space `GetBusData` and IRP_MN_READ_CONFIG mean.
pub const PCI_WHICHSPACE_CONFIG: u32 = 0;

pub const PCI_ENABLE_IO_SPACE: u16 = 0x0001;
pub const PCI_ENABLE_MEMORY_SPACE: u16 = 0x0002;
pub const PCI_ENABLE_BUS_MASTER: u16 = 0x0004;
pub const PCI_INVALID_VENDORID: u16 = 0xFFFF;

layouts! {
    PCI_COMMON_HEADER = 64 {
        VendorID: 0, DeviceID: 2, Command: 4, Status: 6, RevisionID: 8, ProgIf: 9, SubClass: 10,
        BaseClass: 11, HeaderType: 14, u: 16,
    }
    PCI_HEADER_TYPE_0 = 48 {
        BaseAddresses: 0, SubVendorID: 28, SubSystemID: 30, ROMBaseAddress: 32, CapabilitiesPtr: 36,
        InterruptLine: 44, InterruptPin: 45,
    }
}
