//! For tests: the other end of the rings, written from netif.h and ring.h without this crate's types. It reads and
//! writes the pages by bytes, maps grants by looking them up, and does what xen-netback does; tests make it lie.

use crate::Grants;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use xen_abi::Gref;

/// A ring's page.
pub type Page = Rc<[AtomicU32]>;

pub fn page() -> Page {
    (0..1024).map(|_| AtomicU32::new(0xDEAD_BEEF)).collect()
}

/// A grant table, and the memory of pages that data is in.
#[derive(Clone, Default)]
pub struct Table(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    /// Reference to page.
    grants: BTreeMap<u32, u32>,
    next: u32,
    /// References that the backend does not let go of.
    stuck: Vec<u32>,
    memory: BTreeMap<u32, Vec<u8>>,
}

impl Table {
    /// Grants a page, whose content is this from its start.
    pub fn grant(&self, page: u32, content: &[u8]) -> u32 {
        let mut inner = self.0.borrow_mut();
        let memory = inner.memory.entry(page).or_insert_with(|| vec![0; 4096]);
        memory[..content.len()].copy_from_slice(content);
        inner.next += 1;
        let gref = 8 + inner.next;
        assert!(inner.grants.insert(gref, page).is_none());
        gref
    }

    /// Grants a page that nothing else is in.
    pub fn grant_new(&self, content: &[u8]) -> u32 {
        let page = 10_000 + self.0.borrow().next;
        self.grant(page, content)
    }

    /// Grants in use.
    pub fn len(&self) -> usize {
        self.0.borrow().grants.len()
    }

    /// The page of a grant: what a backend can do with a reference. Panics on one that was revoked.
    fn map(&self, gref: u32) -> u32 {
        *self.0.borrow().grants.get(&gref).expect("no such grant")
    }

    pub fn read(&self, page: u32, offset: usize, length: usize) -> Vec<u8> {
        self.0.borrow().memory[&page][offset..offset + length].to_vec()
    }

    fn write(&self, page: u32, offset: usize, data: &[u8]) {
        let mut inner = self.0.borrow_mut();
        inner.memory.get_mut(&page).unwrap()[offset..offset + data.len()].copy_from_slice(data);
    }

    /// The backend keeps this mapped.
    pub fn keep(&self, gref: u32) {
        self.0.borrow_mut().stuck.push(gref);
    }

    /// The backend unmaps everything.
    pub fn let_go(&self) {
        self.0.borrow_mut().stuck.clear();
    }
}

impl Grants for Table {
    type Grant = u32;

    fn gref(&self, grant: &u32) -> Gref {
        Gref(*grant)
    }

    fn revoke(&mut self, grant: u32) -> Result<(), u32> {
        let mut inner = self.0.borrow_mut();
        if inner.stuck.contains(&grant) {
            return Err(grant);
        }
        assert!(inner.grants.remove(&grant).is_some(), "revoked twice");
        Ok(())
    }
}

/// The backend's end of one ring of entries of so many bytes.
pub struct BackRing {
    page: Page,
    entry: usize,
    pub req_cons: u32,
    pub rsp_prod: u32,
}

impl BackRing {
    pub fn new(page: Page, entry: usize) -> Self {
        Self {
            page,
            entry,
            req_cons: 0,
            rsp_prod: 0,
        }
    }

    fn at(&self, index: u32) -> usize {
        // 8 and 12 bytes: 256 entries; 16: 128. The largest power of two behind the header of 64 bytes.
        let entries = if self.entry == 16 { 128 } else { 256 };
        16 + (index % entries) as usize * self.entry / 4
    }

    /// The next request's bytes.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.page[0].load(SeqCst) == self.req_cons {
            // Sleeps; the frontend notifies when it goes past this.
            self.page[1].store(self.req_cons.wrapping_add(1), SeqCst);
            if self.page[0].load(SeqCst) == self.req_cons {
                return None;
            }
        }
        let at = self.at(self.req_cons);
        self.req_cons = self.req_cons.wrapping_add(1);
        let words = self.page[at..at + self.entry / 4].iter();
        Some(
            words
                .flat_map(|word| word.load(SeqCst).to_le_bytes())
                .collect(),
        )
    }

    /// Writes a response of so many bytes over the next entry. The rest of the entry stays.
    pub fn put(&mut self, bytes: &[u8]) {
        let at = self.at(self.rsp_prod);
        for (word, bytes) in self.page[at..].iter().zip(bytes.chunks_exact(4)) {
            word.store(u32::from_le_bytes(bytes.try_into().unwrap()), SeqCst);
        }
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Publishes responses. `true`: the frontend wants an event.
    pub fn push(&mut self) -> bool {
        let old = self.page[2].swap(self.rsp_prod, SeqCst);
        let event = self.page[3].load(SeqCst);
        self.rsp_prod.wrapping_sub(event) < self.rsp_prod.wrapping_sub(old)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// What the backend has got from the transmit ring.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Packet {
        data: Vec<u8>,
        /// The first request's flags.
        flags: u16,
        /// The extras as they lie in the ring.
        extras: Vec<[u8; 8]>,
        /// Ids of the requests in order.
        ids: Vec<u16>,
    },
    /// An extra of the multicast filter.
    Multicast { extra: [u8; 8], id: u16 },
}

/// The backend's side of a transmit ring.
pub struct TxBackend {
    pub ring: BackRing,
    table: Table,
    /// Responses due: id and status, `None` for the place of an extra.
    due: VecDeque<Option<(u16, i16)>>,
}

impl TxBackend {
    pub fn new(page: Page, table: Table) -> Self {
        Self {
            ring: BackRing::new(page, 12),
            table,
            due: VecDeque::new(),
        }
    }

