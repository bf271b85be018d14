//! Holes: frames of the guest's physical address space with nothing behind them, where Xen can show pages of its own.
//!
//! A hole is made of RAM that is given back to Xen. It stays mapped, cached, while it is one: RAM's memory type is the right
//! one for tables that the processor reads all the time, which a device's memory window would not offer.

use alloc::vec::Vec;
use nt::{NtStatus, Pages, Result};

/// Frames without memory. Their mapping is one range of virtual addresses.
#[derive(Debug)]
pub struct Hole {
    /// Taken in the drop.
    pages: Option<Pages>,
    /// Their frames as Xen is asked for them: the drop must not need memory.
    frames: Vec<u64>,
}

impl Hole {
    /// Makes a hole of `count` frames, anywhere. PASSIVE_LEVEL.
    pub fn new(count: usize) -> Result<Hole> {
        Self::of(Pages::allocate(count)?)
    }

    /// Makes a hole of `count` frames that follow each other. PASSIVE_LEVEL.
    pub fn contiguous(count: usize) -> Result<Hole> {
        Self::of(Pages::allocate_contiguous(count)?)
    }

    fn of(pages: Pages) -> Result<Hole> {
        let count = pages.count();
        let mut frames = Vec::new();
        frames.try_reserve_exact(count)?;
        frames.extend_from_slice(pages.pfns());
        // SAFETY: the pages are new and nobody uses them; from here on they are touched only where Xen puts something.
        let gone = unsafe { xen_api::decrease_reservation(&mut frames) }? as usize;
        if gone == count {
            return Ok(Hole {
                pages: Some(pages),
                frames,
            });
        }
        nt::warning!("Xen took {gone} of {count} pages for a hole");
        refill(pages, frames.get_mut(..gone).unwrap_or_default());
        Err(NtStatus::INSUFFICIENT_RESOURCES)
    }

    /// The frame number of page `index`.
    pub fn pfn(&self, index: usize) -> Option<u64> {
        self.pages.as_ref()?.pfn(index)
    }

    /// What stands at the start of page `index`, as a structure of atomics.
    ///
    /// # Safety
    /// Xen shows a page there that stays as long as the result, and `T` is made of atomics only.
    pub unsafe fn shared<'a, T: Sync>(&self, index: usize) -> Option<&'a T> {
        const { assert!(size_of::<T>() <= nt_sys::PAGE_SIZE) };
        let pages = self.pages.as_ref().filter(|pages| index < pages.count())?;
        let page = pages
            .as_ptr()
            .wrapping_add(index.checked_mul(nt_sys::PAGE_SIZE)?);
        // SAFETY: the page is mapped and aligned; the rest is the caller's duty.
        Some(unsafe { &*page.cast::<T>() })
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            refill(pages, &mut self.frames);
        }
    }
}

/// Puts memory behind `frames` again and frees `pages`. If Xen has none, the pages are lost to Windows.
fn refill(pages: Pages, frames: &mut [u64]) {
    let wanted = frames.len();
    match xen_api::populate_physmap(frames) {
        Ok(filled) if filled as usize == wanted => drop(pages),
        _ if wanted == 0 => drop(pages),
        outcome => {
            nt::error!("a hole of {wanted} pages cannot be filled again: {outcome:?}");
            pages.leak();
        }
    }
}
