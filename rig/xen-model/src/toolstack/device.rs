//! What is the same for every kind of device: it goes when its backend has let go of it. tools/libs/light/libxl_device.c.

use xen_abi::xenbus::XenbusState;

use crate::dom0::Dom0;

impl Dom0 {
    /// Asks the backend in a directory to let go of its device.
    pub(super) fn ask_to_close(&self, backend: &str) {
        let mut store = self.store();
        store.write(&format!("{backend}/online"), "0");
        store.write(
            &format!("{backend}/state"),
            XenbusState::Closing.number().to_string(),
        );
        drop(store);
        self.bell().ring();
    }

    /// Removes a device's two directories if its backend has closed, or in any case if `force`. Returns whether they are
    /// gone.
    pub(super) fn remove_directories(&self, frontend: &str, backend: &str, force: bool) -> bool {
        let mut store = self.store();
        let closed = matches!(
            store.read_state(backend),
            XenbusState::Closed | XenbusState::Unknown
        );
        if !closed && !force {
            return false;
        }
        store.remove(backend);
        store.remove(frontend);
        true
    }
}
