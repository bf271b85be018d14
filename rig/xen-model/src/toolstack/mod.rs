//! What `xl` and libxl do to a domain: build it, tell it to shut down or suspend, plug disks and network interfaces in and
//! out.
//!
//! xenstore keys and permissions are laid out as libxl does: tools/libs/light/libxl_create.c, libxl_device.c,
//! libxl_disk.c, libxl_nic.c, libxl_dom_suspend.c. All calls are [`Dom0`]'s and may come from any thread.
//!
//! [`Dom0`]: crate::dom0::Dom0

mod build;
mod device;
mod disk;
mod power;
mod vif;

use std::collections::BTreeMap;

use xen_abi::DomId;

use crate::GUEST;
use crate::store::{Permission, Rights};

pub use disk::{Backend, VbdSpec};
pub use power::Command;
pub use vif::VifSpec;

/// What the toolstack is told about the guest.
#[derive(Clone, Debug)]
pub struct GuestSpec {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// `memory/static-max` in KiB; `None` for all RAM the machine has.
    pub static_max_kib: Option<u64>,
    /// `memory/target` in KiB; `None` for the same as `static_max_kib`.
    pub target_kib: Option<u64>,
    /// Whether xenstored and xenconsoled know it: not of a domain 0, nor of a domain that is built without a toolstack.
    pub store: bool,
}

impl Default for GuestSpec {
    fn default() -> Self {
        Self {
            name: "winpv".into(),
            uuid: "00000000-0000-4000-8000-000000000001".into(),
            static_max_kib: None,
            target_kib: None,
            store: true,
        }
    }
}

/// The guest as the toolstack remembers it, to be able to build it again.
pub(crate) struct Guest {
    spec: GuestSpec,
    disks: BTreeMap<u32, VbdSpec>,
    vifs: BTreeMap<u32, VifSpec>,
}

/// The guest's directory.
pub(crate) const GUEST_PATH: &str = "/local/domain/1";

/// Only domain 0 writes, the guest reads.
const READ_ONLY: [Permission; 2] = [
    Permission::new(DomId::DOM0, Rights::None),
    Permission::new(GUEST, Rights::Read),
];
/// The guest's own.
const GUESTS_OWN: [Permission; 1] = [Permission::new(GUEST, Rights::None)];
/// A frontend's directory: the guest's, and its backend may read.
const FRONTEND: [Permission; 2] = [
    Permission::new(GUEST, Rights::None),
    Permission::new(DomId::DOM0, Rights::Read),
];
