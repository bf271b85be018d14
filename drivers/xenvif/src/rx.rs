//! The receiving half of a queue, under its lock: the pages, those lent to the backend and those lent to the client.

use crate::grants::{Lender, RingPages};
use alloc::boxed::Box;
use alloc::vec::Vec;
use netfront::rx::{self, MAX_PARTS, Packet, Part, Rx};
use nt::{NtStatus, Pages, Result, try_box};
use pv_interfaces::vif::{PacketHash, PacketInfo};

/// Pages that a queue has beside those in its ring: packets that the client holds.
const SPARE: usize = 256;
/// A ring's pages are 256: their grants would end within one hold of a spin lock otherwise.
const RECLAIMED_AT_A_TIME: usize = 16;
/// Pages lent within one hold of a queue's lock: each is a grant.
const LENT_AT_A_TIME: usize = 32;
/// Loans that are kept for the next packet.
const KEPT: usize = 256;

/// A packet that the client has, or is about to get. Its address is the client's cookie.
pub struct Loan {
    /// The queue that its pages are from.
    pub queue: u32,
    pub parts: [Option<Part<Pages>>; MAX_PARTS],
    pub info: PacketInfo,
    pub hash: PacketHash,
}

impl Loan {
    /// The packet's bytes, piece by piece. No other domain has access to pages of a packet that was received.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.parts.iter().flatten().map(bytes)
    }

    /// Writes to the packet's bytes from `at` on; what is behind its end is left out.
    pub fn write(&mut self, at: usize, mut from: &[u8]) {
        let mut skip = at;
        for part in self.parts.iter_mut().flatten() {
            let length = part.length as usize;
            let Some(room) = length.checked_sub(skip).filter(|room| *room != 0) else {
                skip = skip.saturating_sub(length);
                continue;
            };
            let now = from.len().min(room);
            let (start, Some((head, rest))) =
                (part.offset as usize + skip, from.split_at_checked(now))
            else {
                return;
            };
            // SAFETY: the grant of a page ends before its packet is received.
            let page = unsafe { part.page.plain_mut() };
            if let Some(to) = page.get_mut(start..start + now) {
                to.copy_from_slice(head);
            }
            (from, skip) = (rest, 0);
        }
    }

    /// Takes bytes off the packet's start; they are all in its first part.
    pub fn cut(&mut self, bytes: u32) {
        if let Some(Some(first)) = self.parts.first_mut() {
            let bytes = bytes.min(first.length);
            first.offset += bytes;
            first.length -= bytes;
        }
    }

    /// Where the first part begins in its page, and its bytes.
    pub fn first(&self) -> (usize, usize) {
        let first = self.parts.first().and_then(Option::as_ref);
        first.map_or((0, 0), |part| (part.offset as usize, part.length as usize))
    }

    /// Chains the parts' MDLs and gives the first.
    pub fn chain(&mut self) -> *mut nt::sys::MDL {
        let mut next = core::ptr::null_mut();
        for part in self.parts.iter_mut().rev().flatten() {
            part.page.show(part.offset, part.length, next);
            next = part.page.mdl();
        }
        next
    }
}

fn bytes(part: &Part<Pages>) -> &[u8] {
    let start = part.offset as usize;
    // SAFETY: the grant of a page ends before its packet is received.
    let page = unsafe { part.page.plain() };
    page.get(start..start + part.length as usize)
        .unwrap_or_default()
}

/// The half.
pub struct Receiver {
    engine: Rx<Lender, Pages, RingPages>,
    lender: Lender,
    free: Vec<Pages>,
    /// Pages there are, wherever they are.
    total: usize,
    #[allow(clippy::vec_box, reason = "a loan's address is its cookie")]
    loans: Vec<Box<Loan>>,
    /// What of the ring's drops was told.
    told: Drops,
}

/// Packets dropped by the ring's rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drops {
    /// The backend says that it failed.
    pub backend: u64,
    /// The backend said what cannot be.
    pub frontend: u64,
}

impl Receiver {
    /// Without a ring and pages. PASSIVE_LEVEL.
    pub fn new() -> Result<Self> {
        let most = rx::ENTRIES as usize + SPARE;
        let (mut free, mut loans) = (Vec::new(), Vec::new());
        free.try_reserve_exact(most)?;
        loans.try_reserve_exact(KEPT)?;
        Ok(Self {
            engine: Rx::try_new().ok_or(NtStatus::NO_MEMORY)?,
            lender: Lender::default(),
            free,
            total: 0,
            loans,
            told: Drops::default(),
        })
    }

    /// How many pages are still to be given to [`Receiver::provide`].
    pub fn wants(&self) -> usize {
        (rx::ENTRIES as usize + SPARE).saturating_sub(self.total)
    }

    /// Takes a new page; it comes back if there are enough.
    pub fn provide(&mut self, page: Pages) -> Option<Pages> {
        if self.wants() == 0 {
            return Some(page);
        }
        self.total += 1;
        self.free.push(page);
        None
    }

    /// Begins with a new ring.
    pub fn connect(
        &mut self,
        ring: rx::Ring<RingPages>,
        lender: Lender,
        max_frame: u32,
    ) -> core::result::Result<(), rx::Ring<RingPages>> {
        self.engine.connect(ring, max_frame)?;
        self.lender = lender;
        Ok(())
    }

