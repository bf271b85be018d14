//! The disk class driver: what Windows' disk.sys is to a disk's PDO.
//!
//! Bound by the inbox ID `GenDisk`. START asks the disk what it is and publishes it; REMOVE lets no further
//! request in, waits for those under way and takes it back. A disk that says that its size has changed is asked for it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::null_mut;

use nt_host::cm;
use nt_host::io::device::{
    IoAttachDeviceToDeviceStack, IoCreateDevice, IoDeleteDevice, IoDetachDevice,
};
use nt_host::io::driver;
use nt_host::io::incoming::Incoming;
use nt_host::ke::{irql, time, wait};
use nt_host::platform::PAGE_SIZE;
use nt_host::pnp::packages::{Inbox, add_inbox};
use nt_host::sync::{Mutex, Once};
use nt_sys::storport::{
    SP_UNINITIALIZED_VALUE, SRB_FUNCTION_EXECUTE_SCSI, SRB_STATUS_BUSY, SRB_STATUS_DATA_OVERRUN,
    SRB_STATUS_SUCCESS,
};
use nt_sys::{
    DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FILE_DEVICE_DISK, IRP,
    IRP_MJ_MAXIMUM_FUNCTION, IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE,
    IRP_MN_SURPRISE_REMOVAL, NTSTATUS, STATUS_DEVICE_NOT_READY, STATUS_NO_SUCH_DEVICE,
    STATUS_SUCCESS, nt_success,
};

use crate::buffer::DmaBuffer;
use crate::cdb::Cdb;
use crate::disk::Disk;
use crate::dispatch;
use crate::info::{self, Commands};
use crate::queue::{self, Answer, Direction, Request};
use crate::sense::{Failure, Sense};
use crate::unit::Unit;

/// Seconds for a request when the registry does not say (disk.sys: TimeOutValue).
const TIMEOUT: u32 = 60;
/// Most bytes of a request when the miniport does not say (storport.sys' default: 64 KiB and a page).
const MAX_TRANSFER: u32 = 0x1_0000;

struct Attached {
    pdo: usize,
    lower: usize,
    disk: Option<Arc<Disk>>,
}

static ATTACHED: Mutex<BTreeMap<usize, Attached>> = Mutex::new(BTreeMap::new());
static REGISTERED: Once<()> = Once::new();

/// The disks that are started, by target.
pub fn disks() -> Vec<Arc<Disk>> {
    let mut disks: Vec<_> = ATTACHED
        .lock()
        .values()
        .filter_map(|attached| attached.disk.clone())
        .collect();
    disks.sort_by_key(|disk| disk.target());
    disks
}

/// Makes the class driver, once. At PASSIVE_LEVEL.
pub fn register() {
    if !REGISTERED.set(()) {
        return;
    }
    let object = driver::create_host("disk");
    // SAFETY: a live driver object of the host.
    let fields = unsafe { &mut *object };
    fields.MajorFunction = [Some(dispatch); IRP_MJ_MAXIMUM_FUNCTION + 1];
    // SAFETY: the extension lives with its driver.
    unsafe { (*fields.DriverExtension).AddDevice = Some(add_device) };
    add_inbox(Inbox {
        id: "GenDisk",
        service: "disk",
        class: "DiskDrive",
        class_guid: "{4d36e967-e325-11ce-bfc1-08002be10318}",
        description: "Disk drive",
    });
}

unsafe extern "win64" fn add_device(
    object: *mut DRIVER_OBJECT,
    pdo: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    let mut fdo = null_mut();
    // SAFETY: a live driver object of the host, and a place for the result.
    let status = unsafe {
        IoCreateDevice(
            object,
            0,
            core::ptr::null(),
            FILE_DEVICE_DISK,
            0,
            0,
            &raw mut fdo,
        )
    };
    if status != STATUS_SUCCESS {
        return status;
    }
    // SAFETY: both devices live.
    let lower = unsafe { IoAttachDeviceToDeviceStack(fdo, pdo) };
    if lower.is_null() {
        // SAFETY: the device was just made and nothing is attached to it.
        unsafe { IoDeleteDevice(fdo) };
        return STATUS_NO_SUCH_DEVICE;
    }
    let attached = Attached {
        pdo: pdo as usize,
        lower: lower as usize,
        disk: None,
    };
    ATTACHED.lock().insert(fdo as usize, attached);
    // SAFETY: the device was just made.
    unsafe { (*fdo).Flags &= !DO_DEVICE_INITIALIZING };
    STATUS_SUCCESS
}

