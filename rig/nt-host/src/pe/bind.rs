//! Where imports lead: to the executive, to another image, or on from there by a forwarded export.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::LoadError;
use super::image::{Import, Layout, Memory};
use super::modules::{self, by_name};
use super::thunk;
use crate::export::{self, Export, Kind};

/// A longer chain of forwarded exports goes round in circles.
const MOST_FORWARDS: usize = 8;

/// What an import leads to.
enum Target {
    /// A function or variable of the executive.
    Executive(Export),
    /// An address in another image.
    Image(usize),
}

/// Whether a module is there, loaded or not.
fn is_known(module: &str) -> bool {
    export::is_provided(module) || by_name(module).is_some() || modules::file(module).is_some()
}

/// The file name of a module that a forwarded export names without a suffix.
pub fn file_name(module: &str) -> String {
    let names = ["", ".sys", ".exe", ".dll"].map(|suffix| format!("{module}{suffix}"));
    let known = names.iter().find(|name| is_known(name));
    known.unwrap_or(&names[1]).to_ascii_lowercase()
}

fn find(module: &str, name: &str) -> Option<Target> {
    let (mut module, mut name) = (module.to_owned(), name.to_owned());
    for _ in 0..MOST_FORWARDS {
        if let Some(export) = export::find(&module, &name) {
            return Some(Target::Executive(export));
        }
        let image = by_name(&module)?;
        if let Some(address) = image.export(&name) {
            return Some(Target::Image(address));
        }
        let (on, there) = image.forward(&name)?;
        module = file_name(on);
        name = there.to_owned();
    }
    None
}

fn unknown(image: &str, missing: Vec<&Import>) -> Result<(), LoadError> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing
        .into_iter()
        .map(|import| (import.module.clone(), import.name.clone()));
    Err(LoadError::UnknownImports(image.to_owned(), names.collect()))
}

/// Refuses an image whose imports are certainly missing, before those that it needs are loaded.
pub fn check(image: &str, layout: &Layout) -> Result<(), LoadError> {
    let is_missing = |import: &&Import| match export::is_provided(&import.module) {
        true => export::find(&import.module, &import.name).is_none(),
        false => !is_known(&import.module),
    };
    unknown(image, layout.imports.iter().filter(is_missing).collect())
}

/// Fills the import slots: functions of the executive by way of a thunk, those of other images directly.
pub fn bind(image: &str, id: u32, layout: &Layout, memory: &mut Memory) -> Result<(), LoadError> {
    let thunks = layout.end() as usize;
    let base = memory.base().as_ptr() as usize;
    let pageable = thunk::Pageable::of(layout, memory);
    let mut missing = Vec::new();
    for (index, import) in layout.imports.iter().enumerate() {
        let value = match find(&import.module, &import.name) {
            Some(Target::Image(address)) => address,
            Some(Target::Executive(export)) if export.kind == Kind::Data => export.address as usize,
            Some(Target::Executive(export)) => {
                let at = thunks + index * thunk::SIZE;
                memory.bytes()[at..at + thunk::SIZE]
                    .copy_from_slice(&thunk::code(id, pageable, &export));
                base + at
            }
            None => {
                missing.push(import);
                continue;
            }
        };
        memory.write(import.slot, value as u64);
    }
    unknown(image, missing)
}
