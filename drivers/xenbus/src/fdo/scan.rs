//! Looking for children: one for each class of devices that xenstore names and this driver supports.

use super::Fdo;
use crate::child::Child;
use crate::settings;
use ::bus::{Classes, Identity};
use alloc::sync::Arc;
use alloc::vec::Vec;
use nt::{NtStatus, Result};

impl Fdo {
    /// Looks once. PASSIVE_LEVEL, one at a time.
    ///
    /// # Errors
    /// It should be done again: better no change than devices that vanish because xenstored is slow.
    pub(super) fn scan(self: &Arc<Self>) -> Result<()> {
        if !self.function.is_started() || self.session.lock().is_none() {
            return Ok(());
        }
        if settings::enumerate() {
            self.wanted()
                .and_then(|wanted| self.reconcile(&wanted))
                .inspect_err(|status| nt::warning!("looking for devices: {status}"))?;
        }
        self.children.set_known();
        Ok(())
    }

    /// The classes that there shall be children of.
    fn wanted(&self) -> Result<Classes> {
        let bus = self.bus().ok_or(NtStatus::NOT_SUPPORTED)?;
        let found = match bus.store.directory(b"device") {
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Vec::new(),
            found => found?,
        };
        let (synthetic, supported) = (
            settings::synthetic_classes()?,
            settings::supported_classes()?,
        );
        Classes::wanted(xenstore::names(&found), &synthetic, &supported)
            .map_err(|::bus::NoMemory| NtStatus::NO_MEMORY)
    }

    /// Makes the children agree with `wanted`.
    fn reconcile(self: &Arc<Self>, wanted: &Classes) -> Result<()> {
        let mut changed = self.children.keep(|child| wanted.contains(&child.class()));
        let mut outcome = Ok(());
        for &class in wanted.iter() {
            if self.children.any(|child| child.class() == class) {
                continue;
            }
            let identity = Identity {
                platform: self.platform,
                class,
            };
            match Child::create(self, identity).and_then(|child| self.children.adopt(child)) {
                Ok(()) => changed = true,
                Err(status) => {
                    nt::error!("creating a child for {class}: {status}");
                    outcome = Err(status);
                }
            }
        }
        if changed {
            self.function.physical.invalidate_bus_relations();
        }
        outcome
    }
}