unsafe extern "win64" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    let known = ATTACHED
        .lock()
        .get(&(device as usize))
        .map(|attached| (attached.pdo, attached.lower));
    let Some((pdo, lower)) = known else {
        return request.complete(Err(STATUS_NO_SUCH_DEVICE));
    };
    let lower = lower as *mut DEVICE_OBJECT;
    match request.function() {
        (IRP_MJ_PNP, IRP_MN_START_DEVICE) => {
            // SAFETY: the device is attached to this one.
            let status = unsafe { request.forward(lower) };
            if !nt_success(status) {
                return request.complete(Err(status));
            }
            match start(device, pdo as *mut DEVICE_OBJECT) {
                Ok(()) => request.complete(Ok(Some(0))),
                Err(status) => request.complete(Err(status)),
            }
        }
        (IRP_MJ_PNP, minor @ (IRP_MN_SURPRISE_REMOVAL | IRP_MN_REMOVE_DEVICE)) => {
            stop(device);
            request.set(STATUS_SUCCESS, 0);
            // SAFETY: the device is attached to this one.
            let status = unsafe { request.pass(lower) };
            if minor == IRP_MN_REMOVE_DEVICE {
                let gone = ATTACHED.lock().remove(&(device as usize));
                drop(gone);
                // SAFETY: this driver's device is attached to it.
                unsafe { IoDetachDevice(lower) };
                // SAFETY: a removed device, which nothing is attached to any more.
                unsafe { IoDeleteDevice(device) };
            }
            status
        }
        // SAFETY: the device is attached to this one.
        _ => unsafe { request.pass(lower) },
    }
}

fn start(device: *mut DEVICE_OBJECT, pdo: *mut DEVICE_OBJECT) -> Result<(), NTSTATUS> {
    let unit = dispatch::unit(pdo).ok_or(STATUS_NO_SUCH_DEVICE)?;
    let key = format!("{}\\Disk", cm::SERVICES);
    let timeout = cm::read(&key, "TimeOutValue")
        .and_then(|value| value.as_dword())
        .unwrap_or(TIMEOUT);
    let info = match info::identify(&Direct {
        unit: &unit,
        timeout,
    }) {
        Ok(info) => info,
        Err(why) => {
            crate::pnp::log(&unit.adapter, &format!("target {}: {why}", unit.target));
            return Err(STATUS_DEVICE_NOT_READY);
        }
    };
    let max_transfer = max_transfer(&unit, &info);
    let disk = Arc::new(Disk::new(unit, info, max_transfer, timeout));
    if let Some(attached) = ATTACHED.lock().get_mut(&(device as usize)) {
        attached.disk = Some(disk);
    }
    Ok(())
}

/// The disk has said that its size has changed: asks for it, in a thread. Any IRQL up to DISPATCH_LEVEL.
pub(crate) fn ask_size(disk: &Arc<Disk>) {
    let disk = disk.clone();
    let ask = move || {
        let unit = disk.unit();
        let commands = Direct {
            unit,
            timeout: disk.timeout(),
        };
        match info::capacity(&commands) {
            Ok(capacity) => disk.set_sectors(capacity.sectors),
            Err(why) => crate::pnp::log(&unit.adapter, &format!("target {}: {why}", unit.target)),
        }
    };
    // Without memory the size stays what it was, until the disk says so again.
    nt_host::ke::thread::run(0, ask);
}

