//! Looking for children: one for each class of devices that xenstore names and this driver supports.
//!
//! A child that Windows has heard of goes in steps: it is missing, then no longer reported, then Windows removes it.

use super::Fdo;
use crate::child::Child;
use crate::settings;
use ::bus::{Classes, Identity};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use nt::{DeviceObject, NtStatus, Result};

/// How long QUERY_DEVICE_RELATIONS waits for the first look, in all.
const PATIENCE: Duration = Duration::from_secs(30);

impl Fdo {
    /// Looks once. PASSIVE_LEVEL, one at a time.
    ///
    /// # Errors
    /// It should be done again: better no change than devices that vanish because xenstored is slow.
    pub(super) fn scan(self: &Arc<Self>) -> Result<()> {
        if !self.is_started() || self.session.lock().is_none() {
            return Ok(());
        }
        if settings::enumerate() {
            self.wanted()
                .and_then(|wanted| self.reconcile(&wanted))
                .inspect_err(|status| nt::warning!("looking for devices: {status}"))?;
        }
        self.scanned.set();
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
        let mut changed = false;
        let mut outcome = Ok(());
        let mut unheard_of = Vec::new();
        {
            let mut children = self.children.lock();
            for child in children.iter().filter(|child| !child.is_missing()) {
                if !wanted.contains(&child.class()) {
                    nt::info!("{child:?}: device disappeared");
                    child.set_missing();
                    changed = true;
                }
            }
            // Windows never heard of these: they can go at once.
            if unheard_of.try_reserve(children.len()).is_ok() {
                unheard_of.extend(
                    children.extract_if(.., |child| child.is_missing() && !child.was_reported()),
                );
            }
        }
        for child in unheard_of {
            child.delete();
        }
        for &class in wanted.iter() {
            if self
                .children
                .lock()
                .iter()
                .any(|child| child.class() == class)
            {
                continue;
            }
            let identity = Identity {
                platform: self.platform,
                class,
            };
            match Child::create(self, identity).and_then(|child| self.adopt(child)) {
                Ok(()) => changed = true,
                Err(status) => {
                    nt::error!("creating a child for {class}: {status}");
                    outcome = Err(status);
                }
            }
        }
        if changed {
            self.physical.invalidate_bus_relations();
        }
        outcome
    }

    fn adopt(&self, child: Arc<Child>) -> Result<()> {
        let mut children = self.children.lock();
        if children.try_reserve(1).is_err() {
            drop(children);
            child.delete();
            return Err(NtStatus::NO_MEMORY);
        }
        children.push(child);
        Ok(())
    }

    /// The children to report. From here on those left out are known to be missing. PASSIVE_LEVEL.
    pub(super) fn relations(&self) -> Result<Vec<DeviceObject>> {
        if !self.scanned.wait_for(PATIENCE) {
            nt::warning!("the devices are not known yet");
        }
        let mut devices = Vec::new();
        let mut children = self.children.lock();
        devices.try_reserve_exact(children.len())?;
        for child in children.iter() {
            if child.is_missing() {
                child.set_unreported();
            } else if let Some(device) = child.object() {
                child.set_reported();
                devices.push(device);
            }
        }
        // Windows has removed these before it learned that they are missing.
        let mut gone = Vec::new();
        gone.try_reserve(children.len())?;
        gone.extend(children.extract_if(.., |child| child.is_finished()));
        drop(children);
        for child in gone {
            child.delete();
        }
        Ok(devices)
    }

    /// Takes a child out of the list. It is then its owner's to delete.
    pub fn disown(&self, child: &Arc<Child>) {
        let mut children = self.children.lock();
        if let Some(index) = children.iter().position(|other| Arc::ptr_eq(other, child)) {
            children.swap_remove(index);
        }
    }

    /// Has all children go: the device itself went.
    pub(super) fn lose_children(&self) {
        for child in self.children.lock().iter() {
            child.set_missing();
        }
    }

    /// Deletes the children that Windows does not remove by itself any more.
    pub(super) fn delete_children(&self) {
        loop {
            let child = {
                let mut children = self.children.lock();
                let index = children.iter().position(|child| !child.awaits_removal());
                index.map(|index| children.swap_remove(index))
            };
            match child {
                Some(child) => child.delete(),
                None => return,
            }
        }
    }
}
