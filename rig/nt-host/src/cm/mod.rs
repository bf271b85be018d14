//! The configuration manager: the registry, and the Zw functions on its keys.
//!
//! ```text
//! driver ── ZwOpenKey … ──> zw ──> tree <── read, write, seed ── PnP manager, INF installer, rig
//! ```
//!
//! The registry lives for one run. `CurrentControlSet` is a link to `ControlSet001`, as on a real machine.

pub mod name;
pub mod record;
pub mod tree;
pub mod value;
pub mod zw;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::sync::Mutex;
use name::Name;
use tree::{Key, Tree};
pub use value::Value;

/// `HKLM\SYSTEM\CurrentControlSet` in the kernel's spelling.
pub const CONTROL_SET: &str = r"\Registry\Machine\System\CurrentControlSet";
/// The key of services.
pub const SERVICES: &str = r"\Registry\Machine\System\CurrentControlSet\Services";

static TREE: Mutex<Option<Tree>> = Mutex::new(None);

/// Uses the tree. The closure must not call drivers or wait.
pub fn with<R>(use_it: impl FnOnce(&mut Tree) -> R) -> R {
    use_it(TREE.lock().get_or_insert_with(fresh))
}

/// A value, if key and value exist.
pub fn read(path: &str, name: &str) -> Option<Value> {
    with(|tree| {
        let id = tree.open(tree.root(), &units(path)).ok()?;
        let key = tree.key(id).ok()?;
        key.value(&Name::from(name)).map(|(_, value)| value.clone())
    })
}

/// Sets a value, making the key if need be.
pub fn write(path: &str, name: &str, value: Value) {
    with(|tree| {
        let id = tree.create_all(tree.root(), &units(path));
        if let Some(key) = id.ok().and_then(|id| tree.key_mut(id).ok()) {
            key.set(Name::from(name), value);
        }
    });
}

/// Makes a key and whatever of its path is missing.
pub fn create(path: &str) {
    // A path of the host's own is well formed, and nothing of the host's lies below a volatile key.
    let _ = with(|tree| tree.create_all(tree.root(), &units(path)));
}

/// Whether a key exists.
pub fn exists(path: &str) -> bool {
    with(|tree| tree.open(tree.root(), &units(path)).is_ok())
}

/// Deletes a value; says whether it was there.
pub fn delete_value(path: &str, name: &str) -> bool {
    with(|tree| {
        let id = tree.open(tree.root(), &units(path));
        let key = id.ok().and_then(|id| tree.key_mut(id).ok());
        key.is_some_and(|key| key.delete_value(&Name::from(name)))
    })
}

/// Deletes a key with all below it.
pub fn delete_all(path: &str) {
    for child in children(path) {
        delete_all(&format!("{path}\\{child}"));
    }
    // The key may have gone already, which is what was wanted.
    let _ = with(|tree| {
        tree.open(tree.root(), &units(path))
            .and_then(|id| tree.delete(id))
    });
}

/// The names of a key's sub-keys in order; none if the key does not exist.
pub fn children(path: &str) -> Vec<String> {
    names(path, |key| {
        key.children().map(|(name, _)| format!("{name}")).collect()
    })
}

/// The names of a key's values; none if the key does not exist.
pub fn value_names(path: &str) -> Vec<String> {
    names(path, |key| {
        let values = key.values().iter();
        values.map(|(name, _)| format!("{name}")).collect()
    })
}

fn names(path: &str, of: impl FnOnce(&Key) -> Vec<String>) -> Vec<String> {
    with(|tree| {
        let key = tree
            .open(tree.root(), &units(path))
            .and_then(|id| tree.key(id));
        key.map_or(Vec::new(), of)
    })
}

/// Writes what a running system has before its first driver: loader options and empty well-known keys.
pub fn seed(start_options: &str) {
    // The loader stores its options with a leading blank.
    write(
        &format!("{CONTROL_SET}\\Control"),
        "SystemStartOptions",
        Value::sz(&format!(" {start_options}")),
    );
}

fn units(path: &str) -> Vec<u16> {
    path.encode_utf16().collect()
}

fn fresh() -> Tree {
    let mut tree = Tree::new();
    let root = tree.root();
    let set = tree.create_all(root, &units(r"\Registry\Machine\System\ControlSet001"));
    let system = tree.open(root, &units(r"\Registry\Machine\System"));
    if let (Ok(set), Ok(system)) = (set, system) {
        // The tree is empty, so neither the link nor the keys below can be refused.
        let _ = tree.link(system, Name::from("CurrentControlSet"), set);
        for key in [
            "Control\\Class",
            "Control\\TimeZoneInformation",
            "Services",
            "Enum",
        ] {
            let _ = tree.create_all(set, &units(key));
        }
    }
    for key in [
        r"\Registry\Machine\Hardware",
        r"\Registry\Machine\Software\Classes",
        r"\Registry\User",
    ] {
        let _ = tree.create_all(root, &units(key));
    }
    tree
}
