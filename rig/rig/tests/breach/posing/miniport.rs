//! A storport miniport that breaks a rule with the first request it gets.

use std::collections::BTreeSet;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, OnceLock};

use nt_host::pnp::PciFunction;
use nt_sys::storport::{
    RequestComplete, SCSI_REQUEST_BLOCK, SRB_FUNCTION_EXECUTE_SCSI, SRB_FUNCTION_PNP,
    SRB_STATUS_BUS_RESET, SRB_STATUS_INVALID_REQUEST, SRB_STATUS_NO_DEVICE, SRB_STATUS_PENDING,
    SRB_STATUS_SUCCESS,
};
use nt_sys::{BOOLEAN, PVOID};
use storport_host::{DmaBuffer, Io, Op};

use crate::port;

/// The cases of this file.
const CASES: [&str; 13] = [
    "completes-an-srb-twice",
    "completes-no-srb",
    "completes-an-srb-as-pending",
    "keeps-an-srb",
    "keeps-an-srb-while-stopped",
    "returns-false-from-build-io",
    "notifies-of-nonsense",
    "passes-no-extension",
    "transfers-too-much",
    "transfers-too-little",
    "completes-what-a-reset-completed",
    "completes-again-after-a-reset",
    "writes-a-completed-srb",
];

// Operation codes (SPC-4, SBC-3).
const TEST_UNIT_READY: u8 = 0x00;
const INQUIRY: u8 = 0x12;
const READ_10: u8 = 0x28;
const SERVICE_ACTION_IN_16: u8 = 0x9e;

static CASE: OnceLock<&'static str> = OnceLock::new();
static DONE: AtomicBool = AtomicBool::new(false);
/// The SRB that the case keeps.
static KEPT: AtomicPtr<SCSI_REQUEST_BLOCK> = AtomicPtr::new(null_mut());
/// Every SRB that came.
static SEEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

type StorPortCompleteRequest = unsafe extern "win64" fn(PVOID, u8, u8, u8, u8);

/// Makes the miniport and the function that it drives, if the case is one of these.
pub fn prepare(case: &str) -> Vec<PciFunction> {
    let Some(&case) = CASES.iter().find(|known| **known == case) else {
        return Vec::new();
    };
    CASE.set(case).expect("one case to a process");
    super::on_thread(|| port::register(build_io, start_io, reset_bus));
    vec![port::function()]
}

unsafe extern "win64" fn reset_bus(extension: PVOID, _path: u32) -> BOOLEAN {
    let kept = KEPT.load(Ordering::SeqCst);
    if !kept.is_null() {
        complete(extension, kept, SRB_STATUS_BUS_RESET);
    }
    1
}

fn complete(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK, status: u8) {
    // SAFETY: the miniport has the SRB.
    unsafe { (*srb).SrbStatus = status };
    port::notify(RequestComplete, extension, srb.cast());
}

unsafe extern "win64" fn build_io(_extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) -> BOOLEAN {
    // SAFETY: the miniport has the SRB.
    let command = unsafe { (*srb).Function } == SRB_FUNCTION_EXECUTE_SCSI;
    BOOLEAN::from(!(command && CASE.get() == Some(&"returns-false-from-build-io")))
}

/// A disk that is found, and keeps each read.
fn serve_disk(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) {
    // SAFETY: the miniport has the SRB.
    let fields = unsafe { &mut *srb };
    let mut answer = [0u8; 36];
    match (
        fields.Function,
        fields.TargetId,
        fields.Cdb[0],
        fields.Cdb[1],
    ) {
        (SRB_FUNCTION_EXECUTE_SCSI, 0, READ_10, _)
            if CASE.get() == Some(&"transfers-too-little") =>
        {
            fields.DataTransferLength = 0;
            return complete(extension, srb, SRB_STATUS_SUCCESS);
        }
        (SRB_FUNCTION_EXECUTE_SCSI, 0, READ_10, _) => return,
        (SRB_FUNCTION_EXECUTE_SCSI, 0, INQUIRY, 0) => {
            (answer[2], answer[3], answer[4], answer[7]) = (4, 2, 31, 2);
            answer[8..].copy_from_slice(b"TESTING MEMORY DISK     1.0 ");
        }
        (SRB_FUNCTION_EXECUTE_SCSI, 0, SERVICE_ACTION_IN_16, _) => {
            // 4096 blocks of 512 bytes.
            answer[6..8].copy_from_slice(&[0x0f, 0xff]);
            answer[10] = 2;
        }
        (SRB_FUNCTION_EXECUTE_SCSI, 0, TEST_UNIT_READY, _) | (SRB_FUNCTION_PNP, ..) => {
            return complete(extension, srb, SRB_STATUS_SUCCESS);
        }
        (_, 0, ..) => return complete(extension, srb, SRB_STATUS_INVALID_REQUEST),
        _ => return complete(extension, srb, SRB_STATUS_NO_DEVICE),
    }
    let count = answer.len().min(fields.DataTransferLength as usize);
    // SAFETY: data of commands other than reads and writes have a system address, and that length.
    let out = unsafe { std::slice::from_raw_parts_mut(fields.DataBuffer.cast::<u8>(), count) };
    out.copy_from_slice(&answer[..count]);
    fields.DataTransferLength = count as u32;
    complete(extension, srb, SRB_STATUS_SUCCESS);
}

