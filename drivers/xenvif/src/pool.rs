//! The pages that packets are copied into to be sent, and their grants, each for as long as a connection.
//!
//! ```text
//!   free ──take──▶ packet ──▶ ring ──▶ answered ──give──▶ free          the grant stays: the backend knows the page already
//!   end of the connection: the grants end, some at a time; a page that the backend keeps is not used again
//! ```
//!
//! What lies on these pages was sent to that backend, or is about to be. So a packet costs no grant, and its sender has it
//! back whatever the backend does.

use crate::grants::{Lent, Link};
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use netfront::Grants;
use nt::sys::PAGE_SIZE;
use nt::{NtStatus, Pages, Result};
use xen_abi::Gref;

/// Pages of a queue, hence packets under way.
pub const PAGES: usize = 256;
/// Grants that are ended within one hold of the queue's spin lock.
const ENDED_AT_A_TIME: usize = 16;

/// References of pages that stay granted when their packet is done.
#[derive(Debug)]
pub struct Standing;

impl Grants for Standing {
    type Grant = Gref;

    fn gref(&self, gref: &Gref) -> Gref {
        *gref
    }

    fn revoke(&mut self, _: Gref) -> core::result::Result<(), Gref> {
        Ok(())
    }
}

/// A page's grant, and the number of the connection that it is for.
struct Granted {
    connection: u32,
    lent: Lent,
}

/// The pages.
pub struct Pool {
    pages: ManuallyDrop<Pages>,
    free: Vec<u16>,
    granted: Vec<Option<Granted>>,
    /// Pages that an old backend keeps.
    kept: Vec<u16>,
    connection: u32,
    /// Where ending the grants of an old connection has got to.
    ended: usize,
}

impl Pool {
    /// Pages granted to nobody. PASSIVE_LEVEL.
    pub fn new() -> Result<Self> {
        let (mut free, mut granted, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        free.try_reserve_exact(PAGES)?;
        free.extend((0..PAGES as u16).rev());
        granted.try_reserve_exact(PAGES)?;
        granted.resize_with(PAGES, || None);
        kept.try_reserve_exact(PAGES)?;
        Ok(Self {
            pages: ManuallyDrop::new(Pages::allocate(PAGES)?),
            free,
            granted,
            kept,
            connection: 0,
            ended: PAGES,
        })
    }

    /// Pages that can be taken.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The address of a page.
    pub fn start(&self, page: u16) -> *mut u8 {
        self.pages
            .as_ptr()
            .wrapping_add(usize::from(page) * PAGE_SIZE)
    }

    /// A page for a packet, known to no other backend than the one of now.
    pub fn take(&mut self) -> Option<u16> {
        loop {
            let page = self.free.pop()?;
            if self.end(page, false) {
                return Some(page);
            }
            // There is room for all pages there are; so below.
            self.kept.push(page);
        }
    }

    /// Takes pages back.
    pub fn give(&mut self, pages: &[u16]) {
        self.free.extend(pages);
    }

    /// The reference of a page for the backend of now.
    pub fn gref(&mut self, page: u16, link: Option<&Link>) -> Result<Gref> {
        let index = usize::from(page);
        let (Some(pfn), Some(place)) = (self.pages.pfn(index), self.granted.get_mut(index)) else {
            return Err(NtStatus::INVALID_PARAMETER);
        };
        if let Some(granted) = place {
            return Ok(granted.lent.reference());
        }
        let link = link.ok_or(NtStatus::DEVICE_NOT_READY)?;
        let lent = link.permit(pfn, true)?;
        let gref = lent.reference();
        *place = Some(Granted {
            connection: self.connection,
            lent,
        });
        Ok(gref)
    }

    /// A connection begins: the grants of older ones are of no use.
    pub fn begin(&mut self) {
        self.connection = self.connection.wrapping_add(1);
        self.free.append(&mut self.kept);
    }

    /// The connection has ended, and with it what is granted; [`Pool::reclaim`] ends the grants.
    pub fn finish(&mut self) {
        self.ended = 0;
    }

    /// Ends some of the grants of a connection that has ended; whether there are more.
    #[must_use = "there may be more"]
    pub fn reclaim(&mut self) -> bool {
        let from = self.ended;
        let to = from.saturating_add(ENDED_AT_A_TIME).min(PAGES);
        for page in from..to {
            self.end(page as u16, true);
        }
        self.ended = to;
        to < PAGES
    }

    /// Whether a backend that is gone still uses pages.
    pub fn is_held(&self) -> bool {
        self.granted.iter().any(Option::is_some)
    }

    /// Ends a page's grant, if it is that of an older connection, or whatever it is `in_any_case`; whether the page can be
    /// used.
    fn end(&mut self, page: u16, in_any_case: bool) -> bool {
        let Some(place) = self.granted.get_mut(usize::from(page)) else {
            return false;
        };
        match place.take() {
            Some(granted) if in_any_case || granted.connection != self.connection => {
                match granted.lent.revoke() {
                    Ok(()) => true,
                    Err(lent) => {
                        *place = Some(Granted { lent, ..granted });
                        false
                    }
                }
            }
            granted => {
                *place = granted;
                true
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut held = false;
        for page in 0..PAGES as u16 {
            held |= !self.end(page, true);
        }
        if held {
            // They stay with their grants for good.
            for granted in self.granted.drain(..).flatten() {
                core::mem::forget(granted.lent);
            }
            return;
        }
        // SAFETY: nobody is granted any of them, and they are not used again.
        unsafe { ManuallyDrop::drop(&mut self.pages) };
    }
}
