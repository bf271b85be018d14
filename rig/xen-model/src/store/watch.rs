//! Watches: who hears of which change.

use xen_abi::DomId;
use xen_abi::xs_wire::{REL_PATH_MAX, XS_WATCH_EVENT, XsError};

use super::perms::Permissions;
use super::{ConnectionId, Store, domain_path, path, request};

/// A change below a watched path, as Rust callers receive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What changed.
    pub path: String,
    /// The watch's.
    pub token: String,
}

pub(super) struct Watch {
    pub(super) connection: ConnectionId,
    path: String,
    token: Vec<u8>,
    /// What a relative watch strips off the front of paths.
    prefix: usize,
}

/// Something that happened to a node.
#[derive(Clone, Debug)]
pub(super) struct Change {
    path: String,
    /// Of the node, as it was last.
    perms: Option<Permissions>,
    /// Only for watches on this very node: a child of a node that was removed.
    exact: bool,
}

impl Change {
    pub(super) fn new(path: &str, perms: Permissions, exact: bool) -> Self {
        Self {
            path: path.to_owned(),
            perms: Some(perms),
            exact,
        }
    }

    pub(super) fn special(name: &str) -> Self {
        Self {
            path: name.to_owned(),
            perms: None,
            exact: true,
        }
    }

    fn concerns(&self, watch: &Watch, dom: DomId) -> bool {
        let there = match self.exact {
            true => self.path == watch.path,
            false => path::is_within(&self.path, &watch.path),
        };
        there
            && self
                .perms
                .as_ref()
                .map_or(dom == DomId::DOM0, |p| p.reads(dom))
    }
}

impl Store {
    pub(super) fn add_watch(
        &mut self,
        id: ConnectionId,
        text: &[u8],
        token: &[u8],
    ) -> Result<(), XsError> {
        let dom = self.connections.get(&id).ok_or(XsError::Einval)?.dom;
        let special = text.starts_with(b"@");
        let path = match special {
            true if text.len() > REL_PATH_MAX => return Err(XsError::Einval),
            true => String::from_utf8(text.to_vec()).map_err(|_| XsError::Einval)?,
            false => path::canonical(dom, text)?,
        };
        let prefix = if special || text.starts_with(b"/") {
            0
        } else {
            domain_path(dom).len() + 1
        };
        let mine = |w: &&Watch| w.connection == id;
        if self
            .watches
            .iter()
            .filter(mine)
            .any(|w| w.path == path && w.token == token)
        {
            return Err(XsError::Eexist);
        }
        if dom != DomId::DOM0 && self.watches.iter().filter(mine).count() >= self.quota.watches {
            return Err(self.flavour.quota_error(XsError::E2big));
        }
        self.watches.push(Watch {
            connection: id,
            path,
            token: token.to_vec(),
            prefix,
        });
        Ok(())
    }

    /// A new watch fires once, so that its owner looks at how things stand.
    pub(super) fn fire_first(&mut self) {
        if let Some(w) = self.watches.pop() {
            let path = w.path.clone();
            self.send_event(&w, &path);
            self.watches.push(w);
        }
    }

    pub(super) fn remove_watch(
        &mut self,
        id: ConnectionId,
        text: &[u8],
        token: &[u8],
    ) -> Result<(), XsError> {
        let dom = self.connections.get(&id).ok_or(XsError::Einval)?.dom;
        let path = match text.starts_with(b"@") {
            true => String::from_utf8(text.to_vec()).map_err(|_| XsError::Einval)?,
            false => path::canonical(dom, text)?,
        };
        let found = self
            .watches
            .iter()
            .position(|w| w.connection == id && w.path == path && w.token == token);
        self.watches.remove(found.ok_or(XsError::Enoent)?);
        Ok(())
    }

    /// Tells everybody concerned.
    pub(super) fn fire(&mut self, changes: &[Change]) {
        let watches = std::mem::take(&mut self.watches);
        for change in changes {
            for watch in &watches {
                let dom = self.connections.get(&watch.connection).map(|c| c.dom);
                if dom.is_some_and(|dom| change.concerns(watch, dom)) {
                    self.send_event(watch, &change.path);
                }
            }
        }
        self.watches = watches;
    }

    fn send_event(&mut self, watch: &Watch, path: &str) {
        let Some(connection) = self.connections.get_mut(&watch.connection) else {
            return;
        };
        let shown = path.get(watch.prefix..).unwrap_or(path);
        if connection.has_ring {
            let mut payload = shown.as_bytes().to_vec();
            payload.push(0);
            payload.extend_from_slice(&watch.token);
            payload.push(0);
            connection
                .out
                .push_back(request::message(XS_WATCH_EVENT, 0, 0, &payload));
        } else {
            let token = String::from_utf8_lossy(&watch.token).into_owned();
            connection.events.push_back(WatchEvent {
                path: shown.to_owned(),
                token,
            });
        }
    }
}
