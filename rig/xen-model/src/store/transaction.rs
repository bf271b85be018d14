//! A transaction: a private layer over the tree, and what it has seen of the tree.
//!
//! At its end every node it looked at or changed must still have the generation it had at first sight; otherwise the
//! client gets `EAGAIN` and starts again.

use std::collections::BTreeMap;
use std::sync::Arc;

use xen_abi::DomId;

use super::tree::{Node, Tree};
use super::watch::Change;

/// Generation of a node that does not exist.
const ABSENT: u64 = 0;

#[derive(Default)]
pub(super) struct Transaction {
    /// Generation at first sight.
    seen: BTreeMap<String, u64>,
    layer: BTreeMap<String, Option<Arc<Node>>>,
    pub(super) changes: Vec<Change>,
}

fn generation(tree: &Tree, path: &str) -> u64 {
    // The root is the only node of generation 0, and it exists always.
    tree.get(path).map_or(ABSENT, |n| n.generation)
}

impl Transaction {
    /// Nodes it has looked at.
    pub(super) fn touched(&self) -> usize {
        self.seen.len()
    }

    /// A node as the transaction sees it. `None` if it is new to it and `full` says that it may see no more.
    pub(super) fn get(&mut self, tree: &Tree, path: &str, full: bool) -> Option<Option<Arc<Node>>> {
        if !self.seen.contains_key(path) {
            if full {
                return None;
            }
            self.seen.insert(path.to_owned(), generation(tree, path));
        }
        Some(match self.layer.get(path) {
            Some(own) => own.clone(),
            None => tree.get(path).cloned(),
        })
    }

    pub(super) fn set(&mut self, path: &str, node: Option<Arc<Node>>) {
        self.layer.insert(path.to_owned(), node);
    }

    /// How many more nodes `dom` owns in here than outside.
    pub(super) fn owned_delta(&self, tree: &Tree, dom: DomId) -> isize {
        let is_owned =
            |node: Option<&Arc<Node>>| isize::from(node.is_some_and(|n| n.perms.owner() == dom));
        self.layer
            .iter()
            .map(|(path, node)| is_owned(node.as_ref()) - is_owned(tree.get(path)))
            .sum()
    }

    /// Applies it to the tree; `None` if somebody else changed what it saw.
    pub(super) fn commit(self, tree: &mut Tree) -> Option<Vec<Change>> {
        if self
            .seen
            .iter()
            .any(|(path, seen)| generation(tree, path) != *seen)
        {
            return None;
        }
        for (path, node) in self.layer {
            let node = node.map(|node| {
                let mut node = Node::clone(&node);
                node.generation = tree.next_generation();
                Arc::new(node)
            });
            tree.set(&path, node);
        }
        Some(self.changes)
    }
}
