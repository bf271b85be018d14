//! The hooks before storport's PnP and power dispatch, and the driver's one miniport.

use crate::{Adapter, Miniport};
use alloc::boxed::Box;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};
use nt::irp::send_pnp;
use nt::{DeviceObject, Irp, NtStatus};
use nt_sys::{
    BusQueryInstanceID, DEVICE_OBJECT, DRIVER_DISPATCH, DRIVER_OBJECT, IO_PARAMETERS, IO_QUERY_ID,
    IRP, IRP_MJ_PNP, IRP_MJ_POWER, IRP_MN_QUERY_ID, NTSTATUS, STATUS_INVALID_DEVICE_REQUEST,
};

/// The adapter, and storport's name for it.
static MINIPORT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static EXTENSION: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Storport's dispatch routines, as they were before the hooks.
static PNP: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static POWER: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// The adapter, if it has started and is not removed.
pub(crate) fn miniport<M: Miniport>() -> Option<&'static M> {
    let miniport = MINIPORT.load(Ordering::Acquire).cast::<M>();
    // SAFETY: null, or the box that `publish` gave up. It lives until `retire`, whose caller sees to it that nobody
    // uses a reference longer. A driver image has one miniport type.
    unsafe { miniport.as_ref() }
}

/// Whether the adapter runs, and under this name.
pub(crate) fn is_started(adapter: Adapter) -> bool {
    !MINIPORT.load(Ordering::Acquire).is_null()
        && EXTENSION.load(Ordering::Acquire) == adapter.as_ptr()
}

/// Makes the adapter known to the callbacks.
pub(crate) fn publish<M: Miniport>(adapter: Adapter, miniport: Box<M>) {
    EXTENSION.store(adapter.as_ptr(), Ordering::Release);
    MINIPORT.store(Box::into_raw(miniport).cast(), Ordering::Release);
}

/// Takes the adapter back, for dropping.
///
/// # Safety
/// Storport has been through IRP_MN_REMOVE_DEVICE for the adapter, so that no callback runs or comes; and the caller,
/// of the type `M` that was started, uses no reference to it any more.
pub unsafe fn retire<M: Miniport>() -> Option<Box<M>> {
    let miniport = MINIPORT.swap(core::ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: not null, it is the box that `publish` gave up, and it is taken once.
    (!miniport.is_null()).then(|| unsafe { Box::from_raw(miniport.cast()) })
}

/// A PnP or power request on its way to storport.
#[derive(Debug)]
#[must_use]
pub struct Next {
    device: *mut DEVICE_OBJECT,
    irp: Irp,
    original: &'static AtomicPtr<c_void>,
}

// SAFETY: the I/O manager keeps the device while a request to it is under way, and requests may change threads.
unsafe impl Send for Next {}

impl Next {
    /// The request.
    pub fn irp(&self) -> &Irp {
        &self.irp
    }

    /// The request, to change it.
    pub fn irp_mut(&mut self) -> &mut Irp {
        &mut self.irp
    }

    /// Storport's device object that the request is for: the adapter's or a disk's.
    pub fn device(&self) -> *mut DEVICE_OBJECT {
        self.device
    }

    /// The same device, kept from going away.
    pub fn reference(&self) -> Option<DeviceObject> {
        // SAFETY: the device is live while a request to it is under way.
        unsafe { DeviceObject::reference(self.device) }
    }

    /// Lets storport handle the request.
    pub fn forward(self) -> NtStatus {
        let original = self.original.load(Ordering::Acquire);
        if original.is_null() {
            return self.irp.complete(NtStatus(STATUS_INVALID_DEVICE_REQUEST));
        }
        // SAFETY: `hook` stored a dispatch routine there.
        let original = unsafe { core::mem::transmute::<*mut c_void, DRIVER_DISPATCH>(original) };
        // SAFETY: the device and the request are those that the I/O manager dispatched.
        NtStatus(unsafe { original(self.device, self.irp.into_raw()) })
    }

    /// Completes the request without storport.
    pub fn complete(self, status: NtStatus) -> NtStatus {
        self.irp.complete(status)
    }

    /// The target number of the disk that the device object is, by the instance ID storport gives it. PASSIVE_LEVEL.
    ///
    /// Storport's IDs are path, target and LUN in hexadecimal, one digit each or two.
    pub fn target(&self) -> Option<u8> {
        let device = self.reference()?;
        let (status, id) = send_pnp(&device, |stack| {
            stack.MinorFunction = IRP_MN_QUERY_ID;
            stack.Parameters = IO_PARAMETERS {
                QueryId: IO_QUERY_ID {
                    IdType: BusQueryInstanceID,
                },
            };
        });
        let id = id as *mut u16;
        if !status.is_success() || id.is_null() {
            return None;
        }
        let mut units = [0u16; 8];
        for (index, unit) in units.iter_mut().enumerate() {
            // SAFETY: the string is terminated, and nothing behind its NUL is looked at.
            let at = unsafe { id.add(index) };
            // SAFETY: as above.
            *unit = unsafe { at.read() };
            if *unit == 0 {
                break;
            }
        }
        // SAFETY: who asks for an ID frees the pool block that it comes in.
        unsafe { nt_sys::imports::ExFreePoolWithTag(id.cast(), 0) };
        target_of(&units)
    }
}

/// The middle third of an instance ID.
fn target_of(units: &[u16; 8]) -> Option<u8> {
    let digit = |index: usize| {
        let unit = u8::try_from(*units.get(index)?).ok()?;
        char::from(unit).to_digit(16).map(|digit| digit as u8)
    };
    match units.iter().position(|unit| *unit == 0)? {
        3 => digit(1),
        6 => Some(digit(2)? << 4 | digit(3)?),
        _ => None,
    }
}

/// Puts the hooks in.
///
/// # Safety
/// `driver` is the driver object of a running `DriverEntry`, after `StorPortInitialize`.
pub(crate) unsafe fn hook<M: Miniport>(driver: *mut DRIVER_OBJECT) {
    // SAFETY: the driver object is ours, and nothing is dispatched to it before DriverEntry returns.
    let functions = unsafe { &mut (*driver).MajorFunction };
    let hooks: [(usize, &AtomicPtr<c_void>, DRIVER_DISPATCH); 2] = [
        (IRP_MJ_PNP.into(), &PNP, pnp::<M>),
        (IRP_MJ_POWER.into(), &POWER, power::<M>),
    ];
    for (major, original, hook) in hooks {
        if let Some(slot) = functions.get_mut(major)
            && let Some(function) = slot.replace(hook)
        {
            original.store(function as *mut c_void, Ordering::Release);
        }
    }
}

unsafe extern "win64" fn pnp<M: Miniport>(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the I/O manager passes a live request whose stack location is this driver's.
    let irp = unsafe { Irp::from_raw(irp) };
    M::pnp(
        miniport::<M>(),
        Next {
            device,
            irp,
            original: &PNP,
        },
    )
    .0
}

unsafe extern "win64" fn power<M: Miniport>(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: as in `pnp`.
    let irp = unsafe { Irp::from_raw(irp) };
    M::power(
        miniport::<M>(),
        Next {
            device,
            irp,
            original: &POWER,
        },
    )
    .0
}
