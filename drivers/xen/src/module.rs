//! Which driver an address belongs to, for stack traces and for checks of foreign callbacks.
//!
//! The list starts with what is loaded, and a notification adds what is loaded later. There is none for unloading:
//! an image goes when another one takes its place. Both kernel functions are looked up, and missed in peace.

use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};
use nt::va_list::c_bytes;
use nt::{HighLock, NtStatus, Result, SpinLock};
use nt_sys::{HANDLE, NTSTATUS, UNICODE_STRING};

/// An image; the name is NUL-terminated and lasts until this driver is unloaded.
#[derive(Clone, Copy)]
struct Module {
    start: usize,
    end: usize,
    name: &'static [u8],
}

/// Ordered by address.
static MODULES: HighLock<Vec<Module>> = HighLock::new(Vec::new());
/// Every name ever needed, since one may be in somebody's hands when its image goes. Held by who changes the list of
/// modules: memory is allocated here, not at HIGH_LEVEL.
static NAMES: SpinLock<Vec<Vec<u8>>> = SpinLock::new(Vec::new());

/// `AUX_MODULE_EXTENDED_INFO` (aux_klib.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct AuxModule {
    base: usize,
    size: u32,
    /// Where the name starts in the path.
    name_offset: u16,
    path: [u8; 256],
}
const _: () = assert!(size_of::<AuxModule>() == 272);

/// What `AuxKlibQueryModuleInformation` calls.
type QueryModules = unsafe extern "win64" fn(*mut u32, u32, *mut AuxModule) -> NTSTATUS;

/// `IMAGE_INFO` (ntddk.h).
#[repr(C)]
struct ImageInfo {
    properties: u32,
    base: usize,
    selector: u32,
    size: usize,
    section: u32,
}
const _: () = assert!(size_of::<ImageInfo>() == 40);
/// `IMAGE_INFO.SystemModeImage`.
const SYSTEM_MODE: u32 = 1 << 8;

type Notify = unsafe extern "win64" fn(*const UNICODE_STRING, HANDLE, *const ImageInfo);
/// `PsSetLoadImageNotifyRoutine` and `PsRemoveLoadImageNotifyRoutine`.
type ChangeNotify = unsafe extern "win64" fn(Notify) -> NTSTATUS;

/// How the notification is withdrawn, once there is one. It is found before, since looking it up takes memory.
static REMOVE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

fn change_notify(address: NonNull<c_void>) -> ChangeNotify {
    // SAFETY: this is the type of both kernel functions.
    unsafe { core::mem::transmute::<*mut c_void, ChangeNotify>(address.as_ptr()) }
}

/// Lists what is loaded. PASSIVE_LEVEL.
pub fn initialise() -> Result<()> {
    if let Some(set) = nt::system::export("PsSetLoadImageNotifyRoutine")
        && let Some(remove) = nt::system::export("PsRemoveLoadImageNotifyRoutine")
    {
        // SAFETY: the routine is a function of this image, which stays until it is withdrawn.
        NtStatus::check(unsafe { change_notify(set)(image_loaded) })?;
        REMOVE.store(remove.as_ptr(), Ordering::Relaxed);
    }
    let Some(query) = nt::system::export("RtlQueryModuleInformation") else {
        return Ok(());
    };
    // SAFETY: this is the type of the kernel function of that name.
    let query = unsafe { core::mem::transmute::<*mut c_void, QueryModules>(query.as_ptr()) };
    const ONE: usize = size_of::<AuxModule>();
    let mut bytes = 0;
    // SAFETY: without a buffer the function gives the size that one needs.
    NtStatus::check(unsafe { query(&mut bytes, ONE as u32, null_mut()) })?;
    let count = bytes as usize / ONE;
    let mut list = Vec::new();
    list.try_reserve_exact(count)?;
    list.resize(
        count,
        AuxModule {
            base: 0,
            size: 0,
            name_offset: 0,
            path: [0; 256],
        },
    );
    // SAFETY: the buffer is as long as stated.
    NtStatus::check(unsafe { query(&mut bytes, ONE as u32, list.as_mut_ptr()) })?;
    for module in &list {
        let name = module
            .path
            .get(module.name_offset.into()..)
            .unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        add(module.base, module.size as usize, name.iter().copied())?;
    }
    Ok(())
}

