//! `NDIS_RECEIVE_HASH_PARAMETERS` (ntddndis.h): hashes without scaling.

use super::Information;
use crate::block::Block;
use crate::status::Failure;
use pv_interfaces::vif::HASH_KEY_SIZE;

// Offsets (ntddndis.h).
pub(crate) const FLAGS: usize = 4;
pub(crate) const INFORMATION: usize = 8;
pub(crate) const KEY_SIZE: usize = 12;
pub(crate) const KEY_OFFSET: usize = 16;
/// `NDIS_SIZEOF_RECEIVE_HASH_PARAMETERS_REVISION_1`.
pub(crate) const LENGTH: usize = 20;

/// `NDIS_RECEIVE_HASH_FLAG_ENABLE_HASH`.
pub(crate) const ENABLE: u32 = 1;
/// `NDIS_RECEIVE_HASH_FLAG_HASH_INFO_UNCHANGED`.
pub(crate) const INFORMATION_UNCHANGED: u32 = 2;
/// `NDIS_RECEIVE_HASH_FLAG_HASH_KEY_UNCHANGED`.
pub(crate) const KEY_UNCHANGED: u32 = 4;

/// OID_GEN_RECEIVE_HASH, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    pub(super) enable: bool,
    /// `None`: unchanged.
    pub(super) information: Option<Information>,
    pub(super) key: Option<[u8; HASH_KEY_SIZE]>,
    pub(crate) read: usize,
}

impl Hash {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let block = Block::read(bytes, &[LENGTH])?;
        let flags = block.u32(FLAGS);
        let mut request = Self {
            enable: flags & ENABLE != 0,
            information: None,
            key: None,
            read: block.length(),
        };
        if !request.enable {
            return Ok(request);
        }
        if flags & INFORMATION_UNCHANGED == 0 {
            request.information = Some(Information::parse(block.u32(INFORMATION))?);
        }
        if flags & KEY_UNCHANGED == 0 && request.information != Some(Information::None) {
            let (key, end) = block.appended(block.u32(KEY_OFFSET), block.u16(KEY_SIZE))?;
            request.key = Some(super::key(key)?);
            request.read = end;
        }
        Ok(request)
    }
}
