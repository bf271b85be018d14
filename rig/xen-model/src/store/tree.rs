//! The nodes, and what can be done with them, inside a transaction or not.
//!
//! Every change of a node gives it a new generation, a number that is never used again; that is all a transaction needs
//! to find out at its end whether what it saw still stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use xen_abi::DomId;
use xen_abi::xs_wire::XsError;

use super::perms::{Permission, Permissions, Rights};
use super::transaction::Transaction;
use super::watch::Change;
use super::{Flavour, Quota, path};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) value: Vec<u8>,
    pub(super) perms: Permissions,
    pub(super) children: BTreeSet<String>,
    pub(super) generation: u64,
}

impl Node {
    fn bytes(&self) -> usize {
        // Header and permissions as C xenstored stores them.
        24 + 8 * self.perms.list().len()
            + self.value.len()
            + self.children.iter().map(|c| c.len() + 1).sum::<usize>()
    }
}

/// The committed nodes.
pub(super) struct Tree {
    nodes: HashMap<String, Arc<Node>>,
    owned: BTreeMap<DomId, usize>,
    generation: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        let perms = Permissions::new(vec![Permission::new(DomId::DOM0, Rights::None)]);
        let mut tree = Self {
            nodes: HashMap::new(),
            owned: BTreeMap::new(),
            generation: 0,
        };
        if let Ok(perms) = perms {
            tree.set(
                "/",
                Some(Arc::new(Node {
                    value: Vec::new(),
                    perms,
                    children: BTreeSet::new(),
                    generation: 0,
                })),
            );
        }
        tree
    }

    pub(super) fn get(&self, path: &str) -> Option<&Arc<Node>> {
        self.nodes.get(path)
    }

    pub(super) fn set(&mut self, path: &str, node: Option<Arc<Node>>) {
        let after = node.as_ref().map(|n| n.perms.owner());
        let before = match node {
            Some(node) => self.nodes.insert(path.to_owned(), node),
            None => self.nodes.remove(path),
        };
        if let Some(before) = before {
            *self.owned.entry(before.perms.owner()).or_default() -= 1;
        }
        if let Some(owner) = after {
            *self.owned.entry(owner).or_default() += 1;
        }
    }

    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    pub(super) fn owned_by(&self, dom: DomId) -> usize {
        self.owned.get(&dom).copied().unwrap_or(0)
    }
}

/// The tree as one caller sees it for the length of one request.
pub(super) struct View<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) transaction: Option<&'a mut Transaction>,
    pub(super) dom: DomId,
    pub(super) quota: Quota,
    pub(super) flavour: Flavour,
    /// What changed, for the watches.
    pub(super) changes: Vec<Change>,
}

