//! Domain 0's own access to the store: the toolstack's and the backends'.

use xen_abi::DomId;
use xen_abi::xenbus::XenbusState;
use xen_abi::xs_wire::XsError;

use super::perms::{Permission, Permissions};
use super::{ConnectionId, Store, WatchEvent};

impl Store {
    /// A connection of domain 0, for watches.
    pub fn client(&mut self) -> ConnectionId {
        self.connect(DomId::DOM0, false)
    }

    fn as_dom0<T>(
        &mut self,
        run: impl FnOnce(&mut super::tree::View<'_>) -> Result<T, XsError>,
    ) -> Result<T, XsError> {
        let id = match self.connections.iter().find(|(_, c)| c.dom == DomId::DOM0) {
            Some((id, _)) => *id,
            None => self.client(),
        };
        self.view(id, DomId::DOM0, 0, run)
    }

    /// A node's value, if there is such a node and its value is text.
    pub fn read(&mut self, path: &str) -> Option<String> {
        self.as_dom0(|view| view.read(path))
            .ok()
            .and_then(|node| String::from_utf8(node.value.clone()).ok())
    }

    /// A node's value as a decimal number.
    pub fn read_number(&mut self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    /// The state of one end of a device, from its directory.
    pub fn read_state(&mut self, dir: &str) -> XenbusState {
        self.read_number(&format!("{dir}/state"))
            .map_or(XenbusState::Unknown, XenbusState::from_number)
    }

    /// Writes a value, making the node and its parents if need be.
    ///
    /// # Panics
    /// If the path is not one: callers write paths of their own making.
    pub fn write(&mut self, path: &str, value: impl AsRef<[u8]>) {
        let path = super::path::canonical(DomId::DOM0, path.as_bytes())
            .expect("domain 0 writes valid paths");
        // Domain 0 has no quota and every right.
        let _ = self.as_dom0(|view| view.write(&path, value.as_ref()));
    }

    /// Writes a value unless it is there already, so that watches fire for real changes only.
    pub fn update(&mut self, path: &str, value: &str) {
        if self.read(path).as_deref() != Some(value) {
            self.write(path, value);
        }
    }

    /// Makes a directory with these permissions.
    pub fn make_dir(&mut self, path: &str, perms: &[Permission]) {
        // As for `write`.
        let _ = self.as_dom0(|view| {
            view.mkdir(path)?;
            view.set_perms(path, Permissions::new(perms.to_vec())?)
        });
    }

    /// Removes a node and all below it.
    pub fn remove(&mut self, path: &str) {
        // Nothing to remove is as good.
        let _ = self.as_dom0(|view| view.remove(path));
    }

    /// Names of a node's children; none if it does not exist.
    pub fn list(&mut self, path: &str) -> Vec<String> {
        self.as_dom0(|view| view.read(path))
            .map(|node| node.children.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// A node's permissions.
    pub fn permissions(&mut self, path: &str) -> Option<Vec<Permission>> {
        self.as_dom0(|view| view.read(path))
            .ok()
            .map(|node| node.perms.list().to_vec())
    }

    /// Watches a path; the first event comes at once.
    pub fn watch(&mut self, id: ConnectionId, path: &str, token: &str) {
        if self
            .add_watch(id, path.as_bytes(), token.as_bytes())
            .is_ok()
        {
            self.fire_first();
        }
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, id: ConnectionId, path: &str, token: &str) {
        // It may have ended with its connection.
        let _ = self.remove_watch(id, path.as_bytes(), token.as_bytes());
    }

    /// The next event of a client.
    pub fn next_event(&mut self, id: ConnectionId) -> Option<WatchEvent> {
        self.connections.get_mut(&id)?.events.pop_front()
    }
}
