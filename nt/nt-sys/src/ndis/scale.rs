//! Receive side scaling (RSS) and receive hashing: capabilities and parameters.

use crate::PROCESSOR_NUMBER;
use crate::ndis::NDIS_OBJECT_HEADER;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_RECEIVE_SCALE_CAPABILITIES {
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_RSS_CAPS_*` and one `NdisHashFunction*`.
    pub CapabilitiesFlags: u32,
    pub NumberOfInterruptMessages: u32,
    pub NumberOfReceiveQueues: u32,
    pub NumberOfIndirectionTableEntries: u16,
}

/// NDIS 6.0.
pub const NDIS_RECEIVE_SCALE_CAPABILITIES_REVISION_1: u8 = 1;
/// NDIS 6.30: the number of entries.
pub const NDIS_RECEIVE_SCALE_CAPABILITIES_REVISION_2: u8 = 2;
/// NDIS 6.60: no more fields.
pub const NDIS_RECEIVE_SCALE_CAPABILITIES_REVISION_3: u8 = 3;
pub const NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_1: u16 = 16;
pub const NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_2: u16 = 18;
pub const NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_3: u16 = 18;

// CapabilitiesFlags (ntddndis.h)
pub const NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV4: u32 = 0x0000_0100;
pub const NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6: u32 = 0x0000_0200;
pub const NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6_EX: u32 = 0x0000_0400;
pub const NDIS_RSS_CAPS_HASH_TYPE_UDP_IPV4: u32 = 0x0000_0800;
pub const NDIS_RSS_CAPS_HASH_TYPE_UDP_IPV6: u32 = 0x0000_1000;
pub const NDIS_RSS_CAPS_MESSAGE_SIGNALED_INTERRUPTS: u32 = 0x0100_0000;
pub const NDIS_RSS_CAPS_CLASSIFICATION_AT_ISR: u32 = 0x0200_0000;
pub const NDIS_RSS_CAPS_CLASSIFICATION_AT_DPC: u32 = 0x0400_0000;

// HashInformation: one function in the lowest byte, types above (ndis/hashtypes.h)
pub const NdisHashFunctionToeplitz: u32 = 0x0000_0001;
pub const NDIS_HASH_FUNCTION_MASK: u32 = 0x0000_00FF;
pub const NDIS_HASH_TYPE_MASK: u32 = 0x00FF_FF00;
pub const NDIS_HASH_IPV4: u32 = 0x0000_0100;
pub const NDIS_HASH_TCP_IPV4: u32 = 0x0000_0200;
pub const NDIS_HASH_IPV6: u32 = 0x0000_0400;
pub const NDIS_HASH_IPV6_EX: u32 = 0x0000_0800;
pub const NDIS_HASH_TCP_IPV6: u32 = 0x0000_1000;
pub const NDIS_HASH_TCP_IPV6_EX: u32 = 0x0000_2000;
pub const NDIS_HASH_UDP_IPV4: u32 = 0x0000_4000;
pub const NDIS_HASH_UDP_IPV6: u32 = 0x0000_8000;
pub const NDIS_HASH_UDP_IPV6_EX: u32 = 0x0001_0000;

/// OID_GEN_RECEIVE_SCALE_PARAMETERS. Table and key follow at their offsets, counted from this structure's start.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_RECEIVE_SCALE_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_RSS_PARAM_FLAG_*`.
    pub Flags: u16,
    pub BaseCpuNumber: u16,
    pub HashInformation: u32,
    /// Bytes of an array of `PROCESSOR_NUMBER`.
    pub IndirectionTableSize: u16,
    pub IndirectionTableOffset: u32,
    pub HashSecretKeySize: u16,
    pub HashSecretKeyOffset: u32,
    pub ProcessorMasksOffset: u32,
    pub NumberOfProcessorMasks: u32,
    pub ProcessorMasksEntrySize: u32,
    pub DefaultProcessorNumber: PROCESSOR_NUMBER,
}

