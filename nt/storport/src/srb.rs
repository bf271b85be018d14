//! A request block, owned from the moment storport hands it over until it is completed.

use crate::Adapter;
use core::ptr::NonNull;
use nt_sys::imports::{
    StorPortExtendedFunction, StorPortGetScatterGatherList, StorPortNotification,
};
use nt_sys::storport::{
    ExtFunctionGetSystemAddress, RequestComplete, SCSI_PNP_REQUEST_BLOCK, SCSI_REQUEST_BLOCK,
    SCSISTAT_CHECK_CONDITION, SCSISTAT_GOOD, SRB_FLAGS_DISABLE_AUTOSENSE, SRB_FUNCTION_PNP,
    SRB_STATUS_AUTOSENSE_VALID, SRB_STATUS_ERROR, SRB_STATUS_PENDING, SRB_STATUS_SUCCESS,
    STOR_DEVICE_CAPABILITIES, STOR_SCATTER_GATHER_ELEMENT, STOR_SCATTER_GATHER_LIST,
    STOR_STATUS_SUCCESS, StorQueryCapabilities,
};

/// A request. Every one ends in a `complete*`; one that is dropped is one that storport waits for.
#[must_use = "a request that is not completed hangs its disk"]
#[derive(Debug)]
pub struct Srb {
    block: NonNull<SCSI_REQUEST_BLOCK>,
    adapter: Adapter,
}

// SAFETY: the holder owns the block and what it points to, and completion is allowed on any processor.
unsafe impl Send for Srb {}

/// What this crate keeps with each request, in the memory storport provides for it.
#[repr(C)]
pub(crate) struct Extension {
    list: *mut STOR_SCATTER_GATHER_LIST,
    address: *mut u8,
}

impl Srb {
    /// Takes over a request, and clears its extension.
    ///
    /// # Safety
    /// `block` is a request just received from storport by `HwBuildIo`, and used through this value only.
    pub(crate) unsafe fn receive(block: *mut SCSI_REQUEST_BLOCK, adapter: Adapter) -> Option<Srb> {
        // SAFETY: by this function's contract.
        let srb = unsafe { Srb::resume(block, adapter) }?;
        let extension = srb.extension()?;
        // SAFETY: storport provides SrbExtensionSize bytes for each request, aligned for pointers.
        unsafe {
            extension.write(Extension {
                list: core::ptr::null_mut(),
                address: core::ptr::null_mut(),
            })
        };
        Some(srb)
    }

    /// Takes over a request which [`Srb::into_raw`] gave to storport.
    ///
    /// # Safety
    /// `block` is a request received from storport by `HwStartIo`, and used through this value only.
    pub(crate) unsafe fn resume(block: *mut SCSI_REQUEST_BLOCK, adapter: Adapter) -> Option<Srb> {
        NonNull::new(block).map(|block| Srb { block, adapter })
    }

    fn block(&self) -> &SCSI_REQUEST_BLOCK {
        // SAFETY: the block is live and owned until completion.
        unsafe { self.block.as_ref() }
    }

    fn block_mut(&mut self) -> &mut SCSI_REQUEST_BLOCK {
        // SAFETY: as above.
        unsafe { self.block.as_mut() }
    }

    fn extension(&self) -> Option<*mut Extension> {
        let extension = self.block().SrbExtension.cast::<Extension>();
        (!extension.is_null()).then_some(extension)
    }

    fn with_extension<R>(&self, read: impl FnOnce(&Extension) -> R) -> Option<R> {
        // SAFETY: `receive` has written it, and it is live as long as the block.
        self.extension()
            .map(|extension| read(unsafe { &*extension }))
    }

    /// SRB_FUNCTION_*.
    pub fn function(&self) -> u8 {
        self.block().Function
    }

    /// Bus, target and logical unit.
    pub fn address(&self) -> (u8, u8, u8) {
        let block = self.block();
        (block.PathId, block.TargetId, block.Lun)
    }

