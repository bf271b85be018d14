//! Remove locks, callback objects, bug check callbacks, named events, the device's own properties.

use core::ptr::null_mut;
use core::sync::atomic::AtomicU32;

use crate::device;
use crate::suite::Outcome;
use crate::support::*;
use crate::wdk::*;

const SIZE: u32 = size_of::<IO_REMOVE_LOCK>() as u32;

fn acquire(lock: *mut IO_REMOVE_LOCK, tag: usize) -> NTSTATUS {
    IoAcquireRemoveLockEx(lock, tag as PVOID, c"".as_ptr().cast(), 1, SIZE)
}

fn release(lock: *mut IO_REMOVE_LOCK, tag: usize) {
    IoReleaseRemoveLockEx(lock, tag as PVOID, SIZE);
}

#[repr(C)]
struct Locked {
    lock: IO_REMOVE_LOCK,
    removed: AtomicU32,
    refused: AtomicU32,
}

/// Learn, IoAcquireRemoveLock: STATUS_SUCCESS as often as asked for, with tags of any kind.
fn a_remove_lock_is_acquired_several_times() -> Outcome {
    let mut locked = Pool::<Locked>::zeroed()?;
    let lock = &raw mut locked.lock;
    IoInitializeRemoveLockEx(lock, TAG, 0, 0, SIZE);
    for tag in [1, 2, 2] {
        equal!(
            acquire(lock, tag),
            STATUS_SUCCESS,
            "IoAcquireRemoveLock with tag {tag}"
        );
    }
    for tag in [2, 1, 2] {
        release(lock, tag);
    }
    Ok(())
}

/// Learn, IoReleaseRemoveLockAndWait: waits for every holder; IoAcquireRemoveLock returns STATUS_DELETE_PENDING from then on.
fn removal_waits_for_the_holders() -> Outcome {
    unsafe extern "system" fn remove(locked: PVOID) {
        // SAFETY: the case waits for its thread.
        let locked = unsafe { context::<Locked>(locked) };
        let lock = (&raw const locked.lock).cast_mut();
        if acquire(lock, 9) == STATUS_SUCCESS {
            IoReleaseRemoveLockAndWaitEx(lock, 9 as PVOID, SIZE);
            write(&locked.removed, 1);
        }
    }
    let mut locked = Pool::<Locked>::zeroed()?;
    let lock = &raw mut locked.lock;
    IoInitializeRemoveLockEx(lock, TAG, 0, 0, SIZE);
    equal!(acquire(lock, 1), STATUS_SUCCESS, "IoAcquireRemoveLock");
    let thread = Thread::start(remove, locked.context())?;
    // The removal has begun when an acquisition is refused.
    let begun = until(
        || match acquire(lock, 2) {
            STATUS_SUCCESS => {
                release(lock, 2);
                false
            }
            status => {
                write(&locked.refused, status as u32);
                true
            }
        },
        "a refusal",
    );
    let early = read(&locked.removed);
    release(lock, 1);
    drop(thread);
    begun?;
    equal!(
        read(&locked.refused) as i32,
        STATUS_DELETE_PENDING,
        "IoAcquireRemoveLock during the removal"
    );
    equal!(
        early,
        0,
        "whether the removal had ended before the last release"
    );
    equal!(read(&locked.removed), 1, "whether it has ended now");
    equal!(
        acquire(lock, 3),
        STATUS_DELETE_PENDING,
        "IoAcquireRemoveLock after the removal"
    );
    Ok(())
}

#[repr(C)]
struct Heard {
    calls: AtomicU32,
    trail: AtomicU32,
    first: AtomicU32,
    second: AtomicU32,
}

unsafe extern "system" fn hear(heard: PVOID, first: PVOID, second: PVOID) {
    // SAFETY: the case unregisters its routines.
    let heard = unsafe { context::<Heard>(heard) };
    add(&heard.calls);
    write(&heard.trail, read(&heard.trail) << 4 | 1);
    write(&heard.first, first as u32);
    write(&heard.second, second as u32);
}

unsafe extern "system" fn hear_second(heard: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: as above.
    let heard = unsafe { context::<Heard>(heard) };
    write(&heard.trail, read(&heard.trail) << 4 | 2);
}

/// Learn, ExNotifyCallback: every registered routine is called with the arguments, in the order of registration.
fn a_callback_object_calls_its_routines() -> Outcome {
    let heard = Pool::<Heard>::zeroed()?;
    let attributes = object_attributes(core::ptr::null(), OBJ_KERNEL_HANDLE, null_mut());
    let mut object = null_mut();
    equal!(
        ExCreateCallback(&raw mut object, &raw const attributes, 1, 1),
        STATUS_SUCCESS,
        "ExCreateCallback"
    );
    let first = ExRegisterCallback(object, hear, heard.context());
    let second = ExRegisterCallback(object, hear_second, heard.context());
    ExNotifyCallback(object, 3 as PVOID, 4 as PVOID);
    ExUnregisterCallback(first);
    ExNotifyCallback(object, 5 as PVOID, 6 as PVOID);
    ExUnregisterCallback(second);
    ExNotifyCallback(object, 7 as PVOID, 8 as PVOID);
    ObfDereferenceObject(object);
    check!(
        !first.is_null() && !second.is_null(),
        "ExRegisterCallback returned null"
    );
    equal!(read(&heard.trail), 0x122, "the calls, in order");
    equal!(
        (read(&heard.first), read(&heard.second)),
        (3, 4),
        "the arguments"
    );
    Ok(())
}

