//! Blocks of parameters as NDIS lays them out: bytes that begin with an `NDIS_OBJECT_HEADER`, little-endian.
//!
//! A newer revision of a block has more fields at its end. A block is read as far as its revision is known here; a field
//! that it is too old to have reads as 0, which means "no change" or "none" in all of them.

use crate::status::{Failure, INVALID_DATA};

/// `NDIS_OBJECT_HEADER` (ntddndis.h): Type at 0, Revision at 1, Size at 2.
pub const HEADER: usize = 4;
/// `NDIS_OBJECT_TYPE_DEFAULT` (ntddndis.h).
pub const TYPE_DEFAULT: u8 = 0x80;
/// `NDIS_OBJECT_TYPE_OFFLOAD`.
pub const TYPE_OFFLOAD: u8 = 0xA7;

/// A block that was given to the driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    known: &'a [u8],
    whole: &'a [u8],
    revision: u8,
}

impl<'a> Block<'a> {
    /// Checks that a buffer holds a block whose revisions 1, 2, … have these sizes.
    ///
    /// The type is not looked at: the OID has said what the block is.
    pub fn read(bytes: &'a [u8], sizes: &[usize]) -> Result<Self, Failure> {
        let first = sizes.first().copied().unwrap_or(HEADER);
        let [_, revision, low, high, ..] = *bytes else {
            return Err(Failure::length(first));
        };
        let size = usize::from(u16::from_le_bytes([low, high]));
        let Some(index) = usize::from(revision).checked_sub(1) else {
            return Err(INVALID_DATA);
        };
        let least = sizes.get(index).or(sizes.last()).copied().unwrap_or(first);
        let known = bytes.get(..least).ok_or(Failure::length(least))?;
        if size > bytes.len() {
            return Err(Failure::length(size));
        }
        if size < least {
            return Err(INVALID_DATA);
        }
        Ok(Self {
            known,
            whole: bytes,
            revision,
        })
    }

    pub fn revision(&self) -> u8 {
        self.revision
    }

    /// Bytes of its fields, as far as they are known.
    pub fn length(&self) -> usize {
        self.known.len()
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        self.known
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or([0; N])
    }

    pub fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.field(at))
    }

    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.field(at))
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.field(at))
    }

    /// What is appended to the fields, at an offset that one of them names, and where it ends.
    pub fn appended(&self, offset: u32, length: u16) -> Result<(&'a [u8], usize), Failure> {
        let (offset, length) = (offset as usize, usize::from(length));
        if offset < self.known.len() {
            return Err(INVALID_DATA);
        }
        // On a machine of 32 bits the sum could wrap.
        let end = offset.checked_add(length).ok_or(INVALID_DATA)?;
        let bytes = self.whole.get(offset..end).ok_or(Failure::length(end))?;
        Ok((bytes, end))
    }
}

/// Writes a field. What would lie outside is not written: callers give rooms of the right length.
pub(crate) fn put<const N: usize>(out: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value;
    }
}

/// Clears a room and writes the header of a block that fills it.
pub(crate) fn begin(out: &mut [u8], kind: u8, revision: u8) {
    out.fill(0);
    let [low, high] = (out.len() as u16).to_le_bytes();
    put(out, 0, [kind, revision, low, high]);
}

/// The first bytes of a query's buffer, as many as its answer has.
pub(crate) fn room(out: &mut [u8], length: usize) -> Result<&mut [u8], Failure> {
    out.get_mut(..length).ok_or(Failure::too_short(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    fn block(length: usize, revision: u8, size: u16) -> Vec<u8> {
        let mut bytes = vec![7; length];
        put(&mut bytes, 0, [TYPE_DEFAULT, revision]);
        put(&mut bytes, 2, size.to_le_bytes());
        bytes
    }

    #[test]
    fn every_length_is_judged_by_the_revision() {
        let sizes = [12, 16];
        for length in 0..40 {
            for (revision, least) in [(1, 12), (2, 16), (3, 16), (255, 16)] {
                let bytes = block(length, revision, least as u16);
                let needed = if length < HEADER { 12 } else { least };
                match Block::read(&bytes, &sizes) {
                    Ok(found) => {
                        assert!(length >= least);
                        assert_eq!((found.length(), found.revision()), (least, revision));
                    }
                    Err(failure) => {
                        assert!(length < least);
                        assert_eq!(failure, Failure::length(needed));
                    }
                }
            }
        }
    }

    #[test]
    fn a_size_that_its_buffer_or_its_revision_does_not_have_is_refused() {
        let read = |bytes: &[u8]| Block::read(bytes, &[12]).map(|block| block.length());
        assert_eq!(read(&block(12, 1, 13)), Err(Failure::length(13)));
        assert_eq!(read(&block(12, 1, 11)), Err(INVALID_DATA));
        assert_eq!(read(&block(12, 0, 12)), Err(INVALID_DATA));
        assert_eq!(read(&block(13, 1, 13)), Ok(12));
    }

    #[test]
    fn a_field_that_a_revision_does_not_have_is_zero() {
        let bytes = block(16, 1, 12);
        let read = Block::read(&bytes, &[12, 16]).unwrap();
        assert_eq!(
            (read.u32(8), read.u32(12), read.u8(12)),
            (0x0707_0707, 0, 0)
        );
        assert_eq!((read.u16(11), read.u16(10)), (0, 0x0707));
    }

    #[test]
    fn what_is_appended_lies_behind_the_fields_and_in_the_buffer() {
        let mut bytes = block(20, 1, 12);
        bytes[19] = 9;
        let read = Block::read(&bytes, &[12]).unwrap();
        assert_eq!(read.appended(16, 4), Ok((&[7, 7, 7, 9][..], 20)));
        assert_eq!(read.appended(20, 0), Ok((&[][..], 20)));
        assert_eq!(read.appended(11, 1), Err(INVALID_DATA));
        let failure = read.appended(17, 4).unwrap_err();
        assert_eq!(
            (failure.status, failure.needed),
            (Status::INVALID_LENGTH, 21)
        );
        assert_eq!(
            read.appended(u32::MAX, u16::MAX).unwrap_err().needed,
            u32::MAX
        );
    }
}
