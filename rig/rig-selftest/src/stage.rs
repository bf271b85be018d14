//! A stack of devices whose dispatch routines a case chooses, and requests to it.
//!
//! ```text
//!   case: Request ── IofCallDriver ──▶ device 2 (top): act ──▶ device 1: act ──▶ device 0 (bottom): act
//!                 ◀── completion routine ◀──────────── IofCompleteRequest ◀───────────────────┘
//! ```

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::device::{self, Extension, Kind};
use crate::suite::{Finding, failed};
use crate::support::*;
use crate::wdk::*;

/// What a device of a stage does with a request.
pub type Act = fn(&'static Scene, *mut DEVICE_OBJECT, *mut IRP) -> NTSTATUS;

/// What the devices of a stage, their completion routines and the case share.
#[repr(C)]
pub struct Scene {
    /// Who was there, in order, a hexadecimal digit each.
    pub trail: AtomicU32,
    pub cells: [AtomicU32; 8],
    /// An IRP that a device keeps for later.
    pub kept: AtomicPtr<IRP>,
    pub done: Signal,
    acts: [Option<Act>; 3],
    pub devices: [*mut DEVICE_OBJECT; 3],
    count: usize,
}

impl Scene {
    pub fn pass_by(&self, digit: u32) {
        write(&self.trail, read(&self.trail) << 4 | digit);
    }

    /// The scene of a completion routine's context.
    pub fn of(context: PVOID) -> &'static Self {
        // SAFETY: a case's scene lives until its requests have ended.
        unsafe { &*context.cast::<Self>() }
    }

    pub fn context(&self) -> PVOID {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// The number of a device of the stage.
    pub fn number(&self, device: *mut DEVICE_OBJECT) -> u32 {
        let found = self.devices.iter().position(|own| *own == device);
        found.map_or(0xF, |index| index as u32)
    }

    /// The device below one of the stage.
    pub fn below(&self, device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
        device::extension(device).lower
    }
}

/// The stage, taken down with its owner.
pub struct Stage(Pool<Scene>);

impl Stage {
    /// Makes a device for each act, the first at the bottom.
    pub fn new(acts: &[Act]) -> Result<Self, Finding> {
        let mut scene = Pool::<Scene>::zeroed()?;
        scene.done.init(SynchronizationEvent);
        let mut stage = Self(scene);
        for act in acts {
            stage.add(*act)?;
        }
        Ok(stage)
    }

    fn add(&mut self, act: Act) -> Result<(), Finding> {
        let mut fresh = null_mut();
        let status = IoCreateDevice(
            device::driver(),
            size_of::<Extension>() as u32,
            core::ptr::null(),
            FILE_DEVICE_UNKNOWN,
            0,
            0,
            &raw mut fresh,
        );
        if !nt_success(status) {
            return Err(failed(format_args!("IoCreateDevice: {status:#x}")));
        }
        let at = self.0.count;
        let mut lower = null_mut();
        if at > 0 {
            lower = IoAttachDeviceToDeviceStack(fresh, self.0.devices[0]);
        }
        let mut extension = Extension::new(Kind::Stage);
        extension.lower = lower;
        extension.scene = core::ptr::from_ref(&*self.0);
        *device::extension(fresh) = extension;
        // SAFETY: the device was just made.
        unsafe { (*fresh).Flags &= !DO_DEVICE_INITIALIZING };
        self.0.devices[at] = fresh;
        self.0.acts[at] = Some(act);
        self.0.count += 1;
        Ok(())
    }

    pub fn scene(&self) -> &Scene {
        &self.0
    }

    pub fn top(&self) -> *mut DEVICE_OBJECT {
        self.0.devices[self.0.count - 1]
    }

    /// Sends an IRP of the case's own and waits until it is back.
    pub fn send(&self) -> Result<Request, Finding> {
        let request = Request::new(self)?;
        request.send();
        check!(request.is_back(), "the request did not come back");
        Ok(request)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for at in (0..self.0.count).rev() {
            if at > 0 {
                IoDetachDevice(self.0.devices[at - 1]);
            }
            IoDeleteDevice(self.0.devices[at]);
        }
    }
}

/// The dispatch routine of every device of a stage.
pub unsafe extern "system" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the scene lives longer than its devices.
    let scene = unsafe { &*device::extension(device).scene };
    match scene
        .acts
        .get(scene.number(device) as usize)
        .copied()
        .flatten()
    {
        Some(act) => act(scene, device, irp),
        None => device::complete(irp, STATUS_NO_SUCH_DEVICE, 0),
    }
}

