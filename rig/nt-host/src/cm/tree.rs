//! The tree of registry keys: a plain data structure, without handles, locks or statuses of NT.
//!
//! Sub-keys are kept and enumerated in order of name, values in order of creation, as in a hive.
//! A key that was deleted keeps its id, which no other key ever gets: a handle to it finds nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::name::Name;
use super::value::Value;

/// The longest key name in characters (Microsoft Learn: registry element size limits).
pub const MAX_KEY_NAME: usize = 255;
/// The longest value name in characters (same source).
pub const MAX_VALUE_NAME: usize = 16_383;
/// The deepest path from the root (same source).
const MAX_DEPTH: usize = 512;

/// Names one key for as long as the tree lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(u64);

/// Why a key could not be opened, made or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// No key of that name (and the last component or one before it is missing).
    NotFound,
    /// The key was deleted while this handle was open.
    Deleted,
    /// An empty, too long or too deep name.
    BadName,
    /// The key still has sub-keys, or is the root.
    NotEmpty,
    /// A stable key below a volatile one.
    StableBelowVolatile,
}

/// One key.
pub struct Key {
    name: Name,
    parent: Option<KeyId>,
    children: BTreeMap<Name, KeyId>,
    values: Vec<(Name, Value)>,
    class: Name,
    volatile: bool,
    depth: usize,
    /// A symbolic link: opening this key opens that one (`CurrentControlSet`).
    link: Option<KeyId>,
}

impl Key {
    /// The key's own name, without its path.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The class string given at creation.
    pub fn class(&self) -> &Name {
        &self.class
    }

    /// Whether the key vanishes at the next boot.
    pub fn volatile(&self) -> bool {
        self.volatile
    }

    /// Sub-keys in order of name.
    pub fn children(&self) -> impl ExactSizeIterator<Item = (&Name, KeyId)> {
        self.children.iter().map(|(name, &id)| (name, id))
    }

    /// Values in order of creation.
    pub fn values(&self) -> &[(Name, Value)] {
        &self.values
    }

    /// The value of that name.
    pub fn value(&self, name: &Name) -> Option<&(Name, Value)> {
        self.values.iter().find(|(own, _)| own == name)
    }

