//! What a driver image must be, checked on the finished files of dist/x64.
//!
//! Numbers: Microsoft Learn, "PE Format".

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use object::{
    LittleEndian as LE, pe,
    read::pe::{PeFile64, ResourceDirectoryEntryData},
};

use crate::{
    drivers::{DRIVERS, Driver, dist},
    panics::{self, Panics},
    toolchain::root,
};

/// Offset of the checksum field from the start of the PE signature: signature, file header, optional header up to it.
pub(crate) const CHECKSUM_OFFSET: usize = 4 + 20 + 64;

/// `./x check-images`.
pub(crate) fn check_all_and_say() -> Result<()> {
    let problems = check_all()?;
    for problem in &problems {
        println!("{problem}");
    }
    ensure!(
        problems.is_empty(),
        "{} problems in the driver images",
        problems.len()
    );
    println!("{} driver images are as they must be", DRIVERS.len());
    Ok(())
}

/// Every way in which an image of dist/x64 is not as it must be, one line each.
pub(crate) fn check_all() -> Result<Vec<String>> {
    let mut allowed = words_of(&root().join("drivers/imports.txt"))?;
    for driver in DRIVERS {
        let exports = exports_of(driver)?;
        allowed.extend(
            exports
                .iter()
                .map(|name| format!("{}.sys!{name}", driver.name)),
        );
    }
    let mut panics = Panics::read()?;
    let mut problems = Vec::new();
    for driver in DRIVERS {
        let path = dist().join(format!("{}.sys", driver.name));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let exports = exports_of(driver)?;
        let mut say = |problem: String| problems.push(format!("{}.sys: {problem}", driver.name));
        match Image::parse(&bytes) {
            Ok(image) => image.check(&allowed, &exports, &mut panics, &mut say)?,
            Err(error) => say(format!("{error:#}")),
        }
    }
    problems.extend(panics.unused());
    Ok(problems)
}

struct Image<'a> {
    bytes: &'a [u8],
    file: PeFile64<'a>,
}

