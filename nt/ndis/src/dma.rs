//! Scatter-gather DMA: NDIS expects a bus master to register for it, though who is below maps frames by itself.

use crate::{Adapter, NdisStatus};
use core::ptr::NonNull;
use nt_sys::imports::{NdisMDeregisterScatterGatherDma, NdisMRegisterScatterGatherDma};
use nt_sys::ndis::*;
use nt_sys::{PHYSICAL_ADDRESS, PVOID};

/// Bytes of the longest frame that is mapped in one go.
const LONGEST: u32 = 65536;

/// A registration, until dropped. PASSIVE_LEVEL.
#[derive(Debug)]
pub struct ScatterGather {
    handle: NonNull<core::ffi::c_void>,
}

// SAFETY: the handle is only a name.
unsafe impl Send for ScatterGather {}
// SAFETY: as above.
unsafe impl Sync for ScatterGather {}

impl ScatterGather {
    /// Registers an adapter that reaches all of memory.
    pub fn register(adapter: Adapter) -> Result<ScatterGather, NdisStatus> {
        let mut description = NDIS_SG_DMA_DESCRIPTION {
            Header: NDIS_OBJECT_HEADER::new(
                NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION,
                NDIS_SG_DMA_DESCRIPTION_REVISION_1,
                NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1,
            ),
            Flags: NDIS_SG_DMA_64_BIT_ADDRESS,
            MaximumPhysicalMapping: LONGEST,
            ProcessSGListHandler: Some(process),
            SharedMemAllocateCompleteHandler: Some(allocated),
            ScatterGatherListSize: 0,
            PdoOverride: core::ptr::null_mut(),
        };
        let mut handle = core::ptr::null_mut();
        // SAFETY: the handle is live, description and out parameter outlive the call.
        NdisStatus::check(unsafe {
            NdisMRegisterScatterGatherDma(adapter.as_ptr(), &mut description, &mut handle)
        })?;
        NonNull::new(handle)
            .map(|handle| ScatterGather { handle })
            .ok_or(NdisStatus::FAILURE)
    }
}

impl Drop for ScatterGather {
    fn drop(&mut self) {
        // SAFETY: registered once.
        unsafe { NdisMDeregisterScatterGatherDma(self.handle.as_ptr()) };
    }
}

/// No list is ever asked for.
unsafe extern "win64" fn process(_: PVOID, _: PVOID, _: PVOID, _: PVOID) {}

/// No memory is ever asked for.
unsafe extern "win64" fn allocated(
    _: NDIS_HANDLE,
    _: PVOID,
    _: *mut PHYSICAL_ADDRESS,
    _: u32,
    _: PVOID,
) {
}
