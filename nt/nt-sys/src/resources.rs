//! Hardware resources: what a device has (`CM_*`) and what it could take (`IO_*`).

use crate::{KAFFINITY, PHYSICAL_ADDRESS, UCHAR};

// Type of a descriptor (wdm.h: CmResourceType*)
pub const CmResourceTypeNull: UCHAR = 0;
pub const CmResourceTypePort: UCHAR = 1;
pub const CmResourceTypeInterrupt: UCHAR = 2;
pub const CmResourceTypeMemory: UCHAR = 3;
pub const CmResourceTypeDma: UCHAR = 4;
pub const CmResourceTypeBusNumber: UCHAR = 6;
pub const CmResourceTypeMemoryLarge: UCHAR = 7;
pub const CmResourceTypeDevicePrivate: UCHAR = 129;

// CM_SHARE_DISPOSITION
pub const CmResourceShareUndetermined: UCHAR = 0;
pub const CmResourceShareDeviceExclusive: UCHAR = 1;
pub const CmResourceShareDriverExclusive: UCHAR = 2;
pub const CmResourceShareShared: UCHAR = 3;

// Flags by type (wdm.h)
pub const CM_RESOURCE_PORT_IO: u16 = 0x0001;
pub const CM_RESOURCE_PORT_16_BIT_DECODE: u16 = 0x0010;
pub const CM_RESOURCE_PORT_BAR: u16 = 0x0100;
pub const CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE: u16 = 0x0000;
pub const CM_RESOURCE_INTERRUPT_LATCHED: u16 = 0x0001;
pub const CM_RESOURCE_INTERRUPT_MESSAGE: u16 = 0x0002;
pub const CM_RESOURCE_INTERRUPT_POLICY_INCLUDED: u16 = 0x0004;
pub const CM_RESOURCE_MEMORY_READ_WRITE: u16 = 0x0000;
pub const CM_RESOURCE_MEMORY_PREFETCHABLE: u16 = 0x0004;
pub const CM_RESOURCE_MEMORY_BAR: u16 = 0x0080;

// INTERFACE_TYPE
pub const InterfaceTypeUndefined: i32 = -1;
pub const Internal: i32 = 0;
pub const PCIBus: i32 = 5;
pub const PNPBus: i32 = 15;

/// One resource: 20 bytes, without padding (wdm.h packs it to 4).
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_PARTIAL_RESOURCE_DESCRIPTOR {
    pub Type: UCHAR,
    pub ShareDisposition: UCHAR,
    pub Flags: u16,
    pub u: CM_PARTIAL_RESOURCE,
}

#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub union CM_PARTIAL_RESOURCE {
    pub Generic: CM_RANGE,
    pub Port: CM_RANGE,
    pub Memory: CM_RANGE,
    pub Interrupt: CM_INTERRUPT,
    pub MessageInterruptRaw: CM_MESSAGE_INTERRUPT_RAW,
    pub BusNumber: CM_BUS_NUMBER,
    pub DevicePrivate: [u32; 3],
}

/// Ports or memory; the length is in bytes.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_RANGE {
    pub Start: PHYSICAL_ADDRESS,
    pub Length: u32,
}

/// Raw: the bus's line or message; translated: IRQL, vector and processors for `IoConnectInterruptEx`.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_INTERRUPT {
    pub Level: u16,
    pub Group: u16,
    pub Vector: u32,
    pub Affinity: KAFFINITY,
}

#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_MESSAGE_INTERRUPT_RAW {
    pub Group: u16,
    pub MessageCount: u16,
    pub Vector: u32,
    pub Affinity: KAFFINITY,
}

#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_BUS_NUMBER {
    pub Start: u32,
    pub Length: u32,
    pub Reserved: u32,
}

/// `Count` descriptors start at `PartialDescriptors`.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_PARTIAL_RESOURCE_LIST {
    pub Version: u16,
    pub Revision: u16,
    pub Count: u32,
    pub PartialDescriptors: [CM_PARTIAL_RESOURCE_DESCRIPTOR; 1],
}

#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_FULL_RESOURCE_DESCRIPTOR {
    pub InterfaceType: i32,
    pub BusNumber: u32,
    pub PartialResourceList: CM_PARTIAL_RESOURCE_LIST,
}

#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_RESOURCE_LIST {
    pub Count: u32,
    pub List: [CM_FULL_RESOURCE_DESCRIPTOR; 1],
}

