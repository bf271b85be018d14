//! Drivers and devices: the entry points, device objects with a typed extension, and the stacks they form.
//!
//! ```text
//!   fn DriverEntry ─► register::<D>() ─► AddDevice, MajorFunction[…] ─► D::add_device / D::pnp / D::power / …
//!   OwnedDevice<E> ── DEVICE_OBJECT.DeviceExtension ──► E
//! ```

use crate::event::Event;
use crate::{Irp, NtStatus, Result};
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use nt_sys::imports::{
    IoAttachDeviceToDeviceStack, IoCreateDevice, IoDeleteDevice, IoDetachDevice,
    IoGetAttachedDeviceReference, IoInvalidateDeviceRelations, IoInvalidateDeviceState,
    IoRequestDeviceEject, ObfDereferenceObject, ObfReferenceObject, PoSetPowerState,
};
use nt_sys::{
    DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DO_POWER_PAGABLE, DRIVER_OBJECT, IRP, NTSTATUS,
    POWER_STATE,
};

/// What a WDM driver does. Each function gets the IRP and must give the status it completed or forwarded it with.
pub trait WdmDriver: 'static {
    /// What each device object of the driver carries; usually an enum of function and physical devices.
    type Extension: Send + Sync + 'static;

    /// A device to drive was found: create a function device and attach it. PASSIVE_LEVEL.
    fn add_device(driver: &DriverObject, physical: &DeviceObject) -> Result<()>;

    /// IRP_MJ_PNP. PASSIVE_LEVEL.
    fn pnp(device: &Device<Self::Extension>, irp: Irp) -> NtStatus;

    /// IRP_MJ_POWER. IRQL ≤ DISPATCH_LEVEL.
    fn power(device: &Device<Self::Extension>, irp: Irp) -> NtStatus;

    /// Every other major function.
    fn other(_device: &Device<Self::Extension>, irp: Irp) -> NtStatus {
        irp.complete(NtStatus::INVALID_DEVICE_REQUEST)
    }

    /// The driver is about to go; every device is gone already. PASSIVE_LEVEL.
    fn unload(_driver: &DriverObject) {}
}

/// The driver object, valid as long as the driver is loaded.
#[derive(Clone, Copy, Debug)]
pub struct DriverObject(NonNull<DRIVER_OBJECT>);

// SAFETY: the object lives as long as the driver, and the I/O manager serialises its changes.
unsafe impl Send for DriverObject {}
// SAFETY: as above.
unsafe impl Sync for DriverObject {}

impl DriverObject {
    /// Takes the pointer that the system passes to DriverEntry and AddDevice.
    ///
    /// # Safety
    /// `driver` is the running driver's object.
    pub unsafe fn from_raw(driver: *mut DRIVER_OBJECT) -> Option<DriverObject> {
        NonNull::new(driver).map(DriverObject)
    }

    /// The object's address.
    pub fn as_ptr(&self) -> *mut DRIVER_OBJECT {
        self.0.as_ptr()
    }

    /// Makes `D` answer this driver's calls. To be called from DriverEntry.
    pub fn register<D: WdmDriver>(&self) {
        let driver = self.0.as_ptr();
        // SAFETY: the driver object is live and ours to fill in during DriverEntry.
        let driver = unsafe { &mut *driver };
        driver.DriverUnload = Some(unload::<D>);
        driver.MajorFunction = [Some(other::<D>); nt_sys::IRP_MJ_MAXIMUM_FUNCTION + 1];
        driver.MajorFunction[nt_sys::IRP_MJ_PNP as usize] = Some(pnp::<D>);
        driver.MajorFunction[nt_sys::IRP_MJ_POWER as usize] = Some(power::<D>);
        // SAFETY: the I/O manager gives every driver object its extension.
        if let Some(extension) = unsafe { driver.DriverExtension.as_mut() } {
            extension.AddDevice = Some(add_device::<D>);
        }
    }
}

unsafe extern "win64" fn add_device<D: WdmDriver>(
    driver: *mut DRIVER_OBJECT,
    physical: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    // SAFETY: the PnP manager passes this driver's object.
    let driver = unsafe { DriverObject::from_raw(driver) };
    // SAFETY: the PnP manager passes a live device object.
    let physical = unsafe { DeviceObject::borrow(&physical) };
    let (Some(driver), Some(physical)) = (driver, physical) else {
        return NtStatus::INVALID_PARAMETER.0;
    };
    NtStatus::from(D::add_device(&driver, physical)).0
}

unsafe extern "win64" fn unload<D: WdmDriver>(driver: *mut DRIVER_OBJECT) {
    // SAFETY: the I/O manager passes this driver's object.
    if let Some(driver) = unsafe { DriverObject::from_raw(driver) } {
        D::unload(&driver);
    }
}

