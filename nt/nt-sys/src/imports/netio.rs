//! netio.sys: interfaces and IP addresses. All at PASSIVE_LEVEL.

use crate::{
    BOOLEAN, HANDLE, MIB_IF_TABLE2, MIB_UNICASTIPADDRESS_TABLE, NTSTATUS, PVOID,
    UNICAST_IPADDRESS_CHANGE_CALLBACK,
};

#[link(name = "netio.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "win64" {
    pub fn GetIfTable2(table: *mut *mut MIB_IF_TABLE2) -> NTSTATUS;
    pub fn GetUnicastIpAddressTable(
        family: u16,
        table: *mut *mut MIB_UNICASTIPADDRESS_TABLE,
    ) -> NTSTATUS;
    pub fn FreeMibTable(table: PVOID);
    pub fn NotifyUnicastIpAddressChange(
        family: u16,
        callback: UNICAST_IPADDRESS_CHANGE_CALLBACK,
        context: PVOID,
        initial: BOOLEAN,
        handle: *mut HANDLE,
    ) -> NTSTATUS;
    pub fn CancelMibChangeNotify2(handle: HANDLE) -> NTSTATUS;
}
