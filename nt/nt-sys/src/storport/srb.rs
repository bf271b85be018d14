//! The SCSI request block (srb.h), its PnP sibling, and SCSI statuses.

use crate::{PHYSICAL_ADDRESS, PVOID, UCHAR};

/// A request to the miniport. `DataTransferLength` is in bytes, `TimeOutValue` in seconds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SCSI_REQUEST_BLOCK {
    pub Length: u16,
    pub Function: UCHAR,
    pub SrbStatus: UCHAR,
    pub ScsiStatus: UCHAR,
    pub PathId: UCHAR,
    pub TargetId: UCHAR,
    pub Lun: UCHAR,
    pub QueueTag: UCHAR,
    pub QueueAction: UCHAR,
    pub CdbLength: UCHAR,
    pub SenseInfoBufferLength: UCHAR,
    pub SrbFlags: u32,
    pub DataTransferLength: u32,
    pub TimeOutValue: u32,
    pub DataBuffer: PVOID,
    pub SenseInfoBuffer: PVOID,
    pub NextSrb: *mut SCSI_REQUEST_BLOCK,
    /// The IRP that carries this block.
    pub OriginalRequest: PVOID,
    pub SrbExtension: PVOID,
    pub InternalStatus: u32,
    pub Reserved: u32,
    pub Cdb: [UCHAR; 16],
}

/// `SRB_FUNCTION_PNP` lays itself over the request block so.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SCSI_PNP_REQUEST_BLOCK {
    pub Length: u16,
    pub Function: UCHAR,
    pub SrbStatus: UCHAR,
    pub PnPSubFunction: UCHAR,
    pub PathId: UCHAR,
    pub TargetId: UCHAR,
    pub Lun: UCHAR,
    /// A `STOR_PNP_ACTION`.
    pub PnPAction: u32,
    pub SrbFlags: u32,
    pub DataTransferLength: u32,
    pub TimeOutValue: u32,
    pub DataBuffer: PVOID,
    pub SenseInfoBuffer: PVOID,
    pub NextSrb: *mut SCSI_REQUEST_BLOCK,
    pub OriginalRequest: PVOID,
    pub SrbExtension: PVOID,
    pub SrbPnPFlags: u32,
    pub Reserved: u32,
    pub Reserved4: [UCHAR; 16],
}

/// `StorQueryCapabilities` fills this in; `Bits` are `STOR_CAPABILITY_*`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct STOR_DEVICE_CAPABILITIES {
    pub Version: u16,
    pub Bits: u32,
}

// STOR_DEVICE_CAPABILITIES' bits, in the order of srb.h
pub const STOR_CAPABILITY_EJECT_SUPPORTED: u32 = 1 << 3;
pub const STOR_CAPABILITY_REMOVABLE: u32 = 1 << 4;
pub const STOR_CAPABILITY_UNIQUE_ID: u32 = 1 << 6;
pub const STOR_CAPABILITY_SILENT_INSTALL: u32 = 1 << 7;
pub const STOR_CAPABILITY_SURPRISE_REMOVAL_OK: u32 = 1 << 8;
pub const STOR_CAPABILITY_NO_DISPLAY_IN_UI: u32 = 1 << 9;

// STOR_PNP_ACTION
pub const StorStartDevice: u32 = 0x0;
pub const StorRemoveDevice: u32 = 0x2;
pub const StorStopDevice: u32 = 0x4;
pub const StorQueryCapabilities: u32 = 0x9;
pub const StorQueryResourceRequirements: u32 = 0xb;
pub const StorFilterResourceRequirements: u32 = 0xd;
pub const StorSurpriseRemoval: u32 = 0x17;

/// SCSI_PNP_REQUEST_BLOCK.SrbPnPFlags: the request is for the adapter, not for a logical unit.
pub const SRB_PNP_FLAGS_ADAPTER_REQUEST: u32 = 0x0001;

/// Where a scatter/gather piece lies; `Length` in bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct STOR_SCATTER_GATHER_ELEMENT {
    pub PhysicalAddress: PHYSICAL_ADDRESS,
    pub Length: u32,
    pub Reserved: usize,
}

/// `NumberOfElements` elements start at `List`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct STOR_SCATTER_GATHER_LIST {
    pub NumberOfElements: u32,
    pub Reserved: usize,
    pub List: [STOR_SCATTER_GATHER_ELEMENT; 0],
}

