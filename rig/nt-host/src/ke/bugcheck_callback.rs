//! What drivers want to do at a bug check: callbacks, called at HIGH_LEVEL on the processor that reports, in the order in
//! which they were registered.
//!
//! ```text
//!   report ──▶ BugCheckCallback: the driver's own buffer
//!          ──▶ KbCallbackAddPages: memory that a dump is to have      ──▶ lines of the report
//!          ──▶ KbCallbackSecondaryDumpData: data with a GUID
//! ```
//!
//! No dump file is written: the report names what would be in it, and KbCallbackDumpIo has no occasion.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use nt_sys::{
    BOOLEAN, BufferEmpty, BufferFinished, BufferInserted, BufferStarted, GUID,
    KB_ADD_PAGES_FLAG_ADDITIONAL_RANGES_EXIST, KBUGCHECK_ADD_PAGES, KBUGCHECK_CALLBACK_RECORD,
    KBUGCHECK_CALLBACK_ROUTINE, KBUGCHECK_REASON_CALLBACK_RECORD,
    KBUGCHECK_REASON_CALLBACK_ROUTINE, KBUGCHECK_SECONDARY_DUMP_DATA, KbCallbackAddPages,
    KbCallbackDumpIo, KbCallbackSecondaryDumpData, PVOID,
};

use crate::exports;
use crate::host::platform;
use crate::sync::Mutex;

/// Bytes that a KbCallbackSecondaryDumpData routine may have written to a dump.
const SECONDARY_DATA: u32 = 64 << 10;
/// Ranges that one KbCallbackAddPages routine may name before it is taken to never end.
const MOST_RANGES: usize = 64;

enum Callback {
    Plain(*mut KBUGCHECK_CALLBACK_RECORD),
    Reason(*mut KBUGCHECK_REASON_CALLBACK_RECORD),
}
// SAFETY: a registered record stays valid until it is deregistered, under the lock of the list.
unsafe impl Send for Callback {}

impl Callback {
    fn address(&self) -> usize {
        match self {
            Self::Plain(record) => *record as usize,
            Self::Reason(record) => *record as usize,
        }
    }

    /// The address of its routine.
    fn routine(&self) -> usize {
        match *self {
            Self::Plain(record) => {
                // SAFETY: the record is registered, hence valid.
                let routine = unsafe { (*record).CallbackRoutine };
                routine.map_or(0, |routine| routine as usize)
            }
            Self::Reason(record) => {
                // SAFETY: as above.
                let routine = unsafe { (*record).CallbackRoutine };
                routine.map_or(0, |routine| routine as usize)
            }
        }
    }
}

struct Callbacks {
    list: Vec<Callback>,
    /// What the system lends to KbCallbackSecondaryDumpData routines: at a bug check it is too late to allocate.
    buffer: Vec<u8>,
}

static CALLBACKS: Mutex<Callbacks> = Mutex::new(Callbacks {
    list: Vec::new(),
    buffer: Vec::new(),
});

/// Calls them all; a line about what each has to say goes to the log.
pub(super) fn run(code: u32) {
    // The list stays locked: nothing else runs on this CPU any more, and others must not change it.
    let Some(mut callbacks) = CALLBACKS.try_lock() else {
        return;
    };
    let Callbacks { list, buffer } = &mut *callbacks;
    for callback in list.iter() {
        if let Callback::Plain(record) = callback {
            // SAFETY: the record is registered, hence valid.
            unsafe { plain(*record) };
        }
    }
    for wanted in [KbCallbackAddPages, KbCallbackSecondaryDumpData] {
        for callback in list.iter() {
            let Callback::Reason(record) = callback else {
                continue;
            };
            // SAFETY: as above.
            let copy = unsafe { record.read() };
            let Some(routine) = copy.CallbackRoutine.filter(|_| copy.Reason == wanted) else {
                continue;
            };
            // SAFETY: as above.
            unsafe { (**record).State = BufferStarted };
            let name = component(copy.Component);
            match wanted {
                // SAFETY: as above; the driver registered this routine for this reason.
                KbCallbackAddPages => unsafe { add_pages(*record, routine, code, &name) },
                // SAFETY: as above.
                _ => unsafe { secondary_data(*record, routine, buffer, &name) },
            }
            // SAFETY: as above.
            unsafe { (**record).State = BufferFinished };
        }
    }
}

