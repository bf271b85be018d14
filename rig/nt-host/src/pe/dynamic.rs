//! Functions which a driver asks for by name while it runs: each gets a thunk of the image's own, as if it had been
//! imported, so that the executive knows the caller.

use alloc::collections::BTreeMap;

use super::image::Memory;
use super::thunk::{self, Pageable};
use crate::export::{Export, Kind};
use crate::platform::PAGE_SIZE;
use crate::sync::Mutex;

/// Bytes behind the image which its thunks of this kind may use, page-aligned.
pub const ROOM: usize = 4 * PAGE_SIZE;

/// The thunks of an image.
pub struct Thunks {
    /// Where they are, relative to the image.
    start: usize,
    known: Mutex<BTreeMap<&'static str, usize>>,
}

impl Thunks {
    /// None yet; they will be at `start` of the image's memory.
    pub fn new(start: usize) -> Self {
        Self {
            start,
            known: Mutex::new(BTreeMap::new()),
        }
    }

    /// What module `id`, which has this pageable code, gets for `export`: the same address each time. `None` when there is no room or memory for it.
    pub fn resolve(
        &self,
        memory: &Memory,
        id: u32,
        pageable: Option<Pageable>,
        export: &Export,
    ) -> Option<usize> {
        if export.kind == Kind::Data {
            return Some(export.address as usize);
        }
        let mut known = self.known.lock();
        if let Some(&address) = known.get(export.name) {
            return Some(address);
        }
        let at = known.len() * thunk::SIZE;
        if at + thunk::SIZE > ROOM {
            return None;
        }
        let offset = self.start + at;
        memory.write_code(offset, &thunk::code(id, pageable, export))?;
        let address = memory.base().as_ptr() as usize + offset;
        known.insert(export.name, address);
        Some(address)
    }
}
