//! A bug check on purpose, whose callbacks tell the verdicts. It ends the system, and so is run only when it is asked for.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::suite::{Outcome, say, verdict};
use crate::support::*;
use crate::wdk::*;

/// MANUALLY_INITIATED_CRASH1 (bugcodes.h).
const CODE: u32 = 0xDEAD_DEAD;
/// KBUGCHECK_BUFFER_DUMP_STATE: BufferInserted, BufferFinished.
const INSERTED: u8 = 1;
const FINISHED: u8 = 3;
/// What the first callback writes into its buffer.
const WRITTEN: u8 = 0xC5;
/// The tag of the driver's data in a dump.
const TAG_OF_DATA: GUID = GUID {
    Data1: 0x5e1f_7e57,
    Data2: 0x0b0c,
    Data3: 0x4c4b,
    Data4: [1, 2, 3, 4, 5, 6, 7, 8],
};

/// What the callbacks share; it lives until the end.
#[repr(C)]
struct Crash {
    first: KBUGCHECK_CALLBACK_RECORD,
    second: KBUGCHECK_CALLBACK_RECORD,
    gone: KBUGCHECK_CALLBACK_RECORD,
    pages: KBUGCHECK_REASON_CALLBACK_RECORD,
    data: KBUGCHECK_REASON_CALLBACK_RECORD,
    gone_reason: KBUGCHECK_REASON_CALLBACK_RECORD,
    buffer: [u8; 64],
    /// A page that a dump is to have.
    page: [u8; PAGE_SIZE],
}

static CRASH: core::sync::atomic::AtomicPtr<Crash> =
    core::sync::atomic::AtomicPtr::new(core::ptr::null_mut());
/// Which callbacks ran, in order, a digit each: of the two kinds.
static PLAIN: AtomicU32 = AtomicU32::new(0);
static REASON: AtomicU32 = AtomicU32::new(0);
/// What was wrong, a bit each.
static WRONG: AtomicU32 = AtomicU32::new(0);

const IRQL: u32 = 1;
const BUFFER: u32 = 2;
const RECORD: u32 = 4;
const LENGTH: u32 = 8;
const ROOM: u32 = 16;
const BUG_CHECK: u32 = 32;
const CONTEXT: u32 = 64;

fn require(holds: bool, bit: u32) {
    if !holds {
        WRONG.fetch_or(bit, Ordering::SeqCst);
    }
}

fn pass_by(trail: &AtomicU32, digit: u32) {
    require(KeGetCurrentIrql() == HIGH_LEVEL, IRQL);
    write(trail, read(trail) << 4 | digit);
}

unsafe extern "system" fn first(buffer: PVOID, length: u32) {
    pass_by(&PLAIN, 1);
    let crash = CRASH.load(Ordering::SeqCst);
    // SAFETY: only an address is computed.
    let own = unsafe { &raw mut (*crash).buffer };
    require(buffer == own.cast() && length == 64, BUFFER);
    // SAFETY: the driver's own buffer.
    unsafe { buffer.cast::<u8>().write(WRITTEN) };
    judge();
}

unsafe extern "system" fn second(buffer: PVOID, length: u32) {
    pass_by(&PLAIN, 2);
    require(buffer.is_null() && length == 0, BUFFER);
    judge();
}

unsafe extern "system" fn never(_: PVOID, _: u32) {
    pass_by(&PLAIN, 0xF);
}

unsafe extern "system" fn never_for_a_reason(
    _: i32,
    _: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
    _: PVOID,
    _: u32,
) {
    pass_by(&REASON, 0xF);
}

/// Names two ranges, one after the other.
unsafe extern "system" fn pages(
    reason: i32,
    record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
    data: PVOID,
    length: u32,
) {
    let crash = CRASH.load(Ordering::SeqCst);
    // SAFETY: only addresses are computed.
    let (own, page) = unsafe { (&raw mut (*crash).pages, &raw mut (*crash).page) };
    require(record == own && reason == KbCallbackAddPages, RECORD);
    require(length as usize >= size_of::<KBUGCHECK_ADD_PAGES>(), LENGTH);
    // SAFETY: the reason's structure.
    let pages = unsafe { &mut *data.cast::<KBUGCHECK_ADD_PAGES>() };
    require(pages.BugCheckCode == CODE, BUG_CHECK);
    pages.Flags = KB_ADD_PAGES_FLAG_VIRTUAL_ADDRESS;
    pages.Address = page as usize;
    pages.Count = 1;
    if read(&REASON) == 0 {
        pass_by(&REASON, 3);
        require(pages.Context.is_null(), CONTEXT);
        pages.Context = own.cast();
        pages.Flags |= KB_ADD_PAGES_FLAG_ADDITIONAL_RANGES_EXIST;
    } else {
        pass_by(&REASON, 4);
        require(pages.Context == own.cast(), CONTEXT);
    }
    judge();
}

