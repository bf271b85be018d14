//! What a device offers to programs: device interfaces, and data by WMI.

use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::device;
use crate::suite::{Finding, Outcome};
use crate::support::*;
use crate::wdk::*;

static CLASS: GUID = GUID {
    Data1: 0x5e1f_7e57,
    Data2: 0x1de0,
    Data3: 0x4d1c,
    Data4: [0x8a, 0xbc, 1, 2, 3, 4, 5, 6],
};
/// `CLASS` as links have it.
const CLASS_TEXT: &str = "{5e1f7e57-1de0-4d1c-8abc-010203040506}";
/// IoGetDeviceInterfaces: DEVICE_INTERFACE_INCLUDE_NONACTIVE.
const ALSO_DISABLED: u32 = 1;

fn pdo() -> *mut DEVICE_OBJECT {
    device::extension(device::root()).pdo
}

/// A counted string of ASCII in place.
struct Wide {
    units: [u16; 64],
    length: usize,
}

impl Wide {
    fn new(text: &str) -> Self {
        let mut units = [0; 64];
        let mut length = 0;
        for (place, unit) in units.iter_mut().zip(text.encode_utf16()) {
            *place = unit;
            length += 1;
        }
        Self { units, length }
    }

    fn string(&mut self) -> UNICODE_STRING {
        UNICODE_STRING {
            Length: (self.length * 2) as u16,
            MaximumLength: 128,
            Buffer: self.units.as_mut_ptr(),
        }
    }
}

/// The link of a registered interface, freed with its owner.
struct Link(UNICODE_STRING);

impl Link {
    fn register(reference: Option<&str>) -> Result<Self, NTSTATUS> {
        let mut string = UNICODE_STRING {
            Length: 0,
            MaximumLength: 0,
            Buffer: null_mut(),
        };
        let mut wide = Wide::new(reference.unwrap_or_default());
        let given = wide.string();
        let status = IoRegisterDeviceInterface(
            pdo(),
            &raw const CLASS,
            reference.map_or(null(), |_| &raw const given),
            &raw mut string,
        );
        match nt_success(status) {
            true => Ok(Self(string)),
            false => Err(status),
        }
    }

    fn registered(reference: Option<&str>) -> Result<Self, Finding> {
        Self::register(reference).map_err(|status| {
            crate::suite::failed(format_args!("IoRegisterDeviceInterface: {status:#x}"))
        })
    }

    fn units(&self) -> &[u16] {
        // SAFETY: the string that the system has made.
        unsafe { core::slice::from_raw_parts(self.0.Buffer, usize::from(self.0.Length) / 2) }
    }

    fn starts_with(&self, text: &str) -> bool {
        text.encode_utf16()
            .enumerate()
            .all(|(at, unit)| self.units().get(at) == Some(&unit))
    }

    fn ends_with(&self, text: &str) -> bool {
        let lower = |unit: u16| match unit {
            0x41..=0x5A => unit + 0x20,
            _ => unit,
        };
        let own = self.units().iter().rev().map(|unit| lower(*unit));
        text.bytes()
            .rev()
            .map(u16::from)
            .zip(own)
            .all(|(a, b)| a == b)
            && self.units().len() >= text.len()
    }

    fn set(&self, enabled: bool) -> NTSTATUS {
        IoSetDeviceInterfaceState(&raw const self.0, enabled.into())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        RtlFreeUnicodeString(&raw mut self.0);
    }
}