// IO_RESOURCE_DESCRIPTOR.Option (wdm.h)
pub const IO_RESOURCE_PREFERRED: UCHAR = 0x01;
pub const IO_RESOURCE_DEFAULT: UCHAR = 0x02;
pub const IO_RESOURCE_ALTERNATIVE: UCHAR = 0x08;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_RESOURCE_DESCRIPTOR {
    pub Option: UCHAR,
    pub Type: UCHAR,
    pub ShareDisposition: UCHAR,
    pub Spare1: UCHAR,
    pub Flags: u16,
    pub Spare2: u16,
    pub u: IO_RESOURCE,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_RESOURCE {
    pub Port: IO_RANGE,
    pub Memory: IO_RANGE,
    pub Generic: IO_RANGE,
    pub Interrupt: IO_INTERRUPT,
    pub DevicePrivate: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_RANGE {
    pub Length: u32,
    pub Alignment: u32,
    pub MinimumAddress: PHYSICAL_ADDRESS,
    pub MaximumAddress: PHYSICAL_ADDRESS,
}

/// The vectors that would do, and (where the descriptor's flags say so) policy and processors.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_INTERRUPT {
    pub MinimumVector: u32,
    pub MaximumVector: u32,
    pub AffinityPolicy: u16,
    pub Group: u16,
    pub PriorityPolicy: i32,
    pub TargetedProcessors: KAFFINITY,
}

// IRQ_DEVICE_POLICY and IRQ_PRIORITY
pub const IrqPolicyMachineDefault: u16 = 0;
pub const IrqPolicySpecifiedProcessors: u16 = 4;
pub const IrqPriorityUndefined: i32 = 0;
pub const IrqPriorityHigh: i32 = 3;

/// `CM_RESOURCE_INTERRUPT_MESSAGE` requests carry this minus their count in `MinimumVector`.
pub const CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN: u32 = -2i32 as u32;

/// `Count` descriptors start at `Descriptors`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_RESOURCE_LIST {
    pub Version: u16,
    pub Revision: u16,
    pub Count: u32,
    pub Descriptors: [IO_RESOURCE_DESCRIPTOR; 1],
}

/// `AlternativeLists` lists start at `List`, one behind the other; `ListSize` is the whole's size in bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_RESOURCE_REQUIREMENTS_LIST {
    pub ListSize: u32,
    pub InterfaceType: i32,
    pub BusNumber: u32,
    pub SlotNumber: u32,
    pub Reserved: [u32; 3],
    pub AlternativeLists: u32,
    pub List: [IO_RESOURCE_LIST; 1],
}

layouts! {
    CM_PARTIAL_RESOURCE_DESCRIPTOR = 20 {
        Type: 0, ShareDisposition: 1, Flags: 2, u.Generic.Start: 4, u.Generic.Length: 12,
        u.Port.Start: 4, u.Memory.Start: 4, u.Memory.Length: 12, u.Interrupt.Level: 4,
        u.Interrupt.Group: 6, u.Interrupt.Vector: 8, u.Interrupt.Affinity: 12, u.BusNumber.Start: 4,
        u.DevicePrivate: 4,
    }
    CM_PARTIAL_RESOURCE_LIST = 28 { Version: 0, Revision: 2, Count: 4, PartialDescriptors: 8 }
    CM_FULL_RESOURCE_DESCRIPTOR = 36 { InterfaceType: 0, BusNumber: 4, PartialResourceList: 8 }
    CM_RESOURCE_LIST = 40 { Count: 0, List: 4 }
    IO_RESOURCE_DESCRIPTOR = 32 {
        Option: 0, Type: 1, ShareDisposition: 2, Flags: 4, u.Memory.Length: 8, u.Memory.Alignment: 12,
        u.Memory.MinimumAddress: 16, u.Memory.MaximumAddress: 24, u.Interrupt.MinimumVector: 8,
        u.Interrupt.MaximumVector: 12, u.DevicePrivate: 8,
    }
    IO_RESOURCE_LIST = 40 { Version: 0, Revision: 2, Count: 4, Descriptors: 8 }
    IO_RESOURCE_REQUIREMENTS_LIST = 72 {
        ListSize: 0, InterfaceType: 4, BusNumber: 8, SlotNumber: 12, Reserved: 16, AlternativeLists: 28,
        List: 32,
    }
}
