//! The two byte rings in the page shared with xenstored. public/io/xs_wire.h: `xenstore_domain_interface`.
//!
//! The guest's own indices are kept here and only published; what stands in the page under their name is never
//! believed. xenstored's indices are checked each time they are read.

use crate::Broken;
use core::sync::atomic::{AtomicU8, Ordering};
use xen_abi::xs_wire::{RING_SIZE, XenstoreInterface};

const SIZE: u32 = RING_SIZE as u32;

#[derive(Debug)]
pub(crate) struct Ring<'p> {
    page: &'p XenstoreInterface,
    req_prod: u32,
    rsp_cons: u32,
}

/// The byte of a ring at a free-running index.
fn byte(ring: &[AtomicU8; RING_SIZE], index: u32) -> Option<&AtomicU8> {
    ring.get((index % SIZE) as usize)
}

impl<'p> Ring<'p> {
    pub fn new(page: &'p XenstoreInterface) -> Self {
        let mut ring = Self {
            page,
            req_prod: 0,
            rsp_cons: 0,
        };
        ring.adopt();
        ring
    }

    /// Takes over the indices in the page: at the start, and after a resume, when xenstored may have reset them.
    pub fn adopt(&mut self) {
        self.req_prod = self.page.req_prod.load(Ordering::Acquire);
        self.rsp_cons = self.page.rsp_cons.load(Ordering::Acquire);
    }

    /// Writes as much of `bytes` as fits, and returns how much that is.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        // Acquire: the bytes are overwritten only after xenstored has read them.
        let used = self
            .req_prod
            .wrapping_sub(self.page.req_cons.load(Ordering::Acquire));
        let room = SIZE.checked_sub(used).ok_or(Broken::RingIndex)?;
        let mut written = 0usize;
        for &value in bytes.iter().take(room as usize) {
            if let Some(place) = byte(&self.page.req, self.req_prod) {
                place.store(value, Ordering::Relaxed);
            }
            self.req_prod = self.req_prod.wrapping_add(1);
            written = written.saturating_add(1);
        }
        self.page.req_prod.store(self.req_prod, Ordering::Release);
        Ok(written)
    }

    /// Reads what there is into `bytes`, and returns how much that is.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Broken> {
        let ready = self
            .page
            .rsp_prod
            .load(Ordering::Acquire)
            .wrapping_sub(self.rsp_cons);
        if ready > SIZE {
            return Err(Broken::RingIndex);
        }
        let mut read = 0usize;
        for place in bytes.iter_mut().take(ready as usize) {
            if let Some(value) = byte(&self.page.rsp, self.rsp_cons) {
                *place = value.load(Ordering::Relaxed);
            }
            self.rsp_cons = self.rsp_cons.wrapping_add(1);
            read = read.saturating_add(1);
        }
        // Release: xenstored may overwrite the bytes only after they were read.
        self.page.rsp_cons.store(self.rsp_cons, Ordering::Release);
        Ok(read)
    }
}
