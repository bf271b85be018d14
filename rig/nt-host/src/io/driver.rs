//! Driver objects: made for a loaded image or for drivers of the host itself, and unloaded.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ffi::c_void;
use core::fmt;
use core::ptr::NonNull;

use nt_sys::{
    DRIVER_EXTENSION, DRIVER_INITIALIZE, DRIVER_OBJECT, IO_TYPE_DRIVER, IRP_MJ_MAXIMUM_FUNCTION,
    NTSTATUS, UNICODE_STRING, nt_success,
};

use super::{complete, device};
use crate::cm::{self, SERVICES};
use crate::ke::border;
use crate::ob::{self, ObjectType};
use crate::pe::modules::{self, Module};
use crate::sync::Mutex;

/// Driver objects.
pub static DRIVER_TYPE: ObjectType = ObjectType {
    name: "Driver",
    delete: |_| (),
};

/// A driver object and what goes with it.
#[repr(C)]
struct Body {
    object: DRIVER_OBJECT,
    extension: DRIVER_EXTENSION,
}

struct Loaded {
    service: String,
    object: usize,
    image: Option<&'static Module>,
    /// The strings that the driver object points to.
    _strings: [Box<[u16]>; 3],
}

static DRIVERS: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

/// Why a driver did not load.
#[derive(Clone, Debug)]
pub enum LoadError {
    /// The service has no key, or its key lacks something.
    Service(String),
    /// The image could not be loaded.
    Image(String),
    /// DriverEntry failed.
    Entry(String, NTSTATUS),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(what) | Self::Image(what) => f.write_str(what),
            Self::Entry(name, status) => {
                write!(f, "DriverEntry of {name} failed with {status:#010x}")
            }
        }
    }
}

/// The driver object of a service, loading its image and running DriverEntry if that was not done yet.
/// At PASSIVE_LEVEL, on an NT thread.
pub fn load(service: &str) -> Result<*mut DRIVER_OBJECT, LoadError> {
    if let Some(object) = find(service) {
        return Ok(object);
    }
    let key = format!("{SERVICES}\\{service}");
    let path = cm::read(&key, "ImagePath").and_then(|value| value.as_string());
    let path =
        path.ok_or_else(|| LoadError::Service(format!("service {service} has no ImagePath")))?;
    let file = path.rsplit('\\').next().unwrap_or_default();
    let module = modules::load(file).map_err(|error| LoadError::Image(error.to_string()))?;
    let entry = module.entry().map(|entry| {
        // SAFETY: the entry point of a driver image has DriverEntry's type.
        unsafe { core::mem::transmute::<usize, DRIVER_INITIALIZE>(entry) }
    });
    let Some(entry) = entry else {
        return Err(LoadError::Image(format!("{file} has no entry point")));
    };
    create(service, Some(entry), Some(module))
}

/// A driver of the host itself. Its dispatch table is filled in by `entry`, if there is one.
pub fn create_host(name: &str) -> *mut DRIVER_OBJECT {
    match create(name, None, None) {
        Ok(object) => object,
        Err(error) => crate::ke::bugcheck::give_up(format_args!("{name}: {error}")),
    }
}

fn create(
    service: &str,
    entry: Option<DRIVER_INITIALIZE>,
    image: Option<&'static Module>,
) -> Result<*mut DRIVER_OBJECT, LoadError> {
    let no_memory = || LoadError::Image(format!("no memory for the driver object of {service}"));
    let body = ob::allocate(&DRIVER_TYPE, size_of::<Body>())
        .ok_or_else(no_memory)?
        .cast::<Body>();
    // The path as Windows spells it for DriverEntry.
    let path = format!("\\REGISTRY\\MACHINE\\SYSTEM\\ControlSet001\\Services\\{service}");
    let strings =
        [format!("\\Driver\\{service}"), service.to_string(), path].map(|text| wide(&text));
    // SAFETY: fresh zeroed memory, of which every bit pattern is a valid body.
    let fields = unsafe { &mut *body.as_ptr() };
    let object = &raw mut fields.object;
    fields.extension.DriverObject = object;
    fields.extension.ServiceKeyName = counted(&strings[1]);
    fields.object.Type = IO_TYPE_DRIVER;
    fields.object.Size = size_of::<DRIVER_OBJECT>() as i16;
    fields.object.DriverExtension = &raw mut fields.extension;
    fields.object.DriverName = counted(&strings[0]);
    fields.object.DriverInit = entry;
    fields.object.MajorFunction = [Some(complete::invalid_request); IRP_MJ_MAXIMUM_FUNCTION + 1];
    if let Some(image) = image {
        fields.object.DriverStart = image.base() as *mut c_void;
        fields.object.DriverSize = image.size() as u32;
    }
    let mut path = counted(&strings[2]);
    DRIVERS.lock().push(Loaded {
        service: service.into(),
        object: object as usize,
        image,
        _strings: strings,
    });
    let Some(entry) = entry else {
        return Ok(object);
    };
    // SAFETY: the image's own entry point, called as documented; the path lives until the driver is unloaded.
    let status = border::call(|| unsafe { entry(object, &raw mut path) });
    crate::ke::bugcheck::irql_at_most("DriverEntry after its return", nt_sys::PASSIVE_LEVEL);
    if !nt_success(status) {
        forget(object);
        return Err(LoadError::Entry(service.into(), status));
    }
    if let Some(image) = image {
        image.discard_init();
    }
    // SAFETY: the driver object lives.
    unsafe { device::initialized(object) };
    Ok(object)
}

