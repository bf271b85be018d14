//! A storport miniport whose disk is memory: found, identified, used, removed.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nt_host::cm::{self, Value};
use nt_host::ke::{thread, wait};
use nt_host::mm::frames;
use nt_host::pnp;
use nt_sys::storport::{
    RequestComplete, SCSI_REQUEST_BLOCK, SRB_FUNCTION_EXECUTE_SCSI, SRB_FUNCTION_PNP,
    SRB_FUNCTION_RESET_DEVICE, SRB_FUNCTION_RESET_LOGICAL_UNIT, SRB_STATUS_BUS_RESET,
    SRB_STATUS_BUSY, SRB_STATUS_INVALID_REQUEST, SRB_STATUS_NO_DEVICE, SRB_STATUS_SUCCESS,
    STOR_SCATTER_GATHER_ELEMENT,
};
use nt_sys::{
    BOOLEAN, PVOID, PowerActionNone, PowerActionSleep, PowerSystemSleeping3, PowerSystemWorking,
};
use storport_host::{Disk, DmaBuffer, Io, IoError, Op};

use crate::port;

const BLOCKS: u64 = 4096;
const BLOCK: usize = 512;
const TARGET: u8 = 5;

static DATA: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// Answers of "busy" before each request is taken.
static BUSY: AtomicU32 = AtomicU32::new(0);
/// Reads are kept until the device is reset.
static KEEP: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static RESETS: AtomicU32 = AtomicU32::new(0);
/// Requests are completed on other threads.
static LATER: AtomicBool = AtomicBool::new(true);
static TWICE: AtomicBool = AtomicBool::new(false);
static MOST: AtomicUsize = AtomicUsize::new(0);
static NOW: AtomicUsize = AtomicUsize::new(0);

type StorPortGetScatterGatherList =
    unsafe extern "win64" fn(PVOID, *mut SCSI_REQUEST_BLOCK) -> *const u32;

fn complete(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK, status: u8) {
    // SAFETY: the miniport has the SRB.
    unsafe { (*srb).SrbStatus = status };
    NOW.fetch_sub(1, Ordering::Relaxed);
    for _ in 0..1 + u32::from(TWICE.load(Ordering::Relaxed)) {
        port::notify(RequestComplete, extension, srb.cast());
    }
}

unsafe extern "win64" fn reset_bus(_extension: PVOID, _path: u32) -> BOOLEAN {
    1
}

