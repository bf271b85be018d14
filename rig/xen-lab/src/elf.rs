//! What ELF files say about what they need: a program's libraries, a module's modules.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use object::{
    Object, ObjectSection,
    elf::DT_NEEDED,
    endian::Endianness,
    read::elf::{Dyn, ElfFile64, SectionHeader},
};

/// The libraries of `programs`, with theirs: file name and where it is. `folders` are searched in order.
pub fn libraries(programs: &[PathBuf], folders: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open: VecDeque<_> = programs.iter().cloned().collect();
    while let Some(path) = open.pop_front() {
        for name in needed(&path)? {
            if found.contains_key(&name) {
                continue;
            }
            let Some(place) = folders
                .iter()
                .map(|folder| folder.join(&name))
                .find(|place| place.exists())
            else {
                bail!("{} needs {name}, which no package brought", path.display());
            };
            open.push_back(place.clone());
            found.insert(name, place);
        }
    }
    Ok(found)
}

/// The names of the libraries that one file asks for.
fn needed(path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let read = || -> object::Result<Vec<String>> {
        let file = ElfFile64::<Endianness>::parse(&*bytes)?;
        let endian = file.endian();
        let mut names = Vec::new();
        for section in file.elf_section_table().iter() {
            let Some((entries, strings)) = section.dynamic(endian, &*bytes)? else {
                continue;
            };
            let strings = file.elf_section_table().strings(endian, &*bytes, strings)?;
            for entry in entries {
                if entry.tag32(endian) == Some(DT_NEEDED) {
                    let name = entry.string(endian, strings)?;
                    names.push(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
        Ok(names)
    };
    read().with_context(|| format!("{} is not a program of this machine", path.display()))
}

/// The modules that a kernel module says it depends on.
pub fn module_needs(bytes: &[u8]) -> Result<Vec<String>> {
    let file = ElfFile64::<Endianness>::parse(bytes).context("not a kernel module")?;
    let section = file
        .section_by_name(".modinfo")
        .context("not a kernel module: no .modinfo")?;
    let words = section.data()?;
    Ok(words
        .split(|&byte| byte == 0)
        .filter_map(|word| word.strip_prefix(b"depends="))
        .flat_map(|list| list.split(|&byte| byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}

/// The kernel in Debian's vmlinuz, compressed: from the boot header's payload_offset and payload_length
/// (Linux, Documentation/x86/boot.rst), the length of the plain kernel after it left out.
pub fn kernel_payload(image: &[u8]) -> Result<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let payload = || {
        if image.get(0x202..0x206) != Some(b"HdrS") {
            return None;
        }
        let real_mode = (usize::from(*image.get(0x1F1)?) + 1) * 512;
        let start = real_mode.checked_add(word(0x248)?)?;
        let end = start.checked_add(word(0x24C)?)?.checked_sub(4)?;
        image.get(start..end)
    };
    payload().context("not a Linux boot image with a payload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_found_by_the_boot_header() {
        let mut image = vec![0; 0x1000];
        image[0x1F1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24C].copy_from_slice(&0x100u32.to_le_bytes());
        image[0x24C..0x250].copy_from_slice(&12u32.to_le_bytes());
        image[0x500..0x508].copy_from_slice(b"payload!");
        assert_eq!(kernel_payload(&image).ok(), Some(&b"payload!"[..]));
    }

    #[test]
    fn a_payload_outside_the_image_is_refused() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x24C..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(kernel_payload(&image).is_err());
        assert!(kernel_payload(b"short").is_err());
    }

    #[test]
    fn this_program_names_its_libraries() -> Result<()> {
        let here = std::env::current_exe()?;
        let found = libraries(
            &[here],
            &[
                "/lib/x86_64-linux-gnu".into(),
                "/usr/lib64".into(),
                "/lib64".into(),
            ],
        )?;
        assert!(found.contains_key("libc.so.6"));
        Ok(())
    }

    #[test]
    fn a_library_that_nobody_has_is_named() -> Result<()> {
        let here = std::env::current_exe()?;
        let error = libraries(&[here], &[]).err().map(|e| e.to_string());
        assert!(error.is_some_and(|text| text.contains("which no package brought")));
        Ok(())
    }
}
