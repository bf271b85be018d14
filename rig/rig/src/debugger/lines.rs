//! Lines for gdb: those of a `.pdb` as DWARF (DWARF 5 section 6.2).

use std::{collections::HashMap, fs::File, io, path::Path};

use gimli::{
    DW_AT_comp_dir, DW_AT_high_pc, DW_AT_language, DW_AT_low_pc, DW_AT_name, DW_LANG_Rust,
    Encoding, Format, LineEncoding, SectionId,
    write::{
        Address, AttributeValue, DwarfUnit, EndianVec, FileId, LineProgram, LineString, Sections,
    },
};
use pdb::{FallibleIterator, PDB};

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// No file.
    #[error(transparent)]
    File(#[from] io::Error),
    /// A file of another kind, or a damaged one.
    #[error(transparent)]
    Pdb(#[from] pdb::Error),
    /// DWARF cannot express them.
    #[error(transparent)]
    Dwarf(#[from] gimli::write::Error),
}

/// A range of code that comes from one line.
struct Line {
    start: u32,
    end: u32,
    file: String,
    line: u64,
}

fn read(file: &Path) -> Result<Vec<Line>, LinesError> {
    let mut pdb = PDB::open(File::open(file)?)?;
    let map = pdb.address_map()?;
    let names = pdb.string_table()?;
    let information = pdb.debug_information()?;
    let mut modules = information.modules()?;
    let mut found = Vec::new();
    while let Some(module) = modules.next()? {
        let Some(module) = pdb.module_info(&module)? else {
            continue;
        };
        let program = module.line_program()?;
        let mut lines = program.lines();
        while let Some(line) = lines.next()? {
            let (Some(start), Some(length)) = (line.offset.to_rva(&map), line.length) else {
                continue;
            };
            let file = program.get_file_info(line.file_index)?;
            found.push(Line {
                start: start.0,
                end: start.0.saturating_add(length),
                file: file.name.to_string_lossy(&names)?.into_owned(),
                line: u64::from(line.line_start),
            });
        }
    }
    found.sort_by_key(|line| line.start);
    Ok(found)
}

/// The sections with the lines of `image`, `size` bytes at `base`: names and contents.
pub fn sections(
    image: &str,
    base: u64,
    size: u64,
    pdb: &Path,
) -> Result<Vec<(&'static str, Vec<u8>)>, LinesError> {
    let lines = read(pdb)?;
    let encoding = Encoding {
        format: Format::Dwarf32,
        version: 4,
        address_size: 8,
    };
    let mut unit = DwarfUnit::new(encoding);
    let name = || LineString::String(image.as_bytes().to_vec());
    let folder = LineString::String(b"/winpv".to_vec());
    let mut program = LineProgram::new(
        encoding,
        LineEncoding::default(),
        folder,
        None,
        name(),
        None,
    );
    let mut files: HashMap<&str, FileId> = HashMap::new();
    let folder = program.default_directory();
    let mut sequence: Option<(u32, u32)> = None;
    for line in &lines {
        // Where the code of a line ends and the next does not follow, the lines of gdb end as well.
        if let Some((start, end)) = sequence
            && end != line.start
        {
            program.end_sequence(u64::from(end - start));
            sequence = None;
        }
        let (start, _) = *sequence.get_or_insert_with(|| {
            program.begin_sequence(Some(Address::Constant(base + u64::from(line.start))));
            (line.start, line.end)
        });
        let file = *files.entry(&line.file).or_insert_with(|| {
            program.add_file(
                LineString::String(line.file.as_bytes().to_vec()),
                folder,
                None,
            )
        });
        let row = program.row();
        row.address_offset = u64::from(line.start - start);
        row.file = file;
        row.line = line.line;
        program.generate_row();
        sequence = Some((start, line.end));
    }
    if let Some((start, end)) = sequence {
        program.end_sequence(u64::from(end - start));
    }
    unit.unit.line_program = program;
    let root = unit.unit.root();
    let root = unit.unit.get_mut(root);
    root.set(
        DW_AT_name,
        AttributeValue::String(image.as_bytes().to_vec()),
    );
    root.set(DW_AT_comp_dir, AttributeValue::String(b"/winpv".to_vec()));
    root.set(DW_AT_language, AttributeValue::Language(DW_LANG_Rust));
    root.set(
        DW_AT_low_pc,
        AttributeValue::Address(Address::Constant(base)),
    );
    root.set(DW_AT_high_pc, AttributeValue::Udata(size));
    let mut written = Sections::new(EndianVec::new(gimli::LittleEndian));
    unit.write(&mut written)?;
    let mut sections = Vec::new();
    written.for_each(|id: SectionId, data| {
        if !data.slice().is_empty() {
            sections.push((id.name(), data.slice().to_vec()));
        }
        Ok::<(), gimli::write::Error>(())
    })?;
    Ok(sections)
}