/// Learn, IoRegisterDeviceInterface: a link in the object manager's namespace for devices, the same each time.
fn an_interface_has_a_link() -> Outcome {
    let (first, again) = (Link::registered(None)?, Link::registered(None)?);
    check!(first.starts_with(r"\??\"), "the link is not below \\??\\");
    check!(
        first.ends_with(CLASS_TEXT),
        "the link does not end with the class"
    );
    let path = &first.units()[4..];
    check!(
        !path.contains(&u16::from(b'\\')),
        "the link has a backslash behind its first four characters"
    );
    check!(first.units() == again.units(), "the second link is another");
    Ok(())
}

/// Learn, IoRegisterDeviceInterface: a reference string tells interfaces of one class apart, and must not have a separator.
fn a_reference_is_part_of_the_link() -> Outcome {
    let link = Link::registered(Some("first"))?;
    check!(
        link.ends_with(r"010203040506}\first"),
        "the link does not end with the reference"
    );
    let refused = Link::register(Some(r"a\b")).err();
    check!(refused.is_some(), "a reference with a separator was taken");
    Ok(())
}

/// Learn, IoSetDeviceInterfaceState: STATUS_OBJECT_NAME_EXISTS for one that is enabled, and NOT_FOUND for one that is not.
fn an_interface_is_enabled_and_disabled() -> Outcome {
    let link = Link::registered(None)?;
    let states = [
        link.set(true),
        link.set(true),
        link.set(false),
        link.set(false),
    ];
    equal!(
        states,
        [
            STATUS_SUCCESS,
            STATUS_OBJECT_NAME_EXISTS,
            STATUS_SUCCESS,
            STATUS_OBJECT_NAME_NOT_FOUND
        ],
        "enabling and disabling, twice each"
    );
    let mut unknown = Wide::new(r"\??\nothing#{5e1f7e57}");
    let unknown = unknown.string();
    equal!(
        IoSetDeviceInterfaceState(&raw const unknown, 1),
        STATUS_OBJECT_NAME_NOT_FOUND,
        "enabling what was never registered"
    );
    Ok(())
}

/// How many links IoGetDeviceInterfaces gives.
fn links(flags: u32) -> Result<usize, Finding> {
    let mut list: *mut u16 = null_mut();
    let status = IoGetDeviceInterfaces(&raw const CLASS, pdo(), flags, &raw mut list);
    equal!(status, STATUS_SUCCESS, "IoGetDeviceInterfaces");
    let (mut count, mut at, mut length) = (0, 0, 0);
    loop {
        // SAFETY: the list ends with an empty string.
        let unit = unsafe { list.wrapping_add(at).read() };
        at += 1;
        match (unit, length) {
            (0, 0) => break,
            (0, _) => (count, length) = (count + 1, 0),
            _ => length += 1,
        }
    }
    ExFreePool(list.cast());
    Ok(count)
}

/// Learn, IoGetDeviceInterfaces: those that are enabled, or all.
fn enabled_interfaces_are_listed() -> Outcome {
    let (one, _two) = (
        Link::registered(Some("one"))?,
        Link::registered(Some("two"))?,
    );
    let none = links(0)?;
    let all = links(ALSO_DISABLED)?;
    let _ = one.set(true);
    let some = links(0)?;
    let _ = one.set(false);
    equal!(
        (none, some),
        (0, 1),
        "links before and after one is enabled"
    );
    check!(all >= 2, "{all} links of interfaces that are not enabled");
    Ok(())
}

/// Learn, IoOpenDeviceInterfaceRegistryKey: a key for the interface's own parameters, which it keeps.
fn an_interface_has_a_key() -> Outcome {
    let link = Link::registered(None)?;
    let mut key = null_mut();
    // KEY_ALL_ACCESS.
    let status = IoOpenDeviceInterfaceRegistryKey(&raw const link.0, 0xF_003F, &raw mut key);
    equal!(status, STATUS_SUCCESS, "IoOpenDeviceInterfaceRegistryKey");
    let mut name = Wide::new("Answer");
    let (name, mut value) = (name.string(), 42u32);
    let written = ZwSetValueKey(key, &raw const name, 0, 4, (&raw mut value).cast(), 4);
    let closed = ZwClose(key);
    equal!(
        (written, closed),
        (STATUS_SUCCESS, STATUS_SUCCESS),
        "ZwSetValueKey and ZwClose"
    );
    Ok(())
}

// WMIREG_ACTION_REGISTER and so on; WMIREGISTER, WMIUPDATE.
const REGISTER: u32 = 1;
const DEREGISTER: u32 = 2;
const UPDATE: u32 = 4;
const FOR_REGISTRATION: u32 = 0;
const FOR_UPDATE: u32 = 1;
const IRP_MN_REGINFO_EX: u8 = 0x0B;

/// Requests for registration data, the path and the provider of the last, and the bytes that the driver says it needs.
static ASKED: AtomicU32 = AtomicU32::new(0);
static PATH: AtomicU32 = AtomicU32::new(0xFF);
static PROVIDER: AtomicUsize = AtomicUsize::new(0);
static ROOM: AtomicU32 = AtomicU32::new(0);
static NEEDED: AtomicU32 = AtomicU32::new(0);

/// WMI requests to the root's function device: a WMIREGINFO with one block.
pub fn system_control(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    /// BufferSize, next, paths, count; then the GUID, flags, instances, a base name.
    const SIZE: u32 = 24 + 32;
    let location = IoGetCurrentIrpStackLocation(irp);
    // Parameters.WMI: ProviderId, DataPath, BufferSize, Buffer.
    let [provider, path, room, buffer] = location.Arguments;
    if location.MinorFunction != IRP_MN_REGINFO_EX || provider != device as usize {
        // SAFETY: the same arguments.
        return unsafe { device::pass(device, irp) };
    }
    PROVIDER.store(provider, Ordering::SeqCst);
    write(&PATH, path as u32);
    write(&ROOM, room as u32);
    let words = buffer as *mut u32;
    let needed = read(&NEEDED).max(SIZE);
    // SAFETY: the requester's buffer has room for a word, and for all where it says so.
    unsafe { words.write(needed) };
    let status = match room as u32 >= needed {
        false => STATUS_BUFFER_TOO_SMALL,
        true => {
            let id = [
                CLASS.Data1,
                u32::from(CLASS.Data3) << 16 | u32::from(CLASS.Data2),
            ];
            let values = [SIZE, 0, 0, 0, 1, 0, id[0], id[1]];
            for (at, value) in values.into_iter().enumerate() {
                // SAFETY: as above.
                unsafe { words.wrapping_add(at).write(value) };
            }
            STATUS_SUCCESS
        }
    };
    add(&ASKED);
    device::complete(irp, status, needed as usize)
}

fn asked(action: u32, times: u32) -> Outcome {
    write(&ASKED, 0);
    equal!(
        IoWMIRegistrationControl(device::root(), action),
        STATUS_SUCCESS,
        "IoWMIRegistrationControl"
    );
    until(|| read(&ASKED) >= times, "a request for registration data")
}

/// Learn, IoWMIRegistrationControl, IRP_MN_REGINFO_EX: a device that registers is asked for its blocks, and again for an update.
fn a_registered_device_is_asked_for_its_blocks() -> Outcome {
    write(&NEEDED, 0);
    asked(REGISTER, 1)?;
    let first = read(&PATH);
    asked(UPDATE, 1)?;
    let second = read(&PATH);
    let gone = IoWMIRegistrationControl(device::root(), DEREGISTER);
    equal!(
        (first, second),
        (FOR_REGISTRATION, FOR_UPDATE),
        "the paths of the two requests"
    );
    equal!(
        PROVIDER.load(Ordering::SeqCst),
        device::root() as usize,
        "the provider"
    );
    equal!(gone, STATUS_SUCCESS, "the end of the registration");
    Ok(())
}

/// Learn, IRP_MN_REGINFO_EX: a driver whose data do not fit says how much it needs, and is asked again.
fn a_small_buffer_is_followed_by_a_larger_one() -> Outcome {
    write(&NEEDED, 20_000);
    let outcome = asked(REGISTER, 2);
    let room = read(&ROOM);
    let gone = IoWMIRegistrationControl(device::root(), DEREGISTER);
    outcome?;
    check!(room >= 20_000, "the last buffer had {room} bytes");
    equal!(gone, STATUS_SUCCESS, "the end of the registration");
    Ok(())
}

/// Learn, WmiFireEvent: data in nonpaged pool, which WMI frees.
fn an_event_is_fired() -> Outcome {
    write(&NEEDED, 0);
    asked(REGISTER, 1)?;
    let data = ExAllocatePoolWithTag(NonPagedPoolNx, 16, TAG);
    check!(!data.is_null(), "no pool");
    let status = WmiFireEvent(device::root(), &raw const CLASS, 0, 16, data);
    let gone = IoWMIRegistrationControl(device::root(), DEREGISTER);
    equal!(
        (status, gone),
        (STATUS_SUCCESS, STATUS_SUCCESS),
        "WmiFireEvent, and the end of the registration"
    );
    Ok(())
}

/// Learn, IoWMISuggestInstanceName: a name from the device's description, freed by the caller.
fn an_instance_gets_a_name() -> Outcome {
    let mut name = UNICODE_STRING {
        Length: 0,
        MaximumLength: 0,
        Buffer: null_mut(),
    };
    let status = IoWMISuggestInstanceName(pdo(), null(), 0, &raw mut name);
    equal!(status, STATUS_SUCCESS, "IoWMISuggestInstanceName");
    let link = Link(name);
    check!(
        link.starts_with("Kernel contract self-test"),
        "the name does not start with the description"
    );
    Ok(())
}

group!("interfaces":
    an_interface_has_a_link,
    a_reference_is_part_of_the_link,
    an_interface_is_enabled_and_disabled,
    enabled_interfaces_are_listed,
    an_interface_has_a_key,
    a_registered_device_is_asked_for_its_blocks,
    a_small_buffer_is_followed_by_a_larger_one,
    an_event_is_fired,
    an_instance_gets_a_name,
);
