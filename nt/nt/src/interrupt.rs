//! Connected interrupts.

use crate::{DeviceObject, NtStatus, Result, try_box};
use alloc::boxed::Box;
use core::fmt;
use core::ptr::NonNull;
use nt_sys::imports::{
    IoConnectInterruptEx, IoDisconnectInterruptEx, KeAcquireInterruptSpinLock,
    KeReleaseInterruptSpinLock,
};
use nt_sys::{
    BOOLEAN, CONNECT_FULLY_SPECIFIED, CONNECT_FULLY_SPECIFIED_GROUP,
    IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS, IO_CONNECT_INTERRUPT_KINDS,
    IO_CONNECT_INTERRUPT_PARAMETERS, IO_DISCONNECT_CONTEXT, IO_DISCONNECT_INTERRUPT_PARAMETERS,
    KINTERRUPT, PVOID,
};

/// Which interrupt to connect, from the translated resource descriptor.
#[derive(Clone, Copy, Debug)]
pub struct InterruptSpec {
    /// Vector.
    pub vector: u32,
    /// Device IRQL, at which the service routine runs.
    pub irql: u8,
    /// Processor group.
    pub group: u16,
    /// Processors of the group.
    pub affinity: u64,
    /// Edge-triggered or message (true), or a level-sensitive line (false).
    pub latched: bool,
    /// Whether the line is shared with other devices.
    pub shared: bool,
}

/// The service routine: runs at the device's IRQL and says whether the interrupt was its device's.
type Routine = dyn Fn() -> bool + Send + Sync;

/// A connected interrupt. Dropping it disconnects, at PASSIVE_LEVEL.
pub struct Interrupt {
    object: NonNull<KINTERRUPT>,
    version: u32,
    _routine: Box<Box<Routine>>,
}

// SAFETY: the kernel synchronises access to the object; the routine is Send and Sync.
unsafe impl Send for Interrupt {}
// SAFETY: as above.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// Connects `routine` to the interrupt `spec` of the physical device `device`. PASSIVE_LEVEL.
    pub fn connect(
        device: &DeviceObject,
        spec: InterruptSpec,
        routine: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Interrupt> {
        let routine: Box<Routine> = try_box(routine)?;
        let routine = try_box(routine)?;
        let context: *const Box<Routine> = &*routine;
        let mut object = core::ptr::null_mut();
        let version = if spec.group == 0 {
            CONNECT_FULLY_SPECIFIED
        } else {
            CONNECT_FULLY_SPECIFIED_GROUP
        };
        let mut parameters = IO_CONNECT_INTERRUPT_PARAMETERS {
            Version: version,
            Anonymous: IO_CONNECT_INTERRUPT_KINDS {
                FullySpecified: IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
                    PhysicalDeviceObject: device.as_ptr(),
                    InterruptObject: &mut object,
                    ServiceRoutine: Some(service),
                    ServiceContext: context.cast_mut().cast(),
                    SpinLock: core::ptr::null_mut(),
                    SynchronizeIrql: spec.irql,
                    FloatingSave: nt_sys::FALSE,
                    ShareVector: spec.shared.into(),
                    Vector: spec.vector,
                    Irql: spec.irql,
                    InterruptMode: if spec.latched {
                        nt_sys::Latched
                    } else {
                        nt_sys::LevelSensitive
                    },
                    ProcessorEnableMask: spec.affinity,
                    Group: spec.group,
                },
            },
        };
        // SAFETY: the parameters are live; routine and context fit each other and live until the disconnection.
        NtStatus::check(unsafe { IoConnectInterruptEx(&mut parameters) })?;
        let object = NonNull::new(object).ok_or(NtStatus::UNSUCCESSFUL)?;
        Ok(Interrupt {
            object,
            version,
            _routine: routine,
        })
    }

    /// Runs `body` at the interrupt's IRQL, with its lock held. IRQL ≤ the interrupt's.
    pub fn synchronize<R>(&self, body: impl FnOnce() -> R) -> R {
        // SAFETY: the interrupt is connected.
        let level = unsafe { KeAcquireInterruptSpinLock(self.object.as_ptr()) };
        let result = body();
        // SAFETY: the lock was taken above, from that level.
        unsafe { KeReleaseInterruptSpinLock(self.object.as_ptr(), level) };
        result
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS {
            Version: self.version,
            ConnectionContext: IO_DISCONNECT_CONTEXT {
                InterruptObject: self.object.as_ptr(),
            },
        };
        // SAFETY: the interrupt is connected, with this version.
        unsafe { IoDisconnectInterruptEx(&mut parameters) };
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").finish_non_exhaustive()
    }
}

unsafe extern "win64" fn service(_: *mut KINTERRUPT, context: PVOID) -> BOOLEAN {
    // SAFETY: the context is what `connect` passed, and lives until the disconnection.
    let routine = unsafe { &*context.cast::<Box<Routine>>() };
    routine().into()
}