macro_rules! dispatch {
    ($($name:ident)*) => {$(
        unsafe extern "win64" fn $name<D: WdmDriver>(
            device: *mut DEVICE_OBJECT,
            irp: *mut IRP,
        ) -> NTSTATUS {
            // SAFETY: the I/O manager passes an IRP that is this driver's until completed or passed on.
            let irp = unsafe { Irp::from_raw(irp) };
            // SAFETY: the device is one that this driver created with `D::Extension`, and lives during the call.
            match unsafe { Device::<D::Extension>::borrow(&device) } {
                Some(device) => D::$name(device, irp).0,
                None => irp.complete(NtStatus::NO_SUCH_DEVICE).0,
            }
        }
    )*};
}
dispatch! { pnp power other }

/// Some device object: a lower one, a physical one, one of ours. This is a counted reference.
#[repr(transparent)]
pub struct DeviceObject(NonNull<DEVICE_OBJECT>);

// SAFETY: device objects are shared by design; what this type does with them is synchronised by the kernel.
unsafe impl Send for DeviceObject {}
// SAFETY: as above.
unsafe impl Sync for DeviceObject {}

impl DeviceObject {
    /// Sees the device behind a pointer without counting a reference.
    ///
    /// # Safety
    /// A device that is not null stays live as long as the borrow.
    pub unsafe fn borrow(device: &*mut DEVICE_OBJECT) -> Option<&DeviceObject> {
        if device.is_null() {
            return None;
        }
        // SAFETY: `DeviceObject` is a transparent non-null pointer in layout.
        Some(unsafe { &*core::ptr::from_ref(device).cast::<DeviceObject>() })
    }

    /// Counts a reference of its own to the device.
    ///
    /// # Safety
    /// The device is live.
    pub unsafe fn reference(device: *mut DEVICE_OBJECT) -> Option<DeviceObject> {
        let device = NonNull::new(device)?;
        // SAFETY: the device is live.
        unsafe { ObfReferenceObject(device.as_ptr().cast()) };
        Some(DeviceObject(device))
    }

    /// The object's address.
    pub fn as_ptr(&self) -> *mut DEVICE_OBJECT {
        self.0.as_ptr()
    }

    /// The device at the top of the stack that this one is in. IRQL ≤ DISPATCH_LEVEL.
    pub fn top_of_stack(&self) -> Result<DeviceObject> {
        // SAFETY: the device is live; the answer carries a reference.
        let top = unsafe { IoGetAttachedDeviceReference(self.as_ptr()) };
        NonNull::new(top)
            .map(DeviceObject)
            .ok_or(NtStatus::NO_SUCH_DEVICE)
    }

    /// Stack locations that an IRP to this device needs.
    pub fn stack_size(&self) -> i8 {
        // SAFETY: the device is live.
        unsafe { (*self.as_ptr()).StackSize }
    }

    /// `DEVICE_OBJECT.Flags`.
    pub fn flags(&self) -> u32 {
        // SAFETY: the device is live.
        unsafe { (*self.as_ptr()).Flags }
    }

    /// Tells the PnP manager that this physical device's children have changed. IRQL ≤ DISPATCH_LEVEL.
    pub fn invalidate_bus_relations(&self) {
        // SAFETY: the device is live.
        unsafe { IoInvalidateDeviceRelations(self.as_ptr(), nt_sys::BusRelations) };
    }

    /// Has the PnP manager ask this physical device's state anew. IRQL ≤ DISPATCH_LEVEL.
    pub fn invalidate_state(&self) {
        // SAFETY: the device is live.
        unsafe { IoInvalidateDeviceState(self.as_ptr()) };
    }

    /// Asks the PnP manager to eject this physical device. PASSIVE_LEVEL.
    pub fn request_eject(&self) {
        // SAFETY: the device is live.
        unsafe { IoRequestDeviceEject(self.as_ptr()) };
    }

    /// Tells the power manager this device's state, one of `PowerDevice*`. IRQL ≤ DISPATCH_LEVEL.
    pub fn set_power_state(&self, state: i32) {
        // SAFETY: the device is live.
        unsafe {
            PoSetPowerState(
                self.as_ptr(),
                nt_sys::DevicePowerState,
                POWER_STATE { DeviceState: state },
            );
        }
    }
}

impl Clone for DeviceObject {
    fn clone(&self) -> DeviceObject {
        // SAFETY: this reference keeps the object live.
        unsafe { ObfReferenceObject(self.as_ptr().cast()) };
        DeviceObject(self.0)
    }
}