impl<'a> Image<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let file = PeFile64::parse(bytes).context("not a 64-bit PE image")?;
        Ok(Self { bytes, file })
    }

    fn check(
        &self,
        allowed: &BTreeSet<String>,
        exports: &BTreeSet<String>,
        panics: &mut Panics,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        self.check_headers(say);
        self.check_sections(say);
        self.check_imports(allowed, say)?;
        self.check_exports(exports, say)?;
        self.check_directories(say);
        self.check_panics(panics, say)?;
        Ok(())
    }

    fn check_headers(&self, say: &mut dyn FnMut(String)) {
        let headers = self.file.nt_headers();
        let machine = headers.file_header.machine.get(LE);
        if machine != pe::IMAGE_FILE_MACHINE_AMD64 {
            say(format!("machine {machine:#06x} instead of x64"));
        }
        let characteristics = headers.file_header.characteristics.get(LE);
        if characteristics & pe::IMAGE_FILE_DLL != 0 {
            say("marked as a DLL".to_owned());
        }
        let optional = &headers.optional_header;
        if optional.subsystem.get(LE) != pe::IMAGE_SUBSYSTEM_NATIVE {
            say("subsystem is not native".to_owned());
        }
        let flags = optional.dll_characteristics.get(LE);
        for (bit, name) in [
            (pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT, "NX compatible"),
            (pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, "dynamic base"),
            (
                pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA,
                "high-entropy addresses",
            ),
            (pe::IMAGE_DLLCHARACTERISTICS_WDM_DRIVER, "WDM driver"),
            (pe::IMAGE_DLLCHARACTERISTICS_GUARD_CF, "control-flow guard"),
        ] {
            if flags & bit == 0 {
                say(format!("not marked: {name}"));
            }
        }
        let at = self.file.dos_header().nt_headers_offset() as usize + CHECKSUM_OFFSET;
        let stored = optional.check_sum.get(LE);
        let computed = checksum(self.bytes, at);
        if stored != computed {
            say(format!("checksum {stored:#x} instead of {computed:#x}"));
        }
    }

    fn check_sections(&self, say: &mut dyn FnMut(String)) {
        for section in self.file.section_table().iter() {
            let flags = section.characteristics.get(LE);
            let name = String::from_utf8_lossy(section.raw_name()).into_owned();
            if flags & pe::IMAGE_SCN_MEM_WRITE != 0 && flags & pe::IMAGE_SCN_MEM_EXECUTE != 0 {
                say(format!("section {name} is both writable and executable"));
            }
        }
    }

    fn check_imports(&self, allowed: &BTreeSet<String>, say: &mut dyn FnMut(String)) -> Result<()> {
        let Some(table) = self.file.import_table()? else {
            return Ok(());
        };
        let mut modules = table.descriptors()?;
        while let Some(module) = modules.next()? {
            let name = String::from_utf8_lossy(table.name(module.name.get(LE))?).into_owned();
            let first = module.original_first_thunk.get(LE);
            let mut thunks = table.thunks(if first != 0 {
                first
            } else {
                module.first_thunk.get(LE)
            })?;
            while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
                let function = match table.import::<pe::ImageNtHeaders64>(thunk)? {
                    object::read::pe::Import::Name(_, function) => {
                        String::from_utf8_lossy(function).into_owned()
                    }
                    object::read::pe::Import::Ordinal(ordinal) => format!("#{ordinal}"),
                };
                let import = format!("{name}!{function}");
                if !allowed.contains(&import) {
                    say(format!(
                        "imports {import}, which drivers/imports.txt does not list"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_exports(
        &self,
        declared: &BTreeSet<String>,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let mut found = BTreeSet::new();
        if let Some(table) = self.file.export_table()? {
            for export in table.exports()? {
                found.insert(export.name.map_or_else(
                    || format!("#{}", export.ordinal),
                    |name| String::from_utf8_lossy(name).into_owned(),
                ));
            }
        }
        for name in declared.difference(&found) {
            say(format!("does not export {name}"));
        }
        for name in found.difference(declared) {
            say(format!(
                "exports {name}, which its definition file does not declare"
            ));
        }
        Ok(())
    }

    fn check_directories(&self, say: &mut dyn FnMut(String)) {
        for (directory, what) in [
            (pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION, "unwind information"),
            (pe::IMAGE_DIRECTORY_ENTRY_BASERELOC, "relocations"),
            (pe::IMAGE_DIRECTORY_ENTRY_DEBUG, "a debug directory"),
            (
                pe::IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG,
                "a load configuration",
            ),
        ] {
            if self
                .file
                .data_directory(directory)
                .is_none_or(|found| found.size.get(LE) == 0)
            {
                say(format!("without {what}"));
            }
        }
        match self.version_strings() {
            Ok(()) => {}
            Err(error) => say(format!("version resource: {error:#}")),
        }
    }

    fn check_panics(&self, panics: &mut Panics, say: &mut dyn FnMut(String)) -> Result<()> {
        for place in panics::places(self.bytes, &self.file)? {
            if !panics.allow(&place) {
                say(format!(
                    "can panic at {place}, which drivers/panics.txt does not list"
                ));
            }
        }
        Ok(())
    }

    /// Type RT_VERSION, any name, any language, whose data names the vendor.
    fn version_strings(&self) -> Result<()> {
        let sections = self.file.section_table();
        let directories = self.file.data_directories();
        let resources = directories
            .resource_directory(self.bytes, &sections)?
            .ok_or_else(|| anyhow!("no resources"))?;
        let kind = resources
            .root()?
            .entries
            .iter()
            .find(|entry| entry.name_or_id().id() == Some(pe::RT_VERSION))
            .ok_or_else(|| anyhow!("none"))?;
        let mut entry = kind.data(resources)?;
        let data = loop {
            match entry {
                ResourceDirectoryEntryData::Data(data) => break data,
                ResourceDirectoryEntryData::Table(table) => {
                    let first = table
                        .entries
                        .first()
                        .ok_or_else(|| anyhow!("an empty table"))?;
                    entry = first.data(resources)?;
                }
            }
        };
        let bytes = sections
            .pe_data_at(self.bytes, data.offset_to_data.get(LE))
            .and_then(|bytes| bytes.get(..data.size.get(LE) as usize))
            .ok_or_else(|| anyhow!("outside of the image"))?;
        for text in ["VS_VERSION_INFO", "CompanyName", "OriginalFilename"] {
            let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            ensure!(
                bytes.windows(wide.len()).any(|window| window == wide),
                "{text} is missing"
            );
        }
        Ok(())
    }
}

/// The image checksum: the ones-complement sum of 16-bit words without the field itself, plus the length.
pub(crate) fn checksum(bytes: &[u8], field: usize) -> u32 {
    let mut sum: u64 = 0;
    for (index, pair) in bytes.chunks(2).enumerate() {
        let at = index * 2;
        if (field..field + 4).contains(&at) {
            continue;
        }
        sum += u64::from(u16::from_le_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u32 + bytes.len() as u32
}

/// The lines of a list, without comments.
pub(crate) fn words_of(path: &Path) -> Result<BTreeSet<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let words = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim());
    Ok(words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect())
}

/// The names after EXPORTS in a driver's module definition file; none where it has no such file.
fn exports_of(driver: &Driver) -> Result<BTreeSet<String>> {
    let path = root().join(format!("drivers/{0}/{0}.def", driver.name));
    if !path.exists() {
        return Ok(BTreeSet::new());
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text
        .lines()
        .map(|line| line.split(';').next().unwrap_or("").trim());
    ensure!(
        lines.any(|line| line == "EXPORTS"),
        "{}: no EXPORTS",
        path.display()
    );
    let names = lines.filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_leaves_its_own_field_out_and_folds_carries() {
        let mut bytes = vec![0xFF; 8];
        bytes[2..6].fill(0xAA);
        assert_eq!(checksum(&bytes, 2), 0xFFFF + 8);
        assert_eq!(checksum(&[1, 0, 0, 0, 0, 0, 2], 2), 3 + 7);
    }

    #[test]
    fn a_text_file_is_not_an_image() {
        assert!(Image::parse(b"not an image").is_err());
    }
}