unsafe extern "win64" fn build_io(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) -> BOOLEAN {
    NOW.fetch_add(1, Ordering::Relaxed);
    MOST.fetch_max(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    // SAFETY: the miniport has the SRB.
    let fields = unsafe { &*srb };
    let status = match fields.Function {
        SRB_FUNCTION_EXECUTE_SCSI if fields.TargetId != TARGET => SRB_STATUS_NO_DEVICE,
        SRB_FUNCTION_EXECUTE_SCSI | SRB_FUNCTION_RESET_DEVICE => return 1,
        SRB_FUNCTION_PNP => SRB_STATUS_SUCCESS,
        SRB_FUNCTION_RESET_LOGICAL_UNIT => SRB_STATUS_INVALID_REQUEST,
        other => panic!("SRB function {other:#x}"),
    };
    complete(extension, srb, status);
    0
}

unsafe extern "win64" fn start_io(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) -> BOOLEAN {
    // SAFETY: the miniport has the SRB.
    let fields = unsafe { &*srb };
    let (function, opcode) = (fields.Function, fields.Cdb[0]);
    if function == SRB_FUNCTION_RESET_DEVICE {
        RESETS.fetch_add(1, Ordering::Relaxed);
        KEEP.store(false, Ordering::Relaxed);
        for kept in KEPT.lock().unwrap().drain(..) {
            complete(
                extension,
                kept as *mut SCSI_REQUEST_BLOCK,
                SRB_STATUS_BUS_RESET,
            );
        }
        complete(extension, srb, SRB_STATUS_SUCCESS);
        return 1;
    }
    let transfer = matches!(opcode, 0x28 | 0x2a);
    if transfer && BUSY.load(Ordering::Relaxed) > 0 {
        BUSY.fetch_sub(1, Ordering::Relaxed);
        complete(extension, srb, SRB_STATUS_BUSY);
        return 1;
    }
    if transfer && KEEP.load(Ordering::Relaxed) {
        KEPT.lock().unwrap().push(srb as usize);
        return 1;
    }
    let status = command(extension, srb);
    match LATER.load(Ordering::Relaxed) && transfer {
        true => {
            let (extension, srb) = (extension as usize, srb as usize);
            assert!(thread::run(1, move || {
                wait::delay(2_000);
                complete(extension as PVOID, srb as *mut SCSI_REQUEST_BLOCK, status);
            }));
        }
        false => complete(extension, srb, status),
    }
    1
}

/// Carries out a command on memory.
fn command(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) -> u8 {
    // SAFETY: the miniport has the SRB.
    let fields = unsafe { &mut *srb };
    let cdb = fields.Cdb;
    let room = fields.DataTransferLength as usize;
    let mut answer = |bytes: &[u8]| {
        let count = bytes.len().min(room);
        // SAFETY: data of commands other than reads and writes have a system address.
        let out = unsafe { std::slice::from_raw_parts_mut(fields.DataBuffer.cast::<u8>(), count) };
        out.copy_from_slice(&bytes[..count]);
        fields.DataTransferLength = count as u32;
        SRB_STATUS_SUCCESS
    };
    match cdb[0] {
        0x00 | 0x35 => SRB_STATUS_SUCCESS,
        0x12 if cdb[1] & 1 == 0 => {
            // SAFETY: the function's own type.
            let set_depth: port::StorPortSetDeviceQueueDepth =
                unsafe { port::import("StorPortSetDeviceQueueDepth") };
            // SAFETY: the miniport's own extension.
            assert_eq!(unsafe { set_depth(extension, 0, TARGET, 0, 4) }, 1);
            let mut data = [0u8; 36];
            (data[2], data[3], data[4], data[7]) = (4, 2, 32, 2);
            data[8..36].copy_from_slice(b"TESTING MEMORY DISK     1.0 ");
            answer(&data)
        }
        0x12 if cdb[2] == 0 => answer(&[0, 0, 0, 2, 0, 0x80]),
        0x12 if cdb[2] == 0x80 => answer(&[0, 0x80, 0, 4, b'0', b'0', b'4', b'2']),
        0x9e => {
            let mut data = [0u8; 32];
            data[..8].copy_from_slice(&(BLOCKS - 1).to_be_bytes());
            data[8..12].copy_from_slice(&(BLOCK as u32).to_be_bytes());
            answer(&data)
        }
        0x1a => answer(&[15, 0, 0, 0, 8, 10, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        0x28 | 0x2a => transfer(extension, srb),
        _ => SRB_STATUS_INVALID_REQUEST,
    }
}

/// Moves data between the disk's memory and the pages of the scatter/gather list.
fn transfer(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) -> u8 {
    // SAFETY: the miniport has the SRB.
    let fields = unsafe { &*srb };
    let (cdb, length) = (fields.Cdb, fields.DataTransferLength as usize);
    let block = u32::from_be_bytes(cdb[2..6].try_into().unwrap()) as usize;
    // SAFETY: the function's own type.
    let get_list: StorPortGetScatterGatherList =
        unsafe { port::import("StorPortGetScatterGatherList") };
    // SAFETY: the miniport has the SRB.
    let list = unsafe { get_list(extension, srb) };
    // SAFETY: the list starts with its count.
    let count = unsafe { *list } as usize;
    let first = list
        .cast::<u8>()
        .wrapping_add(16)
        .cast::<STOR_SCATTER_GATHER_ELEMENT>();
    let (mut data, mut at) = (DATA.lock().unwrap(), block * BLOCK);
    for index in 0..count {
        // SAFETY: the list has `count` elements.
        let element = unsafe { first.wrapping_add(index).read() };
        let frame = element.PhysicalAddress as u64 / 4096;
        // SAFETY: the element's bytes are pages of the request's buffer, one after the other.
        let memory = unsafe {
            std::slice::from_raw_parts_mut(frames::address(frame).as_ptr(), element.Length as usize)
        };
        let disk = &mut data[at..at + memory.len()];
        if cdb[0] == 0x28 {
            memory.copy_from_slice(disk)
        } else {
            disk.copy_from_slice(memory)
        }
        at += memory.len();
    }
    assert_eq!(at - block * BLOCK, length);
    SRB_STATUS_SUCCESS
}

/// Boots a machine with the miniport and returns its disk.
fn boot() -> Arc<Disk> {
    DATA.lock().unwrap().resize(BLOCKS as usize * BLOCK, 0);
    cm::write(
        &format!(r"{}\Disk", cm::SERVICES),
        "TimeOutValue",
        Value::dword(2),
    );
    crate::on_thread(|| port::register(build_io, start_io, reset_bus));
    pnp::start(vec![port::function()]);
    crate::settle();
    let disks = storport_host::disks();
    assert_eq!(disks.len(), 1, "{:#?}", pnp::tree());
    disks[0].clone()
}

fn submit(disk: &Arc<Disk>, op: Op, lba: u64, blocks: u32, data: Option<&[u8]>) -> Receiver {
    let (send, receive) = channel();
    let buffer = (op == Op::Read || op == Op::Write).then(|| {
        let mut buffer = DmaBuffer::new(blocks as usize * BLOCK).unwrap();
        buffer.fill(data.unwrap_or_default());
        buffer
    });
    let done = Box::new(move |result, buffer: Option<DmaBuffer>| {
        drop(send.send((result, buffer.map(|mut buffer| buffer.to_vec()))));
    });
    disk.submit(Io {
        op,
        lba,
        blocks,
        buffer,
        done,
    });
    receive
}

type Receiver = std::sync::mpsc::Receiver<(Result<(), IoError>, Option<Vec<u8>>)>;

fn end(receive: Receiver) -> (Result<(), IoError>, Option<Vec<u8>>) {
    receive
        .recv_timeout(Duration::from_secs(20))
        .expect("the request ends in time")
}

fn pattern(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|index| (index * 31 + seed * 7) as u8)
        .collect()
}

/// Found, identified, written and read at any size, flushed; errors have their names; then removed.
pub fn disk() {
    let disk = boot();
    let info = disk.info();
    assert_eq!(
        (
            info.vendor.as_str(),
            info.product.as_str(),
            info.serial.as_str()
        ),
        ("TESTING", "MEMORY DISK", "0042")
    );
    assert_eq!(
        (info.sectors, info.sector_size, info.write_cache),
        (BLOCKS, 512, true)
    );
    assert_eq!((disk.target(), disk.max_transfer()), (TARGET, 128 * 1024));
    let rows = pnp::tree();
    let row = rows
        .iter()
        .find(|row| row.instance.starts_with(r"SCSI\"))
        .unwrap();
    assert!(
        row.instance
            .starts_with(r"SCSI\Disk&Ven_TESTING&Prod_MEMORY_DISK\")
            && row.instance.ends_with("000500")
    );
    assert_eq!(
        row.hardware_ids[0],
        r"SCSI\DiskTESTING_MEMORY_DISK_____1.0_"
    );

    let writes: Vec<_> = (0..40usize)
        .map(|index| {
            let blocks = index as u32 % 9 + 1;
            submit(
                &disk,
                Op::Write,
                index as u64 * 16,
                blocks,
                Some(&pattern(index, blocks as usize * BLOCK)),
            )
        })
        .collect();
    for write in writes {
        assert_eq!(end(write).0, Ok(()));
    }
    assert_eq!(end(submit(&disk, Op::Flush, 0, 0, None)), (Ok(()), None));
    for index in 0..40usize {
        let blocks = index as u32 % 9 + 1;
        let (result, data) = end(submit(&disk, Op::Read, index as u64 * 16, blocks, None));
        assert_eq!(result, Ok(()));
        assert!(
            data.unwrap() == pattern(index, blocks as usize * BLOCK),
            "blocks of request {index}"
        );
    }
    let whole = pattern(99, disk.max_transfer() as usize);
    let blocks = disk.max_transfer() / 512;
    assert_eq!(
        end(submit(&disk, Op::Write, 1000, blocks, Some(&whole))).0,
        Ok(())
    );
    assert!(end(submit(&disk, Op::Read, 1000, blocks, None)).1.unwrap() == whole);
    // The miniport asked for a queue of four.
    assert!(MOST.load(Ordering::Relaxed) <= 4, "{MOST:?}");
    assert_eq!(
        end(submit(&disk, Op::Read, BLOCKS - 1, 2, None)).0,
        Err(IoError::OutOfRange)
    );
    assert_eq!(crate::tear_down(), Vec::<String>::new());
    assert_eq!(
        end(submit(&disk, Op::Read, 0, 1, None)).0,
        Err(IoError::Gone)
    );
    assert!(storport_host::disks().is_empty());
}

/// Requests are put off until the miniport takes them.
pub fn busy() {
    let disk = boot();
    BUSY.store(30, Ordering::Relaxed);
    let all: Vec<_> = (0..10)
        .map(|index| submit(&disk, Op::Write, index, 1, Some(&pattern(1, BLOCK))))
        .collect();
    for request in all {
        assert_eq!(end(request).0, Ok(()));
    }
    assert_eq!(BUSY.load(Ordering::Relaxed), 0);
    assert_eq!(crate::tear_down(), Vec::<String>::new());
}

/// A request that is too late leads to a reset, after which it is tried again.
pub fn lossy() {
    let disk = boot();
    KEEP.store(true, Ordering::Relaxed);
    assert_eq!(
        end(submit(&disk, Op::Write, 3, 1, Some(&pattern(2, BLOCK)))).0,
        Ok(())
    );
    assert_eq!(RESETS.load(Ordering::Relaxed), 1);
    assert_eq!(crate::tear_down(), Vec::<String>::new());
}

/// The disk works again after the system slept.
pub fn sleep() {
    let disk = boot();
    for (state, action) in [
        (PowerSystemSleeping3, PowerActionSleep),
        (PowerSystemWorking, PowerActionNone),
    ] {
        let (send, receive) = channel();
        let transition = move || drop(send.send(nt_host::po::transition(state, action)));
        pnp::post(pnp::Event::Call(Box::new(transition)));
        receive
            .recv_timeout(Duration::from_secs(10))
            .unwrap()
            .unwrap();
    }
    assert_eq!(
        end(submit(&disk, Op::Write, 0, 1, Some(&pattern(3, BLOCK)))).0,
        Ok(())
    );
    assert_eq!(crate::tear_down(), Vec::<String>::new());
}

/// A miniport that completes a request twice is stopped there.
pub fn completed_twice() {
    let disk = boot();
    LATER.store(false, Ordering::Relaxed);
    TWICE.store(true, Ordering::Relaxed);
    let _ = end(submit(&disk, Op::Read, 0, 1, None));
}