/// Writes 16 bytes.
unsafe extern "system" fn data(
    reason: i32,
    record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
    data: PVOID,
    length: u32,
) {
    pass_by(&REASON, 5);
    let crash = CRASH.load(Ordering::SeqCst);
    // SAFETY: only an address is computed.
    let own = unsafe { &raw mut (*crash).data };
    require(
        record == own && reason == KbCallbackSecondaryDumpData,
        RECORD,
    );
    require(
        length as usize >= size_of::<KBUGCHECK_SECONDARY_DUMP_DATA>(),
        LENGTH,
    );
    // SAFETY: the reason's structure.
    let data = unsafe { &mut *data.cast::<KBUGCHECK_SECONDARY_DUMP_DATA>() };
    let room = data.InBufferLength >= 16 && data.MaximumAllowed >= 16 && !data.InBuffer.is_null();
    require(room, ROOM);
    if room {
        // SAFETY: the system's buffer of that length.
        unsafe { data.InBuffer.cast::<u8>().write_bytes(WRITTEN, 16) };
        data.Guid = TAG_OF_DATA;
        data.OutBuffer = data.InBuffer;
        data.OutBufferLength = 16;
    }
    judge();
}

/// Tells the verdicts when every callback has run.
fn judge() {
    if (read(&PLAIN), read(&REASON)) != (0x12, 0x345) {
        return;
    }
    let wrong = read(&WRONG);
    let holds = |bits: u32, what: &str| -> Outcome {
        check!(wrong & bits == 0, "{what}: {:#x} is wrong", wrong & bits);
        Ok(())
    };
    let tell = |case, outcome| verdict("bug_check", case, outcome);
    tell("callbacks_run_in_the_order_of_their_registration", Ok(()));
    tell("callbacks_run_at_high_level", holds(IRQL, "the IRQL"));
    tell(
        "a_callback_gets_its_own_buffer",
        holds(BUFFER, "buffer or length").and_then(|()| former_callback()),
    );
    tell(
        "a_callback_for_a_reason_gets_its_record",
        holds(RECORD | LENGTH, "record or length"),
    );
    tell(
        "pages_are_asked_for_until_there_are_no_more",
        holds(BUG_CHECK | CONTEXT, "code or context"),
    );
    tell(
        "data_for_a_dump_has_room",
        holds(ROOM, "the system's buffer"),
    );
    say(format_args!("end"));
}

/// Learn, KBUGCHECK_CALLBACK_RECORD: the first callback's state, and what it wrote.
fn former_callback() -> Outcome {
    let crash = CRASH.load(Ordering::SeqCst);
    // SAFETY: the records live until the end; the state is the byte behind seven words.
    let (state, byte) = unsafe {
        let record = (&raw const (*crash).first).cast::<u8>();
        (record.add(56).read_volatile(), (*crash).buffer[0])
    };
    equal!(
        (state, byte),
        (FINISHED, WRITTEN),
        "the first callback's state, and what it wrote"
    );
    Ok(())
}

/// Registers the callbacks and ends the system.
pub fn run() -> ! {
    let Ok(crash) = Pool::<Crash>::zeroed() else {
        KeBugCheckEx(CODE, 1, 0, 0, 0);
    };
    let crash = crash.into_raw();
    CRASH.store(crash, Ordering::SeqCst);
    // SAFETY: only addresses are computed.
    let (one, two, gone, buffer) = unsafe {
        (
            &raw mut (*crash).first,
            &raw mut (*crash).second,
            &raw mut (*crash).gone,
            &raw mut (*crash).buffer,
        )
    };
    // SAFETY: as above.
    let (page, more, gone_reason) = unsafe {
        (
            &raw mut (*crash).pages,
            &raw mut (*crash).data,
            &raw mut (*crash).gone_reason,
        )
    };
    let name = |name: &'static core::ffi::CStr| name.as_ptr().cast::<u8>();
    let none = core::ptr::null_mut();
    let plain = [
        KeRegisterBugCheckCallback(gone, never, none, 0, name(c"SELFTEST gone")),
        KeRegisterBugCheckCallback(one, first, buffer.cast(), 64, name(c"SELFTEST first")),
        KeRegisterBugCheckCallback(two, second, none, 0, name(c"SELFTEST second")),
        KeDeregisterBugCheckCallback(gone),
    ];
    let reason = [
        KeRegisterBugCheckReasonCallback(
            gone_reason,
            never_for_a_reason,
            KbCallbackAddPages,
            name(c"SELFTEST gone"),
        ),
        KeRegisterBugCheckReasonCallback(page, pages, KbCallbackAddPages, name(c"SELFTEST pages")),
        KeRegisterBugCheckReasonCallback(
            more,
            data,
            KbCallbackSecondaryDumpData,
            name(c"SELFTEST data"),
        ),
        KeDeregisterBugCheckReasonCallback(gone_reason),
    ];
    // Neither a record that is registered nor a reason that there is not.
    let refused = [
        KeRegisterBugCheckReasonCallback(page, pages, KbCallbackAddPages, name(c"SELFTEST twice")),
        KeRegisterBugCheckReasonCallback(gone_reason, pages, 0, name(c"SELFTEST invalid")),
    ];
    // SAFETY: as in `former_callback`.
    let state = unsafe { one.cast::<u8>().add(56).read_volatile() };
    verdict(
        "bug_check",
        "callbacks_are_registered_once",
        registered([plain, reason], refused, state),
    );
    KeBugCheckEx(CODE, 1, 2, 3, 4)
}

fn registered(done: [[BOOLEAN; 4]; 2], refused: [BOOLEAN; 2], state: u8) -> Outcome {
    check!(done == [[1; 4]; 2], "one was refused");
    equal!(refused, [0, 0], "a record twice, and an invalid reason");
    equal!(state, INSERTED, "the state of a registered record");
    Ok(())
}