/// Learn, ExCreateCallback: AllowMultipleCallbacks FALSE lets one routine register; the second gets NULL.
fn a_callback_object_may_allow_one_routine_only() -> Outcome {
    let heard = Pool::<Heard>::zeroed()?;
    let attributes = object_attributes(core::ptr::null(), OBJ_KERNEL_HANDLE, null_mut());
    let mut object = null_mut();
    equal!(
        ExCreateCallback(&raw mut object, &raw const attributes, 1, 0),
        STATUS_SUCCESS,
        "ExCreateCallback"
    );
    let first = ExRegisterCallback(object, hear, heard.context());
    let second = ExRegisterCallback(object, hear_second, heard.context());
    for registration in [first, second] {
        if !registration.is_null() {
            ExUnregisterCallback(registration);
        }
    }
    ObfDereferenceObject(object);
    check!(
        !first.is_null(),
        "the first ExRegisterCallback returned null"
    );
    check!(second.is_null(), "the second routine was registered");
    Ok(())
}

/// A name for objects, counted.
fn named<R>(text: &str, body: impl FnOnce(*const UNICODE_STRING) -> R) -> R {
    let mut units = [0; 48];
    let mut length = 0;
    for (place, unit) in units.iter_mut().zip(text.encode_utf16()) {
        *place = unit;
        length += 2;
    }
    let name = UNICODE_STRING {
        Length: length,
        MaximumLength: 96,
        Buffer: units.as_mut_ptr(),
    };
    body(&raw const name)
}

/// Learn, ExCreateCallback: the same name is the same object; with Create FALSE an unknown name is not found.
fn callback_objects_have_names() -> Outcome {
    let make = |create| {
        named(r"\Callback\RigSelfTest", |name| {
            let flags = OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE;
            let attributes = object_attributes(name, flags, null_mut());
            let mut object = null_mut();
            (
                ExCreateCallback(&raw mut object, &raw const attributes, create, 1),
                object,
            )
        })
    };
    let (missing, _) = make(0);
    let (made, first) = make(1);
    let (found, second) = make(0);
    for (status, object) in [(made, first), (found, second)] {
        if status == STATUS_SUCCESS {
            ObfDereferenceObject(object);
        }
    }
    equal!(
        missing,
        STATUS_OBJECT_NAME_NOT_FOUND,
        "ExCreateCallback of a name that is unknown"
    );
    equal!(
        (made, found),
        (STATUS_SUCCESS, STATUS_SUCCESS),
        "making and finding it"
    );
    equal!(first, second, "the object found");
    Ok(())
}

/// Learn, KeInitializeCallbackRecord, KeRegisterBugCheckCallback, KeDeregisterBugCheckCallback: TRUE once each.
fn a_bug_check_callback_is_registered_once() -> Outcome {
    unsafe extern "system" fn never(_: PVOID, _: u32) {}
    #[repr(C)]
    struct Crash {
        record: KBUGCHECK_CALLBACK_RECORD,
        buffer: [u8; 64],
    }
    let mut crash = Pool::<Crash>::zeroed()?;
    let (record, buffer) = (&raw mut crash.record, (&raw mut crash.buffer).cast());
    // Zeroed is what KeInitializeCallbackRecord makes: BufferEmpty.
    let register =
        || KeRegisterBugCheckCallback(record, never, buffer, 64, c"SELFTEST".as_ptr().cast());
    let (first, second) = (register(), register());
    let (gone, again) = (
        KeDeregisterBugCheckCallback(record),
        KeDeregisterBugCheckCallback(record),
    );
    let third = register();
    let last = KeDeregisterBugCheckCallback(record);
    equal!((first, second), (1, 0), "KeRegisterBugCheckCallback, twice");
    equal!((gone, again), (1, 0), "KeDeregisterBugCheckCallback, twice");
    equal!((third, last), (1, 1), "both once more");
    Ok(())
}

/// Learn, IoCreateNotificationEvent: a named event, signaled at first; the same name is the same event.
fn a_named_event_is_found_by_its_name() -> Outcome {
    let make = || {
        named(r"\BaseNamedObjects\RigSelfTest", |name| {
            let mut handle = null_mut();
            (IoCreateNotificationEvent(name, &raw mut handle), handle)
        })
    };
    let (first, handle) = make();
    check!(!first.is_null(), "IoCreateNotificationEvent returned null");
    let state = KeReadStateEvent(first);
    KeClearEvent(first);
    let (second, other) = make();
    let seen = if second.is_null() {
        -1
    } else {
        KeReadStateEvent(second)
    };
    let _ = ZwClose(handle);
    if !second.is_null() {
        let _ = ZwClose(other);
    }
    check!(state != 0, "the event is not signaled at first");
    equal!(second, first, "the event of the same name");
    equal!(seen, 0, "its state");
    Ok(())
}