/// NDIS 6.0.
pub const NDIS_RECEIVE_SCALE_PARAMETERS_REVISION_1: u8 = 1;
/// NDIS 6.20: processor groups.
pub const NDIS_RECEIVE_SCALE_PARAMETERS_REVISION_2: u8 = 2;
/// NDIS 6.60: the default processor.
pub const NDIS_RECEIVE_SCALE_PARAMETERS_REVISION_3: u8 = 3;
pub const NDIS_SIZEOF_RECEIVE_SCALE_PARAMETERS_REVISION_1: u16 = 28;
pub const NDIS_SIZEOF_RECEIVE_SCALE_PARAMETERS_REVISION_2: u16 = 40;
pub const NDIS_SIZEOF_RECEIVE_SCALE_PARAMETERS_REVISION_3: u16 = 44;

// NDIS_RECEIVE_SCALE_PARAMETERS.Flags (ntddndis.h)
pub const NDIS_RSS_PARAM_FLAG_BASE_CPU_UNCHANGED: u16 = 0x0001;
pub const NDIS_RSS_PARAM_FLAG_HASH_INFO_UNCHANGED: u16 = 0x0002;
pub const NDIS_RSS_PARAM_FLAG_ITABLE_UNCHANGED: u16 = 0x0004;
pub const NDIS_RSS_PARAM_FLAG_HASH_KEY_UNCHANGED: u16 = 0x0008;
pub const NDIS_RSS_PARAM_FLAG_DISABLE_RSS: u16 = 0x0010;
pub const NDIS_RSS_PARAM_FLAG_DEFAULT_PROCESSOR_UNCHANGED: u16 = 0x0020;

/// Bytes of the longest key.
pub const NDIS_RSS_HASH_SECRET_KEY_MAX_SIZE_REVISION_2: usize = 40;
/// Entries of the longest indirection table.
pub const NDIS_RSS_INDIRECTION_TABLE_MAX_ENTRIES: usize = 128;

/// OID_GEN_RECEIVE_HASH. The key follows at its offset, counted from this structure's start.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_RECEIVE_HASH_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_RECEIVE_HASH_FLAG_*`.
    pub Flags: u32,
    pub HashInformation: u32,
    pub HashSecretKeySize: u16,
    pub HashSecretKeyOffset: u32,
}

pub const NDIS_RECEIVE_HASH_PARAMETERS_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_RECEIVE_HASH_PARAMETERS_REVISION_1: u16 = 20;
pub const NDIS_RECEIVE_HASH_FLAG_ENABLE_HASH: u32 = 0x0000_0001;
pub const NDIS_RECEIVE_HASH_FLAG_HASH_INFO_UNCHANGED: u32 = 0x0000_0002;
pub const NDIS_RECEIVE_HASH_FLAG_HASH_KEY_UNCHANGED: u32 = 0x0000_0004;

layouts! {
    NDIS_RECEIVE_SCALE_CAPABILITIES = 20 {
        Header: 0, CapabilitiesFlags: 4, NumberOfInterruptMessages: 8, NumberOfReceiveQueues: 12,
        NumberOfIndirectionTableEntries: 16,
    }
    NDIS_RECEIVE_SCALE_PARAMETERS = 44 {
        Header: 0, Flags: 4, BaseCpuNumber: 6, HashInformation: 8, IndirectionTableSize: 12,
        IndirectionTableOffset: 16, HashSecretKeySize: 20, HashSecretKeyOffset: 24,
        ProcessorMasksOffset: 28, NumberOfProcessorMasks: 32, ProcessorMasksEntrySize: 36,
        DefaultProcessorNumber: 40,
    }
    NDIS_RECEIVE_HASH_PARAMETERS = 20 {
        Header: 0, Flags: 4, HashInformation: 8, HashSecretKeySize: 12, HashSecretKeyOffset: 16,
    }
}