impl Drop for DeviceObject {
    fn drop(&mut self) {
        // SAFETY: this reference is counted.
        unsafe { ObfDereferenceObject(self.as_ptr().cast()) };
    }
}

impl PartialEq for DeviceObject {
    fn eq(&self, other: &DeviceObject) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for DeviceObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceObject({:p})", self.0)
    }
}

/// One of this driver's devices during a call: its object, and through `Deref` its extension.
#[repr(transparent)]
pub struct Device<E> {
    object: DeviceObject,
    _extension: PhantomData<E>,
}

impl<E> Device<E> {
    /// Sees the device behind a pointer.
    ///
    /// # Safety
    /// A device that is not null was created with an extension of type `E` and stays live as long as the borrow.
    unsafe fn borrow(device: &*mut DEVICE_OBJECT) -> Option<&Device<E>> {
        // SAFETY: the duty is the caller's.
        let object = unsafe { DeviceObject::borrow(device) }?;
        // SAFETY: `Device` is transparent over `DeviceObject`.
        Some(unsafe { &*core::ptr::from_ref(object).cast::<Device<E>>() })
    }

    /// The device object.
    pub fn object(&self) -> &DeviceObject {
        &self.object
    }

    /// Detaches the device from the one below, drops the extension and deletes the object.
    ///
    /// # Safety
    /// The device was created by [`OwnedDevice::create`] and given away with [`OwnedDevice::start`]; no IRP reaches
    /// it any more and nobody uses its extension: that is so at the end of IRP_MN_REMOVE_DEVICE, after the remove
    /// lock is free. It is deleted once.
    pub unsafe fn delete(&self, lower: Option<DeviceObject>) {
        let raw = self.object.as_ptr();
        if let Some(lower) = lower {
            // SAFETY: this device is attached to `lower`, which the reference keeps live.
            unsafe { IoDetachDevice(lower.as_ptr()) };
        }
        // SAFETY: created with an extension of type `E`.
        let extension = unsafe { (*raw).DeviceExtension }.cast::<E>();
        // SAFETY: nobody uses the extension any more.
        unsafe { extension.drop_in_place() };
        // SAFETY: created by `IoCreateDevice`, deleted once.
        unsafe { IoDeleteDevice(raw) };
    }
}

impl<E> Deref for Device<E> {
    type Target = E;
    fn deref(&self) -> &E {
        // SAFETY: the device is live.
        let extension = unsafe { (*self.object.as_ptr()).DeviceExtension };
        // SAFETY: the device was created with an extension of type `E`.
        unsafe { &*extension.cast::<E>() }
    }
}

impl<E> fmt::Debug for Device<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

/// What a device object is made as.
#[derive(Clone, Copy, Debug)]
pub struct DeviceOptions {
    /// `FILE_DEVICE_*`.
    pub kind: u32,
    /// `FILE_*` characteristics; FILE_DEVICE_SECURE_OPEN belongs in nearly every device.
    pub characteristics: u32,
    /// Flags to add, `DO_*`.
    pub flags: u32,
}

impl DeviceOptions {
    /// A function device of a bus.
    pub const BUS: DeviceOptions = DeviceOptions {
        kind: nt_sys::FILE_DEVICE_BUS_EXTENDER,
        characteristics: nt_sys::FILE_DEVICE_SECURE_OPEN,
        flags: 0,
    };
    /// A physical device that a bus driver enumerates; the I/O manager names it.
    pub const CHILD: DeviceOptions = DeviceOptions {
        kind: nt_sys::FILE_DEVICE_UNKNOWN,
        characteristics: nt_sys::FILE_AUTOGENERATED_DEVICE_NAME | nt_sys::FILE_DEVICE_SECURE_OPEN,
        flags: nt_sys::DO_BUS_ENUMERATED_DEVICE,
    };
}

/// A device that this driver has made and not yet given to the system. Dropping it deletes it.
pub struct OwnedDevice<E> {
    raw: *mut DEVICE_OBJECT,
    /// What it is attached to, if it is.
    below: Cell<*mut DEVICE_OBJECT>,
    _extension: PhantomData<E>,
}

