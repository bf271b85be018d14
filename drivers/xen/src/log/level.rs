//! Sets of log levels as the registry spells them.

use super::{CRITICAL, ERROR, INFO, WARNING};
use nt::{Key, NtStatus, Result};

const TRACE: u32 = 1 << 2;

const NAMES: [(&str, u32); 5] = [
    ("TRACE", TRACE),
    ("INFO", INFO),
    ("WARNING", WARNING),
    ("ERROR", ERROR),
    ("CRITICAL", CRITICAL),
];

/// The levels that the MULTI_SZ `name` lists, in any case; unknown ones are ignored. PASSIVE_LEVEL.
///
/// STATUS_INVALID_PARAMETER for a value of another type.
pub fn read(key: &Key, name: &str) -> Result<u32> {
    let texts = key.texts(name).map_err(|status| match status {
        NtStatus::OBJECT_TYPE_MISMATCH => NtStatus::INVALID_PARAMETER,
        other => other,
    })?;
    let known = texts.iter().filter_map(|text| {
        NAMES
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name))
    });
    Ok(known.fold(0, |mask, (_, bit)| mask | bit))
}
