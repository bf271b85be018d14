//! Where a driver image can panic.
//!
//! A panic names its place by a `core::panic::Location` in the image's data: a pointer to the file's name, its length, a
//! line, a column. Each pointer has a base relocation, so that all of them are found. What the compiler could rule out
//! leaves nothing behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::Result;
use object::{
    pe,
    read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64},
};

use crate::{image::words_of, toolchain::root};

/// Where the compiler says the standard library is.
const LIBRARY: &str = "/rust/library/";

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    file: String,
    line: u32,
    column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The library's files in which a panic may stay, and whether an image has one there.
pub(crate) struct Panics(BTreeMap<String, bool>);

impl Panics {
    /// Reads drivers/panics.txt.
    pub(crate) fn read() -> Result<Self> {
        let files = words_of(&root().join("drivers/panics.txt"))?;
        Ok(Self(files.into_iter().map(|file| (file, false)).collect()))
    }

    /// Whether this one may stay.
    pub(crate) fn allow(&mut self, place: &Place) -> bool {
        let file = place.file.strip_prefix(LIBRARY);
        match file.and_then(|file| self.0.get_mut(file)) {
            Some(used) => {
                *used = true;
                true
            }
            None => false,
        }
    }

    /// Lines of the list that no image needs.
    pub(crate) fn unused(&self) -> impl Iterator<Item = String> {
        let unused = self.0.iter().filter(|(_, used)| !**used);
        unused.map(|(file, _)| format!("drivers/panics.txt lists {file}, where no image panics"))
    }
}

/// Every place of an image's panics.
pub(crate) fn places(bytes: &[u8], file: &PeFile64<'_>) -> Result<BTreeSet<Place>> {
    let sections = file.section_table();
    let base = file.nt_headers().optional_header().image_base();
    let at = |address: u32| sections.pe_data_at(bytes, address);
    let mut places = BTreeSet::new();
    let Some(mut blocks) = file
        .data_directories()
        .relocation_blocks(bytes, &sections)?
    else {
        return Ok(places);
    };
    while let Some(block) = blocks.next()? {
        for relocation in block {
            if relocation.typ == pe::IMAGE_REL_BASED_DIR64 {
                let name = |pointer: u64, length| {
                    let address = u32::try_from(pointer.checked_sub(base)?).ok()?;
                    at(address)?.get(..length)
                };
                places.extend(at(relocation.virtual_address).and_then(|data| place(data, name)));
            }
        }
    }
    Ok(places)
}

/// The place that `data` begins with, if it is one. `name` finds bytes by their address and length.
fn place<'a>(data: &[u8], name: impl Fn(u64, usize) -> Option<&'a [u8]>) -> Option<Place> {
    let long = |at| Some(u64::from_le_bytes(*data.get(at..)?.first_chunk()?));
    let word = |at| Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?));
    let length = usize::try_from(long(8)?).ok()?;
    let file = str::from_utf8(name(long(0)?, length)?).ok()?;
    let (line, column) = (word(16)?, word(20)?);
    let is_source = file.ends_with(".rs") && !file.contains(char::is_whitespace);
    (is_source && line != 0 && column != 0).then(|| Place {
        file: file.to_owned(),
        line,
        column,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(length: u64, line: u32, column: u32) -> Vec<u8> {
        let words = [0x1_4000_1000u64.to_le_bytes(), length.to_le_bytes()];
        let numbers = [line.to_le_bytes(), column.to_le_bytes()];
        [words.concat(), numbers.concat()].concat()
    }

    #[test]
    fn a_place_is_a_pointer_to_a_file_its_length_a_line_and_a_column() {
        let text = b"core/ring/src/front.rs and what follows it";
        let name = |pointer: u64, length| match pointer {
            0x1_4000_1000 => text.get(..length),
            _ => None,
        };
        let found = place(&location(22, 7, 3), name).map(|place| place.to_string());
        assert_eq!(found.as_deref(), Some("core/ring/src/front.rs:7:3"));
        assert_eq!(place(&location(21, 7, 3), name), None);
        assert_eq!(place(&location(22, 0, 3), name), None);
        assert_eq!(place(&location(1 << 40, 7, 3), name), None);
        assert_eq!(place(&location(22, 7, 3)[..20], name), None);
    }

    #[test]
    fn only_files_of_the_library_can_be_allowed_and_those_of_no_use_are_told() {
        let place = |file: &str| Place {
            file: file.to_owned(),
            line: 1,
            column: 1,
        };
        let listed = ["alloc/src/sync.rs", "alloc/src/alloc.rs"];
        let mut panics = Panics(listed.map(|file| (file.to_owned(), false)).into());
        assert!(panics.allow(&place("/rust/library/alloc/src/sync.rs")));
        assert!(!panics.allow(&place("alloc/src/sync.rs")));
        assert!(!panics.allow(&place("/rust/library/core/src/time.rs")));
        assert_eq!(panics.unused().count(), 1);
    }
}
