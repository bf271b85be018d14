//! The children of a bus. One that Windows has heard of goes in steps: it is missing, then no longer reported, then Windows
//! removes it.

use crate::bus::BusDevice;
use crate::child::{ChildDevice, delete};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use nt::{DeviceObject, Event, EventKind, NtStatus, Result, SpinLock};

/// How long QUERY_DEVICE_RELATIONS waits for the first look, in all.
const PATIENCE: Duration = Duration::from_secs(30);

/// The list.
#[derive(Debug)]
pub struct Children<C> {
    list: SpinLock<Vec<Arc<C>>>,
    /// Set once the children are known.
    known: Event,
}

impl<C: ChildDevice> Children<C> {
    /// None, and nobody has looked yet. PASSIVE_LEVEL.
    pub fn new() -> Result<Self> {
        Ok(Self {
            list: SpinLock::new(Vec::new()),
            known: Event::new(EventKind::Notification, false)?,
        })
    }

    /// Somebody has looked for them.
    pub fn set_known(&self) {
        self.known.set();
    }

    /// Whether there is such a child.
    pub fn any(&self, is_it: impl Fn(&C) -> bool) -> bool {
        self.list.lock().iter().any(|child| is_it(child))
    }

    /// The first such child.
    pub fn find(&self, is_it: impl Fn(&C) -> bool) -> Option<Arc<C>> {
        let list = self.list.lock();
        list.iter().find(|child| is_it(child)).map(Arc::clone)
    }

    /// Calls `body` with each child. PASSIVE_LEVEL.
    ///
    /// # Errors
    /// No memory: it was called with none.
    pub fn each(&self, mut body: impl FnMut(&Arc<C>)) -> Result<()> {
        let mut all = Vec::new();
        {
            let list = self.list.lock();
            all.try_reserve_exact(list.len())?;
            all.extend(list.iter().map(Arc::clone));
        }
        all.iter().for_each(&mut body);
        Ok(())
    }

    /// Has those go that are not wanted any more; tells whether there were any. PASSIVE_LEVEL.
    pub fn keep(&self, is_wanted: impl Fn(&C) -> bool) -> bool {
        let mut changed = false;
        let mut unheard_of = Vec::new();
        {
            let mut list = self.list.lock();
            for child in list.iter().filter(|child| !child.life().is_missing()) {
                if !is_wanted(child) {
                    nt::info!("{child:?}: device disappeared");
                    child.life().set_missing();
                    changed = true;
                }
            }
            // Windows never heard of these: they can go at once.
            if unheard_of.try_reserve(list.len()).is_ok() {
                unheard_of.extend(list.extract_if(.., |child| {
                    child.life().is_missing() && !child.life().was_reported()
                }));
            }
        }
        unheard_of.into_iter().for_each(delete);
        changed
    }

    /// Takes a new child in. Without memory it is deleted. PASSIVE_LEVEL.
    pub fn adopt(&self, child: Arc<C>) -> Result<()> {
        let mut list = self.list.lock();
        if list.try_reserve(1).is_err() {
            drop(list);
            delete(child);
            return Err(NtStatus::NO_MEMORY);
        }
        list.push(child);
        Ok(())
    }

    /// The children to report. From here on those left out are known to be missing. PASSIVE_LEVEL.
    pub(crate) fn relations(&self) -> Result<Vec<DeviceObject>> {
        if !self.known.wait_for(PATIENCE) {
            nt::warning!("the devices are not known yet");
        }
        let mut devices = Vec::new();
        let mut list = self.list.lock();
        devices.try_reserve_exact(list.len())?;
        for child in list.iter() {
            if child.life().is_missing() {
                child.life().set_unreported();
            } else if let Some(device) = child.life().object() {
                child.life().set_reported();
                devices.push(device);
            }
        }
        // Windows has removed these before it learned that they are missing.
        let mut gone = Vec::new();
        gone.try_reserve(list.len())?;
        gone.extend(list.extract_if(.., |child| child.life().is_finished()));
        drop(list);
        for child in gone {
            delete(Arc::clone(&child));
            // One of its name may have come meanwhile, and was not made as long as this one was there.
            child.bus().rescan();
        }
        Ok(devices)
    }

    /// Takes a child out of the list. It is then its owner's to delete.
    pub(crate) fn disown(&self, child: &Arc<C>) {
        let mut list = self.list.lock();
        list.retain(|other| !Arc::ptr_eq(other, child));
    }

    /// Has all children go: the bus itself went.
    pub(crate) fn lose(&self) {
        for child in self.list.lock().iter() {
            child.life().set_missing();
        }
    }

    /// Deletes the children that Windows does not remove by itself any more. PASSIVE_LEVEL.
    pub(crate) fn delete(&self) {
        loop {
            let child = {
                let mut list = self.list.lock();
                let index = list.iter().position(|child| !child.life().awaits_removal());
                // The compiler does not see that the index is within.
                let index = index.filter(|index| *index < list.len());
                index.map(|index| list.swap_remove(index))
            };
            match child {
                Some(child) => delete(child),
                None => return,
            }
        }
    }
}
