//! What comes to devices when the system sleeps, and what the owner of a device's power policy does then.
//!
//! ```text
//!   power manager ── S3 ──▶ function device ──▶ bus ── done ──▶ function device: D3 ──▶ bus ── done ──▶ S3 is complete
//!                 ── S0 ──▶ function device ──▶ bus ── done ──▶ S0 is complete; D0 ──▶ bus
//! ```
//! (Microsoft Learn, "Handling a System Set-Power IRP in a Device Power Policy Owner".)

use core::ptr::null_mut;
use core::sync::atomic::AtomicU32;

use crate::device;
use crate::support::*;
use crate::wdk::*;

/// Whose request it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The root-enumerated device's function device.
    Root = 1,
    /// The function device of the child in slot 0.
    Child = 2,
    /// Its physical device.
    Bus = 3,
    /// Function and physical device of the child in slot 1.
    Sibling = 4,
}

/// A request, or one that is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub who: Who,
    pub minor: u8,
    /// POWER_STATE_TYPE.
    pub kind: i32,
    pub state: i32,
}

const NOTES: usize = 128;
static NOTE: [AtomicU32; NOTES] = [const { AtomicU32::new(0) }; NOTES];
static COUNT: AtomicU32 = AtomicU32::new(0);
/// POWER_ACTION of the last request for S3 to the root's function device.
pub static ACTION: AtomicU32 = AtomicU32::new(0);

impl Step {
    pub const fn system(who: Who, minor: u8, state: i32) -> Self {
        Self {
            who,
            minor,
            kind: SystemPowerState as i32,
            state,
        }
    }

    pub const fn device(who: Who, state: i32) -> Self {
        Self {
            who,
            minor: IRP_MN_SET_POWER,
            kind: DevicePowerState as i32,
            state,
        }
    }

    fn word(self) -> u32 {
        (self.who as u32) << 24
            | u32::from(self.minor) << 16
            | (self.kind as u32) << 8
            | self.state as u32
    }

    /// Its first place in what came.
    pub fn at(self) -> Option<usize> {
        noted().position(|word| word == self.word())
    }

    /// How often it came.
    pub fn count(self) -> usize {
        noted().filter(|word| *word == self.word()).count()
    }
}

fn noted() -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator {
    let count = (read(&COUNT) as usize).min(NOTES);
    NOTE[..count].iter().map(read)
}

/// The last place of a system query, and the first one of a system state that is set.
pub fn last_query_and_first_set() -> (Option<usize>, Option<usize>) {
    let is = |minor: u8| {
        move |word: &u32| {
            (*word >> 16) as u8 == minor && (*word >> 8) as u8 == SystemPowerState as u8
        }
    };
    let last = noted()
        .enumerate()
        .rfind(|(_, word)| is(IRP_MN_QUERY_POWER)(word));
    let first = noted().position(|word| is(IRP_MN_SET_POWER)(&word));
    (last.map(|(at, _)| at), first)
}

/// Forgets what came.
pub fn forget() {
    write(&COUNT, 0);
}

/// Parameters.Power of a request: type, state, ShutdownType.
fn parameters(irp: *mut IRP) -> (i32, i32, u32) {
    let [_, kind, state, action] = IoGetCurrentIrpStackLocation(irp).Arguments;
    (kind as i32, state as i32, action as u32)
}

/// Notes a request.
pub fn note(who: Who, irp: *mut IRP) {
    let (kind, state, action) = parameters(irp);
    let minor = IoGetCurrentIrpStackLocation(irp).MinorFunction;
    if who == Who::Root && (kind, state) == (SystemPowerState as i32, PowerSystemSleeping3) {
        write(&ACTION, action);
    }
    let step = Step {
        who,
        minor,
        kind,
        state,
    };
    if let Some(place) = NOTE.get(add(&COUNT) as usize) {
        write(place, step.word());
    }
}

/// A power request to a function device whose driver owns the power policy; noted by the caller.
pub fn owner(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let (kind, state, _) = parameters(irp);
    let minor = IoGetCurrentIrpStackLocation(irp).MinorFunction;
    let lower = device::extension(device).lower;
    PoStartNextPowerIrp(irp);
    if minor != IRP_MN_SET_POWER || kind != SystemPowerState as i32 {
        IoSkipCurrentIrpStackLocation(irp);
        return PoCallDriver(lower, irp);
    }
    let routine: IO_COMPLETION_ROUTINE = match state == PowerSystemWorking {
        true => awake,
        false => asleep,
    };
    IoMarkIrpPending(irp);
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, routine, device.cast(), ALWAYS);
    PoCallDriver(lower, irp);
    STATUS_PENDING
}

/// The drivers below have the system's state: the device's follows, and only then the request is over.
unsafe extern "system" fn asleep(_: *mut DEVICE_OBJECT, irp: *mut IRP, device: PVOID) -> NTSTATUS {
    let pdo = device::extension(device.cast()).pdo;
    let status = PoRequestPowerIrp(
        pdo,
        IRP_MN_SET_POWER,
        PowerDeviceD3,
        Some(device_asleep),
        irp.cast(),
        null_mut(),
    );
    match status {
        STATUS_PENDING => STATUS_MORE_PROCESSING_REQUIRED,
        _ => STATUS_SUCCESS,
    }
}

unsafe extern "system" fn device_asleep(
    _: *mut DEVICE_OBJECT,
    _: u8,
    _: i32,
    irp: PVOID,
    _: *mut IO_STATUS_BLOCK,
) {
    let irp = irp.cast::<IRP>();
    fields(irp).IoStatus.Status = STATUS_SUCCESS;
    IofCompleteRequest(irp, 0);
}

/// The system works again: nobody waits for the device.
unsafe extern "system" fn awake(_: *mut DEVICE_OBJECT, _: *mut IRP, device: PVOID) -> NTSTATUS {
    let pdo = device::extension(device.cast()).pdo;
    let _ = PoRequestPowerIrp(
        pdo,
        IRP_MN_SET_POWER,
        PowerDeviceD0,
        None,
        null_mut(),
        null_mut(),
    );
    STATUS_SUCCESS
}
