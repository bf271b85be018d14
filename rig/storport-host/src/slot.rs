//! A slot: the memory of one SRB with everything that belongs to it, used again and again.
//!
//! ```text
//!   SCSI_REQUEST_BLOCK │ magic, state │ request │ scatter/gather list │ sense data     SrbExtension (pool)
//! ```

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nt_host::mm::pool;
use nt_host::platform::PAGE_SIZE;
use nt_host::verifier::Rule;
use nt_sys::PVOID;
use nt_sys::storport::{SCSI_REQUEST_BLOCK, STOR_SCATTER_GATHER_LIST};

use crate::adapter::Adapter;
use crate::queue::Request;

/// Bytes of sense data a request has room for (the most that fixed SRBs can name).
pub const SENSE: usize = 252;

/// Where a slot's SRB is.
pub mod state {
    /// Nobody has it.
    pub const FREE: u32 = 0;
    /// The miniport has it.
    pub const ISSUED: u32 = 1;
    /// The miniport completed it; the port driver has not dealt with that yet.
    pub const COMPLETED: u32 = 2;
    /// It was completed by a reset. Its slot is not used again, so that a miniport which answers it later is found.
    pub const RESET: u32 = 3;
}

/// See the module.
#[repr(C)]
pub struct Slot {
    /// The miniport's view; first, so that its address is the slot's.
    pub srb: SCSI_REQUEST_BLOCK,
    magic: usize,
    /// One of [`state`].
    pub state: AtomicU32,
    /// Counts the uses, so that a late look at a slot sees that it is another request's by now.
    pub uses: AtomicU32,
    /// When the request is too late, in interrupt time; 0 for never.
    pub deadline: AtomicU64,
    /// Slots are counted from 1.
    pub number: u64,
    /// The adapter it belongs to.
    pub adapter: Arc<Adapter>,
    /// What is asked, while the slot is in use.
    pub request: Option<Request>,
    /// The scatter/gather list in the miniport's layout, 8-byte words.
    list: Vec<u64>,
    /// Sense data of the request.
    pub sense: [u8; SENSE],
    extension: NonNull<u8>,
}

// SAFETY: a slot has one holder at a time: the free list, the code that issues it, the miniport, the completion
// list. What several look at is atomic.
unsafe impl Send for Slot {}

/// A slot on its way between those holders.
pub struct SlotPtr(pub NonNull<Slot>);
// SAFETY: as for `Slot`.
unsafe impl Send for SlotPtr {}

/// The next slot's number.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

const MAGIC: usize = 0x746f_6c53_6272_5321;

/// What an SRB that nobody has is filled with.
const DEAD: u8 = 0xDD;

impl Slot {
    /// A new slot of an adapter.
    pub fn new(adapter: Arc<Adapter>) -> Option<Box<Self>> {
        let extension = pool::allocate(adapter.srb_extension().max(8), *b"SpSr")?;
        // SAFETY: an all-zero SRB is valid.
        let srb = unsafe { core::mem::zeroed() };
        let mut slot = Box::new(Self {
            srb,
            magic: MAGIC,
            state: AtomicU32::new(state::FREE),
            uses: AtomicU32::new(0),
            deadline: AtomicU64::new(0),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            adapter,
            request: None,
            list: Vec::new(),
            sense: [0; SENSE],
            extension,
        });
        slot.retire();
        Some(slot)
    }

    fn bytes(&mut self) -> &mut [u8; size_of::<SCSI_REQUEST_BLOCK>()] {
        // SAFETY: the slot's own SRB, of which any bytes are a valid one.
        unsafe { &mut *(&raw mut self.srb).cast() }
    }

    /// Nobody has the SRB now.
    pub fn retire(&mut self) {
        self.bytes().fill(DEAD);
    }

    /// Checks that nobody wrote the SRB since then.
    pub fn demand_untouched(&mut self) {
        let bytes = self.bytes();
        if *bytes == [DEAD; size_of::<SCSI_REQUEST_BLOCK>()] {
            return;
        }
        if let Some(at) = bytes.iter().position(|&byte| byte != DEAD) {
            let srb = &raw const self.srb;
            // SAFETY: a driver object outlives its adapters.
            let driver = unsafe { (*self.adapter.driver).DriverStart };
            Rule::SrbTouched.breach_of(
                driver as usize,
                format_args!("wrote SRB {srb:p} at +{at:#x} after it was completed"),
            );
        }
    }

    /// The memory a miniport keeps its own data of the request in.
    pub fn extension(&self) -> PVOID {
        self.extension.as_ptr().cast()
    }

    /// The slot of an SRB that a miniport names; anything else is a bug of the miniport.
    pub fn of(srb: *mut SCSI_REQUEST_BLOCK, function: &str) -> NonNull<Slot> {
        let slot = NonNull::new(srb.cast::<Slot>()).filter(|slot| {
            // SAFETY: an SRB of this port driver lies in a slot. Any other pointer is a bug of the miniport, which
            // the magic number finds as long as the memory is readable at all.
            slot.is_aligned() && unsafe { (*slot.as_ptr()).magic } == MAGIC
        });
        slot.unwrap_or_else(|| {
            Rule::SrbInvalid.breach(format_args!(
                "{function}: {srb:p} is no SRB of the port driver"
            ))
        })
    }

    /// Lays out the scatter/gather list of the request's buffer, neighbouring pages as one element.
    pub fn build_list(&mut self) -> *mut STOR_SCATTER_GATHER_LIST {
        let Some(buffer) = self
            .request
            .as_ref()
            .and_then(|request| request.buffer.as_ref())
        else {
            return core::ptr::null_mut();
        };
        let mut left = (self.srb.DataTransferLength as usize).min(buffer.len());
        let list = &mut self.list;
        list.clear();
        // NumberOfElements and Reserved.
        list.extend([0, 0]);
        let mut count = 0u64;
        let mut end = u64::MAX;
        for (frame, start, length) in buffer.extents() {
            let size = left.min(length) as u64;
            if size == 0 {
                break;
            }
            let page = frame.saturating_mul(PAGE_SIZE as u64);
            let address = page.saturating_add(start as u64);
            let at = list.len();
            match (address == end, list.get_mut(at.saturating_sub(2))) {
                (true, Some(length)) => *length = length.saturating_add(size),
                _ => {
                    // PhysicalAddress, Length, Reserved.
                    list.extend([address, size, 0]);
                    count = count.saturating_add(1);
                }
            }
            end = address.saturating_add(size);
            left = left.saturating_sub(length);
        }
        if let Some(first) = list.first_mut() {
            *first = count;
        }
        list.as_mut_ptr().cast()
    }

    /// Takes the SRB from the miniport: it must have had it.
    pub fn complete(&self, function: &str) {
        let before = self.state.swap(state::COMPLETED, Ordering::AcqRel);
        let srb = &raw const self.srb;
        if before == state::RESET {
            Rule::SrbAfterReset.breach(format_args!(
                "{function} completes SRB {srb:p}, which a reset completed before"
            ));
        }
        if before != state::ISSUED {
            let what = if before == state::COMPLETED {
                "which was completed before"
            } else {
                "which it does not have"
            };
            Rule::SrbCompletedTwice
                .breach(format_args!("{function} completes SRB {srb:p}, {what}"));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: allocated from the pool in `new`, and nobody has the slot any more.
        unsafe { pool::free(self.extension) };
    }
}