/// Most bytes of a request whose buffer is scattered pages that start on a page: a multiple of both page and block.
fn max_transfer(unit: &Unit, info: &info::Info) -> u32 {
    let config = unit.adapter.config.lock();
    let of = |value: u32, default: u32| {
        if value == SP_UNINITIALIZED_VALUE {
            default
        } else {
            value
        }
    };
    let bytes = of(config.0.MaximumTransferLength, MAX_TRANSFER);
    let pages = of(
        config.0.NumberOfPhysicalBreaks,
        MAX_TRANSFER / PAGE_SIZE as u32,
    )
    .saturating_add(1);
    let blocks = match info.max_transfer_blocks {
        0 => u32::MAX,
        blocks => blocks.saturating_mul(info.sector_size),
    };
    let most = bytes
        .min(pages.saturating_mul(PAGE_SIZE as u32))
        .min(blocks);
    (most / info.sector_size.max(1))
        .max(1)
        .saturating_mul(info.sector_size)
}

/// Takes a disk back from its users: nothing more goes in, what waits is refused, what is under way is waited for.
fn stop(device: *mut DEVICE_OBJECT) {
    /// How long requests may take to end, in 100 ns units: 60 s.
    const PATIENCE: u64 = 600_000_000;
    let disk = ATTACHED
        .lock()
        .get_mut(&(device as usize))
        .and_then(|attached| attached.disk.take());
    let Some(disk) = disk else { return };
    disk.close();
    let waiting = disk.unit().drain();
    irql::at_dispatch(|| {
        waiting
            .into_iter()
            .for_each(|request| request.finish(Answer::gone()))
    });
    let limit = time::interrupt_time().saturating_add(PATIENCE);
    while disk.under_way() != 0 {
        if time::interrupt_time() > limit {
            let adapter = &disk.unit().adapter;
            crate::pnp::log(
                adapter,
                &format!(
                    "target {}: {} requests never ended",
                    disk.target(),
                    disk.under_way()
                ),
            );
            return;
        }
        wait::delay(10_000);
    }
}

/// Commands that go around the unit's queue, one after the other.
struct Direct<'a> {
    unit: &'a Arc<Unit>,
    timeout: u32,
}

impl Direct<'_> {
    fn run(&self, cdb: Cdb, length: usize) -> Result<Vec<u8>, Failure> {
        /// How often a busy miniport is asked again, every 10 ms.
        const PATIENCE: u32 = 500;
        let lost = Failure {
            srb_status: nt_sys::storport::SRB_STATUS_INTERNAL_ERROR,
            scsi_status: 0,
            sense: None,
        };
        let mut tries = 0u32;
        loop {
            let mut request =
                Request::new(SRB_FUNCTION_EXECUTE_SCSI, self.unit.target, self.timeout);
            request.set_command(cdb);
            if length != 0 {
                let mut buffer = DmaBuffer::new(length).ok_or(lost)?;
                buffer.clear();
                request.direction = Direction::In;
                request.length = u32::try_from(length).map_err(|_| lost)?;
                request.buffer = Some(buffer);
            }
            let (answer, request) = queue::execute(&self.unit.adapter, request);
            match answer.status {
                SRB_STATUS_SUCCESS | SRB_STATUS_DATA_OVERRUN => {
                    let mut data = request
                        .buffer
                        .map(|mut buffer| buffer.to_vec())
                        .unwrap_or_default();
                    data.truncate(answer.length as usize);
                    return Ok(data);
                }
                SRB_STATUS_BUSY if tries < PATIENCE => {
                    tries = tries.saturating_add(1);
                    wait::delay(100_000);
                }
                status => {
                    let sense = answer.sense.and_then(|bytes| Sense::parse(&bytes));
                    return Err(Failure {
                        srb_status: status,
                        scsi_status: answer.scsi,
                        sense,
                    });
                }
            }
        }
    }
}

impl Commands for Direct<'_> {
    fn data_in(&self, cdb: Cdb, length: usize) -> Result<Vec<u8>, Failure> {
        self.run(cdb, length)
    }

    fn no_data(&self, cdb: Cdb) -> Result<(), Failure> {
        self.run(cdb, 0).map(|_| ())
    }
}