/// An IRP from IoAllocateIrp for a stage, which comes back to its maker's completion routine.
pub struct Request {
    pub irp: *mut IRP,
    scene: *const Scene,
    top: *mut DEVICE_OBJECT,
}

impl Request {
    pub fn new(stage: &Stage) -> Result<Self, Finding> {
        // SAFETY: a device of the stage.
        let size = unsafe { (*stage.top()).StackSize };
        let irp = IoAllocateIrp(size, 0);
        if irp.is_null() {
            return Err(failed(format_args!("IoAllocateIrp returned null")));
        }
        let scene = stage.scene();
        let next = IoGetNextIrpStackLocation(irp);
        next.MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
        next.Arguments = [0x11, 0x22, 0x33, 0x44];
        IoSetCompletionRoutine(irp, came_back, scene.context(), ALWAYS);
        Ok(Self {
            irp,
            scene,
            top: stage.top(),
        })
    }

    /// What IoCallDriver returned.
    pub fn send(&self) -> NTSTATUS {
        IofCallDriver(self.top, self.irp)
    }

    fn scene(&self) -> &Scene {
        // SAFETY: the stage outlives its requests.
        unsafe { &*self.scene }
    }

    /// Whether it has come back, or does in the time a case has patience for.
    pub fn is_back(&self) -> bool {
        self.scene().done.arrives()
    }

    pub fn status(&self) -> NTSTATUS {
        fields(self.irp).IoStatus.Status
    }

    pub fn information(&self) -> usize {
        fields(self.irp).IoStatus.Information
    }

    /// PendingReturned as the maker's completion routine saw it.
    pub fn was_pending(&self) -> bool {
        read(&self.scene().cells[7]) & 1 != 0
    }

    /// The device that the maker's completion routine was given: whether there was one.
    pub fn had_device(&self) -> bool {
        read(&self.scene().cells[7]) & 2 != 0
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        IoFreeIrp(self.irp);
    }
}

unsafe extern "system" fn came_back(
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    scene: PVOID,
) -> NTSTATUS {
    let scene = Scene::of(scene);
    scene.pass_by(0xE);
    let (pending, device) = (fields(irp).PendingReturned != 0, !device.is_null());
    scene.cells[7].store(
        u32::from(pending) | u32::from(device) << 1,
        Ordering::SeqCst,
    );
    scene.done.set();
    STATUS_MORE_PROCESSING_REQUIRED
}

// Acts that many cases use.

/// Completes with success and 0x77 bytes.
pub fn succeed(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    scene.pass_by(scene.number(device));
    device::complete(irp, STATUS_SUCCESS, 0x77)
}

/// Completes with STATUS_UNSUCCESSFUL.
pub fn fail(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    scene.pass_by(scene.number(device));
    device::complete(irp, STATUS_UNSUCCESSFUL, 0)
}

/// Passes on in the same stack location.
pub fn skip(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    scene.pass_by(scene.number(device));
    IoSkipCurrentIrpStackLocation(irp);
    IofCallDriver(scene.below(device), irp)
}

/// Passes on with a copy of its parameters, without a completion routine.
pub fn copy(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    scene.pass_by(scene.number(device));
    IoCopyCurrentIrpStackLocationToNext(irp);
    IofCallDriver(scene.below(device), irp)
}

/// Passes on with a completion routine that notes its device's number with 8 added, and lets the completion go on.
pub fn watch(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    scene.pass_by(scene.number(device));
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, seen, scene.context(), ALWAYS);
    IofCallDriver(scene.below(device), irp)
}

/// The completion routine of `watch`.
pub unsafe extern "system" fn seen(
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    scene: PVOID,
) -> NTSTATUS {
    let scene = Scene::of(scene);
    scene.pass_by(8 + scene.number(device));
    if fields(irp).PendingReturned != 0 {
        IoMarkIrpPending(irp);
        add(&scene.cells[6]);
    }
    STATUS_SUCCESS
}

/// Marks the request pending and keeps it; the case completes it with [`finish`].
pub fn keep(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    scene.pass_by(scene.number(device));
    IoMarkIrpPending(irp);
    scene.kept.store(irp, Ordering::SeqCst);
    STATUS_PENDING
}

/// Completes what `keep` has kept.
pub fn finish(scene: &Scene, status: NTSTATUS) {
    let irp = scene.kept.swap(null_mut(), Ordering::SeqCst);
    if !irp.is_null() {
        device::complete(irp, status, 0x55);
    }
}
