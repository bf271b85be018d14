//! The adapter as storport knows it: calls into the port driver.

use core::ptr::NonNull;
use nt::{NtStatus, Result};
use nt_sys::imports::{
    StorPortExtendedFunction, StorPortNotification, StorPortSetDeviceQueueDepth,
};
use nt_sys::storport::{
    BusChangeDetected, ExtFunctionGetDeviceObjects, ExtFunctionInitializePerformanceOptimizations,
    PERF_CONFIGURATION_DATA, STOR_PERF_CONCURRENT_CHANNELS, STOR_PERF_DPC_REDIRECTION,
    STOR_PERF_OPTIMIZE_FOR_COMPLETION_DURING_STARTIO, STOR_STATUS_SUCCESS,
};
use nt_sys::{DEVICE_OBJECT, FALSE, PVOID, TRUE};

/// Names the adapter to storport. Valid as long as the [`Miniport`](crate::Miniport) lives.
#[derive(Clone, Copy, Debug)]
pub struct Adapter {
    extension: NonNull<core::ffi::c_void>,
}

// SAFETY: the pointer is only a name, which storport takes on any processor.
unsafe impl Send for Adapter {}
// SAFETY: as above.
unsafe impl Sync for Adapter {}

/// The adapter's place in its device stack.
#[derive(Clone, Copy, Debug)]
pub struct DeviceObjects {
    /// Storport's own device object.
    pub function: *mut DEVICE_OBJECT,
    /// The bus driver's.
    pub physical: *mut DEVICE_OBJECT,
    /// The one below storport's.
    pub lower: *mut DEVICE_OBJECT,
}

impl Adapter {
    /// `extension` is what storport passes to every callback.
    pub(crate) fn new(extension: PVOID) -> Option<Adapter> {
        NonNull::new(extension).map(|extension| Adapter { extension })
    }

    pub(crate) fn as_ptr(self) -> PVOID {
        self.extension.as_ptr()
    }

    /// Tells storport to look for disks that came or went. IRQL ≤ DISPATCH_LEVEL.
    pub fn bus_changed(self) {
        // SAFETY: this notification takes the path after the extension and may be made at any time.
        unsafe { StorPortNotification(BusChangeDetected, self.as_ptr(), 0u32) };
    }

    /// Lets storport send a disk up to `depth` requests at a time; whether it agreed. IRQL ≤ DISPATCH_LEVEL.
    pub fn set_queue_depth(self, target: u8, depth: u32) -> bool {
        // SAFETY: an address without a disk is refused by storport.
        unsafe { StorPortSetDeviceQueueDepth(self.as_ptr(), 0, target, 0, depth) != 0 }
    }

    /// The device objects of the adapter's stack. PASSIVE_LEVEL.
    pub fn device_objects(self) -> Result<DeviceObjects> {
        let null = core::ptr::null_mut();
        let mut objects = DeviceObjects {
            function: null,
            physical: null,
            lower: null,
        };
        // SAFETY: this function takes pointers to three pointers, which are live.
        let status = unsafe {
            StorPortExtendedFunction(
                ExtFunctionGetDeviceObjects,
                self.as_ptr(),
                &raw mut objects.function,
                &raw mut objects.physical,
                &raw mut objects.lower,
            )
        };
        let complete = !objects.function.is_null() && !objects.lower.is_null();
        if status == STOR_STATUS_SUCCESS && complete {
            Ok(objects)
        } else {
            Err(NtStatus::UNSUCCESSFUL)
        }
    }

    /// Asks for requests to be started on `channels` processors at once, as far as storport can. PASSIVE_LEVEL, from
    /// [`Miniport::start`](crate::Miniport::start).
    pub fn optimise(self, channels: u32) {
        let forms = [
            (3, STOR_PERF_OPTIMIZE_FOR_COMPLETION_DURING_STARTIO),
            (2, STOR_PERF_DPC_REDIRECTION | STOR_PERF_CONCURRENT_CHANNELS),
        ];
        for (version, _) in forms {
            let mut data = PERF_CONFIGURATION_DATA {
                Version: version,
                Size: size_of::<PERF_CONFIGURATION_DATA>() as u32,
                Flags: 0,
                ConcurrentChannels: 0,
                FirstRedirectionMessageNumber: 0,
                LastRedirectionMessageNumber: 0,
                DeviceNode: 0,
                Reserved: 0,
                MessageTargets: core::ptr::null_mut(),
            };
            if self.performance(true, &mut data) != STOR_STATUS_SUCCESS {
                continue;
            }
            let wanted = forms
                .iter()
                .filter(|(since, _)| *since <= version)
                .fold(0, |all, (_, flags)| all | flags);
            data.Flags &= wanted;
            data.ConcurrentChannels = channels;
            if data.Flags != 0 {
                // Without them everything works as well, only not as fast.
                let _ = self.performance(false, &mut data);
            }
            return;
        }
    }

    fn performance(self, query: bool, data: &mut PERF_CONFIGURATION_DATA) -> u32 {
        let query = u32::from(if query { TRUE } else { FALSE });
        // SAFETY: this function takes a BOOLEAN (promoted to int) and the structure, which is live.
        unsafe {
            StorPortExtendedFunction(
                ExtFunctionInitializePerformanceOptimizations,
                self.as_ptr(),
                query,
                core::ptr::from_mut(data),
            )
        }
    }
}
