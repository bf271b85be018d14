//! NDIS.SYS: the exports that a miniport calls.

use crate::ndis::*;
use crate::{DEVICE_OBJECT, DRIVER_OBJECT, MDL, PVOID, UNICODE_STRING};

#[link(name = "NDIS.SYS", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "win64" {
    /// `NDIS_RUNTIME_VERSION_*`.
    pub fn NdisGetVersion() -> u32;

    // Driver and adapter
    pub fn NdisMRegisterMiniportDriver(
        driver: *mut DRIVER_OBJECT,
        registry_path: *mut UNICODE_STRING,
        context: NDIS_HANDLE,
        characteristics: *mut NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
        handle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    pub fn NdisMDeregisterMiniportDriver(driver: NDIS_HANDLE);
    /// `attributes`: one of `NDIS_MINIPORT_ADAPTER_*_ATTRIBUTES`.
    pub fn NdisMSetMiniportAttributes(miniport: NDIS_HANDLE, attributes: PVOID) -> NDIS_STATUS;
    pub fn NdisMGetDeviceProperty(
        miniport: NDIS_HANDLE,
        physical: *mut *mut DEVICE_OBJECT,
        functional: *mut *mut DEVICE_OBJECT,
        next: *mut *mut DEVICE_OBJECT,
        resources: *mut PVOID,
        translated: *mut PVOID,
    );
    pub fn NdisMRegisterScatterGatherDma(
        miniport: NDIS_HANDLE,
        description: *mut NDIS_SG_DMA_DESCRIPTION,
        handle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    pub fn NdisMDeregisterScatterGatherDma(dma: NDIS_HANDLE);
    pub fn NdisMPauseComplete(miniport: NDIS_HANDLE);
    pub fn NdisMRestartComplete(miniport: NDIS_HANDLE, status: NDIS_STATUS);
    pub fn NdisMOidRequestComplete(
        miniport: NDIS_HANDLE,
        request: *mut NDIS_OID_REQUEST,
        status: NDIS_STATUS,
    );
    pub fn NdisMIndicateStatusEx(miniport: NDIS_HANDLE, indication: *mut NDIS_STATUS_INDICATION);

    // Configuration
    pub fn NdisOpenConfigurationEx(
        object: *mut NDIS_CONFIGURATION_OBJECT,
        handle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    pub fn NdisReadConfiguration(
        status: *mut NDIS_STATUS,
        value: *mut *mut NDIS_CONFIGURATION_PARAMETER,
        configuration: NDIS_HANDLE,
        keyword: *mut UNICODE_STRING,
        kind: i32,
    );
    pub fn NdisCloseConfiguration(configuration: NDIS_HANDLE);

    // Frames
    pub fn NdisMSendNetBufferListsComplete(
        miniport: NDIS_HANDLE,
        lists: *mut NET_BUFFER_LIST,
        flags: u32,
    );
    pub fn NdisMIndicateReceiveNetBufferLists(
        miniport: NDIS_HANDLE,
        lists: *mut NET_BUFFER_LIST,
        port: NDIS_PORT_NUMBER,
        count: u32,
        flags: u32,
    );
    pub fn NdisAllocateNetBufferListPool(
        handle: NDIS_HANDLE,
        parameters: *const NET_BUFFER_LIST_POOL_PARAMETERS,
    ) -> NDIS_HANDLE;
    pub fn NdisFreeNetBufferListPool(pool: NDIS_HANDLE);
    pub fn NdisAllocateNetBufferAndNetBufferList(
        pool: NDIS_HANDLE,
        context_size: u16,
        context_backfill: u16,
        chain: *mut MDL,
        data_offset: u32,
        data_length: usize,
    ) -> *mut NET_BUFFER_LIST;
    pub fn NdisFreeNetBufferList(list: *mut NET_BUFFER_LIST);
}
