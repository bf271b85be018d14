//! A bus's own device: what is below it, its PnP state, and the requests that every bus passes on in the same way.

use crate::Running;
use bus::{PnpState, State};
use core::sync::atomic::{AtomicU32, Ordering};
use nt::{Device, DeviceObject, Irp, NtStatus, OwnedDevice, Result, SpinLock};
use nt_sys::{
    BusRelations, DeviceUsageTypePaging, PNP_DEVICE_NOT_DISABLEABLE, PowerDeviceD0, PowerDeviceD3,
    PowerDeviceUnspecified, PowerSystemMaximum,
};

/// The device.
#[derive(Debug)]
pub struct Function {
    /// The device object by which the system knows the device.
    pub physical: DeviceObject,
    /// What this device is attached to.
    lower: Running<DeviceObject>,
    pnp: SpinLock<State>,
    /// The device state that goes with each system state, as the bus below says.
    device_states: SpinLock<[i32; PowerSystemMaximum]>,
    /// Paging files, hibernation files and crash dumps that depend on the device.
    usage: [AtomicU32; 3],
}

impl Function {
    /// A device that was added, not attached yet.
    pub fn new(physical: &DeviceObject) -> Self {
        let mut states = [PowerDeviceD3; PowerSystemMaximum];
        for (state, known) in states
            .iter_mut()
            .zip([PowerDeviceUnspecified, PowerDeviceD0])
        {
            *state = known;
        }
        Self {
            physical: physical.clone(),
            lower: Running::new(),
            pnp: SpinLock::new(State::new(PnpState::Added)),
            device_states: SpinLock::new(states),
            usage: [const { AtomicU32::new(0) }; 3],
        }
    }

    /// Attaches `device` to the stack. PASSIVE_LEVEL.
    pub(crate) fn attach<N: Send + Sync + 'static>(&self, device: &OwnedDevice<N>) -> Result<()> {
        self.lower.start(device.attach(&self.physical)?)?;
        Ok(())
    }

    /// What the device is attached to.
    pub fn lower(&self) -> Option<&DeviceObject> {
        self.lower.get()
    }

    /// Whether the device runs.
    pub fn is_started(&self) -> bool {
        self.pnp.lock().get() == PnpState::Started
    }

    /// Moves on.
    pub(crate) fn set(&self, state: PnpState) {
        self.pnp.lock().set(state);
    }

    /// Passes a request to the driver below.
    pub fn pass_down(&self, irp: Irp) -> NtStatus {
        match self.lower.get() {
            Some(lower) => irp.forward(lower),
            None => irp.complete(NtStatus::NO_SUCH_DEVICE),
        }
    }

    /// Passes a request to the driver below and gets it back. PASSIVE_LEVEL.
    pub fn through(&self, irp: Irp) -> (Irp, NtStatus) {
        match self.lower.get() {
            Some(lower) => irp.forward_and_wait(lower),
            None => (irp, NtStatus::NO_SUCH_DEVICE),
        }
    }

    /// Goes to `state` and tells the driver below: what may not fail, and what is only asked.
    pub(crate) fn moved(&self, mut irp: Irp, state: PnpState) -> NtStatus {
        self.set(state);
        irp.set_status(NtStatus::SUCCESS);
        self.pass_down(irp)
    }

    /// A query was called off.
    pub(crate) fn back(&self, mut irp: Irp, from: PnpState) -> NtStatus {
        self.pnp.lock().restore(from);
        irp.set_status(NtStatus::SUCCESS);
        self.pass_down(irp)
    }

    /// IRP_MN_REMOVE_DEVICE, when the driver has let go of everything: passes it down and deletes the device.
    ///
    /// # Safety
    /// `device` is this function's, was started, and nobody uses its extension but the caller, who keeps this alive.
    pub(crate) unsafe fn remove<N: Send + Sync + 'static>(
        &self,
        device: &Device<N>,
        mut irp: Irp,
    ) -> NtStatus {
        self.set(PnpState::Deleted);
        irp.set_status(NtStatus::SUCCESS);
        let status = self.pass_down(irp);
        // SAFETY: this is the last request to the device, and it is served.
        let lower = unsafe { self.lower.stop() };
        // SAFETY: the caller's duty.
        unsafe { device.delete(lower.map(|lower| *lower)) };
        status
    }

    /// IRP_MN_QUERY_DEVICE_RELATIONS: adds the children that `relations` gives.
    pub(crate) fn relations(
        &self,
        mut irp: Irp,
        relations: impl FnOnce() -> Result<alloc::vec::Vec<DeviceObject>>,
    ) -> NtStatus {
        if irp.relations_kind() != Some(BusRelations) {
            return self.pass_down(irp);
        }
        match relations().and_then(|children| irp.add_relations(&children)) {
            Ok(()) => {
                irp.set_status(NtStatus::SUCCESS);
                self.pass_down(irp)
            }
            Err(status) => irp.complete(status),
        }
    }

    /// IRP_MN_QUERY_CAPABILITIES, without the bits in `without`.
    pub(crate) fn capabilities(&self, irp: Irp, without: u32) -> NtStatus {
        let (mut irp, status) = self.through(irp);
        if status.is_success()
            && let Some(capabilities) = irp.capabilities()
        {
            capabilities.Bits &= !without;
            *self.device_states.lock() = capabilities.DeviceState;
        }
        irp.complete_unchanged()
    }

    /// The device state that goes with a system state.
    pub(crate) fn device_state(&self, system: i32) -> i32 {
        let states = *self.device_states.lock();
        let state = usize::try_from(system)
            .ok()
            .and_then(|system| states.get(system).copied());
        state.unwrap_or(PowerDeviceD3)
    }

    /// IRP_MN_DEVICE_USAGE_NOTIFICATION.
    pub(crate) fn usage(&self, irp: Irp) -> NtStatus {
        let usage = irp.usage();
        let (irp, status) = self.through(irp);
        if status.is_success()
            && let Some((begins, kind)) = usage
        {
            let index = usize::try_from(kind.wrapping_sub(DeviceUsageTypePaging)).ok();
            if let Some(count) = index.and_then(|index| self.usage.get(index)) {
                // An end without a beginning does not count.
                let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    if begins {
                        count.checked_add(1)
                    } else {
                        count.checked_sub(1)
                    }
                });
                self.physical.invalidate_state();
            }
        }
        irp.complete_unchanged()
    }

    /// IRP_MN_QUERY_PNP_DEVICE_STATE: what is in use cannot be disabled.
    pub(crate) fn state(&self, mut irp: Irp) -> NtStatus {
        let used = self
            .usage
            .iter()
            .any(|count| count.load(Ordering::Relaxed) != 0);
        if used {
            let state = irp.information() | PNP_DEVICE_NOT_DISABLEABLE as usize;
            irp.set_information(state);
            irp.set_status(NtStatus::SUCCESS);
        }
        self.pass_down(irp)
    }
}
