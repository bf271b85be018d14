//! ZwQuerySystemInformation: the classes that drivers ask for.

use alloc::vec::Vec;

use nt_sys::{
    NTSTATUS, PVOID, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS, STATUS_SUCCESS,
};

use super::image;
use crate::exports;
use crate::host::platform;
use crate::ke::{processor, time};
use crate::mm::frames;
use crate::pe::modules;
use crate::platform::PAGE_SIZE;

// SYSTEM_INFORMATION_CLASS (Microsoft Learn: NtQuerySystemInformation; 11 is what AuxKlib asks for).
const SYSTEM_BASIC_INFORMATION: u32 = 0;
const SYSTEM_MODULE_INFORMATION: u32 = 11;

/// `SYSTEM_BASIC_INFORMATION`: processors, pages and the bounds of user addresses.
fn basic() -> Vec<u8> {
    let cpus = processor::all().len() as u32;
    let ram = platform().physical().ram_frames as u32;
    let mut out = Vec::new();
    // Reserved, the longest time between clock interrupts, page size; pages: how many, the lowest, the highest.
    for word in [
        0,
        time::KeQueryTimeIncrement(),
        PAGE_SIZE as u32,
        ram,
        frames::FIRST as u32,
        ram - 1,
        0x1_0000,
        0,
    ] {
        out.extend(word.to_le_bytes());
    }
    // User addresses: the lowest, the highest; the mask of the active processors.
    let mask = u64::MAX >> (64 - cpus);
    for word in [0x1_0000, 0x7fff_fffe_ffff, mask] {
        out.extend(word.to_le_bytes());
    }
    out.extend((u64::from(cpus)).to_le_bytes());
    out
}

/// `RTL_PROCESS_MODULES`: a count, and 296 bytes for each image, in load order.
fn images() -> Vec<u8> {
    let loaded = modules::loaded();
    let mut out = Vec::new();
    out.extend((loaded.len() as u64).to_le_bytes());
    for (index, module) in (0u16..).zip(&loaded) {
        let (path, name) = image::path(module);
        // Section (reserved), mapped base, image base.
        for word in [0, 0, module.base() as u64] {
            out.extend(word.to_le_bytes());
        }
        // Size; flags.
        for word in [module.size() as u32, 0] {
            out.extend(word.to_le_bytes());
        }
        // Load order, initialisation order, load count, offset of the name in the path.
        for word in [index, index, 1, name] {
            out.extend(word.to_le_bytes());
        }
        out.extend(path);
    }
    out
}

/// Microsoft Learn: NtQuerySystemInformation. IRQL PASSIVE_LEVEL.
///
/// # Safety
/// `out` is null or `room` bytes long; `needed` is null or writable.
pub unsafe extern "win64" fn ZwQuerySystemInformation(
    class: u32,
    out: PVOID,
    room: u32,
    needed: *mut u32,
) -> NTSTATUS {
    let answer = match class {
        SYSTEM_BASIC_INFORMATION => basic(),
        SYSTEM_MODULE_INFORMATION => images(),
        _ => return STATUS_INVALID_INFO_CLASS,
    };
    if !needed.is_null() {
        // SAFETY: the caller's promise.
        unsafe { needed.write(answer.len() as u32) };
    }
    if out.is_null() || (room as usize) < answer.len() {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    // SAFETY: the caller's promise: there is room for the whole answer.
    unsafe { core::ptr::copy_nonoverlapping(answer.as_ptr(), out.cast(), answer.len()) };
    STATUS_SUCCESS
}

exports!("ntoskrnl.exe": ZwQuerySystemInformation);