    /// Ends the connection. The pages come back by [`Receiver::reclaim`].
    pub fn disconnect(&mut self) -> Option<RingPages> {
        let ring = self.engine.disconnect();
        self.lender.link = None;
        ring
    }

    /// Takes back pages that the backend has let go of after the end of a connection; whether there may be more. Some
    /// at a time, as the queue's spin lock is held.
    #[must_use = "there may be more"]
    pub fn reclaim(&mut self) -> bool {
        (0..RECLAIMED_AT_A_TIME).all(|_| {
            let page = (self.free.len() < self.free.capacity())
                .then(|| self.engine.reclaim(&mut self.lender))
                .flatten();
            page.map(|page| self.free.push(page)).is_some()
        })
    }

    /// Whether the backend still uses pages after the end of the connection.
    pub fn is_held(&self) -> bool {
        self.engine.kept() != 0 || self.engine.held() != 0
    }

    /// How many more pages the backend can be lent.
    pub fn vacancies(&self) -> u32 {
        self.engine.vacancies()
    }

    /// Lends the backend pages, some at a time, as the queue's spin lock is held; whether it is to be notified.
    #[must_use = "a notification that is not sent leaves the backend without pages"]
    #[inline(never)]
    pub fn refill(&mut self) -> bool {
        for _ in 0..LENT_AT_A_TIME.min(self.engine.vacancies() as usize) {
            let Some(page) = self.free.pop() else { break };
            let lent = match self.lender.permit(page.pfn(0), false) {
                Ok(lent) => lent,
                Err(_) => {
                    self.free.push(page);
                    break;
                }
            };
            if let Err((page, lent)) = self.engine.post(page, lent, &self.lender) {
                match lent.revoke() {
                    Ok(()) => self.free.push(page),
                    // It was never told of, so it cannot be in use. The page stays with its grant.
                    Err(lent) => {
                        core::mem::forget(lent);
                        self.total = self.total.saturating_sub(1);
                        page.leak();
                    }
                }
                break;
            }
        }
        self.engine.publish()
    }

    /// The next packet. `None`: there is no more, and an event will come when there is.
    #[inline(never)]
    pub fn next(&mut self) -> core::result::Result<Option<Packet<Pages>>, rx::Broken> {
        if self.engine.held() != 0
            && let Some(packet) = self.engine.tick(&mut self.lender)
        {
            return Ok(Some(packet));
        }
        self.engine.next(&mut self.lender)
    }

    /// Packets dropped since this was last asked.
    pub fn drops(&mut self) -> Drops {
        let counters = self.engine.counters();
        let all = Drops {
            backend: counters.backend_errors,
            frontend: counters.malformed + counters.too_long + counters.runts,
        };
        let told = core::mem::replace(&mut self.told, all);
        Drops {
            backend: all.backend.saturating_sub(told.backend),
            frontend: all.frontend.saturating_sub(told.frontend),
        }
    }

    /// A loan of a packet's parts. Without memory the pages go back.
    #[inline(never)]
    pub fn lend(&mut self, queue: u32, packet: Packet<Pages>) -> Option<Box<Loan>> {
        let Some(mut loan) = self.loan(queue) else {
            for part in packet.into_parts() {
                self.free.push(part.page);
            }
            return None;
        };
        for (place, part) in loan.parts.iter_mut().zip(packet.into_parts()) {
            *place = Some(part);
        }
        Some(loan)
    }

    /// A loan without parts.
    #[inline(never)]
    fn loan(&mut self, queue: u32) -> Option<Box<Loan>> {
        let mut loan = match self.loans.pop() {
            Some(loan) => loan,
            None => try_box(Loan {
                queue,
                parts: [const { None }; MAX_PARTS],
                info: PacketInfo::default(),
                hash: PacketHash::default(),
            })
            .ok()?,
        };
        loan.queue = queue;
        Some(loan)
    }

    /// A loan of fresh pages for `length` bytes from `lead` bytes into the first on, as parts that are full but for the last.
    #[inline(never)]
    pub fn fresh(&mut self, queue: u32, length: usize, lead: usize) -> Option<Box<Loan>> {
        let page_size = nt::sys::PAGE_SIZE;
        let count = length.checked_add(lead)?.div_ceil(page_size);
        if count > MAX_PARTS || self.free.len() < count {
            return None;
        }
        let mut loan = self.loan(queue)?;
        let (mut left, mut offset) = (length, lead);
        for place in loan.parts.iter_mut().take(count) {
            let page = self.free.pop()?;
            let length = left.min(page_size.saturating_sub(offset));
            left -= length;
            *place = Some(Part {
                page,
                offset: offset as u32,
                length: length as u32,
            });
            offset = 0;
        }
        Some(loan)
    }

    /// Takes a loan back.
    #[inline(never)]
    pub fn give_back(&mut self, mut loan: Box<Loan>) {
        for part in loan.parts.iter_mut().filter_map(Option::take) {
            let mut page = part.page;
            page.show_all();
            // There is room for all pages there are.
            self.free.push(page);
        }
        if self.loans.len() < KEPT {
            self.loans.push(loan);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A page whose MDL still speaks of a part would be freed in part.
        self.free.iter_mut().for_each(Pages::show_all);
    }
}
