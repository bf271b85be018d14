//! The last step of a driver's build: takes out of the linked image what depends on where it was built.
//!
//! The linker derives the image's time stamps and the key that ties it to its .pdb from the .pdb's content, and the .pdb
//! names folders of the build machine. Here both are derived from the image itself, and written into image and .pdb:
//!
//! ```text
//! image without its stamps, key and checksum ── SHA-256 ──▶ key (16 bytes), stamp (4 bytes) ──▶ checksum
//! ```
//!
//! The export table's own name, which the linker takes from cargo's file name, becomes the driver's.

use std::ops::Range;

use anyhow::{Context, Result, anyhow, ensure};
use object::{LittleEndian as LE, pe, read::pe::PeFile64};
use sha2::{Digest, Sha256};

use crate::image::{CHECKSUM_OFFSET, checksum};

/// Offset of TimeDateStamp from the PE signature.
const STAMP_OFFSET: usize = 4 + 4;
/// Offset of TimeDateStamp in an entry of the debug directory and in the export directory, and an entry's size.
const DIRECTORY_STAMP_OFFSET: usize = 4;
const DEBUG_ENTRY_SIZE: usize = 28;
/// A CodeView record: "RSDS", the key, the age, the .pdb's name.
const CODE_VIEW_KEY: Range<usize> = 4..20;

/// Seals `image` and the `.pdb` that belongs to it.
pub(crate) fn seal(image: &mut [u8], pdb: &mut [u8]) -> Result<()> {
    let places = Places::find(image)?;
    let old_key = image[places.key.clone()].to_vec();

    if let Some(extension) = places.export_extension {
        image[extension].copy_from_slice(b".sys");
    }
    for stamp in &places.stamps {
        image[stamp.clone()].fill(0);
    }
    image[places.key.clone()].fill(0);
    image[places.checksum.clone()].fill(0);

    let digest = Sha256::digest(&*image);
    let (key, stamp) = (&digest[..16], &digest[16..20]);
    image[places.key].copy_from_slice(key);
    for place in places.stamps {
        image[place].copy_from_slice(stamp);
    }
    let sum = checksum(image, places.checksum.start);
    image[places.checksum].copy_from_slice(&sum.to_le_bytes());
    rekey(pdb, &old_key, key)
}

/// Replaces the key in the .pdb's information stream, the one place that has it.
fn rekey(pdb: &mut [u8], old: &[u8], new: &[u8]) -> Result<()> {
    let mut places = pdb
        .windows(old.len())
        .enumerate()
        .filter(|(_, window)| *window == old);
    let (at, _) = places.next().context("the .pdb is of another image")?;
    ensure!(
        places.next().is_none(),
        "the .pdb has the image's key twice"
    );
    pdb[at..at + new.len()].copy_from_slice(new);
    Ok(())
}

/// Where in the file the fields are.
struct Places {
    stamps: Vec<Range<usize>>,
    key: Range<usize>,
    checksum: Range<usize>,
    export_extension: Option<Range<usize>>,
}

impl Places {
    fn find(image: &[u8]) -> Result<Self> {
        let file = PeFile64::parse(image).context("not a 64-bit PE image")?;
        let headers = file.dos_header().nt_headers_offset() as usize;
        let offset = |address: u32| {
            let range = file.section_table().pe_file_range_at(address);
            range
                .map(|(offset, _)| offset as usize)
                .ok_or_else(|| anyhow!("address {address:#x} is outside of the file"))
        };

        let debug = file
            .data_directory(pe::IMAGE_DIRECTORY_ENTRY_DEBUG)
            .context("no debug directory")?;
        let start = offset(debug.virtual_address.get(LE))?;
        let mut stamps = vec![word_at(headers + STAMP_OFFSET)];
        let mut key = None;
        for entry in (0..debug.size.get(LE) as usize / DEBUG_ENTRY_SIZE)
            .map(|index| start + index * DEBUG_ENTRY_SIZE)
        {
            stamps.push(word_at(entry + DIRECTORY_STAMP_OFFSET));
            if read_word(image, entry + 12)? == pe::IMAGE_DEBUG_TYPE_CODEVIEW {
                let record = read_word(image, entry + 24)? as usize;
                ensure!(
                    image.get(record..record + 4) == Some(b"RSDS"),
                    "the CodeView record has no key"
                );
                key = Some(record + CODE_VIEW_KEY.start..record + CODE_VIEW_KEY.end);
            }
        }

        let mut export_extension = None;
        let exports = file
            .data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXPORT)
            .filter(|found| found.size.get(LE) != 0);
        if let Some(exports) = exports {
            let directory = offset(exports.virtual_address.get(LE))?;
            stamps.push(word_at(directory + DIRECTORY_STAMP_OFFSET));
            let name = offset(read_word(image, directory + 12)?)?;
            let length = image[name..]
                .iter()
                .position(|byte| *byte == 0)
                .context("the export table's name has no end")?;
            let end = name + length;
            if image[name..end].ends_with(b".exe") {
                export_extension = Some(end - 4..end);
            }
        }
        Ok(Self {
            stamps,
            key: key.context("no CodeView record")?,
            checksum: word_at(headers + CHECKSUM_OFFSET),
            export_extension,
        })
    }
}

fn word_at(offset: usize) -> Range<usize> {
    offset..offset + 4
}

fn read_word(image: &[u8], offset: usize) -> Result<u32> {
    let bytes = image
        .get(word_at(offset))
        .and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(u32::from_le_bytes)
        .context("the image ends too early")
}
