//! Timers that call a function at DISPATCH_LEVEL.

use crate::event::relative;
use crate::{Dpc, Result, try_box};
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::time::Duration;
use nt_sys::KTIMER;
use nt_sys::imports::{KeCancelTimer, KeInitializeTimerEx, KeSetTimerEx};

/// A timer, once or periodic. Dropping it waits for a running call: drop at PASSIVE_LEVEL.
pub struct Timer {
    object: Box<UnsafeCell<MaybeUninit<KTIMER>>>,
    dpc: Dpc,
}

// SAFETY: the kernel synchronises access to the object.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Timer {
    /// A timer that calls `callback` when it fires; it is not set.
    pub fn new(callback: impl Fn() + Send + Sync + 'static) -> Result<Timer> {
        let timer = Timer {
            object: try_box(UnsafeCell::new(MaybeUninit::uninit()))?,
            dpc: Dpc::new(callback)?,
        };
        // SAFETY: the memory is the timer's own and does not move.
        unsafe { KeInitializeTimerEx(timer.as_ptr(), nt_sys::NotificationTimer) };
        Ok(timer)
    }

    fn as_ptr(&self) -> *mut KTIMER {
        self.object.get().cast()
    }

    /// Fires once after `delay`; a setting made before is replaced. IRQL ≤ DISPATCH_LEVEL.
    pub fn set(&self, delay: Duration) {
        self.arm(delay, 0);
    }

    /// Fires after `period` (whole milliseconds, at least one) and then again each period.
    pub fn set_periodic(&self, period: Duration) {
        let milliseconds = i32::try_from(period.as_millis()).unwrap_or(i32::MAX).max(1);
        self.arm(period, milliseconds);
    }

    fn arm(&self, delay: Duration, period: i32) {
        // SAFETY: timer and DPC are initialised and live until the drop, which cancels.
        unsafe { KeSetTimerEx(self.as_ptr(), relative(delay), period, self.dpc.as_ptr()) };
    }

    /// Takes the setting back; false when the timer was not set. A call may still be queued or running.
    pub fn cancel(&self) -> bool {
        // SAFETY: the timer is initialised.
        unsafe { KeCancelTimer(self.as_ptr()) != 0 }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The DPC, dropped after this, takes back or waits for a call that was queued.
        self.cancel();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}
