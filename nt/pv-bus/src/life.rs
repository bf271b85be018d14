//! How far a child is in its life: what Windows knows of it, and whether its device is still there.

use bus::{PnpState, State};
use core::sync::atomic::{AtomicBool, Ordering};
use nt::device::DevicePointer;
use nt::{DeviceObject, SpinLock};

/// The life of a child whose device object carries an `N`.
pub struct Life<N> {
    pub(crate) pnp: SpinLock<State>,
    /// Its device is there no more.
    missing: AtomicBool,
    /// Windows has been told of it at some time.
    reported: AtomicBool,
    /// Windows has been told that it is there no more.
    unreported: AtomicBool,
    /// Windows has removed it.
    removed: AtomicBool,
    device: SpinLock<Option<DevicePointer<N>>>,
}

impl<N: Send + Sync + 'static> Life<N> {
    /// A child that nobody has heard of, without a device object.
    pub const fn new() -> Self {
        Self {
            pnp: SpinLock::new(State::new(PnpState::Present)),
            missing: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            unreported: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            device: SpinLock::new(None),
        }
    }

    /// Gives it its device object.
    pub fn begin(&self, device: DevicePointer<N>) {
        *self.device.lock() = Some(device);
    }

    /// Where it is.
    pub fn state(&self) -> PnpState {
        self.pnp.lock().get()
    }

    /// Whether its device is there no more.
    pub fn is_missing(&self) -> bool {
        self.missing.load(Ordering::Acquire)
    }

    /// Its device is there no more.
    pub fn set_missing(&self) {
        self.missing.store(true, Ordering::Release);
    }

    /// Whether Windows has been told of it at some time.
    pub(crate) fn was_reported(&self) -> bool {
        self.reported.load(Ordering::Acquire)
    }

    /// Windows is told of it.
    pub(crate) fn set_reported(&self) {
        self.reported.store(true, Ordering::Release);
        let mut pnp = self.pnp.lock();
        if pnp.get() == PnpState::Present {
            pnp.set(PnpState::Enumerated);
        }
    }

    /// Windows is told that it is there no more.
    pub(crate) fn set_unreported(&self) {
        self.unreported.store(true, Ordering::Release);
    }

    pub(crate) fn set_removed(&self, removed: bool) {
        self.removed.store(removed, Ordering::Release);
    }

    /// Whether Windows has removed it and knows that it is missing.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_missing()
            && self.unreported.load(Ordering::Acquire)
            && self.removed.load(Ordering::Acquire)
    }

    /// Whether Windows will still remove it: it went by surprise.
    pub(crate) fn awaits_removal(&self) -> bool {
        self.state() == PnpState::SurpriseRemovePending
    }

    /// Its device object, referenced.
    pub fn object(&self) -> Option<DeviceObject> {
        let pointer = *self.device.lock();
        // SAFETY: `end` takes the pointer away before the object goes.
        unsafe { DeviceObject::reference(pointer?.as_ptr()) }
    }

    /// Deletes the device object; says whether there was one.
    ///
    /// # Safety
    /// Windows sends no more requests to it, and whoever calls this keeps the child alive.
    pub(crate) unsafe fn end(&self) -> bool {
        let pointer = self.device.lock().take();
        let Some(pointer) = pointer else { return false };
        // SAFETY: the pointer was there, so the object is.
        let device = unsafe { pointer.get() };
        // SAFETY: the caller's duty; the pointer is taken once.
        unsafe { device.delete(None) };
        true
    }
}

impl<N: Send + Sync + 'static> Default for Life<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N> core::fmt::Debug for Life<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Life({:?})", self.pnp.lock().get())
    }
}