// SCSI_REQUEST_BLOCK.Function
pub const SRB_FUNCTION_EXECUTE_SCSI: UCHAR = 0x00;
pub const SRB_FUNCTION_CLAIM_DEVICE: UCHAR = 0x01;
pub const SRB_FUNCTION_IO_CONTROL: UCHAR = 0x02;
pub const SRB_FUNCTION_RECEIVE_EVENT: UCHAR = 0x03;
pub const SRB_FUNCTION_RELEASE_QUEUE: UCHAR = 0x04;
pub const SRB_FUNCTION_ATTACH_DEVICE: UCHAR = 0x05;
pub const SRB_FUNCTION_RELEASE_DEVICE: UCHAR = 0x06;
pub const SRB_FUNCTION_SHUTDOWN: UCHAR = 0x07;
pub const SRB_FUNCTION_FLUSH: UCHAR = 0x08;
pub const SRB_FUNCTION_ABORT_COMMAND: UCHAR = 0x10;
pub const SRB_FUNCTION_RELEASE_RECOVERY: UCHAR = 0x11;
pub const SRB_FUNCTION_RESET_BUS: UCHAR = 0x12;
pub const SRB_FUNCTION_RESET_DEVICE: UCHAR = 0x13;
pub const SRB_FUNCTION_TERMINATE_IO: UCHAR = 0x14;
pub const SRB_FUNCTION_FLUSH_QUEUE: UCHAR = 0x15;
pub const SRB_FUNCTION_REMOVE_DEVICE: UCHAR = 0x16;
pub const SRB_FUNCTION_WMI: UCHAR = 0x17;
pub const SRB_FUNCTION_LOCK_QUEUE: UCHAR = 0x18;
pub const SRB_FUNCTION_UNLOCK_QUEUE: UCHAR = 0x19;
pub const SRB_FUNCTION_RESET_LOGICAL_UNIT: UCHAR = 0x20;
pub const SRB_FUNCTION_SET_LINK_TIMEOUT: UCHAR = 0x21;
pub const SRB_FUNCTION_LINK_TIMEOUT_OCCURRED: UCHAR = 0x22;
pub const SRB_FUNCTION_LINK_TIMEOUT_COMPLETE: UCHAR = 0x23;
pub const SRB_FUNCTION_POWER: UCHAR = 0x24;
pub const SRB_FUNCTION_PNP: UCHAR = 0x25;
pub const SRB_FUNCTION_DUMP_POINTERS: UCHAR = 0x26;

// SCSI_REQUEST_BLOCK.SrbStatus; the low six bits are the status, the upper two flags
pub const SRB_STATUS_PENDING: UCHAR = 0x00;
pub const SRB_STATUS_SUCCESS: UCHAR = 0x01;
pub const SRB_STATUS_ABORTED: UCHAR = 0x02;
pub const SRB_STATUS_ABORT_FAILED: UCHAR = 0x03;
pub const SRB_STATUS_ERROR: UCHAR = 0x04;
pub const SRB_STATUS_BUSY: UCHAR = 0x05;
pub const SRB_STATUS_INVALID_REQUEST: UCHAR = 0x06;
pub const SRB_STATUS_INVALID_PATH_ID: UCHAR = 0x07;
pub const SRB_STATUS_NO_DEVICE: UCHAR = 0x08;
pub const SRB_STATUS_TIMEOUT: UCHAR = 0x09;
pub const SRB_STATUS_SELECTION_TIMEOUT: UCHAR = 0x0a;
pub const SRB_STATUS_COMMAND_TIMEOUT: UCHAR = 0x0b;
pub const SRB_STATUS_MESSAGE_REJECTED: UCHAR = 0x0d;
pub const SRB_STATUS_BUS_RESET: UCHAR = 0x0e;
pub const SRB_STATUS_PARITY_ERROR: UCHAR = 0x0f;
pub const SRB_STATUS_REQUEST_SENSE_FAILED: UCHAR = 0x10;
pub const SRB_STATUS_NO_HBA: UCHAR = 0x11;
pub const SRB_STATUS_DATA_OVERRUN: UCHAR = 0x12;
pub const SRB_STATUS_UNEXPECTED_BUS_FREE: UCHAR = 0x13;
pub const SRB_STATUS_PHASE_SEQUENCE_FAILURE: UCHAR = 0x14;
pub const SRB_STATUS_BAD_SRB_BLOCK_LENGTH: UCHAR = 0x15;
pub const SRB_STATUS_REQUEST_FLUSHED: UCHAR = 0x16;
pub const SRB_STATUS_INVALID_LUN: UCHAR = 0x20;
pub const SRB_STATUS_INVALID_TARGET_ID: UCHAR = 0x21;
pub const SRB_STATUS_BAD_FUNCTION: UCHAR = 0x22;
pub const SRB_STATUS_ERROR_RECOVERY: UCHAR = 0x23;
pub const SRB_STATUS_NOT_POWERED: UCHAR = 0x24;
pub const SRB_STATUS_LINK_DOWN: UCHAR = 0x25;
pub const SRB_STATUS_INTERNAL_ERROR: UCHAR = 0x30;
pub const SRB_STATUS_QUEUE_FROZEN: UCHAR = 0x40;
pub const SRB_STATUS_AUTOSENSE_VALID: UCHAR = 0x80;

