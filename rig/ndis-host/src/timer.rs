//! Timer objects: a routine of the miniport's that runs at DISPATCH_LEVEL.

use alloc::format;
use alloc::string::String;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use nt_host::exports;
use nt_host::ke::dpc::{KeFlushQueuedDpcs, KeInitializeDpc};
use nt_host::ke::timer::{KeCancelTimer, KeInitializeTimerEx, KeSetTimerEx};
use nt_host::ke::{border, irql};
use nt_sys::ndis::{
    NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_STATUS, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS,
};
use nt_sys::{BOOLEAN, KDPC, KTIMER, LARGE_INTEGER, NotificationTimer, PASSIVE_LEVEL, PVOID};

use crate::attributes::header;
use crate::handle::Handles;

/// NdisTimerFunction.
type Routine = unsafe extern "win64" fn(PVOID, PVOID, PVOID, PVOID);

/// NDIS_TIMER_CHARACTERISTICS (ndis.h).
#[repr(C)]
pub struct NDIS_TIMER_CHARACTERISTICS {
    Header: NDIS_OBJECT_HEADER,
    AllocationTag: u32,
    TimerFunction: Option<Routine>,
    FunctionContext: PVOID,
}

/// NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS (ndis.h).
const KIND: u8 = 0x97;

/// A timer object.
pub struct Timer {
    handle: usize,
    owner: usize,
    routine: Routine,
    context: AtomicUsize,
    objects: UnsafeCell<Objects>,
}

struct Objects {
    timer: KTIMER,
    dpc: KDPC,
}

// SAFETY: the kernel's objects are only handed to it by address.
unsafe impl Send for Timer {}
// SAFETY: as for `Send`.
unsafe impl Sync for Timer {}

static TIMERS: Handles<Timer> = Handles::new(6, "a timer");

impl Timer {
    fn timer(&self) -> *mut KTIMER {
        // SAFETY: only an address is computed.
        unsafe { &raw mut (*self.objects.get()).timer }
    }

    fn dpc(&self) -> *mut KDPC {
        // SAFETY: only an address is computed.
        unsafe { &raw mut (*self.objects.get()).dpc }
    }
}

/// A timer that a handle's owner has left, for people.
pub fn left_by(owner: NDIS_HANDLE) -> Option<String> {
    let found = TIMERS.all().find(|timer| timer.owner == owner as usize)?;
    Some(format!("timer {:#x}", found.handle))
}

/// Microsoft Learn: NdisAllocateTimerObject.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn NdisAllocateTimerObject(
    owner: NDIS_HANDLE,
    characteristics: *const NDIS_TIMER_CHARACTERISTICS,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    let sizes = [(1, size_of::<NDIS_TIMER_CHARACTERISTICS>() as u16, 0)];
    // SAFETY: the caller's promise.
    unsafe {
        header(
            characteristics.cast(),
            "NDIS_TIMER_CHARACTERISTICS",
            KIND,
            &sizes,
        )
    };
    // SAFETY: the header says that it is there.
    let given = unsafe { &*characteristics };
    let Some(routine) = given.TimerFunction else {
        return nt_sys::ndis::NDIS_STATUS_INVALID_PARAMETER;
    };
    let opened = TIMERS.open(|handle| Timer {
        handle: handle as usize,
        owner: owner as usize,
        routine,
        context: AtomicUsize::new(given.FunctionContext as usize),
        // SAFETY: all zero is valid for objects that are not initialised yet.
        objects: UnsafeCell::new(unsafe { core::mem::zeroed() }),
    });
    let Some(timer) = opened else {
        return NDIS_STATUS_RESOURCES;
    };
    // SAFETY: at its final address, and nobody uses it yet.
    unsafe { KeInitializeTimerEx(timer.timer(), NotificationTimer) };
    let context = core::ptr::from_ref(timer).cast_mut().cast();
    // SAFETY: as above.
    unsafe { KeInitializeDpc(timer.dpc(), Some(fired), context) };
    // SAFETY: the caller's place for the handle.
    unsafe { out.write(timer.handle as NDIS_HANDLE) };
    NDIS_STATUS_SUCCESS
}

unsafe extern "win64" fn fired(_dpc: *mut KDPC, context: PVOID, one: PVOID, two: PVOID) {
    // SAFETY: timers are never freed.
    let timer = unsafe { &*context.cast::<Timer>() };
    let context = timer.context.load(Ordering::Acquire) as PVOID;
    // SAFETY: the miniport's own routine, called as documented.
    border::call(|| unsafe { (timer.routine)(one, context, two, core::ptr::null_mut()) });
}

/// Microsoft Learn: NdisSetTimerObject; whether it was set before.
pub extern "win64" fn NdisSetTimerObject(
    handle: NDIS_HANDLE,
    due: LARGE_INTEGER,
    period: u32,
    context: PVOID,
) -> BOOLEAN {
    let timer = TIMERS.demand(handle, "NdisSetTimerObject");
    if !context.is_null() {
        timer.context.store(context as usize, Ordering::Release);
    }
    // SAFETY: initialised objects that stay.
    unsafe { KeSetTimerEx(timer.timer(), due, period.cast_signed(), timer.dpc()) }
}

/// Microsoft Learn: NdisCancelTimerObject; whether it was set.
pub extern "win64" fn NdisCancelTimerObject(handle: NDIS_HANDLE) -> BOOLEAN {
    let timer = TIMERS.demand(handle, "NdisCancelTimerObject");
    // SAFETY: an initialised timer.
    unsafe { KeCancelTimer(timer.timer()) }
}

/// Microsoft Learn: NdisFreeTimerObject.
pub extern "win64" fn NdisFreeTimerObject(handle: NDIS_HANDLE) {
    let timer = TIMERS.close(handle, "NdisFreeTimerObject");
    // SAFETY: an initialised timer.
    unsafe { KeCancelTimer(timer.timer()) };
    if irql::current() == PASSIVE_LEVEL {
        KeFlushQueuedDpcs();
    }
}

exports!("ndis.sys": NdisAllocateTimerObject, NdisSetTimerObject, NdisCancelTimerObject, NdisFreeTimerObject);
