//! WMI: devices that offer data, asked for the GUIDs of their blocks when they register, and the events that they fire.
//!
//! ```text
//!   IoWMIRegistrationControl ──▶ a system thread ── IRP_MN_REGINFO_EX ──▶ the device: WMIREGINFO ──▶ Provider
//! ```
//!
//! Nobody consumes the data: a provider is known, and can be asked by the rig.

use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;

use nt_sys::{
    DEVICE_OBJECT, GUID, IO_STACK_LOCATION, IO_WMI, IRP_MJ_SYSTEM_CONTROL, NTSTATUS, PVOID,
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
    UNICODE_STRING, nt_success,
};

use super::{device, request};
use crate::cm::zw::units;
use crate::host::platform;
use crate::ke::{processor, thread};
use crate::mm::pool;
use crate::ob;
use crate::pnp::node;
use crate::rtl::unicode;
use crate::sync::Mutex;
use crate::verifier::Rule;

// WMIREG_ACTION_* (wdm.h).
const REGISTER: u32 = 1;
const DEREGISTER: u32 = 2;
const REREGISTER: u32 = 3;
const UPDATE_GUIDS: u32 = 4;
const BLOCK_IRPS: u32 = 5;

/// IRP_MN_REGINFO_EX (wdm.h).
const REGINFO_EX: u8 = 0x0B;
/// Parameters.WMI.DataPath of a registration (wmistr.h): WMIREGISTER, WMIUPDATE.
const FOR_REGISTRATION: usize = 0;
const FOR_UPDATE: usize = 1;
/// WMIREG_FLAG_INSTANCE_PDO (wmistr.h): the driver has referenced a PDO for WMI.
const INSTANCE_PDO: u32 = 0x20;
/// Bytes of the first buffer for WMIREGINFO.
const FIRST: usize = 1024;
/// The most that a driver may ask for.
const MOST: usize = 1 << 20;

/// A device that offers data.
#[derive(Clone, Debug)]
pub struct Provider {
    device: usize,
    /// Its data and event blocks, as it has told them.
    pub blocks: Vec<GUID>,
}

/// An event that a device has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event block.
    pub guid: GUID,
    /// Which instance.
    pub instance: u32,
    /// Bytes of data.
    pub bytes: u32,
}

struct Wmi {
    providers: Vec<Provider>,
    events: Vec<Event>,
    /// Devices that are being asked now.
    asking: Vec<usize>,
}

static WMI: Mutex<Wmi> = Mutex::new(Wmi {
    providers: Vec::new(),
    events: Vec::new(),
    asking: Vec::new(),
});

/// The devices that are registered now.
pub fn providers() -> Vec<Provider> {
    WMI.lock().providers.clone()
}

/// The events so far.
pub fn events() -> Vec<Event> {
    WMI.lock().events.clone()
}

/// Microsoft Learn: IoWMIRegistrationControl.
///
/// # Safety
/// `target` is a live device object, which stays until it is deregistered.
pub unsafe extern "win64" fn IoWMIRegistrationControl(
    target: *mut DEVICE_OBJECT,
    action: u32,
) -> NTSTATUS {
    if !device::is_device(target) {
        Rule::DeviceInvalid.breach(format_args!(
            "IoWMIRegistrationControl: {target:p} is no device object"
        ));
    }
    let address = target as usize;
    let mut wmi = WMI.lock();
    let known = wmi.providers.iter().any(|own| own.device == address);
    let path = match (action, known) {
        (REGISTER, false) => {
            wmi.providers.push(Provider {
                device: address,
                blocks: Vec::new(),
            });
            FOR_REGISTRATION
        }
        (REGISTER | REREGISTER, true) => FOR_REGISTRATION,
        (UPDATE_GUIDS, true) => FOR_UPDATE,
        (DEREGISTER | BLOCK_IRPS, true) => {
            wmi.providers.retain(|own| own.device != address);
            drop(wmi);
            // The driver may remove its device next.
            while WMI.lock().asking.contains(&address) {
                crate::ke::wait::delay(1);
            }
            return STATUS_SUCCESS;
        }
        (DEREGISTER | REREGISTER | UPDATE_GUIDS | BLOCK_IRPS, false) => {
            return STATUS_INVALID_DEVICE_REQUEST;
        }
        _ => return STATUS_INVALID_PARAMETER,
    };
    wmi.asking.push(address);
    drop(wmi);
    match thread::run(0, move || ask(address, path)) {
        true => STATUS_SUCCESS,
        false => {
            asked(address);
            STATUS_INSUFFICIENT_RESOURCES
        }
    }
}

fn asked(address: usize) {
    let mut wmi = WMI.lock();
    if let Some(index) = wmi.asking.iter().position(|own| *own == address) {
        wmi.asking.swap_remove(index);
    }
}

/// Asks a device for its blocks.
fn ask(address: usize, path: usize) {
    let mut size = FIRST;
    while size <= MOST {
        let mut buffer = vec![0u64; size / 8];
        // SAFETY: the device stays until it is deregistered, which waits for this.
        let (status, needed) = unsafe { registration(address, path, &mut buffer) };
        if status == STATUS_BUFFER_TOO_SMALL && needed > size {
            size = needed.next_multiple_of(8);
            continue;
        }
        if nt_success(status) {
            // SAFETY: the driver's answer.
            let blocks = unsafe { blocks(&buffer) };
            let mut wmi = WMI.lock();
            let own = wmi.providers.iter_mut().find(|own| own.device == address);
            if let Some(provider) = own {
                provider.blocks = blocks;
            }
        } else {
            let name = device::describe(address as *mut DEVICE_OBJECT);
            platform().log(&alloc::format!(
                "wmi: {name} does not tell its blocks: {status:#010x}"
            ));
        }
        break;
    }
    asked(address);
}