impl<E: Send + Sync + 'static> OwnedDevice<E> {
    /// Creates a device object with `extension` in it. PASSIVE_LEVEL.
    pub fn create(
        driver: &DriverObject,
        options: DeviceOptions,
        extension: E,
    ) -> Result<OwnedDevice<E>> {
        const {
            assert!(
                align_of::<E>() <= 16,
                "a device extension is aligned to 16 bytes"
            )
        };
        let bytes = u32::try_from(size_of::<E>()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let mut raw = core::ptr::null_mut();
        // SAFETY: the driver object is live; the device has no name.
        NtStatus::check(unsafe {
            IoCreateDevice(
                driver.as_ptr(),
                bytes,
                core::ptr::null_mut(),
                options.kind,
                options.characteristics,
                nt_sys::FALSE,
                &mut raw,
            )
        })?;
        // SAFETY: the device is ours and new.
        let object = unsafe { &mut *raw };
        object.Flags = (object.Flags | options.flags) & !DO_POWER_PAGABLE;
        // SAFETY: the I/O manager reserved room for an `E`, aligned to 16.
        unsafe { object.DeviceExtension.cast::<E>().write(extension) };
        Ok(OwnedDevice {
            raw,
            below: Cell::new(core::ptr::null_mut()),
            _extension: PhantomData,
        })
    }

    /// Attaches the device above the stack of `physical` and gives the device right below it. PASSIVE_LEVEL.
    pub fn attach(&self, physical: &DeviceObject) -> Result<DeviceObject> {
        // SAFETY: both are live; this one is not attached yet.
        let lower = unsafe { IoAttachDeviceToDeviceStack(self.raw, physical.as_ptr()) };
        self.below.set(lower);
        // SAFETY: the stack keeps the lower device live.
        unsafe { DeviceObject::reference(lower) }.ok_or(NtStatus::NO_SUCH_DEVICE)
    }

    /// A counted reference to the object, for use after `start`.
    pub fn object(&self) -> Option<DeviceObject> {
        // SAFETY: the device is live.
        unsafe { DeviceObject::reference(self.raw) }
    }

    /// The device, as dispatch functions see it.
    pub fn device(&self) -> &Device<E> {
        // SAFETY: `Device` is transparent over a non-null pointer, which `raw` is.
        unsafe { &*core::ptr::from_ref(&self.raw).cast::<Device<E>>() }
    }

    /// Opens the device for IRPs and gives it to the system; [`Device::delete`] ends it.
    pub fn start(self) -> DevicePointer<E> {
        let raw = self.raw;
        core::mem::forget(self);
        // SAFETY: the device is live.
        unsafe { (*raw).Flags &= !DO_DEVICE_INITIALIZING };
        DevicePointer {
            raw,
            _extension: PhantomData,
        }
    }
}

impl<E> Deref for OwnedDevice<E> {
    type Target = E;
    fn deref(&self) -> &E {
        // SAFETY: the device is live.
        let extension = unsafe { (*self.raw).DeviceExtension };
        // SAFETY: `create` wrote an `E` there.
        unsafe { &*extension.cast::<E>() }
    }
}

impl<E> Drop for OwnedDevice<E> {
    fn drop(&mut self) {
        let below = self.below.get();
        if !below.is_null() {
            // SAFETY: attached above it in `attach`, and never started.
            unsafe { IoDetachDevice(below) };
        }
        // SAFETY: the device is live.
        let extension = unsafe { (*self.raw).DeviceExtension };
        // SAFETY: `create` wrote an `E` there and nobody else uses it.
        unsafe { extension.cast::<E>().drop_in_place() };
        // SAFETY: the device is ours and reached by nobody.
        unsafe { IoDeleteDevice(self.raw) };
    }
}

impl<E> fmt::Debug for OwnedDevice<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedDevice({:p})", self.raw)
    }
}

/// A started device of this driver, not counted: valid until the driver deletes it.
pub struct DevicePointer<E> {
    raw: *mut DEVICE_OBJECT,
    _extension: PhantomData<E>,
}

// SAFETY: it is only a pointer; using it says what must hold.
unsafe impl<E: Send + Sync> Send for DevicePointer<E> {}
// SAFETY: as above.
unsafe impl<E: Send + Sync> Sync for DevicePointer<E> {}

impl<E> Clone for DevicePointer<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for DevicePointer<E> {}

impl<E> DevicePointer<E> {
    /// The object's address.
    pub fn as_ptr(&self) -> *mut DEVICE_OBJECT {
        self.raw
    }

    /// The device.
    ///
    /// # Safety
    /// [`Device::delete`] has not been called, and will not be as long as the borrow.
    pub unsafe fn get(&self) -> &Device<E> {
        // SAFETY: `Device` is transparent over a non-null pointer, which `raw` is.
        unsafe { &*core::ptr::from_ref(&self.raw).cast::<Device<E>>() }
    }
}

impl<E> fmt::Debug for DevicePointer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevicePointer({:p})", self.raw)
    }
}

/// An event that an asynchronous kernel operation sets, with what it left.
pub(crate) fn completion_event() -> Result<Event> {
    Event::new(crate::EventKind::Notification, false)
}
