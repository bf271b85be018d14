//! The boot module: a cpio archive in the "newc" format, as Linux takes its initial file system.
//! Linux Documentation/driver-api/early-userspace/buffer-format.rst.

/// A file of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// Its name, without leading "./".
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// Bytes of a header.
const HEADER: usize = 110;
/// Where the file's size and the name's size are in the header: eight hexadecimal digits each.
const FILE_SIZE: usize = 54;
const NAME_SIZE: usize = 94;

/// The regular files of an archive, up to its trailer or to the first thing that is damaged.
pub fn files(archive: &[u8]) -> impl Iterator<Item = File<'_>> {
    let mut rest = Some(archive);
    core::iter::from_fn(move || {
        loop {
            let (file, behind) = next(rest?)?;
            rest = behind;
            if file.name == "TRAILER!!!" {
                return None;
            }
            if !file.bytes.is_empty() {
                return Some(file);
            }
        }
    })
}

fn next(archive: &[u8]) -> Option<(File<'_>, Option<&[u8]>)> {
    let header = archive.get(..HEADER)?;
    if !header.starts_with(b"070701") {
        return None;
    }
    let number = |at: usize| {
        let digits = core::str::from_utf8(header.get(at..at + 8)?).ok()?;
        usize::from_str_radix(digits, 16).ok()
    };
    let name_end = HEADER.checked_add(number(NAME_SIZE)?)?;
    let start = name_end.next_multiple_of(4);
    let end = start.checked_add(number(FILE_SIZE)?)?;
    let name = archive.get(HEADER..name_end.checked_sub(1)?)?;
    let name = core::str::from_utf8(name).ok()?;
    let file = File {
        name: name.strip_prefix("./").unwrap_or(name),
        bytes: archive.get(start..end)?,
    };
    Some((file, archive.get(end.next_multiple_of(4)..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    fn entry(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut out = format!("070701{:048x}{:08x}{:032x}", 0, bytes.len(), 0).into_bytes();
        out.extend(format!("{:08x}{:08x}", name.len() + 1, 0).bytes());
        out.extend(name.bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn files_are_found_with_their_bytes() {
        let mut archive = entry("./job", b"disks count=1\n");
        archive.extend(entry("xen.sys", &[7; 5]));
        archive.extend(entry("TRAILER!!!", b""));
        archive.extend([0; 512]);
        let found: Vec<_> = files(&archive).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].name, found[0].bytes),
            ("job", &b"disks count=1\n"[..])
        );
        assert_eq!((found[1].name, found[1].bytes), ("xen.sys", &[7; 5][..]));
    }

    #[test]
    fn a_damaged_archive_ends_where_it_is_damaged() {
        let mut archive = entry("job", b"x");
        archive.extend(b"garbage");
        assert_eq!(files(&archive).count(), 1);
        assert_eq!(files(&archive[..60]).count(), 0);
        assert_eq!(files(b"").count(), 0);
        let mut long = entry("job", b"x");
        long[FILE_SIZE..FILE_SIZE + 8].copy_from_slice(b"ffffffff");
        assert_eq!(files(&long).count(), 0);
    }
}
