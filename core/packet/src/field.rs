//! Fields of headers, most significant byte first. What would lie outside of the bytes given is not there.

use crate::Mismatch;

pub(crate) fn get8(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(crate) fn get16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|field| u16::from_be_bytes(*field))
}

pub(crate) fn get32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|field| u32::from_be_bytes(*field))
}

pub(crate) fn put(bytes: &mut [u8], at: usize, field: &[u8]) -> Result<(), Mismatch> {
    let end = at.checked_add(field.len()).ok_or(Mismatch)?;
    bytes
        .get_mut(at..end)
        .ok_or(Mismatch)?
        .copy_from_slice(field);
    Ok(())
}

pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) -> Result<(), Mismatch> {
    put(bytes, at, &value.to_be_bytes())
}

pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) -> Result<(), Mismatch> {
    put(bytes, at, &value.to_be_bytes())
}