/// DEVICE_REGISTRY_PROPERTY (wdm.h).
const HARDWARE_ID: i32 = 1;
const CLASS_NAME: i32 = 5;
const CLASS_GUID: i32 = 6;
const PDO_NAME: i32 = 11;
const ENUMERATOR_NAME: i32 = 15;

fn property(which: i32, room: u32, out: &mut [u16; 64]) -> (NTSTATUS, u32) {
    let mut needed = 0xDEAD;
    let pdo = device::extension(device::root()).pdo;
    let status = IoGetDeviceProperty(pdo, which, room, out.as_mut_ptr().cast(), &raw mut needed);
    (status, needed)
}

fn is_text(units: &[u16], text: &str) -> bool {
    units
        .iter()
        .copied()
        .zip(text.encode_utf16().chain([0]))
        .all(|(unit, wanted)| {
            let lower = |unit: u16| (unit as u8).to_ascii_lowercase();
            unit < 128 && lower(unit) == lower(wanted)
        })
}

/// Learn, IoGetDeviceProperty: strings with their zero; hardware IDs as a list; ResultLength is the whole length.
fn a_device_has_properties() -> Outcome {
    let mut out = [0xFFFF; 64];
    let (status, length) = property(CLASS_NAME, 128, &mut out);
    equal!(
        (status, length),
        (STATUS_SUCCESS, 14),
        "the class name: status and length"
    );
    check!(is_text(&out, "System"), "the class name is wrong");
    let (status, _) = property(CLASS_GUID, 128, &mut out);
    equal!(status, STATUS_SUCCESS, "the class's GUID");
    check!(
        is_text(&out, "{4d36e97d-e325-11ce-bfc1-08002be10318}"),
        "the class's GUID is wrong"
    );
    let (status, length) = property(HARDWARE_ID, 128, &mut out);
    equal!(status, STATUS_SUCCESS, "the hardware IDs");
    check!(
        is_text(&out, r"Root\RigSelfTest"),
        "the hardware ID is wrong"
    );
    check!(
        length >= 36 && out[length as usize / 2 - 2..length as usize / 2] == [0, 0],
        "their list does not end with two zeroes"
    );
    let (status, _) = property(ENUMERATOR_NAME, 128, &mut out);
    equal!(status, STATUS_SUCCESS, "the enumerator's name");
    check!(is_text(&out, "ROOT"), "the enumerator's name is wrong");
    let (status, _) = property(PDO_NAME, 128, &mut out);
    equal!(status, STATUS_SUCCESS, "the PDO's name");
    check!(
        out[..8].iter().map(|unit| *unit as u8).eq(*b"\\Device\\"),
        "the PDO's name is {:x?}",
        &out[..8]
    );
    Ok(())
}

/// Learn, IoGetDeviceProperty: STATUS_BUFFER_TOO_SMALL, with the length that is needed.
fn a_short_buffer_gets_no_property() -> Outcome {
    let mut out = [0xFFFF; 64];
    for room in [0, 4] {
        equal!(
            property(CLASS_NAME, room, &mut out),
            (STATUS_BUFFER_TOO_SMALL, 14),
            "with {room} bytes"
        );
    }
    Ok(())
}

/// Learn, IoOpenDeviceRegistryKey: the device's hardware key, and its driver's software key.
fn a_device_has_keys() -> Outcome {
    const PLUGPLAY_REGKEY_DEVICE: u32 = 1;
    const PLUGPLAY_REGKEY_DRIVER: u32 = 2;
    const KEY_READ: u32 = 0x2_0019;
    let pdo = device::extension(device::root()).pdo;
    for which in [PLUGPLAY_REGKEY_DEVICE, PLUGPLAY_REGKEY_DRIVER] {
        let mut key = null_mut();
        let status = IoOpenDeviceRegistryKey(pdo, which, KEY_READ, &raw mut key);
        if status == STATUS_SUCCESS {
            let _ = ZwClose(key);
        }
        equal!(
            status,
            STATUS_SUCCESS,
            "IoOpenDeviceRegistryKey of key {which}"
        );
    }
    Ok(())
}

group!("objects":
    a_remove_lock_is_acquired_several_times,
    removal_waits_for_the_holders,
    a_callback_object_calls_its_routines,
    a_callback_object_may_allow_one_routine_only,
    callback_objects_have_names,
    a_bug_check_callback_is_registered_once,
    a_named_event_is_found_by_its_name,
    a_device_has_properties,
    a_short_buffer_gets_no_property,
    a_device_has_keys,
);