/// Sends IRP_MN_REGINFO_EX; its status, and the size that a driver needs whose buffer was too small.
///
/// # Safety
/// The device lives.
unsafe fn registration(address: usize, path: usize, buffer: &mut [u64]) -> (NTSTATUS, usize) {
    let target = address as *mut DEVICE_OBJECT;
    let parameters = IO_WMI {
        ProviderId: address,
        DataPath: path as PVOID,
        BufferSize: size_of_val(buffer) as u32,
        Buffer: buffer.as_mut_ptr().cast(),
    };
    let fill = |location: &mut IO_STACK_LOCATION| location.Parameters.WMI = parameters;
    let (major, minor) = (IRP_MJ_SYSTEM_CONTROL, REGINFO_EX);
    // SAFETY: the caller's promise; the location is filled in for this request.
    let outcome = unsafe { request::send(target, major, minor, STATUS_NOT_SUPPORTED, fill) };
    let first = buffer.first().copied().unwrap_or_default() as u32;
    (outcome.status, first as usize)
}

/// The blocks of a WMIREGINFO (wmistr.h): five words, then 32 bytes for each: GUID, flags, instances, a PDO or a name.
///
/// # Safety
/// The buffer is a driver's answer.
unsafe fn blocks(buffer: &[u64]) -> Vec<GUID> {
    const HEAD: usize = 24;
    const EACH: usize = 32;
    let word = |at: usize| {
        let pair = buffer.get(at / 8).copied().unwrap_or_default();
        (pair >> (8 * (at % 8))) as u32
    };
    let room = size_of_val(buffer).saturating_sub(HEAD) / EACH;
    let count = (word(16) as usize).min(room);
    let mut blocks = Vec::new();
    for index in 0..count {
        let at = HEAD + index * EACH;
        let tail = buffer.get(at / 8 + 1).copied().unwrap_or_default();
        blocks.push(GUID {
            Data1: word(at),
            Data2: word(at + 4) as u16,
            Data3: (word(at + 4) >> 16) as u16,
            Data4: tail.to_le_bytes(),
        });
        let pdo = buffer.get(at / 8 + 3).copied().unwrap_or_default();
        if word(at + 16) & INSTANCE_PDO != 0 && device::is_device(pdo as *mut DEVICE_OBJECT) {
            // SAFETY: the driver took a reference for WMI, which gives it back (Learn, WMIREGGUID).
            unsafe { ob::ObfDereferenceObject(pdo as PVOID) };
        }
    }
    blocks
}

/// Microsoft Learn: IoWMISuggestInstanceName: of a device its description, of an interface its device's, or both.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn IoWMISuggestInstanceName(
    pdo: *mut DEVICE_OBJECT,
    link: *const UNICODE_STRING,
    combine: u8,
    out: *mut UNICODE_STRING,
) -> NTSTATUS {
    let owner = processor::caller();
    let description = match pdo.is_null() {
        true => None,
        false => match node::by_pdo(pdo).and_then(node::get) {
            Some(node) => Some(node.description.encode_utf16().collect::<Vec<u16>>()),
            None => return STATUS_INVALID_DEVICE_REQUEST,
        },
    };
    let named = match link.is_null() {
        true => None,
        // SAFETY: the caller's promise.
        false => Some(unsafe { units(link) }.to_vec()),
    };
    let name = match (description, named) {
        (Some(mut description), Some(named)) if combine != 0 => {
            description.push(u16::from(b' '));
            description.extend(named);
            description
        }
        (Some(description), _) => description,
        (None, Some(named)) => named,
        (None, None) => return STATUS_INVALID_PARAMETER,
    };
    if name.is_empty() {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    let Some(string) = unicode::allocate(owner, &name) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(string) };
    STATUS_SUCCESS
}

/// Microsoft Learn: WmiFireEvent. WMI frees the data.
///
/// # Safety
/// `guid` is readable; `data` is null or nonpaged pool.
pub unsafe extern "win64" fn WmiFireEvent(
    target: *mut DEVICE_OBJECT,
    guid: *const GUID,
    instance: u32,
    bytes: u32,
    data: PVOID,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let guid = unsafe { guid.read() };
    let event = Event {
        guid,
        instance,
        bytes,
    };
    let mut wmi = WMI.lock();
    let known = wmi
        .providers
        .iter()
        .any(|own| own.device == target as usize);
    if known {
        wmi.events.push(event);
    }
    drop(wmi);
    if let Some(data) = NonNull::new(data.cast::<u8>()) {
        // SAFETY: the caller's promise.
        unsafe { pool::free(data) };
    }
    match known {
        true => STATUS_SUCCESS,
        false => STATUS_INVALID_DEVICE_REQUEST,
    }
}

crate::exports!("ntoskrnl.exe": IoWMIRegistrationControl, IoWMISuggestInstanceName);

/// What WMILIB.SYS gives to drivers.
pub mod library {
    use super::WmiFireEvent;

    crate::exports!("wmilib.sys": WmiFireEvent);
}
