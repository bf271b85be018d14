//! From a file's bytes to a mapped, relocated image in guest RAM.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ExportTarget, ImageNtHeaders, ImageOptionalHeader, PeFile64};

use super::unwind::RuntimeFunction;
use super::{LoadError, insn};
use crate::host::platform;
use crate::mm::frames;
use crate::platform::{PAGE_SIZE, Protection};

/// A section of a loaded image.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name, as `.text`.
    pub name: String,
    /// Where it starts, relative to the image.
    pub rva: u32,
    /// Its size in bytes.
    pub size: u32,
    /// How its pages are protected.
    pub protection: Protection,
    /// It may go once the driver is initialised.
    pub discardable: bool,
    /// Windows may page its code out.
    pub pageable: bool,
}

/// An imported name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module it is imported from.
    pub module: String,
    /// The function or variable; `#12` for one that is imported by its number.
    pub name: String,
    /// Where its address goes, relative to the image.
    pub slot: u32,
}

/// What the headers and tables of an image say.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Size in memory, in bytes.
    pub size: u32,
    /// The preferred address.
    pub base: u64,
    /// The entry point, 0 for none.
    pub entry: u32,
    /// Its sections in order.
    pub sections: Vec<Section>,
    /// Its exports by name.
    pub exports: BTreeMap<String, u32>,
    /// Its exports by number.
    pub ordinals: BTreeMap<u16, u32>,
    /// Exports, by name or as `#12`, that are those of another module: its name without a suffix, and the name there.
    pub forwards: BTreeMap<String, (String, String)>,
    /// Its imports.
    pub imports: Vec<Import>,
    /// Where 64-bit addresses must be adjusted.
    pub relocations: Vec<u32>,
    /// Its functions with unwind information, by address.
    pub functions: Vec<RuntimeFunction>,
    /// The load configuration directory.
    pub load_config: Option<u32>,
}

