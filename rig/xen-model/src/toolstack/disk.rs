//! Disks in xenstore, as libxl lays them out. tools/libs/light/libxl_disk.c, docs/misc/vbd-interface.txt.

use std::collections::BTreeMap;

use super::{FRONTEND, GUEST_PATH, READ_ONLY};
use crate::GUEST;
use crate::dom0::Dom0;
use crate::hypercall::guard;

/// Which of domain 0's backends serves a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Linux's xen-blkback, for block devices.
    #[default]
    Blkback,
    /// QEMU's, for files.
    Qdisk,
}

impl Backend {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Blkback, Self::Qdisk];

    /// The directory in domain 0 that has its disks, by domain and number.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Blkback => "/local/domain/0/backend/vbd",
            Self::Qdisk => "/local/domain/0/backend/qdisk",
        }
    }

    /// `type`.
    fn word(self) -> &'static str {
        match self {
            Self::Blkback => "phy",
            Self::Qdisk => "qdisk",
        }
    }
}

/// A virtual block device, as the toolstack describes it to both ends.
#[derive(Clone, Debug)]
pub struct VbdSpec {
    /// Virtual device number: 51712 is xvda, 16 more is the next disk.
    pub devid: u32,
    /// Who serves it.
    pub backend: Backend,
    /// The domain's number in the backend's path. A restored domain has another one; the model says so here only.
    pub domain: u16,
    /// `params`: what lies behind it, an image's path.
    pub params: String,
    /// `mode` is `r`.
    pub read_only: bool,
    /// `removable`.
    pub removable: bool,
    /// `trusted`: the frontend may show the backend more of a page than it transfers.
    pub trusted: bool,
    /// `discard-enable`; `None` leaves the key out.
    pub discard: Option<bool>,
    /// Keys to add to the backend's directory, such as `sm-data/scsi/0x12/0x80`.
    pub extra: Vec<(String, String)>,
}

impl VbdSpec {
    /// Disk `index` (0 is xvda), writable.
    pub fn disk(index: u32, params: impl Into<String>) -> Self {
        let devid = match index {
            // Xen virtual disks have 16 minors each on major 202, from the 16th on the extended numbers.
            0..16 => 202 << 8 | index << 4,
            _ => 1 << 28 | index << 8,
        };
        Self {
            devid,
            backend: Backend::default(),
            domain: GUEST.0,
            params: params.into(),
            read_only: false,
            removable: false,
            trusted: true,
            discard: Some(true),
            extra: Vec::new(),
        }
    }

    /// Its name in the guest: `xvda`, …
    fn name(&self) -> String {
        let mut index = if self.devid >> 28 == 1 {
            (self.devid & 0x0FFF_FFFF) >> 8
        } else {
            (self.devid >> 4) & 0xF
        };
        let mut letters = Vec::new();
        loop {
            letters.push(b'a' + (index % 26) as u8);
            if index < 26 {
                break;
            }
            index = index / 26 - 1;
        }
        letters.reverse();
        format!("xvd{}", String::from_utf8_lossy(&letters))
    }

    /// Its directory in the guest's part of the store.
    pub fn frontend_path(&self) -> String {
        frontend_path(self.devid)
    }

    /// Its directory in domain 0's.
    pub fn backend_path(&self) -> String {
        format!(
            "{}/{}/{}",
            self.backend.directory(),
            self.domain,
            self.devid
        )
    }
}

fn frontend_path(devid: u32) -> String {
    format!("{GUEST_PATH}/device/vbd/{devid}")
}

impl Dom0 {
    /// Plugs a disk in. A backend must be ready to serve it.
    pub fn attach_disk(&self, spec: VbdSpec) {
        self.write_disk_keys(&spec);
        if let Some(guest) = &mut *guard(self.guest.lock()) {
            guest.disks.insert(spec.devid, spec);
        }
        self.bell().ring();
    }

