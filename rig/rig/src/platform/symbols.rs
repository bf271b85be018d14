//! Names of functions, from the debug information (`.pdb`) that the linker put beside a driver.
//!
//! Read when the first report asks for a name; a driver without a usable file has no names.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pdb::{AddressMap, FallibleIterator, PDB, SymbolData, SymbolTable};

/// The debug information of the drivers.
#[derive(Default)]
pub struct Symbols {
    images: Mutex<HashMap<String, Image>>,
}

struct Image {
    file: PathBuf,
    /// Functions by address, once read.
    functions: Option<Vec<(u32, String)>>,
}

impl Symbols {
    /// Says where the debug information of `image` is, the file name of a driver.
    pub fn add(&self, image: &str, file: &Path) {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Image {
            file: file.to_owned(),
            functions: None,
        };
        images.insert(image.to_ascii_lowercase(), entry);
    }

    /// Where the debug information of `image` is.
    pub fn file(&self, image: &str) -> Option<PathBuf> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let image = images.get(&image.to_ascii_lowercase())?;
        Some(image.file.clone())
    }

    /// Every function of `image`, by address.
    pub fn all(&self, image: &str) -> Vec<(u32, String)> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let image = images.get_mut(&image.to_ascii_lowercase());
        image.map_or(Vec::new(), |image| image.functions().to_vec())
    }

    /// The function of `image` that covers `rva`, with the offset into it.
    pub fn find(&self, image: &str, rva: u32) -> Option<String> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let image = images.get_mut(&image.to_ascii_lowercase())?;
        let functions = image.functions();
        let after = functions.partition_point(|&(start, _)| start <= rva);
        let (start, name) = functions.get(after.checked_sub(1)?)?;
        Some(match rva - start {
            0 => name.clone(),
            offset => format!("{name}+{offset:#x}"),
        })
    }
}

impl Image {
    fn functions(&mut self) -> &[(u32, String)] {
        let file = &self.file;
        self.functions
            .get_or_insert_with(|| functions(file).unwrap_or_default())
    }
}

/// Reads every procedure, and the public symbols of code for those that have no more.
fn functions(file: &Path) -> pdb::Result<Vec<(u32, String)>> {
    let mut pdb = PDB::open(File::open(file)?)?;
    let map = pdb.address_map()?;
    let mut found = Vec::new();
    publics(&pdb.global_symbols()?, &map, &mut found)?;
    let information = pdb.debug_information()?;
    let mut modules = information.modules()?;
    while let Some(module) = modules.next()? {
        let Some(module) = pdb.module_info(&module)? else {
            continue;
        };
        let mut symbols = module.symbols()?;
        while let Some(symbol) = symbols.next()? {
            if let Ok(SymbolData::Procedure(procedure)) = symbol.parse()
                && let Some(rva) = procedure.offset.to_rva(&map)
            {
                found.push((rva.0, procedure.name.to_string().into_owned()));
            }
        }
    }
    // Stable: of two names at one address, the procedure's comes last and stays, since it is the readable one.
    found.sort_by_key(|&(rva, _)| rva);
    found.reverse();
    found.dedup_by_key(|&mut (rva, _)| rva);
    found.reverse();
    Ok(found)
}

fn publics(
    table: &SymbolTable<'_>,
    map: &AddressMap<'_>,
    found: &mut Vec<(u32, String)>,
) -> pdb::Result<()> {
    let mut symbols = table.iter();
    while let Some(symbol) = symbols.next()? {
        if let Ok(SymbolData::Public(public)) = symbol.parse()
            && (public.code || public.function)
            && let Some(rva) = public.offset.to_rva(map)
        {
            found.push((rva.0, public.name.to_string().into_owned()));
        }
    }
    Ok(())
}