impl Layout {
    /// Reads `bytes`, the file of image `name`.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let damaged = |why| LoadError::NotPe(name.to_owned(), why);
        check_machine(name, bytes)?;
        let file = PeFile64::parse(bytes).map_err(|_| damaged("its headers are damaged"))?;
        let header = file.nt_headers().optional_header();
        let subsystem = header.subsystem();
        if subsystem != pe::IMAGE_SUBSYSTEM_NATIVE {
            return Err(LoadError::WrongSubsystem(name.to_owned(), subsystem.0));
        }
        let size = header.size_of_image();
        if size == 0 || size as usize > 64 << 20 {
            return Err(damaged("its size in memory is wrong"));
        }
        let mut layout = Self {
            size,
            base: header.image_base(),
            entry: header.address_of_entry_point(),
            sections: Vec::new(),
            exports: BTreeMap::new(),
            ordinals: BTreeMap::new(),
            forwards: BTreeMap::new(),
            imports: Vec::new(),
            relocations: Vec::new(),
            functions: Vec::new(),
            load_config: file
                .data_directory(pe::IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG)
                .map(|directory| directory.virtual_address.get(LE))
                .filter(|&rva| rva != 0),
        };
        layout.read_sections(name, &file)?;
        if layout.entry != 0 && !layout.is_code(layout.entry) {
            return Err(damaged("its entry point is not in code"));
        }
        let flags = file.nt_headers().file_header().characteristics.get(LE);
        if flags.0 & pe::IMAGE_FILE_RELOCS_STRIPPED.0 != 0 {
            return Err(LoadError::NoRelocations(name.to_owned()));
        }
        layout
            .read_exports(&file)
            .ok_or(damaged("its export table is damaged"))?;
        layout.read_imports(name, &file)?;
        layout
            .read_relocations(&file)
            .ok_or(damaged("its relocations are damaged"))?;
        layout
            .read_functions(&file)
            .ok_or(damaged("its .pdata is damaged"))?;
        Ok(layout)
    }

    fn read_sections(&mut self, name: &str, file: &PeFile64) -> Result<(), LoadError> {
        let mut free = PAGE_SIZE as u32;
        for section in file.section_table().iter() {
            let title = String::from_utf8_lossy(section.raw_name()).into_owned();
            let flags = section.characteristics.get(LE);
            let protection = match (
                flags.0 & pe::IMAGE_SCN_MEM_WRITE.0 != 0,
                flags.0 & pe::IMAGE_SCN_MEM_EXECUTE.0 != 0,
            ) {
                (true, true) => {
                    return Err(LoadError::WritableAndExecutable(name.to_owned(), title));
                }
                (true, false) => Protection::ReadWrite,
                (false, true) => Protection::ReadExecute,
                (false, false) => Protection::Read,
            };
            let rva = section.virtual_address.get(LE);
            let size = section
                .virtual_size
                .get(LE)
                .max(section.size_of_raw_data.get(LE));
            let end = rva
                .checked_add(size)
                .and_then(|end| end.checked_next_multiple_of(PAGE_SIZE as u32));
            let damaged = |why| Err(LoadError::NotPe(name.to_owned(), why));
            if !rva.is_multiple_of(PAGE_SIZE as u32) {
                return damaged("its sections are not aligned to pages");
            }
            if rva < free || end.is_none_or(|end| end > self.end()) {
                return damaged("a section lies outside the image or in another");
            }
            if section.pe_data(file.data()).is_err() {
                return damaged("it is cut short, a section lies outside the file");
            }
            free = end.unwrap_or(free);
            let pageable = title.starts_with("PAGE")
                && flags.0 & pe::IMAGE_SCN_MEM_NOT_PAGED.0 == 0
                && protection == Protection::ReadExecute;
            self.sections.push(Section {
                name: title,
                rva,
                size,
                protection,
                discardable: flags.0 & pe::IMAGE_SCN_MEM_DISCARDABLE.0 != 0,
                pageable,
            });
        }
        Ok(())
    }

    /// The image's size rounded up to whole pages.
    pub fn end(&self) -> u32 {
        self.size.next_multiple_of(PAGE_SIZE as u32)
    }

    fn read_exports(&mut self, file: &PeFile64) -> Option<()> {
        if let Some(table) = file.export_table().ok()? {
            for export in table.exports().ok()? {
                let name = export.name.map(core::str::from_utf8).transpose().ok()?;
                let number = export.ordinal.0;
                let (module, there) = match export.target {
                    ExportTarget::Address(0) => continue,
                    ExportTarget::Address(rva) => {
                        (rva < self.size).then(|| self.ordinals.insert(number, rva))?;
                        self.exports.extend(name.map(|name| (name.to_owned(), rva)));
                        continue;
                    }
                    ExportTarget::ForwardByName(module, there) => {
                        (module, core::str::from_utf8(there).ok()?.to_owned())
                    }
                    ExportTarget::ForwardByOrdinal(module, there) => (module, by_number(there.0)),
                };
                let target = (core::str::from_utf8(module).ok()?.to_owned(), there);
                self.forwards
                    .extend(name.map(|name| (name.to_owned(), target.clone())));
                self.forwards.insert(by_number(number), target);
            }
        }
        Some(())
    }

    fn read_imports(&mut self, image: &str, file: &PeFile64) -> Result<(), LoadError> {
        let damaged = |_| LoadError::NotPe(image.to_owned(), "its import table is damaged");
        let Some(table) = file.import_table().map_err(damaged)? else {
            return Ok(());
        };
        let mut descriptors = table.descriptors().map_err(damaged)?;
        while let Some(descriptor) = descriptors.next().map_err(damaged)? {
            let module = table.name(descriptor.name.get(LE)).map_err(damaged)?;
            let module = String::from_utf8_lossy(module).into_owned();
            let first = match descriptor.original_first_thunk.get(LE) {
                0 => descriptor.first_thunk.get(LE),
                lookup => lookup,
            };
            let mut slot = descriptor.first_thunk.get(LE);
            let mut thunks = table.thunks(first).map_err(damaged)?;
            while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>().map_err(damaged)? {
                let import = table.import::<pe::ImageNtHeaders64>(thunk);
                let name = match import.map_err(damaged)? {
                    object::read::pe::Import::Ordinal(number) => by_number(number),
                    object::read::pe::Import::Name(_, name) => {
                        String::from_utf8_lossy(name).into_owned()
                    }
                };
                self.imports.push(Import {
                    module: module.clone(),
                    name,
                    slot,
                });
                if slot.checked_add(8).is_none_or(|end| end > self.size) {
                    return Err(LoadError::NotPe(
                        image.to_owned(),
                        "its import table is damaged",
                    ));
                }
                slot += 8;
            }
        }
        Ok(())
    }

    fn read_relocations(&mut self, file: &PeFile64) -> Option<()> {
        let directories = file.data_directories();
        let Some(mut blocks) = directories
            .relocation_blocks(file.data(), &file.section_table())
            .ok()?
        else {
            return Some(());
        };
        while let Some(block) = blocks.next().ok()? {
            for relocation in block {
                match relocation.typ {
                    pe::IMAGE_REL_BASED_ABSOLUTE => {}
                    pe::IMAGE_REL_BASED_DIR64 => {
                        let end = relocation.virtual_address.checked_add(8)?;
                        (end <= self.size)
                            .then(|| self.relocations.push(relocation.virtual_address))?;
                    }
                    _ => return None,
                }
            }
        }
        Some(())
    }

    fn read_functions(&mut self, file: &PeFile64) -> Option<()> {
        let Some(directory) = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION) else {
            return Some(());
        };
        let data = directory.data(file.data(), &file.section_table()).ok()?;
        for entry in data.chunks_exact(12) {
            let word = |at: usize| {
                u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
            };
            let function = RuntimeFunction {
                begin: word(0),
                end: word(4),
                unwind: word(8),
            };
            if function.begin == 0 {
                break;
            }
            (function.begin < function.end
                && function.end <= self.size
                && function.unwind < self.size)
                .then(|| self.functions.push(function))?;
        }
        self.functions.sort_by_key(|function| function.begin);
        Some(())
    }

    /// Whether it exports a function, by its name or as `#12`.
    pub fn provides(&self, name: &str) -> bool {
        let number = name
            .strip_prefix('#')
            .and_then(|number| number.parse().ok());
        number.is_some_and(|number: u16| self.ordinals.contains_key(&number))
            || self.exports.contains_key(name)
            || self.forwards.contains_key(name)
    }

    /// The section that covers `rva`.
    pub fn section(&self, rva: u32) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| rva.wrapping_sub(section.rva) < section.size)
    }

    /// Whether `rva` lies in code that Windows may page out (Microsoft Learn, "Making Drivers Pageable": sections whose
    /// names begin with PAGE).
    pub fn is_pageable(&self, rva: u32) -> bool {
        self.section(rva).is_some_and(|section| section.pageable)
    }

    /// From the first to the last byte of pageable code.
    pub fn pageable(&self) -> Option<Range<u32>> {
        let mut sections = self.sections.iter().filter(|section| section.pageable);
        let first = sections.next()?;
        let last = sections.next_back().unwrap_or(first);
        Some(first.rva..last.rva.saturating_add(last.size))
    }

    /// Whether `rva` lies in an executable section.
    pub fn is_code(&self, rva: u32) -> bool {
        self.section(rva)
            .is_some_and(|section| section.protection == Protection::ReadExecute)
    }
}