    fn write_disk_keys(&self, spec: &VbdSpec) {
        let (frontend, backend) = (spec.frontend_path(), spec.backend_path());
        let mut store = self.store();
        store.remove(&backend);
        store.make_dir(&frontend, &FRONTEND);
        for (key, value) in [
            ("backend", backend.clone()),
            ("backend-id", "0".into()),
            ("virtual-device", spec.devid.to_string()),
            ("device-type", "disk".into()),
            ("trusted", if spec.trusted { "1" } else { "0" }.into()),
            ("state", "1".into()),
        ] {
            store.write(&format!("{frontend}/{key}"), value);
        }
        store.make_dir(&backend, &READ_ONLY);
        let flag = |b: bool| if b { "1" } else { "0" }.to_owned();
        let mut keys = vec![
            ("frontend".to_owned(), frontend),
            ("params".to_owned(), spec.params.clone()),
        ];
        if spec.backend == Backend::Blkback {
            keys.push(("script".to_owned(), "/etc/xen/scripts/block".into()));
        }
        keys.extend([
            ("frontend-id".to_owned(), GUEST.to_string()),
            ("online".to_owned(), "1".into()),
            ("removable".to_owned(), flag(spec.removable)),
            ("bootable".to_owned(), "1".into()),
            ("dev".to_owned(), spec.name()),
            ("type".to_owned(), spec.backend.word().into()),
            (
                "mode".to_owned(),
                if spec.read_only { "r" } else { "w" }.into(),
            ),
            ("device-type".to_owned(), "disk".into()),
        ]);
        if let Some(discard) = spec.discard {
            keys.push(("discard-enable".to_owned(), flag(discard)));
        }
        keys.push(("specification".to_owned(), "xen".into()));
        keys.extend(spec.extra.iter().cloned());
        // The state comes last: it is what the backend waits for.
        keys.push(("state".to_owned(), "1".into()));
        for (key, value) in keys {
            store.write(&format!("{backend}/{key}"), value);
        }
    }

    /// The backend's directory of a disk, as it is now.
    pub fn backend_path(&self, devid: u32) -> String {
        let guest = guard(self.guest.lock());
        match guest.as_ref().and_then(|guest| guest.disks.get(&devid)) {
            Some(disk) => disk.backend_path(),
            None => VbdSpec {
                devid,
                ..VbdSpec::disk(0, "")
            }
            .backend_path(),
        }
    }

    /// The disks' keys for a domain that was built again, with its new number.
    pub(super) fn rewrite_disk_keys(&self, disks: &mut BTreeMap<u32, VbdSpec>) {
        for disk in disks.values_mut() {
            self.store().remove(&disk.backend_path());
            disk.domain += 1;
            self.write_disk_keys(disk);
        }
    }

    /// Asks both ends to let go of a disk (`xl block-detach`). [`Self::finish_detach`] follows when they have.
    pub fn detach_disk(&self, devid: u32) {
        self.ask_to_close(&self.backend_path(devid));
    }

    /// Removes a disk's directories if its backend has closed, or in any case if `force`. Returns whether it is gone.
    pub fn finish_detach(&self, devid: u32, force: bool) -> bool {
        if !self.remove_directories(&frontend_path(devid), &self.backend_path(devid), force) {
            return false;
        }
        if let Some(guest) = &mut *guard(self.guest.lock()) {
            guest.disks.remove(&devid);
        }
        self.bell().ring();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::VbdSpec;

    #[test]
    fn disks_are_numbered_and_named_as_vbd_interface_says() {
        let of = |i| {
            let spec = VbdSpec::disk(i, "");
            (spec.devid, spec.name())
        };
        assert_eq!(of(0), (51712, "xvda".into()));
        assert_eq!(of(1), (51728, "xvdb".into()));
        assert_eq!(of(16), (268_439_552, "xvdq".into()));
        assert_eq!(of(26), (1 << 28 | 26 << 8, "xvdaa".into()));
    }
}
