//! IRPs through a stack of two devices.

use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nt_host::io::complete::IofCompleteRequest;
use nt_host::io::device::{
    IoAttachDeviceToDeviceStack, IoCreateDevice, IoDeleteDevice, IoDetachDevice,
};
use nt_host::io::incoming::Incoming;
use nt_host::io::request::{self, Outcome};
use nt_host::io::{driver, irp};
use nt_host::ke::{thread, wait};
use nt_sys::{
    DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_DISPATCH, FILE_DEVICE_UNKNOWN, IRP,
    IRP_MJ_MAXIMUM_FUNCTION, IRP_MJ_PNP, NTSTATUS, SL_PENDING_RETURNED, STATUS_NOT_SUPPORTED,
    STATUS_PENDING, STATUS_SUCCESS,
};

static LOWER: AtomicUsize = AtomicUsize::new(0);
static SEEN: AtomicUsize = AtomicUsize::new(0);
static FORWARD: AtomicBool = AtomicBool::new(false);

fn device(name: &str, dispatch: DRIVER_DISPATCH) -> *mut DEVICE_OBJECT {
    let object = driver::create_host(name);
    // SAFETY: a live driver object.
    unsafe { (*object).MajorFunction = [Some(dispatch); IRP_MJ_MAXIMUM_FUNCTION + 1] };
    let mut device = null_mut();
    // SAFETY: a live driver object, and a place for the result.
    let status = unsafe {
        IoCreateDevice(
            object,
            0,
            null(),
            FILE_DEVICE_UNKNOWN,
            0,
            0,
            &raw mut device,
        )
    };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: the device was just made.
    unsafe { (*device).Flags &= !DO_DEVICE_INITIALIZING };
    device
}

fn send(device: *mut DEVICE_OBJECT, minor: u8) -> Outcome {
    // SAFETY: the device lives, and the minor functions here have no parameters.
    unsafe { request::send(device, IRP_MJ_PNP, minor, STATUS_NOT_SUPPORTED, |_| ()) }
}

/// Minor 0 completes at once, minor 1 later, on another thread.
unsafe extern "win64" fn lower(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    SEEN.fetch_add(1, Ordering::Relaxed);
    if request.function().1 == 0 {
        return request.complete(Ok(Some(42)));
    }
    request.pend();
    assert!(thread::run(1, move || {
        wait::delay(20_000);
        request.complete(Ok(Some(43)));
    }));
    STATUS_PENDING
}

/// Passes on, or lets the lower device go first and completes afterwards.
unsafe extern "win64" fn upper(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    let lower = LOWER.load(Ordering::Relaxed) as *mut DEVICE_OBJECT;
    if FORWARD.load(Ordering::Relaxed) {
        // SAFETY: the device below lives.
        let status = unsafe { request.forward(lower) };
        assert_eq!(status, STATUS_SUCCESS);
        let information = request.outcome().1;
        return request.complete(Ok(Some(information + 100)));
    }
    // SAFETY: the device below lives.
    unsafe { request.pass(lower) }
}

/// Requests that complete at once or later, passed on or taken back.
pub fn sound() {
    crate::on_thread(|| {
        let below = device("Lower", lower);
        let above = device("Upper", upper);
        LOWER.store(below as usize, Ordering::Relaxed);
        // SAFETY: both devices live.
        assert_eq!(unsafe { IoAttachDeviceToDeviceStack(above, below) }, below);
        // SAFETY: the device lives.
        assert_eq!(unsafe { (*above).StackSize }, 2);
        for (forward, extra) in [(false, 0), (true, 100)] {
            FORWARD.store(forward, Ordering::Relaxed);
            for (minor, information) in [(0, 42), (1, 43)] {
                let outcome = send(below, minor);
                assert_eq!(
                    outcome,
                    Outcome {
                        status: STATUS_SUCCESS,
                        information: information + extra
                    }
                );
            }
        }
        assert_eq!(SEEN.load(Ordering::Relaxed), 4);
        // SAFETY: the devices live and no request is at them.
        unsafe { IoDetachDevice(below) };
        for device in [above, below] {
            // SAFETY: nothing is attached to the device.
            unsafe { IoDeleteDevice(device) };
        }
        assert!(nt_host::io::complete::outstanding().is_empty());
    });
}

fn breach(dispatch: DRIVER_DISPATCH) {
    crate::on_thread(move || send(device("Bad", dispatch), 0));
}

unsafe extern "win64" fn twice(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the IRP is this routine's own.
    unsafe { (*irp).IoStatus.Status = STATUS_SUCCESS };
    for _ in 0..2 {
        // SAFETY: that the second time comes after the first is the case.
        unsafe { IofCompleteRequest(irp, 0) };
    }
    STATUS_SUCCESS
}

/// A driver completes a request that it completed before.
pub fn completed_twice() {
    breach(twice);
}

unsafe extern "win64" fn unmarked(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    assert!(thread::run(1, move || {
        wait::delay(20_000);
        request.complete(Ok(Some(0)));
    }));
    STATUS_PENDING
}

/// A driver returns STATUS_PENDING without having marked the request.
pub fn pending_without_mark() {
    breach(unmarked);
}

unsafe extern "win64" fn forgotten(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the IRP is this routine's own.
    let location = unsafe { irp::current_location(irp) };
    // SAFETY: as above.
    let control = unsafe { (*location).Control };
    assert_eq!(control & SL_PENDING_RETURNED, 0);
    STATUS_SUCCESS
}

/// A driver returns success and does nothing.
pub fn lost() {
    breach(forgotten);
}

unsafe extern "win64" fn deeper(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    // SAFETY: the device lives; that it is this very device is the case.
    unsafe { request.forward(device) }
}

/// A driver sends a request further than its stack is deep.
pub fn no_location() {
    breach(deeper);
}
