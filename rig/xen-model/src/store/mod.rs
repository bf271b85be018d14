//! xenstored: a tree of small values, with permissions, watches and transactions.
//!
//! ```text
//!   guest ── ring ──► request ──► Store ──► Tree          replies and watch events ──► ring
//!   domain 0 ── client (Rust calls) ─┘   └► Transaction   watch events ──► Connection::events
//! ```
//! Follows Xen's docs/misc/xenstore.txt and, where that is silent, what C xenstored answers. One thread at a time.

mod client;
mod path;
mod perms;
mod request;
mod ring;
mod transaction;
mod tree;
mod watch;

use std::collections::{BTreeMap, VecDeque};

use xen_abi::DomId;
use xen_abi::xs_wire::XsError;

pub use perms::{Permission, Rights};
pub use ring::RingConnection;
pub use watch::WatchEvent;

use transaction::Transaction;
use tree::Tree;
use watch::Watch;

/// Limits for domains other than domain 0. The defaults are C xenstored's.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Nodes a domain may own.
    pub nodes: usize,
    /// Watches a connection may have.
    pub watches: usize,
    /// Transactions a connection may have open.
    pub transactions: usize,
    /// Bytes of a node: value, names of children, permissions.
    pub node_bytes: usize,
    /// Nodes one transaction may touch.
    pub transaction_nodes: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            nodes: 1000,
            watches: 128,
            transactions: 10,
            node_bytes: 2048,
            transaction_nodes: 1024,
        }
    }
}

/// Which daemon the errors are those of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// C xenstored: `ENOSPC` for nodes and transactions, `E2BIG` for watches.
    #[default]
    C,
    /// oxenstored: `EQUOTA` for all.
    Ocaml,
}

impl Flavour {
    fn quota_error(self, c: XsError) -> XsError {
        match self {
            Self::C => c,
            Self::Ocaml => XsError::Equota,
        }
    }
}

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u32);

struct Connection {
    dom: DomId,
    /// Messages for the ring, whole, oldest first.
    out: VecDeque<Vec<u8>>,
    /// Watch events for Rust callers.
    events: VecDeque<WatchEvent>,
    has_ring: bool,
    transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
}

/// The daemon.
pub struct Store {
    tree: Tree,
    connections: BTreeMap<ConnectionId, Connection>,
    last_connection: u32,
    watches: Vec<Watch>,
    introduced: Vec<DomId>,
    /// Limits in force.
    pub quota: Quota,
    /// Error names in use.
    pub flavour: Flavour,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            tree: Tree::new(),
            connections: BTreeMap::new(),
            last_connection: 0,
            watches: Vec::new(),
            introduced: vec![DomId::DOM0],
            quota: Quota::default(),
            flavour: Flavour::default(),
        }
    }
}

/// The path of a domain, without a slash at its end.
pub fn domain_path(dom: DomId) -> String {
    format!("/local/domain/{dom}")
}

impl Store {
    fn connect(&mut self, dom: DomId, has_ring: bool) -> ConnectionId {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        self.connections.insert(
            id,
            Connection {
                dom,
                out: VecDeque::new(),
                events: VecDeque::new(),
                has_ring,
                transactions: BTreeMap::new(),
                last_transaction: 0,
            },
        );
        id
    }

    /// Drops a connection with its watches and transactions.
    pub fn disconnect(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
        self.watches.retain(|w| w.connection != id);
    }

    /// Drops the watches and transactions of a connection, as `XS_RESET_WATCHES` does.
    fn reset_connection(&mut self, id: ConnectionId) {
        self.watches.retain(|w| w.connection != id);
        if let Some(c) = self.connections.get_mut(&id) {
            c.transactions.clear();
        }
    }

    /// Makes `dom` known, or forgets it; watchers of `@introduceDomain` and `@releaseDomain` hear of it.
    pub fn introduce(&mut self, dom: DomId, introduced: bool) {
        self.introduced.retain(|d| *d != dom);
        if introduced {
            self.introduced.push(dom);
        }
        let name = if introduced {
            "@introduceDomain"
        } else {
            "@releaseDomain"
        };
        self.fire(&[watch::Change::special(name)]);
    }

    /// Nodes that `dom` owns.
    pub fn nodes_of(&self, dom: DomId) -> usize {
        self.tree.owned_by(dom)
    }
}