pub fn teardown() {
    if let Some(remove) = NonNull::new(REMOVE.swap(null_mut(), Ordering::Relaxed)) {
        // SAFETY: the routine is a function of this image.
        unsafe { change_notify(remove)(image_loaded) };
    }
    let modules = core::mem::take(&mut *MODULES.lock());
    drop(modules);
    *NAMES.lock() = Vec::new();
}

unsafe extern "win64" fn image_loaded(
    path: *const UNICODE_STRING,
    _: HANDLE,
    image: *const ImageInfo,
) {
    // SAFETY: the kernel passes a live structure.
    let Some(image) = (unsafe { image.as_ref() }) else {
        return;
    };
    // SAFETY: the kernel passes a counted string, or null.
    let Some(path) = (unsafe { path.as_ref() }) else {
        return;
    };
    if image.properties & SYSTEM_MODE == 0 || path.Buffer.is_null() {
        return;
    }
    // SAFETY: the string is as long as it says.
    let path = unsafe {
        core::slice::from_raw_parts(path.Buffer.cast_const(), usize::from(path.Length / 2))
    };
    let name = path
        .rsplit(|unit| *unit == u16::from(b'\\'))
        .next()
        .unwrap_or_default();
    let name = name.iter().map(|unit| u8::try_from(*unit).unwrap_or(b'?'));
    if let Err(status) = add(image.base, image.size, name) {
        nt::warning!("image at {:#x}: {status}", image.base);
    }
}

/// Adds an image, in the place of those that it overlaps. IRQL ≤ DISPATCH_LEVEL.
fn add(start: usize, size: usize, name: impl ExactSizeIterator<Item = u8>) -> Result<()> {
    let end = start.checked_add(size).ok_or(NtStatus::INVALID_PARAMETER)?;
    let mut names = NAMES.lock();
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(name.len().saturating_add(1))?;
    bytes.extend(name.chain([0]));
    names.try_reserve(1)?;
    let count = MODULES.lock().len();
    let mut list = Vec::new();
    list.try_reserve_exact(count.saturating_add(1))?;
    // SAFETY: the name's memory stays where it is until `teardown`, when nobody asks any more.
    let name = unsafe { core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
    let module = Module { start, end, name };
    names.push(bytes);
    let mut modules = MODULES.lock();
    // Only this function changes the length, so the room is enough. The list is in order and stays so.
    list.extend(modules.iter().filter(|old| old.end <= start));
    list.push(module);
    list.extend(
        modules
            .iter()
            .filter(|old| old.start >= end && old.end > start),
    );
    core::mem::swap(&mut *modules, &mut list);
    drop(modules);
    Ok(())
}

/// The module that `address` is in, with the offset there. Any IRQL.
pub fn find(address: usize) -> Option<(&'static [u8], usize)> {
    // A bug check may have stopped the holder.
    let modules = MODULES.try_lock()?;
    let index = modules
        .partition_point(|module| module.start <= address)
        .checked_sub(1)?;
    let module = modules.get(index).filter(|module| address < module.end)?;
    Some((module.name, address - module.start))
}

/// Finds the module of `address`: its name, null if there is none, and the offset from its start. Any IRQL.
///
/// # Safety
/// Both pointers are valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn ModuleLookup(
    address: usize,
    name: *mut *const u8,
    offset: *mut usize,
) {
    let (found, at) = match find(address) {
        Some((found, at)) => (found.as_ptr(), at),
        None => (core::ptr::null(), 0),
    };
    // SAFETY: the duty is the caller's.
    unsafe { name.write(found) };
    // SAFETY: the duty is the caller's.
    unsafe { offset.write(at) };
}

/// The name of a module without its NUL, as text.
pub fn text(name: &'static [u8]) -> &'static str {
    // SAFETY: names end with a NUL.
    core::str::from_utf8(unsafe { c_bytes(name.as_ptr()) }).unwrap_or("?")
}
