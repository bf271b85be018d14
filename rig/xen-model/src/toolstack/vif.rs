//! Network interfaces in xenstore, as libxl lays them out. tools/libs/light/libxl_nic.c.

use super::{FRONTEND, GUEST_PATH, READ_ONLY};
use crate::GUEST;
use crate::dom0::Dom0;
use crate::hypercall::guard;

/// A virtual network interface, as the toolstack describes it to both ends.
#[derive(Clone, Debug)]
pub struct VifSpec {
    /// Its number.
    pub devid: u32,
    /// `mac`.
    pub mac: [u8; 6],
    /// `mtu`; `None` leaves the key out.
    pub mtu: Option<u32>,
    /// Keys to add to the frontend's directory, such as `speed`, or to write with other values.
    pub frontend: Vec<(String, String)>,
    /// Keys to add to the backend's directory, or to write with other values.
    pub backend: Vec<(String, String)>,
}

impl VifSpec {
    /// Interface `devid`, with an address of Xen's (00:16:3e).
    pub fn new(devid: u32) -> Self {
        let [_, high, middle, low] = devid.to_be_bytes();
        Self {
            devid,
            mac: [0x00, 0x16, 0x3E, high, middle, low],
            mtu: None,
            frontend: Vec::new(),
            backend: Vec::new(),
        }
    }

    /// The address as text.
    pub fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// Its directory in the guest's part of the store.
    pub fn frontend_path(&self) -> String {
        frontend_path(self.devid)
    }

    /// Its directory in domain 0's.
    pub fn backend_path(&self) -> String {
        backend_path(self.devid)
    }
}

fn frontend_path(devid: u32) -> String {
    format!("{GUEST_PATH}/device/vif/{devid}")
}

fn backend_path(devid: u32) -> String {
    format!("/local/domain/0/backend/vif/{GUEST}/{devid}")
}

impl Dom0 {
    /// Plugs an interface in.
    pub fn attach_vif(&self, spec: VifSpec) {
        self.write_vif_keys(&spec);
        if let Some(guest) = &mut *guard(self.guest.lock()) {
            guest.vifs.insert(spec.devid, spec);
        }
        self.bell().ring();
    }

    pub(super) fn write_vif_keys(&self, spec: &VifSpec) {
        let (frontend, backend) = (spec.frontend_path(), spec.backend_path());
        let mut store = self.store();
        store.remove(&backend);
        store.make_dir(&backend, &READ_ONLY);
        let mac = spec.mac_text();
        for (key, value) in [
            ("frontend", frontend.clone()),
            ("frontend-id", GUEST.to_string()),
            ("online", "1".into()),
            ("script", "/etc/xen/scripts/vif-bridge".into()),
            ("mac", mac.clone()),
            ("bridge", "xenbr0".into()),
            ("handle", spec.devid.to_string()),
            ("type", "vif".into()),
            ("hotplug-status", "connected".into()),
        ] {
            store.write(&format!("{backend}/{key}"), value);
        }
        for (key, value) in &spec.backend {
            store.write(&format!("{backend}/{key}"), value);
        }
        // The state comes last: it is what the backend waits for.
        store.write(&format!("{backend}/state"), "1");
        store.make_dir(&frontend, &FRONTEND);
        for (key, value) in [
            ("backend", backend),
            ("backend-id", "0".into()),
            ("handle", spec.devid.to_string()),
            ("state", "1".into()),
        ] {
            store.write(&format!("{frontend}/{key}"), value);
        }
        if let Some(mtu) = spec.mtu {
            store.write(&format!("{frontend}/mtu"), mtu.to_string());
        }
        store.write(&format!("{frontend}/mac"), mac);
        for (key, value) in &spec.frontend {
            store.write(&format!("{frontend}/{key}"), value);
        }
    }

    /// Asks both ends to let go of an interface (`xl network-detach`). [`Self::finish_vif_detach`] follows when they have.
    pub fn detach_vif(&self, devid: u32) {
        self.ask_to_close(&backend_path(devid));
    }

    /// Removes an interface's directories if its backend has closed, or in any case if `force`. Returns whether it is gone.
    pub fn finish_vif_detach(&self, devid: u32, force: bool) -> bool {
        if !self.remove_directories(&frontend_path(devid), &backend_path(devid), force) {
            return false;
        }
        if let Some(guest) = &mut *guard(self.guest.lock()) {
            guest.vifs.remove(&devid);
        }
        self.bell().ring();
        true
    }
}
