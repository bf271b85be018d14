//! The ELF file that gdb is given for an image: no code, only where it is and what is known about it.

use std::path::Path;

use object::{
    Endianness,
    build::elf::{Builder, SectionData},
    elf,
    read::pe::PeFile64,
};

use super::{frames, lines};

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The driver.
    #[error("its image: {0}")]
    Image(#[from] object::read::Error),
    /// The file's parts.
    #[error("the file for gdb: {0}")]
    Write(#[from] object::build::Error),
}

/// The object file for `image`, whose file is `bytes`, loaded at `base`, with functions by their offsets.
pub fn make(
    image: &str,
    base: u64,
    bytes: &[u8],
    pdb: &Path,
    functions: &[(u32, String)],
) -> Result<Vec<u8>, ObjectError> {
    let file = PeFile64::parse(bytes)?;
    let header = file.nt_headers().optional_header;
    let size = u64::from(header.size_of_image.get(object::LittleEndian));
    let base_and_size = (base, size);
    let mut builder = Builder::new(Endianness::Little, true);
    builder.header.e_type = elf::ET_EXEC;
    builder.header.e_machine = elf::EM_X86_64;
    builder.load_align = 1;

    let code = builder.sections.add();
    code.name = b".text"[..].into();
    code.sh_type = elf::SHT_NOBITS;
    code.sh_flags = elf::SHF_ALLOC | elf::SHF_EXECINSTR;
    (code.sh_addr, code.sh_size) = base_and_size;
    code.sh_addralign = 1;
    code.data = SectionData::UninitializedData(size);
    let code = code.id();

    let mut contents = lines::sections(image, base, size, pdb).unwrap_or_else(|error| {
        log::warn!("no lines of {image} for gdb: {error}");
        Vec::new()
    });
    contents.extend(frames::section(bytes, base).map(|data| (".debug_frame", data)));
    for (name, data) in contents {
        let section = builder.sections.add();
        section.name = name.as_bytes().into();
        section.sh_type = elf::SHT_PROGBITS;
        section.sh_addralign = 1;
        section.data = SectionData::Data(data.into());
    }
    for (name, data) in [
        (&b".symtab"[..], SectionData::Symbol),
        (b".strtab", SectionData::String),
        (b".shstrtab", SectionData::SectionString),
    ] {
        let section = builder.sections.add();
        section.name = name.into();
        section.sh_type = match data {
            SectionData::Symbol => elf::SHT_SYMTAB,
            _ => elf::SHT_STRTAB,
        };
        section.sh_addralign = 8;
        section.data = data;
    }
    let ends = functions.iter().skip(1).map(|&(start, _)| u64::from(start));
    for ((start, name), end) in functions.iter().zip(ends.chain([size])) {
        let symbol = builder.symbols.add();
        symbol.name = name.as_bytes().into();
        symbol.section = Some(code);
        symbol.st_info = elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_FUNC);
        symbol.st_value = base + u64::from(*start);
        symbol.st_size = end.saturating_sub(u64::from(*start));
    }
    builder.set_section_sizes();
    let mut object = Vec::new();
    builder.write(&mut object)?;
    Ok(object)
}