fn say(line: &str) {
    platform().log(line);
}

/// A driver's name for its callback.
fn component(name: *const u8) -> String {
    /// Longer than any name should be.
    const LONGEST: usize = 64;
    let mut text = String::new();
    for index in 0..LONGEST {
        let at = name.wrapping_add(index);
        if !platform().readable(at as u64, 1) {
            break;
        }
        // SAFETY: just found to be readable.
        match unsafe { at.read() } {
            0 => break,
            byte => text.push(char::from(byte)),
        }
    }
    text
}

/// # Safety
/// The record is registered.
unsafe fn plain(record: *mut KBUGCHECK_CALLBACK_RECORD) {
    // SAFETY: the caller's promise.
    let copy = unsafe { record.read() };
    let Some(routine) = copy.CallbackRoutine else {
        return;
    };
    // SAFETY: as above.
    unsafe { (*record).State = BufferStarted };
    // SAFETY: the driver registered this routine with this buffer.
    unsafe { routine(copy.Buffer, copy.Length) };
    // SAFETY: as above.
    unsafe { (*record).State = BufferFinished };
    say(&format!(
        "    callback of {}: {} bytes",
        component(copy.Component),
        copy.Length
    ));
}

/// # Safety
/// The record is registered with this routine for KbCallbackAddPages.
unsafe fn add_pages(
    record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
    routine: KBUGCHECK_REASON_CALLBACK_ROUTINE,
    code: u32,
    name: &str,
) {
    let mut pages = KBUGCHECK_ADD_PAGES {
        Context: core::ptr::null_mut(),
        Flags: 0,
        BugCheckCode: code,
        Address: 0,
        Count: 0,
    };
    let size = size_of::<KBUGCHECK_ADD_PAGES>() as u32;
    for _ in 0..MOST_RANGES {
        (pages.Flags, pages.Address, pages.Count) = (0, 0, 0);
        let data: *mut KBUGCHECK_ADD_PAGES = &raw mut pages;
        // SAFETY: the caller's promise; the structure lives during the call.
        unsafe { routine(KbCallbackAddPages, record, data.cast(), size) };
        if pages.Count != 0 {
            say(&format!(
                "    {name} adds {} pages at {:#x} to a dump",
                pages.Count, pages.Address
            ));
        }
        if pages.Flags & KB_ADD_PAGES_FLAG_ADDITIONAL_RANGES_EXIST == 0 {
            break;
        }
    }
}

/// # Safety
/// The record is registered with this routine for KbCallbackSecondaryDumpData.
unsafe fn secondary_data(
    record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
    routine: KBUGCHECK_REASON_CALLBACK_ROUTINE,
    buffer: &mut [u8],
    name: &str,
) {
    let mut data = KBUGCHECK_SECONDARY_DUMP_DATA {
        InBuffer: buffer.as_mut_ptr().cast(),
        InBufferLength: buffer.len() as u32,
        MaximumAllowed: SECONDARY_DATA,
        Guid: GUID {
            Data1: 0,
            Data2: 0,
            Data3: 0,
            Data4: [0; 8],
        },
        OutBuffer: core::ptr::null_mut(),
        OutBufferLength: 0,
    };
    let size = size_of::<KBUGCHECK_SECONDARY_DUMP_DATA>() as u32;
    let pointer: *mut KBUGCHECK_SECONDARY_DUMP_DATA = &raw mut data;
    // SAFETY: the caller's promise; the structure and the buffer live during the call.
    unsafe { routine(KbCallbackSecondaryDumpData, record, pointer.cast(), size) };
    let length = data.OutBufferLength;
    if data.OutBuffer.is_null() || length == 0 {
        return;
    }
    let fits = length <= SECONDARY_DATA;
    let there = platform().readable(data.OutBuffer as u64, length as usize);
    say(&match fits && there {
        true => format!(
            "    {name} adds {length} bytes of {:08x} to a dump",
            data.Guid.Data1
        ),
        false => format!("    {name} wants {length} bytes in a dump, which it must not or cannot"),
    });
}