impl View<'_> {
    fn privileged(&self) -> bool {
        self.dom == DomId::DOM0
    }

    fn get(&mut self, path: &str) -> Result<Option<Arc<Node>>, XsError> {
        let Some(t) = &mut self.transaction else {
            return Ok(self.tree.get(path).cloned());
        };
        let full = !(self.dom == DomId::DOM0 || t.touched() < self.quota.transaction_nodes);
        t.get(self.tree, path, full)
            .ok_or(self.flavour.quota_error(XsError::Enospc))
    }

    fn set(&mut self, path: &str, node: Option<Node>) {
        let node = node.map(|mut node| {
            node.generation = self.tree.next_generation();
            Arc::new(node)
        });
        match &mut self.transaction {
            Some(t) => t.set(path, node),
            None => self.tree.set(path, node),
        }
    }

    fn put(&mut self, path: &str, node: Node) -> Result<(), XsError> {
        if !self.privileged() && node.bytes() >= self.quota.node_bytes {
            return Err(self.flavour.quota_error(XsError::Enospc));
        }
        self.set(path, Some(node));
        Ok(())
    }

    /// What to answer when a node does not exist: a caller who may not look at its parent learns nothing.
    fn missing(&mut self, path: &str) -> Result<XsError, XsError> {
        let mut at = path;
        while let Some(parent) = path::parent(at) {
            if let Some(node) = self.get(parent)? {
                return Ok(if node.perms.reads(self.dom) {
                    XsError::Enoent
                } else {
                    XsError::Eacces
                });
            }
            at = parent;
        }
        Ok(XsError::Enoent)
    }

    fn existing(
        &mut self,
        path: &str,
        allowed: fn(&Permissions, DomId) -> bool,
    ) -> Result<Arc<Node>, XsError> {
        match self.get(path)? {
            Some(node) if allowed(&node.perms, self.dom) => Ok(node),
            Some(_) => Err(XsError::Eacces),
            None => Err(self.missing(path)?),
        }
    }

    pub(super) fn read(&mut self, path: &str) -> Result<Arc<Node>, XsError> {
        self.existing(path, Permissions::reads)
    }

    pub(super) fn write(&mut self, path: &str, value: &[u8]) -> Result<(), XsError> {
        match self.get(path)? {
            Some(node) if !node.perms.writes(self.dom) => return Err(XsError::Eacces),
            Some(node) => self.put(
                path,
                Node {
                    value: value.to_vec(),
                    ..Node::clone(&node)
                },
            )?,
            None => self.create(path, value)?,
        }
        self.changed(path)
    }

    pub(super) fn mkdir(&mut self, path: &str) -> Result<(), XsError> {
        match self.get(path)? {
            Some(node) if !node.perms.writes(self.dom) => Err(XsError::Eacces),
            Some(_) => Ok(()),
            None => {
                self.create(path, b"")?;
                self.changed(path)
            }
        }
    }

    /// Makes a node and the parents it lacks.
    fn create(&mut self, path: &str, value: &[u8]) -> Result<(), XsError> {
        let parent_path = path::parent(path).ok_or(XsError::Einval)?;
        let mut missing = vec![path];
        let mut at = parent_path;
        let ancestor = loop {
            match self.get(at)? {
                Some(node) => break node,
                None => missing.push(at),
            }
            at = path::parent(at).ok_or(XsError::Einval)?;
        };
        if !ancestor.perms.writes(self.dom) {
            return Err(XsError::Eacces);
        }
        if !self.privileged() && self.owned() + missing.len() > self.quota.nodes {
            return Err(self.flavour.quota_error(XsError::Enospc));
        }
        let perms = ancestor.perms.inherit(self.dom);
        let new = |value: &[u8], child: Option<&&str>| Node {
            value: value.to_vec(),
            perms: perms.clone(),
            children: child
                .map(|c| path::name(c).to_owned())
                .into_iter()
                .collect(),
            generation: 0,
        };
        if !self.privileged() && new(value, None).bytes() >= self.quota.node_bytes {
            return Err(self.flavour.quota_error(XsError::Enospc));
        }
        let mut ancestor = Node::clone(&ancestor);
        if let Some(top) = missing.last() {
            ancestor.children.insert(path::name(top).to_owned());
        }
        self.put(at, ancestor)?;
        for (i, path) in missing.iter().enumerate() {
            let child = i.checked_sub(1).and_then(|i| missing.get(i));
            self.set(path, Some(new(if i == 0 { value } else { b"" }, child)));
        }
        Ok(())
    }

    fn owned(&self) -> usize {
        let committed = self.tree.owned_by(self.dom);
        let delta = self
            .transaction
            .as_ref()
            .map_or(0, |t| t.owned_delta(self.tree, self.dom));
        committed.saturating_add_signed(delta)
    }

    pub(super) fn remove(&mut self, path: &str) -> Result<(), XsError> {
        let Some(parent_path) = path::parent(path) else {
            return Err(XsError::Einval);
        };
        let Some(node) = self.get(path)? else {
            // Removing what is not there is fine as long as there is a place where it could be.
            return match self.get(parent_path)? {
                Some(parent) if parent.perms.writes(self.dom) => Ok(()),
                Some(_) => Err(XsError::Eacces),
                None => Err(self.missing(path)?),
            };
        };
        if !node.perms.writes(self.dom) {
            return Err(XsError::Eacces);
        }
        if let Some(parent) = self.get(parent_path)? {
            let mut parent = Node::clone(&parent);
            parent.children.remove(path::name(path));
            self.set(parent_path, Some(parent));
        }
        self.remove_below(path, &node, false)
    }

    fn remove_below(&mut self, path: &str, node: &Node, exact: bool) -> Result<(), XsError> {
        self.changes
            .push(Change::new(path, node.perms.clone(), exact));
        for child in &node.children {
            let child_path = path::join(path, child);
            if let Some(child) = self.get(&child_path)? {
                self.remove_below(&child_path, &child, true)?;
            }
        }
        self.set(path, None);
        Ok(())
    }

    pub(super) fn set_perms(&mut self, path: &str, perms: Permissions) -> Result<(), XsError> {
        let node = self.existing(path, Permissions::owns)?;
        if !self.privileged() && perms.owner() != node.perms.owner() {
            // EPERM, which has no name on the wire.
            return Err(XsError::Einval);
        }
        self.put(
            path,
            Node {
                perms,
                ..Node::clone(&node)
            },
        )?;
        self.changed(path)
    }

    fn changed(&mut self, path: &str) -> Result<(), XsError> {
        if let Some(node) = self.get(path)? {
            self.changes
                .push(Change::new(path, node.perms.clone(), false));
        }
        Ok(())
    }
}
