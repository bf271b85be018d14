//! storport.sys: the port driver's exports.

use crate::storport::{
    HW_INITIALIZATION_DATA, PORT_CONFIGURATION_INFORMATION, SCSI_REQUEST_BLOCK,
    STOR_SCATTER_GATHER_LIST,
};
use crate::{BOOLEAN, NTSTATUS, PVOID, UCHAR};

#[link(name = "storport.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    pub fn StorPortInitialize(
        driver: PVOID,
        registry_path: PVOID,
        data: *mut HW_INITIALIZATION_DATA,
        unused: PVOID,
    ) -> NTSTATUS;
    pub fn StorPortNotification(kind: i32, extension: PVOID, ...);
    pub fn StorPortExtendedFunction(code: i32, extension: PVOID, ...) -> u32;
    pub fn StorPortGetScatterGatherList(
        extension: PVOID,
        srb: *mut SCSI_REQUEST_BLOCK,
    ) -> *mut STOR_SCATTER_GATHER_LIST;
    pub fn StorPortGetUncachedExtension(
        extension: PVOID,
        configuration: *mut PORT_CONFIGURATION_INFORMATION,
        bytes: u32,
    ) -> PVOID;
    pub fn StorPortSetDeviceQueueDepth(
        extension: PVOID,
        path: UCHAR,
        target: UCHAR,
        lun: UCHAR,
        depth: u32,
    ) -> BOOLEAN;
}