    /// Sets a value, keeping its place and spelling when it exists.
    pub fn set(&mut self, name: Name, value: Value) {
        match self.values.iter_mut().find(|(own, _)| *own == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    /// Deletes a value; says whether it was there.
    pub fn delete_value(&mut self, name: &Name) -> bool {
        let before = self.values.len();
        self.values.retain(|(own, _)| own != name);
        self.values.len() != before
    }
}

/// How a new key is to be.
#[derive(Clone, Default)]
pub struct NewKey {
    /// Vanishes at the next boot.
    pub volatile: bool,
    /// The class string.
    pub class: Name,
}

/// All keys.
pub struct Tree {
    keys: BTreeMap<KeyId, Key>,
    root: KeyId,
    next: u64,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A tree with a nameless root only (`\`).
    pub fn new() -> Self {
        let root = KeyId(0);
        let key = Key {
            name: Name::default(),
            parent: None,
            children: BTreeMap::new(),
            values: Vec::new(),
            class: Name::default(),
            volatile: false,
            depth: 0,
            link: None,
        };
        Self {
            keys: BTreeMap::from([(root, key)]),
            root,
            next: 1,
        }
    }

    /// The root, to which absolute paths are relative.
    pub fn root(&self) -> KeyId {
        self.root
    }

    /// The key behind an id.
    pub fn key(&self, id: KeyId) -> Result<&Key, TreeError> {
        self.keys.get(&id).ok_or(TreeError::Deleted)
    }

    /// The key behind an id, to change it.
    pub fn key_mut(&mut self, id: KeyId) -> Result<&mut Key, TreeError> {
        self.keys.get_mut(&id).ok_or(TreeError::Deleted)
    }

    /// Finds a key by a path of names separated by `\`; an empty path is `from` itself.
    pub fn open(&self, from: KeyId, path: &[u16]) -> Result<KeyId, TreeError> {
        self.key(from)?;
        let mut at = from;
        for name in components(path)? {
            at = self.child(at, &name)?.ok_or(TreeError::NotFound)?;
        }
        Ok(at)
    }

    /// Opens a key or makes its last component; the rest of the path must exist. Says whether it is new.
    pub fn create(
        &mut self,
        from: KeyId,
        path: &[u16],
        new: NewKey,
    ) -> Result<(KeyId, bool), TreeError> {
        let names = components(path)?;
        let Some((last, above)) = names.split_last() else {
            return self.key(from).map(|_| (from, false));
        };
        self.key(from)?;
        let mut at = from;
        for name in above {
            at = self.child(at, name)?.ok_or(TreeError::NotFound)?;
        }
        match self.child(at, last)? {
            Some(id) => Ok((id, false)),
            None => self.add(at, last.clone(), new).map(|id| (id, true)),
        }
    }

    /// Opens a key, making whatever of its path is missing, as SetupAPI does for AddReg lines.
    pub fn create_all(&mut self, from: KeyId, path: &[u16]) -> Result<KeyId, TreeError> {
        self.key(from)?;
        let mut at = from;
        for name in components(path)? {
            at = match self.child(at, &name)? {
                Some(id) => id,
                None => self.add(at, name, NewKey::default())?,
            };
        }
        Ok(at)
    }

    /// Makes the key `name` below `at` a symbolic link to `target`.
    pub fn link(&mut self, at: KeyId, name: Name, target: KeyId) -> Result<(), TreeError> {
        let id = self.add(
            at,
            name,
            NewKey {
                volatile: true,
                ..NewKey::default()
            },
        )?;
        self.key_mut(id)?.link = Some(target);
        Ok(())
    }

    /// Deletes a key that has no sub-keys; open ids of it become [`TreeError::Deleted`].
    pub fn delete(&mut self, id: KeyId) -> Result<(), TreeError> {
        let key = self.key(id)?;
        let Some(parent) = key.parent.filter(|_| key.children.is_empty()) else {
            return Err(TreeError::NotEmpty);
        };
        let name = key.name.clone();
        self.keys.remove(&id);
        if let Some(parent) = self.keys.get_mut(&parent) {
            parent.children.remove(&name);
        }
        Ok(())
    }

    /// The absolute path of a key, for reports.
    pub fn path(&self, id: KeyId) -> alloc::string::String {
        let mut names = Vec::new();
        let mut at = Some(id);
        while let Some(key) = at.and_then(|id| self.keys.get(&id)) {
            if key.parent.is_some() {
                names.push(&key.name);
            }
            at = key.parent;
        }
        names
            .iter()
            .rev()
            .map(|name| alloc::format!("\\{name}"))
            .collect()
    }

    fn child(&self, at: KeyId, name: &Name) -> Result<Option<KeyId>, TreeError> {
        let Some(&id) = self.key(at)?.children.get(name) else {
            return Ok(None);
        };
        Ok(Some(self.key(id)?.link.unwrap_or(id)))
    }

    fn add(&mut self, at: KeyId, name: Name, new: NewKey) -> Result<KeyId, TreeError> {
        let parent = self.key(at)?;
        if parent.depth >= MAX_DEPTH {
            return Err(TreeError::BadName);
        }
        if parent.volatile && !new.volatile {
            return Err(TreeError::StableBelowVolatile);
        }
        let id = KeyId(self.next);
        let key = Key {
            name: name.clone(),
            parent: Some(at),
            children: BTreeMap::new(),
            values: Vec::new(),
            class: new.class,
            volatile: new.volatile,
            depth: parent.depth.saturating_add(1),
            link: None,
        };
        self.key_mut(at)?.children.insert(name, id);
        self.keys.insert(id, key);
        self.next = self.next.saturating_add(1);
        Ok(id)
    }
}

/// Splits a path at its backslashes. One leading and one trailing separator are tolerated, as NT does.
fn components(path: &[u16]) -> Result<Vec<Name>, TreeError> {
    const SEPARATOR: u16 = b'\\' as u16;
    let path = path.strip_prefix(&[SEPARATOR]).unwrap_or(path);
    let path = path.strip_suffix(&[SEPARATOR]).unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<Name> = path
        .split(|&unit| unit == SEPARATOR)
        .map(Name::new)
        .collect();
    let sound = |name: &Name| (1..=MAX_KEY_NAME).contains(&name.units().len());
    if names.iter().all(sound) {
        Ok(names)
    } else {
        Err(TreeError::BadName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn path(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn a_key_is_found_whatever_its_case() {
        let mut tree = Tree::new();
        let made = tree
            .create_all(tree.root(), &path("\\Registry\\Machine\\System"))
            .unwrap();
        assert_eq!(
            tree.open(tree.root(), &path("\\REGISTRY\\machine\\SYSTEM\\")),
            Ok(made)
        );
        assert_eq!(tree.path(made), "\\Registry\\Machine\\System");
    }

    #[test]
    fn create_makes_only_the_last_component() {
        let mut tree = Tree::new();
        let root = tree.root();
        assert_eq!(
            tree.create(root, &path("a\\b"), NewKey::default()),
            Err(TreeError::NotFound)
        );
        let (a, new) = tree.create(root, &path("a"), NewKey::default()).unwrap();
        assert!(new);
        assert_eq!(
            tree.create(root, &path("A"), NewKey::default()),
            Ok((a, false))
        );
        assert!(
            tree.create(root, &path("a\\b"), NewKey::default())
                .unwrap()
                .1
        );
    }

    #[test]
    fn a_deleted_key_is_gone_for_its_handles_too() {
        let mut tree = Tree::new();
        let a = tree.create_all(tree.root(), &path("a")).unwrap();
        let b = tree.create_all(a, &path("b")).unwrap();
        assert_eq!(tree.delete(a), Err(TreeError::NotEmpty));
        assert_eq!(tree.delete(b), Ok(()));
        assert_eq!(tree.delete(b), Err(TreeError::Deleted));
        assert_eq!(tree.delete(a), Ok(()));
        let again = tree.create_all(tree.root(), &path("a")).unwrap();
        assert_ne!(again, a);
        assert!(matches!(tree.key(a), Err(TreeError::Deleted)));
    }

    #[test]
    fn a_link_leads_to_its_target() {
        let mut tree = Tree::new();
        let system = tree
            .create_all(tree.root(), &path("Registry\\Machine\\System"))
            .unwrap();
        let set = tree
            .create_all(system, &path("ControlSet001\\Control"))
            .unwrap();
        let target = tree.open(system, &path("ControlSet001")).unwrap();
        tree.link(system, Name::from("CurrentControlSet"), target)
            .unwrap();
        assert_eq!(
            tree.open(system, &path("CurrentControlSet\\Control")),
            Ok(set)
        );
    }

    #[test]
    fn nothing_stable_lies_below_a_volatile_key() {
        let mut tree = Tree::new();
        let at = tree
            .create_all(tree.root(), &path("Registry\\Machine"))
            .unwrap();
        let volatile = NewKey {
            volatile: true,
            ..NewKey::default()
        };
        let (key, _) = tree.create(at, &path("Memory"), volatile.clone()).unwrap();
        assert_eq!(
            tree.create(key, &path("x"), NewKey::default()),
            Err(TreeError::StableBelowVolatile)
        );
        assert!(tree.create(key, &path("x"), volatile).unwrap().1);
    }

    #[test]
    fn values_keep_their_order_and_spelling() {
        let mut tree = Tree::new();
        let id = tree.create_all(tree.root(), &path("a")).unwrap();
        let key = tree.key_mut(id).unwrap();
        key.set(Name::from("Zeta"), Value::dword(1));
        key.set(Name::from("Alpha"), Value::dword(2));
        key.set(Name::from("ZETA"), Value::dword(3));
        let names: Vec<_> = key
            .values()
            .iter()
            .map(|(name, _)| alloc::format!("{name}"))
            .collect();
        assert_eq!(names, ["Zeta", "Alpha"]);
        assert_eq!(
            key.value(&Name::from("zeta")).unwrap().1.as_dword(),
            Some(3)
        );
        assert!(key.delete_value(&Name::from("alpha")));
        assert!(!key.delete_value(&Name::from("alpha")));
    }

    #[test]
    fn bad_names_are_refused() {
        let mut tree = Tree::new();
        assert_eq!(
            tree.open(tree.root(), &path("a\\\\b")),
            Err(TreeError::BadName)
        );
        let long = alloc::vec![u16::from(b'a'); MAX_KEY_NAME + 1];
        assert_eq!(tree.create_all(tree.root(), &long), Err(TreeError::BadName));
    }
}
