//! The registry keys of this library, below `Services\XEN`. PASSIVE_LEVEL.

use alloc::string::String;
use nt::registry::{Access, Lifetime, SERVICES};
use nt::{Key, Result};

/// Opens `path` below `base`.
pub fn open(base: &str, path: &str, access: Access) -> Result<Key> {
    Key::open(&join(base, path)?, access)
}

/// Creates `path` below `base`, and what is missing on the way there.
#[expect(
    clippy::manual_pattern_char_comparison,
    reason = "the search for a char leaves a panic in the image"
)]
pub fn create(base: &str, path: &str) -> Result<Key> {
    let mut key = Key::open(base, Access::Read)?;
    for name in path.split(|c| c == '\\').filter(|name| !name.is_empty()) {
        key = key.create_subkey(name, Lifetime::Permanent)?;
    }
    Ok(key)
}

/// `base\path`.
fn join(base: &str, path: &str) -> Result<String> {
    let mut joined = String::new();
    joined.try_reserve(base.len().saturating_add(path.len()).saturating_add(1))?;
    joined.push_str(base);
    joined.push('\\');
    joined.push_str(path);
    Ok(joined)
}

/// Opens `Services\XEN\<name>`.
pub fn own(name: &str, access: Access) -> Result<Key> {
    open(SERVICES, "XEN", Access::Read)?.subkey(name, access)
}

/// Makes the keys that later steps expect. `Memory` lasts as long as the machine runs.
pub fn initialise() -> Result<()> {
    let service = create(SERVICES, "XEN")?;
    service.create_subkey("Parameters", Lifetime::Permanent)?;
    service.create_subkey("Unplug", Lifetime::Permanent)?;
    service.create_subkey("ForceUnplug", Lifetime::Permanent)?;
    service.create_subkey("Memory", Lifetime::Volatile)?;
    Ok(())
}