/// Copies an image's headers and sections to where they belong in `memory`, which is as large as the image.
fn fill(name: &str, bytes: &[u8], memory: &mut [u8]) -> Result<(), LoadError> {
    let damaged = |why| LoadError::NotPe(name.to_owned(), why);
    let file = PeFile64::parse(bytes).map_err(|_| damaged("its headers are damaged"))?;
    let headers = file.nt_headers().optional_header().size_of_headers() as usize;
    let headers = headers.min(PAGE_SIZE).min(bytes.len());
    memory[..headers].copy_from_slice(&bytes[..headers]);
    for section in file.section_table().iter() {
        let data = section
            .pe_data(bytes)
            .map_err(|_| damaged("a section lies outside the file"))?;
        let rva = section.virtual_address.get(LE) as usize;
        memory[rva..rva + data.len()].copy_from_slice(data);
    }
    Ok(())
}

/// Does to an image what loading does, but in no machine: reads it, lays it out, and finds the instructions to replace.
pub fn examine(name: &str, bytes: &[u8]) -> Result<Vec<insn::Found>, LoadError> {
    let layout = Layout::read(name, bytes)?;
    let mut memory = alloc::vec![0; layout.end() as usize];
    fill(name, bytes, &mut memory)?;
    let delta = (memory.as_ptr() as u64).wrapping_sub(layout.base);
    for &rva in &layout.relocations {
        if let Some(value) = memory[rva as usize..].first_chunk_mut::<8>() {
            *value = u64::from_le_bytes(*value).wrapping_add(delta).to_le_bytes();
        }
    }
    Ok(insn::find(&layout, &memory))
}

/// How a function without a name is written.
fn by_number(number: u16) -> String {
    alloc::format!("#{number}")
}