    /// Takes the next packet from the ring, as a backend must read it. Panics where a frontend breaks the protocol.
    pub fn take(&mut self) -> Option<Got> {
        let first = self.ring.take()?;
        let (flags, id, total) = (u16_at(&first, 6), u16_at(&first, 8), u16_at(&first, 10));
        let mut extras = vec![];
        if flags & 8 != 0 {
            loop {
                let extra = self.ring.take().expect("an extra that is not there");
                extras.push(<[u8; 8]>::try_from(&extra[..8]).unwrap());
                if extra[1] & 1 == 0 {
                    break;
                }
            }
        }
        if extras.iter().any(|extra| matches!(extra[0], 2 | 3)) {
            assert_eq!((extras.len(), total, flags), (1, 0, 8));
            return Some(Got::Multicast {
                extra: extras[0],
                id,
            });
        }
        let mut requests = vec![first];
        while u16_at(requests.last().unwrap(), 6) & 4 != 0 {
            let next = self.ring.take().expect("a part that is not there");
            assert_eq!(u16_at(&next, 6) & !4, 0, "flags of the whole on a part");
            requests.push(next);
        }
        assert!(requests.len() <= 18);
        let rest: u32 = requests[1..].iter().map(|r| u32::from(u16_at(r, 10))).sum();
        let head = u32::from(total)
            .checked_sub(rest)
            .expect("parts longer than the whole");
        assert!(total >= 14);
        let mut data = vec![];
        for (index, request) in requests.iter().enumerate() {
            let gref = u32::from_le_bytes(request[..4].try_into().unwrap());
            let (offset, size) = (usize::from(u16_at(request, 4)), u16_at(request, 10));
            let size = if index == 0 {
                head as usize
            } else {
                usize::from(size)
            };
            assert!(size > 0 && offset + size <= 4096, "a part beyond its page");
            data.extend(self.table.read(self.table.map(gref), offset, size));
        }
        Some(Got::Packet {
            data,
            flags,
            extras,
            ids: requests.iter().map(|request| u16_at(request, 8)).collect(),
        })
    }

    /// Answers a packet as xen-netback does: the first id, a NULL for each extra, the other ids.
    pub fn answer(&mut self, got: &Got, status: i16) {
        match got {
            Got::Packet { ids, extras, .. } => {
                self.due.push_back(Some((ids[0], status)));
                self.due.extend(extras.iter().map(|_| None));
                self.due
                    .extend(ids[1..].iter().map(|id| Some((*id, status))));
            }
            Got::Multicast { id, .. } => {
                self.due.push_back(Some((*id, status)));
                self.due.push_back(None);
            }
        }
    }

    /// Writes and publishes so many of the responses that are due.
    pub fn flush(&mut self, count: usize) -> bool {
        for _ in 0..count.min(self.due.len()) {
            match self.due.pop_front().unwrap() {
                Some((id, status)) => {
                    let mut response = id.to_le_bytes().to_vec();
                    response.extend(status.to_le_bytes());
                    self.ring.put(&response);
                }
                // Only the status is written; what was the extra's head stays in the place of the id.
                None => {
                    let at = self.ring.at(self.ring.rsp_prod);
                    let word = self.ring.page[at].load(SeqCst);
                    let response = (word & 0xFFFF) | 1 << 16;
                    self.ring.put(&response.to_le_bytes());
                }
            }
        }
        self.ring.push()
    }

    /// Responses that are due.
    pub fn due(&self) -> usize {
        self.due.len()
    }
}

/// The backend's side of a receive ring.
pub struct RxBackend {
    pub ring: BackRing,
    table: Table,
}

impl RxBackend {
    pub fn new(page: Page, table: Table) -> Self {
        Self {
            ring: BackRing::new(page, 8),
            table,
        }
    }

    /// The id of the next request, and the page it lends, with its reference.
    pub fn take(&mut self) -> Option<(u16, u32, u32)> {
        let request = self.ring.take()?;
        assert_eq!(u16_at(&request, 2), 0);
        let gref = u32::from_le_bytes(request[4..].try_into().unwrap());
        Some((u16_at(&request, 0), self.table.map(gref), gref))
    }

    /// Answers a request.
    pub fn put(&mut self, id: u16, offset: u16, flags: u16, status: i16) {
        let fields = [id, offset, flags, status as u16];
        let bytes: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        self.ring.put(&bytes);
    }

    /// Sends a packet in parts of so many bytes, each at this offset in its page; `false` without a publication if there
    /// are not enough pages.
    pub fn send(
        &mut self,
        data: &[u8],
        part: usize,
        offset: u16,
        flags: u16,
        extras: &[[u8; 8]],
    ) -> bool {
        let parts: Vec<&[u8]> = data.chunks(part).collect();
        let available = self.ring.page[0]
            .load(SeqCst)
            .wrapping_sub(self.ring.req_cons);
        if (available as usize) < parts.len() + extras.len() {
            return false;
        }
        for (index, part) in parts.iter().enumerate() {
            let (id, page, _) = self.take().unwrap();
            self.table.write(page, usize::from(offset), part);
            let mut flags = if index == 0 { flags } else { 0 };
            if index + 1 != parts.len() {
                flags |= 4;
            }
            if index == 0 && !extras.is_empty() {
                flags |= 8;
            }
            self.put(id, offset, flags, part.len() as i16);
            if index == 0 {
                for extra in extras {
                    // The page that an extra's slot lends is not used.
                    self.take().unwrap();
                    self.ring.put(extra);
                }
            }
        }
        true
    }
}
