//! `NDIS_RECEIVE_SCALE_PARAMETERS` (ntddndis.h): the key, and which processor each value of the hash goes to.

use super::{Information, Table};
use crate::block::Block;
use crate::status::Failure;
use pv_interfaces::vif::HASH_KEY_SIZE;

// Offsets (ntddndis.h). Not used: BaseCpuNumber at 6, the array of processor masks at 28 to 39, which only repeats what
// is in the table, and the default processor at 40.
pub(crate) const FLAGS: usize = 4;
pub(crate) const INFORMATION: usize = 8;
pub(crate) const TABLE_SIZE: usize = 12;
pub(crate) const TABLE_OFFSET: usize = 16;
pub(crate) const KEY_SIZE: usize = 20;
pub(crate) const KEY_OFFSET: usize = 24;
/// `NDIS_SIZEOF_RECEIVE_SCALE_PARAMETERS_REVISION_1` (NDIS 6.0), _2 (6.20), _3 (6.60).
pub(crate) const SIZES: [usize; 3] = [28, 40, 44];

/// `NDIS_RSS_PARAM_FLAG_HASH_INFO_UNCHANGED`. That of the base processor is 1.
pub(crate) const INFORMATION_UNCHANGED: u16 = 2;
/// `NDIS_RSS_PARAM_FLAG_ITABLE_UNCHANGED`.
pub(crate) const TABLE_UNCHANGED: u16 = 4;
/// `NDIS_RSS_PARAM_FLAG_HASH_KEY_UNCHANGED`.
pub(crate) const KEY_UNCHANGED: u16 = 8;
/// `NDIS_RSS_PARAM_FLAG_DISABLE_RSS`: nothing else in the block counts.
pub(crate) const DISABLE: u16 = 16;

/// OID_GEN_RECEIVE_SCALE_PARAMETERS, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    pub(super) disable: bool,
    /// `None`: unchanged.
    pub(super) information: Option<Information>,
    pub(super) key: Option<[u8; HASH_KEY_SIZE]>,
    pub(super) table: Option<Table>,
    /// The block and what is appended to it.
    pub(crate) read: usize,
}

impl Scale {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let block = Block::read(bytes, &SIZES)?;
        let flags = block.u16(FLAGS);
        let mut request = Self {
            disable: flags & DISABLE != 0,
            information: None,
            key: None,
            table: None,
            read: block.length(),
        };
        if request.disable {
            return Ok(request);
        }
        if flags & INFORMATION_UNCHANGED == 0 {
            request.information = Some(Information::parse(block.u32(INFORMATION))?);
        }
        if request.information == Some(Information::None) {
            return Ok(request);
        }
        if flags & KEY_UNCHANGED == 0 {
            let (key, _) = block.appended(block.u32(KEY_OFFSET), block.u16(KEY_SIZE))?;
            request.key = Some(super::key(key)?);
            request.read += key.len();
        }
        if flags & TABLE_UNCHANGED == 0 {
            let (table, _) = block.appended(block.u32(TABLE_OFFSET), block.u16(TABLE_SIZE))?;
            // Until NDIS 6.20 an entry was the number of a processor in the only group.
            request.table = Some(match block.revision() {
                1 => Table::of_numbers(table)?,
                _ => Table::of_processors(table)?,
            });
            request.read += table.len();
        }
        Ok(request)
    }
}