/// Tells what is no PE file, or one for another machine, before the parser does, so that the message says which.
fn check_machine(name: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let damaged = |why| LoadError::NotPe(name.to_owned(), why);
    if bytes.is_empty() {
        return Err(damaged("it is empty"));
    }
    if !bytes.starts_with(b"MZ") {
        return Err(damaged("it does not start with MZ"));
    }
    let dos: &[u8; 4] = bytes
        .get(0x3c..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(damaged("it is cut short"))?;
    let header = bytes
        .get(u32::from_le_bytes(*dos) as usize..)
        .ok_or(damaged("it is cut short"))?;
    if !header.starts_with(b"PE\0\0") {
        return Err(damaged("it has no PE signature"));
    }
    let machine: &[u8; 2] = header
        .get(4..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(damaged("it is cut short"))?;
    match u16::from_le_bytes(*machine) {
        machine if machine == pe::IMAGE_FILE_MACHINE_AMD64.0 => Ok(()),
        machine => Err(LoadError::WrongMachine(name.to_owned(), machine)),
    }
}

/// An image's memory: its pages, then those of its import thunks. All writable until [`protect`](Self::protect).
pub struct Memory {
    frame: frames::Frame,
    pages: usize,
    base: NonNull<u8>,
}

impl Memory {
    /// Copies the image's sections into `size + extra` bytes of RAM and relocates them.
    pub fn map(name: &str, layout: &Layout, bytes: &[u8], extra: usize) -> Result<Self, LoadError> {
        let pages = (layout.end() as usize + extra).div_ceil(PAGE_SIZE);
        let frame =
            frames::allocate(pages as u64).ok_or_else(|| LoadError::NoMemory(name.to_owned()))?;
        let base = frames::address(frame);
        // SAFETY: the frames were just allocated.
        unsafe { base.write_bytes(0, pages * PAGE_SIZE) };
        let mut memory = Self { frame, pages, base };
        fill(name, bytes, memory.bytes())?;
        let delta = (memory.base.as_ptr() as u64).wrapping_sub(layout.base);
        for &rva in &layout.relocations {
            let value = memory.read(rva).wrapping_add(delta);
            memory.write(rva, value);
        }
        Ok(memory)
    }

    /// Where it is.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its bytes, while nothing of the image has run yet.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the frames are the image's own, and no code of it runs while `&mut self` is held.
        unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr(), self.pages * PAGE_SIZE) }
    }

    /// The 64-bit value at `rva`.
    pub fn read(&mut self, rva: u32) -> u64 {
        let at = rva as usize;
        self.bytes()[at..]
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Stores a 64-bit value at `rva`.
    pub fn write(&mut self, rva: u32, value: u64) {
        let at = rva as usize;
        self.bytes()[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Writes to a page behind the image that is executable already: by way of another mapping of it. `None` without
    /// address space for that.
    pub(super) fn write_code(&self, offset: usize, bytes: &[u8]) -> Option<()> {
        let (page, inner) = (offset / PAGE_SIZE, offset % PAGE_SIZE);
        assert!(page < self.pages && inner + bytes.len() <= PAGE_SIZE);
        let view = platform().map(&[self.frame + page as u64], Protection::ReadWrite)?;
        // SAFETY: the bytes lie within the page that was just mapped, and nobody executes them yet.
        unsafe {
            core::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                view.as_ptr().wrapping_add(inner),
                bytes.len(),
            )
        };
        // SAFETY: mapped above, used nowhere else.
        unsafe { platform().unmap(view, 1) };
        Some(())
    }

    /// Gives each section its protection; the headers become readable only, the thunks behind the image executable.
    pub fn protect(&mut self, layout: &Layout) {
        self.protect_range(0, self.pages * PAGE_SIZE, Protection::Read);
        for section in &layout.sections {
            self.protect_range(
                section.rva as usize,
                section.size as usize,
                section.protection,
            );
        }
        let end = layout.end() as usize;
        self.protect_range(end, self.pages * PAGE_SIZE - end, Protection::ReadExecute);
    }

    /// Makes the discardable sections inaccessible.
    pub fn discard(&self, layout: &Layout) {
        for section in layout.sections.iter().filter(|section| section.discardable) {
            self.protect_range(
                section.rva as usize,
                section.size as usize,
                Protection::None,
            );
        }
    }

    /// Makes the whole image inaccessible.
    pub fn revoke(&self) {
        self.protect_range(0, self.pages * PAGE_SIZE, Protection::None);
    }

    fn protect_range(&self, start: usize, size: usize, protection: Protection) {
        if size != 0 {
            // SAFETY: the range lies within the image.
            let at = unsafe { self.base.add(start) };
            // SAFETY: nothing of the image runs yet, or (when it is freed) any more.
            unsafe { platform().protect(at, size.div_ceil(PAGE_SIZE), protection) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.protect_range(0, self.pages * PAGE_SIZE, Protection::ReadWrite);
        frames::free(self.frame, self.pages as u64);
    }
}