    /// The command. Only for SRB_FUNCTION_EXECUTE_SCSI.
    pub fn cdb(&self) -> &[u8] {
        let block = self.block();
        block
            .Cdb
            .get(..usize::from(block.CdbLength))
            .unwrap_or(&block.Cdb)
    }

    /// Length of the data in bytes.
    pub fn transfer_length(&self) -> u32 {
        self.block().DataTransferLength
    }

    /// The data of any command but a read or write (whose memory is known by [`Srb::fragment`] only).
    pub fn data(&mut self) -> &mut [u8] {
        let block = self.block();
        let (start, length) = (
            block.DataBuffer.cast::<u8>(),
            block.DataTransferLength as usize,
        );
        if start.is_null() {
            return &mut [];
        }
        // SAFETY: MapBuffers asks storport for a system address of `DataTransferLength` bytes here.
        unsafe { core::slice::from_raw_parts_mut(start, length) }
    }

    /// Gets the scatter-gather list of a read or write; whether there is one. In [`Miniport::prepare`] only.
    ///
    /// Where a fragment is not made of whole blocks of `block` bytes, also a mapping for [`Srb::copy_out`].
    ///
    /// [`Miniport::prepare`]: crate::Miniport::prepare
    pub fn gather(&mut self, block: u32) -> bool {
        // SAFETY: the request is a read or write in HwBuildIo; storport knows it.
        let list =
            unsafe { StorPortGetScatterGatherList(self.adapter.as_ptr(), self.block.as_ptr()) };
        let Some(extension) = self.extension().filter(|_| !list.is_null()) else {
            return false;
        };
        // SAFETY: `receive` has written it, and nobody else refers to it.
        unsafe { (*extension).list = list };
        let block = u64::from(block.max(1));
        let aligned = (0..)
            .map_while(|index| self.fragment(index))
            .all(|(address, length)| address % block == 0 && u64::from(length) % block == 0);
        if aligned {
            return true;
        }
        let mut address: *mut core::ffi::c_void = core::ptr::null_mut();
        // SAFETY: this function takes the request and a pointer to a pointer, which is live.
        let status = unsafe {
            StorPortExtendedFunction(
                ExtFunctionGetSystemAddress,
                self.adapter.as_ptr(),
                self.block.as_ptr(),
                &raw mut address,
            )
        };
        if status != STOR_STATUS_SUCCESS || address.is_null() {
            return false;
        }
        // SAFETY: as above.
        unsafe { (*extension).address = address.cast() };
        true
    }

    /// A fragment of a read or write's memory: guest-physical address and length in bytes.
    pub fn fragment(&self, index: u32) -> Option<(u64, u32)> {
        let list = self.with_extension(|extension| extension.list)?;
        if list.is_null() {
            return None;
        }
        // SAFETY: storport keeps the list until the request is completed.
        let count = unsafe { (*list).NumberOfElements };
        if index >= count {
            return None;
        }
        // SAFETY: as above; the elements follow the header.
        let first = unsafe { (&raw const (*list).List).cast::<STOR_SCATTER_GATHER_ELEMENT>() };
        // SAFETY: the index is below the number of elements.
        let element = unsafe { first.add(index as usize) };
        // SAFETY: as above.
        let element = unsafe { element.read() };
        Some((element.PhysicalAddress as u64, element.Length))
    }

    /// Copies from a read or write's memory; whether it is mapped and that long.
    pub fn copy_out(&self, at: u32, to: &mut [u8]) -> bool {
        match self.mapped(at, to.len()) {
            Some(from) => {
                // SAFETY: `mapped` has checked the range; `to` is other memory. Whoever owns the data may change it
                // meanwhile, so it is copied as raw bytes and never referred to.
                unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
                true
            }
            None => false,
        }
    }

    /// Copies to a read or write's memory; whether it is mapped and that long.
    pub fn copy_in(&self, at: u32, from: &[u8]) -> bool {
        match self.mapped(at, from.len()) {
            Some(to) => {
                // SAFETY: as in `copy_out`.
                unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
                true
            }
            None => false,
        }
    }