fn wide(text: &str) -> Box<[u16]> {
    text.encode_utf16().chain([0]).collect()
}

/// A counted string over terminated units.
fn counted(units: &[u16]) -> UNICODE_STRING {
    let bytes = u16::try_from(units.len().saturating_mul(2)).unwrap_or(0xfffe);
    UNICODE_STRING {
        Length: bytes.saturating_sub(2),
        MaximumLength: bytes,
        Buffer: units.as_ptr().cast_mut(),
    }
}

/// The driver object of a service that is loaded.
pub fn find(service: &str) -> Option<*mut DRIVER_OBJECT> {
    let drivers = DRIVERS.lock();
    let found = drivers
        .iter()
        .find(|driver| driver.service.eq_ignore_ascii_case(service));
    found.map(|driver| driver.object as *mut DRIVER_OBJECT)
}

/// The service name of a driver.
pub fn name(object: *mut DRIVER_OBJECT) -> String {
    let drivers = DRIVERS.lock();
    let found = drivers
        .iter()
        .find(|driver| driver.object == object as usize);
    found.map_or_else(
        || format!("driver {object:p}"),
        |driver| driver.service.clone(),
    )
}

/// The module number of a driver's image; none for a driver of the host.
pub fn module_of(object: *mut DRIVER_OBJECT) -> Option<u32> {
    let drivers = DRIVERS.lock();
    let found = drivers
        .iter()
        .find(|driver| driver.object == object as usize);
    found.and_then(|driver| driver.image).map(|image| image.id)
}

/// The services whose drivers are loaded from images, the last loaded first.
pub fn loaded() -> Vec<String> {
    let drivers = DRIVERS.lock();
    drivers
        .iter()
        .rev()
        .filter(|driver| driver.image.is_some())
        .map(|driver| driver.service.clone())
        .collect()
}

/// Unloads the driver of a service that has no devices left: by calling its DriverUnload. Says why not, else.
/// At PASSIVE_LEVEL, on an NT thread.
pub fn unload(service: &str) -> Result<(), String> {
    let Some(object) = find(service) else {
        return Err(format!("{service} is not loaded"));
    };
    // SAFETY: the driver object is in the list, so it lives.
    let left = unsafe { device::of_driver(object) };
    if !left.is_empty() {
        let names: Vec<String> = left.into_iter().map(device::describe).collect();
        return Err(format!("{service} still has devices: {}", names.join(", ")));
    }
    // SAFETY: as above.
    let Some(unload) = (unsafe { (*object).DriverUnload }) else {
        return Err(format!("{service} has no DriverUnload"));
    };
    // SAFETY: the driver's own routine, called as documented.
    border::call(|| unsafe { unload(object) });
    // SAFETY: as above.
    let left = unsafe { device::of_driver(object) };
    if !left.is_empty() {
        return Err(format!(
            "{service} left {} devices behind in DriverUnload",
            left.len()
        ));
    }
    forget(object);
    Ok(())
}

/// Takes a driver off the list and frees its object; its image goes with the last who uses it.
fn forget(object: *mut DRIVER_OBJECT) {
    let mut drivers = DRIVERS.lock();
    let Some(index) = drivers
        .iter()
        .position(|driver| driver.object == object as usize)
    else {
        return;
    };
    let driver = drivers.remove(index);
    drop(drivers);
    if let Some(body) = NonNull::new(object.cast::<c_void>()) {
        // SAFETY: the creator's reference.
        unsafe { ob::dereference(body) };
    }
    if let Some(image) = driver.image {
        modules::unload(image);
    }
}
