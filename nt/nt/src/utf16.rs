//! UTF-16 strings, as the kernel's names are.

use crate::{NtStatus, Result};
use alloc::string::String;
use alloc::vec::Vec;
use nt_sys::UNICODE_STRING;

/// `text` in UTF-16, without a terminator. Fails when memory is short.
pub fn encode(text: &str) -> Result<Vec<u16>> {
    let mut units = Vec::new();
    units.try_reserve_exact(text.encode_utf16().count())?;
    units.extend(text.encode_utf16());
    Ok(units)
}

/// `text` in UTF-16 with a terminating NUL.
pub fn encode_z(text: &str) -> Result<Vec<u16>> {
    let mut units = Vec::new();
    units.try_reserve_exact(text.encode_utf16().count().saturating_add(1))?;
    units.extend(text.encode_utf16());
    units.push(0);
    Ok(units)
}

/// The UTF-8 of `units`; a lone surrogate becomes U+FFFD.
pub fn decode(units: &[u16]) -> Result<String> {
    let mut text = String::new();
    text.try_reserve(units.len().saturating_mul(3))?;
    for unit in char::decode_utf16(units.iter().copied()) {
        text.push(unit.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    Ok(text)
}

/// The UTF-16 units in `bytes` (little-endian; an odd last byte is left out).
pub fn units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u16::from_le_bytes(*pair))
}

/// A `UNICODE_STRING` that describes `units`. It borrows them, without the compiler's help: keep them alive.
///
/// Fails with STATUS_INVALID_PARAMETER beyond 32767 units.
pub fn counted(units: &[u16]) -> Result<UNICODE_STRING> {
    let bytes = units
        .len()
        .checked_mul(2)
        .and_then(|bytes| u16::try_from(bytes).ok());
    let bytes = bytes.ok_or(NtStatus::INVALID_PARAMETER)?;
    Ok(UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: units.as_ptr().cast_mut(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_the_way_there_and_back() {
        let units = encode("XEN €𝄞").unwrap();
        assert_eq!(decode(&units).unwrap(), "XEN €𝄞");
        assert_eq!(encode_z("a").unwrap(), [0x61, 0]);
    }

    #[test]
    fn bytes_of_odd_length_lose_the_last_one() {
        assert!(units(&[0x41, 0, 0x42]).eq([0x41]));
    }
}
