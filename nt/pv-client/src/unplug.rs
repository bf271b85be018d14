//! Emulated devices: asking for their unplug at the next boot, and whether they are there now. PASSIVE_LEVEL.

use crate::{Acquired, CText};
use alloc::sync::Arc;
use pv_interfaces::emulated::EmulatedV2;
use pv_interfaces::unplug::{TYPE_DISKS, TYPE_NICS, UnplugV3};

/// Emulated devices of one kind, as the UNPLUG interface sees them.
#[derive(Clone, Debug)]
pub struct Emulated {
    table: Arc<Acquired<UnplugV3>>,
    kind: u32,
}

impl Emulated {
    /// The disks.
    pub fn disks(table: Arc<Acquired<UnplugV3>>) -> Emulated {
        let kind = TYPE_DISKS;
        Emulated { table, kind }
    }

    /// The network cards.
    pub fn nics(table: Arc<Acquired<UnplugV3>>) -> Emulated {
        let kind = TYPE_NICS;
        Emulated { table, kind }
    }

    /// Asks for them to be unplugged at the next boot, or takes that back.
    pub fn request_unplug(&self, make: bool) {
        // SAFETY: acquired.
        unsafe { (self.table.request)(self.table.this(), self.kind, make.into()) };
    }

    /// Whether this boot has unplugged them.
    pub fn are_unplugged(&self) -> bool {
        // SAFETY: acquired.
        unsafe { (self.table.is_requested)(self.table.this(), self.kind) != 0 }
    }

    /// Whether the boot disk is to stay an emulated one.
    pub fn boot_is_emulated(&self) -> bool {
        // SAFETY: acquired.
        unsafe { (self.table.boot_emulated)(self.table.this()) != 0 }
    }

    /// Has the user asked for a reboot, in the name of `module`.
    pub fn ask_for_reboot(&self, module: &CText) {
        // SAFETY: acquired; the text lives as long as the call.
        unsafe { (self.table.reboot)(self.table.this(), module.as_ptr()) };
    }
}

/// Whether an emulated disk is there, by its index. IRQL ≤ DISPATCH_LEVEL.
pub fn is_disk_emulated(table: &Acquired<EmulatedV2>, index: u32) -> bool {
    // SAFETY: acquired.
    unsafe { (table.is_disk_present)(table.this(), index) != 0 }
}