    fn mapped(&self, at: u32, length: usize) -> Option<*mut u8> {
        let address = self.with_extension(|extension| extension.address)?;
        let end = (at as usize).checked_add(length)?;
        if address.is_null() || end > self.transfer_length() as usize {
            return None;
        }
        // SAFETY: the mapping is as long as the transfer, and `at` lies within it.
        Some(unsafe { address.add(at as usize) })
    }

    /// For SRB_FUNCTION_PNP asking for a disk's capabilities: the address of the structure to fill in, as the bits
    /// STOR_CAPABILITY_* to set. `false` for any other request.
    pub fn answer_capabilities(&mut self, bits: u32) -> bool {
        if self.function() != SRB_FUNCTION_PNP {
            return false;
        }
        let pnp = self.block.as_ptr().cast::<SCSI_PNP_REQUEST_BLOCK>();
        // SAFETY: this function's blocks have this layout, of the same size.
        let pnp = unsafe { pnp.read() };
        let room = pnp.DataTransferLength as usize >= size_of::<STOR_DEVICE_CAPABILITIES>();
        if pnp.PnPAction != StorQueryCapabilities || pnp.DataBuffer.is_null() || !room {
            return false;
        }
        let capabilities = pnp.DataBuffer.cast::<STOR_DEVICE_CAPABILITIES>();
        // SAFETY: the buffer is that long, and storport's for this purpose.
        unsafe { (*capabilities).Bits |= bits };
        true
    }

    /// Whether an SRB_FUNCTION_PNP is for the adapter rather than a disk.
    pub fn pnp_flags(&self) -> u32 {
        let pnp = self.block.as_ptr().cast::<SCSI_PNP_REQUEST_BLOCK>();
        // SAFETY: the two layouts have one size, and the field is a plain number.
        unsafe { (*pnp).SrbPnPFlags }
    }

    /// Completes with an SRB status and no SCSI status. IRQL ≤ DISPATCH_LEVEL.
    pub fn complete(mut self, status: u8) {
        // A request must never go back as pending.
        let status = if status == SRB_STATUS_PENDING {
            SRB_STATUS_ERROR
        } else {
            status
        };
        self.block_mut().SrbStatus = status;
        // SAFETY: the block goes back to storport, as `self` ends here.
        unsafe {
            StorPortNotification(RequestComplete, self.adapter.as_ptr(), self.block.as_ptr())
        };
    }

    /// Completes successfully; `transferred` bytes of the data are valid.
    pub fn complete_good(mut self, transferred: u32) {
        let block = self.block_mut();
        block.ScsiStatus = SCSISTAT_GOOD;
        block.DataTransferLength = block.DataTransferLength.min(transferred);
        self.complete(SRB_STATUS_SUCCESS);
    }

    /// Completes with CHECK CONDITION; `sense` goes to the sense buffer as far as there is one.
    pub fn complete_check(mut self, sense: &[u8]) {
        let block = self.block_mut();
        block.ScsiStatus = SCSISTAT_CHECK_CONDITION;
        block.DataTransferLength = 0;
        let room = usize::from(block.SenseInfoBufferLength).min(sense.len());
        let wanted = block.SrbFlags & SRB_FLAGS_DISABLE_AUTOSENSE == 0;
        let mut status = SRB_STATUS_ERROR;
        if wanted && room > 0 && !block.SenseInfoBuffer.is_null() {
            block.SenseInfoBufferLength = room as u8;
            // SAFETY: the buffer has SenseInfoBufferLength bytes, of which at most that many are written.
            unsafe {
                core::ptr::copy_nonoverlapping(sense.as_ptr(), block.SenseInfoBuffer.cast(), room)
            };
            status |= SRB_STATUS_AUTOSENSE_VALID;
        }
        self.complete(status);
    }

    /// Hands the request back to storport, which passes it on to `HwStartIo`.
    pub(crate) fn into_raw(self) -> *mut SCSI_REQUEST_BLOCK {
        self.block.as_ptr()
    }
}