/// Writes each SRB, none of which the miniport has, and lets the next one come.
pub fn write_completed() {
    for &srb in SEEN.lock().unwrap().iter() {
        // SAFETY: SRBs live as long as their adapter; that nobody has them is the case.
        unsafe { (*(srb as *mut SCSI_REQUEST_BLOCK)).ScsiStatus = 0 };
    }
    read();
}

/// Reads from the disk, which gets no answer.
pub fn read() {
    let disks = storport_host::disks();
    disks.first().expect("a disk").submit(Io {
        op: Op::Read,
        lba: 0,
        blocks: 1,
        buffer: DmaBuffer::new(512),
        done: Box::new(|_, _| ()),
    });
}

unsafe extern "win64" fn start_io(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) -> BOOLEAN {
    // SAFETY: the miniport has the SRB.
    let fields = unsafe { &mut *srb };
    SEEN.lock().unwrap().insert(srb as usize);
    let is_a_disk = [
        "keeps-an-srb-while-stopped",
        "transfers-too-little",
        "writes-a-completed-srb",
    ];
    if CASE.get().is_some_and(|case| is_a_disk.contains(case)) {
        serve_disk(extension, srb);
        return 1;
    }
    let kept = KEPT.load(Ordering::SeqCst);
    if fields.Function == SRB_FUNCTION_EXECUTE_SCSI && !kept.is_null() {
        complete(extension, kept, SRB_STATUS_NO_DEVICE);
    }
    if fields.Function != SRB_FUNCTION_EXECUTE_SCSI || DONE.swap(true, Ordering::SeqCst) {
        complete(extension, srb, SRB_STATUS_NO_DEVICE);
        return 1;
    }
    match CASE.get().copied() {
        Some("completes-an-srb-twice") => {
            complete(extension, srb, SRB_STATUS_NO_DEVICE);
            complete(extension, srb, SRB_STATUS_NO_DEVICE);
        }
        Some("completes-no-srb") => {
            let nothing: &'static [u64] = vec![0; 256].leak();
            port::notify(
                RequestComplete,
                extension,
                nothing.as_ptr().cast_mut().cast(),
            );
        }
        Some("completes-what-a-reset-completed") => {
            // SAFETY: the function's own type.
            let all: StorPortCompleteRequest = unsafe { port::import("StorPortCompleteRequest") };
            // SAFETY: the extension is the miniport's.
            unsafe { all(extension, 0, 0, 0, SRB_STATUS_BUS_RESET) };
            complete(extension, srb, SRB_STATUS_NO_DEVICE);
        }
        Some("completes-again-after-a-reset") => KEPT.store(srb, Ordering::SeqCst),
        Some("completes-an-srb-as-pending") => complete(extension, srb, SRB_STATUS_PENDING),
        Some("transfers-too-much") => {
            fields.DataTransferLength += 1;
            complete(extension, srb, SRB_STATUS_SUCCESS);
        }
        Some("notifies-of-nonsense") => port::notify(0x7777, extension, null_mut()),
        Some("passes-no-extension") => {
            // SAFETY: the function's own type.
            let set: port::StorPortSetDeviceQueueDepth =
                unsafe { port::import("StorPortSetDeviceQueueDepth") };
            // SAFETY: that this is no extension is the case.
            unsafe { set(srb.cast(), 0, 0, 0, 1) };
        }
        _ => {}
    }
    1
}
