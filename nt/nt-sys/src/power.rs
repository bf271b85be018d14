//! Power states, actions and minor functions.

use crate::{DEVICE_OBJECT, IO_STATUS_BLOCK, PVOID, UCHAR};

// SYSTEM_POWER_STATE
pub const PowerSystemUnspecified: i32 = 0;
pub const PowerSystemWorking: i32 = 1;
pub const PowerSystemSleeping1: i32 = 2;
pub const PowerSystemSleeping2: i32 = 3;
pub const PowerSystemSleeping3: i32 = 4;
pub const PowerSystemHibernate: i32 = 5;
pub const PowerSystemShutdown: i32 = 6;
pub const PowerSystemMaximum: usize = 7;

// DEVICE_POWER_STATE
pub const PowerDeviceUnspecified: i32 = 0;
pub const PowerDeviceD0: i32 = 1;
pub const PowerDeviceD1: i32 = 2;
pub const PowerDeviceD2: i32 = 3;
pub const PowerDeviceD3: i32 = 4;

// POWER_STATE_TYPE
pub const SystemPowerState: i32 = 0;
pub const DevicePowerState: i32 = 1;

// POWER_ACTION
pub const PowerActionNone: i32 = 0;
pub const PowerActionSleep: i32 = 2;
pub const PowerActionHibernate: i32 = 3;
pub const PowerActionShutdown: i32 = 4;
pub const PowerActionShutdownReset: i32 = 5;
pub const PowerActionShutdownOff: i32 = 6;
pub const PowerActionWarmEject: i32 = 7;

/// A system's or a device's state; which of the two is said beside it.
#[repr(C)]
#[derive(Clone, Copy)]
pub union POWER_STATE {
    pub SystemState: i32,
    pub DeviceState: i32,
}

pub type REQUEST_POWER_COMPLETE = unsafe extern "win64" fn(
    device: *mut DEVICE_OBJECT,
    minor_function: UCHAR,
    state: POWER_STATE,
    context: PVOID,
    status: *mut IO_STATUS_BLOCK,
);

// Minor functions of IRP_MJ_POWER (wdm.h)
pub const IRP_MN_WAIT_WAKE: UCHAR = 0x00;
pub const IRP_MN_POWER_SEQUENCE: UCHAR = 0x01;
pub const IRP_MN_SET_POWER: UCHAR = 0x02;
pub const IRP_MN_QUERY_POWER: UCHAR = 0x03;

layouts! {
    POWER_STATE = 4 { SystemState: 0, DeviceState: 0 }
}