/// Takes the callbacks away whose routines are in an image: the routines' addresses.
pub(crate) fn take_of(image: &Range<usize>) -> Vec<usize> {
    let mut taken = Vec::new();
    CALLBACKS.lock().list.retain(|callback| {
        let routine = callback.routine();
        let is_own = image.contains(&routine);
        taken.extend(is_own.then_some(routine));
        !is_own
    });
    taken
}

/// Adds a callback that is not registered yet.
fn insert(callback: Callback) -> bool {
    let mut callbacks = CALLBACKS.lock();
    let address = callback.address();
    if callbacks
        .list
        .iter()
        .any(|other| other.address() == address)
    {
        return false;
    }
    if callbacks.buffer.is_empty() {
        callbacks.buffer.resize(SECONDARY_DATA as usize, 0);
    }
    callbacks.list.push(callback);
    true
}

/// Takes a callback away; whether it was registered.
fn remove(address: usize) -> bool {
    let mut callbacks = CALLBACKS.lock();
    let before = callbacks.list.len();
    callbacks
        .list
        .retain(|callback| callback.address() != address);
    callbacks.list.len() != before
}

/// Microsoft Learn: KeRegisterBugCheckCallback.
///
/// # Safety
/// `record` is initialised (`KeInitializeCallbackRecord`) and valid until it is deregistered.
pub unsafe extern "win64" fn KeRegisterBugCheckCallback(
    record: *mut KBUGCHECK_CALLBACK_RECORD,
    routine: Option<KBUGCHECK_CALLBACK_ROUTINE>,
    buffer: PVOID,
    length: u32,
    component: *const u8,
) -> BOOLEAN {
    // SAFETY: the caller's promise.
    let fields = unsafe { &mut *record };
    if fields.State != BufferEmpty || !insert(Callback::Plain(record)) {
        return 0;
    }
    fields.CallbackRoutine = routine;
    fields.Buffer = buffer;
    fields.Length = length;
    fields.Component = component;
    fields.State = BufferInserted;
    1
}

/// Microsoft Learn: KeDeregisterBugCheckCallback.
///
/// # Safety
/// `record` is a callback record.
pub unsafe extern "win64" fn KeDeregisterBugCheckCallback(
    record: *mut KBUGCHECK_CALLBACK_RECORD,
) -> BOOLEAN {
    if !remove(record as usize) {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { (*record).State = BufferEmpty };
    1
}

/// Microsoft Learn: KeRegisterBugCheckReasonCallback.
///
/// # Safety
/// `record` is initialised (`KeInitializeCallbackRecord`) and valid until it is deregistered.
pub unsafe extern "win64" fn KeRegisterBugCheckReasonCallback(
    record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
    routine: Option<KBUGCHECK_REASON_CALLBACK_ROUTINE>,
    reason: i32,
    component: *const u8,
) -> BOOLEAN {
    let known = [
        KbCallbackAddPages,
        KbCallbackDumpIo,
        KbCallbackSecondaryDumpData,
    ];
    // SAFETY: the caller's promise.
    let fields = unsafe { &mut *record };
    if !known.contains(&reason) || fields.State != BufferEmpty || !insert(Callback::Reason(record))
    {
        return 0;
    }
    fields.CallbackRoutine = routine;
    fields.Component = component;
    fields.Reason = reason;
    fields.State = BufferInserted;
    1
}

/// Microsoft Learn: KeDeregisterBugCheckReasonCallback.
///
/// # Safety
/// `record` is a callback record.
pub unsafe extern "win64" fn KeDeregisterBugCheckReasonCallback(
    record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
) -> BOOLEAN {
    if !remove(record as usize) {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { (*record).State = BufferEmpty };
    1
}

exports!(
    "ntoskrnl.exe":
    KeRegisterBugCheckCallback,
    KeDeregisterBugCheckCallback,
    KeRegisterBugCheckReasonCallback,
    KeDeregisterBugCheckReasonCallback,
);