// SCSI_REQUEST_BLOCK.SrbFlags
pub const SRB_FLAGS_QUEUE_ACTION_ENABLE: u32 = 0x00000002;
pub const SRB_FLAGS_DISABLE_DISCONNECT: u32 = 0x00000004;
pub const SRB_FLAGS_DISABLE_SYNCH_TRANSFER: u32 = 0x00000008;
pub const SRB_FLAGS_BYPASS_FROZEN_QUEUE: u32 = 0x00000010;
pub const SRB_FLAGS_DISABLE_AUTOSENSE: u32 = 0x00000020;
pub const SRB_FLAGS_DATA_IN: u32 = 0x00000040;
pub const SRB_FLAGS_DATA_OUT: u32 = 0x00000080;
pub const SRB_FLAGS_NO_DATA_TRANSFER: u32 = 0x00000000;
pub const SRB_FLAGS_NO_QUEUE_FREEZE: u32 = 0x00000100;
pub const SRB_FLAGS_IS_ACTIVE: u32 = 0x00010000;
pub const SRB_FLAGS_BYPASS_LOCKED_QUEUE: u32 = 0x00080000;

/// Takes the flags off an `SrbStatus` (srb.h: SRB_STATUS).
pub const fn srb_status(status: UCHAR) -> UCHAR {
    status & !(SRB_STATUS_AUTOSENSE_VALID | SRB_STATUS_QUEUE_FROZEN)
}

// SCSI_REQUEST_BLOCK.QueueAction
pub const SRB_SIMPLE_TAG_REQUEST: UCHAR = 0x20;
pub const SRB_HEAD_OF_QUEUE_TAG_REQUEST: UCHAR = 0x21;
pub const SRB_ORDERED_QUEUE_TAG_REQUEST: UCHAR = 0x22;

// SCSI_REQUEST_BLOCK.ScsiStatus (scsi.h: SCSISTAT_*; SAM-5, status codes)
pub const SCSISTAT_GOOD: UCHAR = 0x00;
pub const SCSISTAT_CHECK_CONDITION: UCHAR = 0x02;
pub const SCSISTAT_BUSY: UCHAR = 0x08;
pub const SCSISTAT_RESERVATION_CONFLICT: UCHAR = 0x18;
pub const SCSISTAT_QUEUE_FULL: UCHAR = 0x28;

/// Sense data in fixed format (SPC-4, 4.5.3).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SENSE_DATA {
    /// Response code 0x70 in bits 0–6, valid in bit 7.
    pub ErrorCode: UCHAR,
    pub SegmentNumber: UCHAR,
    /// Sense key in bits 0–3.
    pub SenseKey: UCHAR,
    pub Information: [UCHAR; 4],
    /// Bytes that follow this one.
    pub AdditionalSenseLength: UCHAR,
    pub CommandSpecificInformation: [UCHAR; 4],
    pub AdditionalSenseCode: UCHAR,
    pub AdditionalSenseCodeQualifier: UCHAR,
    pub FieldReplaceableUnitCode: UCHAR,
    pub SenseKeySpecific: [UCHAR; 3],
}

layouts! {
    SCSI_REQUEST_BLOCK = 0x58 {
        Length: 0, Function: 2, SrbStatus: 3, ScsiStatus: 4, PathId: 5, TargetId: 6, Lun: 7, QueueTag: 8,
        QueueAction: 9, CdbLength: 10, SenseInfoBufferLength: 11, SrbFlags: 12, DataTransferLength: 16,
        TimeOutValue: 20, DataBuffer: 24, SenseInfoBuffer: 32, NextSrb: 40, OriginalRequest: 48,
        SrbExtension: 56, Cdb: 72,
    }
    SCSI_PNP_REQUEST_BLOCK = 0x58 {
        Function: 2, SrbStatus: 3, PnPSubFunction: 4, PnPAction: 8, SrbFlags: 12, DataTransferLength: 16,
        TimeOutValue: 20, DataBuffer: 24, OriginalRequest: 48, SrbExtension: 56, SrbPnPFlags: 64,
    }
    STOR_DEVICE_CAPABILITIES = 8 { Version: 0 }
    STOR_SCATTER_GATHER_ELEMENT = 24 { PhysicalAddress: 0, Length: 8, Reserved: 16 }
    STOR_SCATTER_GATHER_LIST = 16 { NumberOfElements: 0, Reserved: 8, List: 16 }
    SENSE_DATA = 18 {
        AdditionalSenseLength: 7, AdditionalSenseCode: 12, AdditionalSenseCodeQualifier: 13,
        FieldReplaceableUnitCode: 14,
    }
}
