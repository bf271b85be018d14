//! Images: who wants to hear when one is loaded, and the list of those that are.

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use nt_sys::{
    HANDLE, NTSTATUS, PVOID, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER,
    STATUS_PROCEDURE_NOT_FOUND, STATUS_SUCCESS, UNICODE_STRING,
};

use crate::exports;
use crate::ke::border;
use crate::pe::Module;
use crate::pe::modules;
use crate::sync::Mutex;

/// `IMAGE_INFO` (ntddk.h).
#[repr(C)]
pub struct ImageInfo {
    /// Bit 8: SystemModeImage.
    properties: u32,
    base: usize,
    selector: u32,
    size: usize,
    section_number: u32,
}

const SYSTEM_MODE_IMAGE: u32 = 1 << 8;

/// `PLOAD_IMAGE_NOTIFY_ROUTINE`.
pub type Routine = unsafe extern "win64" fn(*mut UNICODE_STRING, HANDLE, *mut ImageInfo);

static ROUTINES: Mutex<Vec<Routine>> = Mutex::new(Vec::new());

/// Tells the registered routines of a loaded image. PASSIVE_LEVEL in an NT thread.
pub fn loaded(module: &Module) {
    let routines = ROUTINES.lock().clone();
    let path = format!("\\SystemRoot\\System32\\drivers\\{}", module.name);
    let mut units: Vec<u16> = path.encode_utf16().collect();
    let bytes = (units.len() * 2) as u16;
    for routine in routines {
        let mut name = UNICODE_STRING {
            Length: bytes,
            MaximumLength: bytes,
            Buffer: units.as_mut_ptr(),
        };
        let mut info = ImageInfo {
            properties: SYSTEM_MODE_IMAGE,
            base: module.base(),
            selector: 0,
            size: module.size(),
            section_number: 0,
        };
        // SAFETY: a driver registered this routine; both arguments live on this stack.
        border::call(|| unsafe { routine(&raw mut name, core::ptr::null_mut(), &raw mut info) });
    }
}

/// Takes the routines away that are in an image: their addresses.
pub(crate) fn take_of(image: &Range<usize>) -> Vec<usize> {
    let mut taken = Vec::new();
    ROUTINES.lock().retain(|&routine| {
        let is_own = image.contains(&(routine as usize));
        taken.extend(is_own.then_some(routine as usize));
        !is_own
    });
    taken
}

/// Microsoft Learn: PsSetLoadImageNotifyRoutine.
pub extern "win64" fn PsSetLoadImageNotifyRoutine(routine: Routine) -> NTSTATUS {
    ROUTINES.lock().push(routine);
    STATUS_SUCCESS
}

/// Microsoft Learn: PsRemoveLoadImageNotifyRoutine.
pub extern "win64" fn PsRemoveLoadImageNotifyRoutine(routine: Routine) -> NTSTATUS {
    let mut routines = ROUTINES.lock();
    match routines
        .iter()
        .position(|&known| core::ptr::fn_addr_eq(known, routine))
    {
        Some(index) => {
            routines.remove(index);
            STATUS_SUCCESS
        }
        None => STATUS_PROCEDURE_NOT_FOUND,
    }
}

/// Microsoft Learn: PsSetCreateProcessNotifyRoutine. No process is ever created here, so no routine is ever called.
pub extern "win64" fn PsSetCreateProcessNotifyRoutine(_routine: PVOID, _remove: u8) -> NTSTATUS {
    STATUS_SUCCESS
}

/// `RTL_MODULE_EXTENDED_INFO`, what AuxKlibQueryModuleInformation (Microsoft Learn) fills.
#[repr(C)]
struct ExtendedInfo {
    base: usize,
    size: u32,
    name_offset: u16,
    path: [u8; 256],
}

const _: () = assert!(size_of::<ExtendedInfo>() == 272);
/// `AUX_MODULE_BASIC_INFO`: the base only.
const BASIC: usize = size_of::<usize>();

/// The kernel's side of AuxKlibQueryModuleInformation: fills an array of basic or extended entries, or says how many
/// bytes it takes when `buffer` is null.
///
/// # Safety
/// `size` is readable and writable; `buffer` is null or `*size` bytes long.
pub unsafe extern "win64" fn RtlQueryModuleInformation(
    size: *mut u32,
    element: u32,
    buffer: PVOID,
) -> NTSTATUS {
    let element = element as usize;
    if element != BASIC && element != size_of::<ExtendedInfo>() {
        return STATUS_INVALID_PARAMETER;
    }
    let modules = modules::loaded();
    let needed = (modules.len() * element) as u32;
    // SAFETY: the caller's promise.
    let given = unsafe { size.replace(needed) };
    if buffer.is_null() {
        return STATUS_SUCCESS;
    }
    if given < needed {
        return STATUS_BUFFER_TOO_SMALL;
    }
    for (index, module) in modules.iter().enumerate() {
        let slot = buffer.cast::<u8>().wrapping_add(index * element);
        if element == BASIC {
            // SAFETY: the slot lies within the caller's buffer.
            unsafe { slot.cast::<usize>().write_unaligned(module.base()) };
        } else {
            // SAFETY: as above.
            unsafe {
                slot.cast::<ExtendedInfo>()
                    .write_unaligned(extended(module))
            };
        }
    }
    STATUS_SUCCESS
}

fn extended(module: &Module) -> ExtendedInfo {
    let (path, name_offset) = path(module);
    ExtendedInfo {
        base: module.base(),
        size: module.size() as u32,
        name_offset,
        path,
    }
}

/// The path of an image as lists of images have it, and where the name starts in it.
pub(super) fn path(module: &Module) -> ([u8; 256], u16) {
    let folder = "\\SystemRoot\\System32\\drivers\\";
    let mut path = [0; 256];
    let text = folder.bytes().chain(module.name.bytes()).take(255);
    path.iter_mut()
        .zip(text)
        .for_each(|(slot, byte)| *slot = byte);
    (path, folder.len() as u16)
}

exports!(
    "ntoskrnl.exe":
    PsSetLoadImageNotifyRoutine,
    PsRemoveLoadImageNotifyRoutine,
    PsSetCreateProcessNotifyRoutine,
    RtlQueryModuleInformation,
);
