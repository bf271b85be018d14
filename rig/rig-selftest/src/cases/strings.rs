//! Counted strings, conversions, formatting, memory functions, versions and calendars.

use core::ptr::null_mut;

use crate::suite::Outcome;
use crate::support::*;
use crate::wdk::*;

fn counted(units: &[u16]) -> UNICODE_STRING {
    let mut string = empty();
    RtlInitUnicodeString(&raw mut string, units.as_ptr());
    string
}

fn empty() -> UNICODE_STRING {
    UNICODE_STRING {
        Length: 0,
        MaximumLength: 0,
        Buffer: null_mut(),
    }
}

/// An empty string over a buffer.
fn over(buffer: &mut [u16]) -> UNICODE_STRING {
    UNICODE_STRING {
        Length: 0,
        MaximumLength: size_of_val(buffer) as u16,
        Buffer: buffer.as_mut_ptr(),
    }
}

fn units(string: &UNICODE_STRING) -> &[u16] {
    match string.Buffer.is_null() {
        true => &[],
        // SAFETY: a counted string's buffer holds its length.
        false => unsafe {
            core::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2))
        },
    }
}

fn same(string: &UNICODE_STRING, text: &[u16]) -> bool {
    units(string) == &text[..text.len() - 1]
}

/// Learn, RtlInitUnicodeString: Length without, MaximumLength with the terminating zero; both 0 for NULL.
fn a_string_is_counted_without_its_zero() -> Outcome {
    let text = wide!("Xen");
    let string = counted(text);
    equal!((string.Length, string.MaximumLength), (6, 8), "the lengths");
    equal!(string.Buffer.cast_const(), text.as_ptr(), "the buffer");
    let mut null = UNICODE_STRING {
        Length: 9,
        MaximumLength: 9,
        Buffer: 8 as *mut u16,
    };
    RtlInitUnicodeString(&raw mut null, core::ptr::null());
    equal!(
        (null.Length, null.MaximumLength),
        (0, 0),
        "the lengths for NULL"
    );
    check!(null.Buffer.is_null(), "the buffer for NULL");
    Ok(())
}

/// Learn, RtlCopyUnicodeString: no more than MaximumLength is copied; NULL makes the target empty.
fn a_copy_is_cut_off_at_the_targets_size() -> Outcome {
    let mut buffer = [0xFFFF; 4];
    let mut target = over(&mut buffer);
    target.MaximumLength = 6;
    let source = counted(wide!("abcdef"));
    RtlCopyUnicodeString(&raw mut target, &raw const source);
    check!(
        same(&target, wide!("abc")),
        "the copy is {:x?}",
        units(&target)
    );
    RtlCopyUnicodeString(&raw mut target, core::ptr::null());
    equal!(target.Length, 0, "the length after a copy of NULL");
    equal!(buffer[3], 0xFFFF, "the unit behind the target");
    Ok(())
}

/// Learn, RtlAppendUnicodeToString, RtlAppendUnicodeStringToString: STATUS_BUFFER_TOO_SMALL leaves the target alone.
fn what_does_not_fit_is_not_appended() -> Outcome {
    let mut buffer = [0; 8];
    let mut target = over(&mut buffer);
    let (first, second) = (wide!("ab"), counted(wide!("cdef")));
    equal!(
        RtlAppendUnicodeToString(&raw mut target, first.as_ptr()),
        STATUS_SUCCESS,
        "the first append"
    );
    equal!(
        RtlAppendUnicodeStringToString(&raw mut target, &raw const second),
        STATUS_SUCCESS,
        "the second"
    );
    check!(
        same(&target, wide!("abcdef")),
        "the text is {:x?}",
        units(&target)
    );
    let long = wide!("ghi");
    equal!(
        RtlAppendUnicodeToString(&raw mut target, long.as_ptr()),
        STATUS_BUFFER_TOO_SMALL,
        "too much"
    );
    equal!(
        RtlAppendUnicodeStringToString(&raw mut target, &raw const second),
        STATUS_BUFFER_TOO_SMALL,
        "too much"
    );
    check!(
        same(&target, wide!("abcdef")),
        "the text is {:x?}",
        units(&target)
    );
    equal!(
        RtlAppendUnicodeToString(&raw mut target, core::ptr::null()),
        STATUS_SUCCESS,
        "an append of NULL"
    );
    Ok(())
}

/// Learn, RtlUpcaseUnicodeString: into a buffer of its own or of the caller's; STATUS_BUFFER_OVERFLOW when that is short.
fn upcasing_allocates_when_asked() -> Outcome {
    let source = counted(wide!("aBc1"));
    let mut target = empty();
    equal!(
        RtlUpcaseUnicodeString(&raw mut target, &raw const source, 1),
        STATUS_SUCCESS,
        "with a new buffer"
    );
    let right = same(&target, wide!("ABC1"));
    RtlFreeUnicodeString(&raw mut target);
    check!(right, "the text in a new buffer is wrong");
    let mut buffer = [0; 4];
    let mut target = over(&mut buffer);
    equal!(
        RtlUpcaseUnicodeString(&raw mut target, &raw const source, 0),
        STATUS_SUCCESS,
        "with a given buffer"
    );
    check!(
        same(&target, wide!("ABC1")),
        "the text is {:x?}",
        units(&target)
    );
    target.MaximumLength = 6;
    equal!(
        RtlUpcaseUnicodeString(&raw mut target, &raw const source, 0),
        STATUS_BUFFER_OVERFLOW,
        "with a short one"
    );
    Ok(())
}

/// Learn, RtlCompareUnicodeString, RtlEqualUnicodeString: order by units, with or without regard to case.
fn strings_compare_with_and_without_case() -> Outcome {
    let [a, b, c, d] = [wide!("Xen"), wide!("xeN"), wide!("yen"), wide!("Xen ")].map(counted);
    let compare = |a: &UNICODE_STRING, b: &UNICODE_STRING, insensitive| {
        RtlCompareUnicodeString(a, b, insensitive).signum()
    };
    equal!(
        (compare(&a, &b, 0), compare(&a, &b, 1)),
        (-1, 0),
        "Xen with xeN"
    );
    equal!(
        (compare(&c, &a, 1), compare(&a, &c, 1)),
        (1, -1),
        "yen with Xen, and back"
    );
    equal!(
        (compare(&a, &d, 0), compare(&d, &a, 0)),
        (-1, 1),
        "a beginning with the whole, and back"
    );
    equal!(
        (
            RtlEqualUnicodeString(&a, &b, 0),
            RtlEqualUnicodeString(&a, &b, 1)
        ),
        (0, 1),
        "RtlEqualUnicodeString"
    );
    Ok(())
}

fn integer(text: &[u16], base: u32) -> (NTSTATUS, u32) {
    let string = counted(text);
    let mut value = 0;
    let status = RtlUnicodeStringToInteger(&raw const string, base, &raw mut value);
    (status, value)
}

/// Learn, RtlUnicodeStringToInteger: base 0 goes by the prefix; a sign; ends at the first character that is no digit.
fn integers_are_read_in_their_base() -> Outcome {
    equal!(
        integer(wide!("1234"), 10),
        (STATUS_SUCCESS, 1234),
        "1234 in base 10"
    );
    equal!(
        integer(wide!("ff"), 16),
        (STATUS_SUCCESS, 0xFF),
        "ff in base 16"
    );
    equal!(
        integer(wide!("101"), 2),
        (STATUS_SUCCESS, 5),
        "101 in base 2"
    );
    equal!(
        integer(wide!("17"), 8),
        (STATUS_SUCCESS, 15),
        "17 in base 8"
    );
    equal!(
        integer(wide!("0x1F"), 0),
        (STATUS_SUCCESS, 0x1F),
        "0x1F in base 0"
    );
    equal!(
        integer(wide!("0o17"), 0),
        (STATUS_SUCCESS, 15),
        "0o17 in base 0"
    );
    equal!(
        integer(wide!("0b11"), 0),
        (STATUS_SUCCESS, 3),
        "0b11 in base 0"
    );
    equal!(
        integer(wide!("42"), 0),
        (STATUS_SUCCESS, 42),
        "42 in base 0"
    );
    equal!(
        integer(wide!("-7"), 10),
        (STATUS_SUCCESS, (-7i32) as u32),
        "-7"
    );
    equal!(
        integer(wide!("12ab"), 10),
        (STATUS_SUCCESS, 12),
        "12ab in base 10"
    );
    equal!(integer(wide!("1"), 7).0, STATUS_INVALID_PARAMETER, "base 7");
    Ok(())
}

static ID: GUID = GUID {
    Data1: 0x0123_ABCD,
    Data2: 0x4567,
    Data3: 0x89EF,
    Data4: [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF],
};

/// Learn, RtlStringFromGUID, RtlGUIDFromString: 38 characters in braces, and back.
fn a_guid_has_a_text() -> Outcome {
    let mut string = empty();
    equal!(
        RtlStringFromGUID(&raw const ID, &raw mut string),
        STATUS_SUCCESS,
        "RtlStringFromGUID"
    );
    let mut back = GUID { Data1: 0, ..ID };
    let status = RtlGUIDFromString(&raw const string, &raw mut back);
    let mut plain = [0; 38];
    for (place, unit) in plain.iter_mut().zip(units(&string)) {
        // "may be in either case" is not said: the braces and digits are what counts.
        *place = (*unit as u8).to_ascii_uppercase();
    }
    let length = string.Length;
    RtlFreeUnicodeString(&raw mut string);
    equal!(length, 76, "the length in bytes");
    equal!(
        &plain,
        b"{0123ABCD-4567-89EF-0123-456789ABCDEF}",
        "the text"
    );
    equal!((status, back), (STATUS_SUCCESS, ID), "RtlGUIDFromString");
    let bad = counted(wide!("{0123ABCD-4567}"));
    equal!(
        RtlGUIDFromString(&raw const bad, &raw mut back),
        STATUS_INVALID_PARAMETER,
        "RtlGUIDFromString of half a GUID"
    );
    Ok(())
}

fn ansi(text: &core::ffi::CStr) -> ANSI_STRING {
    let mut string = ANSI_STRING {
        Length: 0,
        MaximumLength: 0,
        Buffer: null_mut(),
    };
    RtlInitAnsiString(&raw mut string, text.as_ptr().cast());
    string
}

/// Learn, RtlAnsiStringToUnicodeString, RtlUnicodeStringToAnsiString: with a buffer of their own or the caller's.
fn ansi_and_unicode_convert() -> Outcome {
    let source = ansi(c"disk0");
    equal!(
        (source.Length, source.MaximumLength),
        (5, 6),
        "the lengths of RtlInitAnsiString"
    );
    let mut wider = empty();
    equal!(
        RtlAnsiStringToUnicodeString(&raw mut wider, &raw const source, 1),
        STATUS_SUCCESS,
        "to Unicode"
    );
    let right = same(&wider, wide!("disk0"));
    let mut back = ansi(c"");
    let status = RtlUnicodeStringToAnsiString(&raw mut back, &raw const wider, 1);
    let length = back.Length;
    RtlFreeUnicodeString(&raw mut wider);
    if status == STATUS_SUCCESS {
        RtlFreeAnsiString(&raw mut back);
    }
    check!(right, "the Unicode text is wrong");
    equal!(
        (status, length),
        (STATUS_SUCCESS, 5),
        "to ANSI: status and length"
    );
    let mut buffer = [0; 3];
    let mut short = over(&mut buffer);
    let status = RtlAnsiStringToUnicodeString(&raw mut short, &raw const source, 0);
    equal!(
        status,
        STATUS_BUFFER_OVERFLOW,
        "to Unicode with a short buffer"
    );
    Ok(())
}

/// Learn, RtlCompareString, RtlEqualString: as their Unicode kin.
fn ansi_strings_compare() -> Outcome {
    let (a, b) = (ansi(c"Xen"), ansi(c"xEN"));
    equal!(
        RtlCompareString(&a, &b, 0).signum(),
        -1,
        "RtlCompareString with case"
    );
    equal!(RtlCompareString(&a, &b, 1), 0, "RtlCompareString without");
    equal!(
        (RtlEqualString(&a, &b, 0), RtlEqualString(&a, &b, 1)),
        (0, 1),
        "RtlEqualString"
    );
    Ok(())
}

/// Learn, _vsnprintf: the number of characters; negative, and no terminating zero, when they do not fit.
fn formatting_says_when_it_does_not_fit() -> Outcome {
    let mut buffer = [b'#'; 16];
    let list = [42u64, c"disk".as_ptr() as u64, 0xBEEF];
    let format = c"%d-%s-%04x".as_ptr().cast();
    let count = _vsnprintf(buffer.as_mut_ptr(), 16, format, list.as_ptr());
    equal!(count, 12, "the count");
    equal!(&buffer[..13], b"42-disk-beef\0", "the text");
    buffer = [b'#'; 16];
    check!(
        _vsnprintf(buffer.as_mut_ptr(), 5, format, list.as_ptr()) < 0,
        "a text that does not fit has a count"
    );
    equal!(&buffer[..6], b"42-di#", "what of it is there");
    buffer = [b'#'; 16];
    equal!(
        _vsnprintf(buffer.as_mut_ptr(), 12, format, list.as_ptr()),
        12,
        "the count of what fits without its zero"
    );
    equal!(buffer[12], b'#', "the byte behind");
    Ok(())
}

/// Learn, "Format specification syntax": widths, precisions, flags and sizes.
fn formats_know_widths_and_sizes() -> Outcome {
    let check = |format: &core::ffi::CStr, argument: u64, text: &[u8]| {
        let mut buffer = [0; 40];
        let list = [argument];
        let count = _vsnprintf(
            buffer.as_mut_ptr(),
            40,
            format.as_ptr().cast(),
            list.as_ptr(),
        );
        equal!(&buffer[..count.clamp(0, 40) as usize], text, "{:?}", format);
        Ok(())
    };
    check(c"%5d|", 42, b"   42|")?;
    check(c"%-5d|", 42, b"42   |")?;
    check(c"%05d|", (-42i64) as u64, b"-0042|")?;
    check(c"%+d", 7, b"+7")?;
    check(c"%u", u64::from(u32::MAX), b"4294967295")?;
    check(c"%llx", 0x1234_5678_9ABC, b"123456789abc")?;
    check(c"%I64u", 1 << 40, b"1099511627776")?;
    check(c"%#x", 255, b"0xff")?;
    check(c"%#X", 255, b"0XFF")?;
    check(c"%.3s", c"abcdef".as_ptr() as u64, b"abc")?;
    check(c"%c", u64::from(b'x'), b"x")?;
    check(c"%o", 8, b"10")?;
    check(c"%%", 0, b"%")?;
    check(c"%ws", wide!("wide").as_ptr() as u64, b"wide")?;
    Ok(())
}

/// Learn, RtlCompareMemory: the number of bytes that are equal from the start.
fn equal_bytes_are_counted() -> Outcome {
    let (a, mut b) = ([7u8; 32], [7u8; 32]);
    let compare = |b: &[u8; 32]| RtlCompareMemory(a.as_ptr() as PVOID, b.as_ptr() as PVOID, 32);
    equal!(compare(&b), 32, "for equal memory");
    b[20] = 8;
    equal!(compare(&b), 20, "with a difference at 20");
    b[0] = 8;
    equal!(compare(&b), 0, "with a difference at the start");
    Ok(())
}

/// Learn, RtlMoveMemory: memmove, for memory that overlaps.
fn memory_moves_onto_itself() -> Outcome {
    let mut bytes = [0u8; 64];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = at as u8;
    }
    bytes.copy_within(0..40, 8);
    check!(
        (0..40).all(|at| bytes[at + 8] == at as u8),
        "a move upwards: {:?}",
        &bytes[..16]
    );
    bytes.copy_within(8..48, 0);
    check!(
        (0..40).all(|at| bytes[at] == at as u8),
        "a move downwards: {:?}",
        &bytes[..16]
    );
    Ok(())
}

/// Learn, _stricmp, isalnum, isprint.
fn characters_have_their_classes() -> Outcome {
    let compare = |a: &core::ffi::CStr, b: &core::ffi::CStr| {
        _stricmp(a.as_ptr().cast(), b.as_ptr().cast()).signum()
    };
    equal!(
        (
            compare(c"vbd", c"VBD"),
            compare(c"a", c"B"),
            compare(c"b", c"A")
        ),
        (0, -1, 1),
        "_stricmp"
    );
    let classes = |byte: u8| (isalnum(byte.into()) != 0, isprint(byte.into()) != 0);
    equal!(classes(b'a'), (true, true), "of a");
    equal!(classes(b'0'), (true, true), "of 0");
    equal!(classes(b' '), (false, true), "of a space");
    equal!(classes(b'\n'), (false, false), "of a line end");
    Ok(())
}

/// Learn, RtlRandomEx: a number below MAXLONG, and a new seed.
fn random_numbers_differ() -> Outcome {
    let mut seed = 0x1234;
    let (a, b) = (RtlRandomEx(&raw mut seed), RtlRandomEx(&raw mut seed));
    check!(
        a < 0x7FFF_FFFF && b < 0x7FFF_FFFF,
        "{a:#x} and {b:#x} are too large"
    );
    check!(a != b, "both are {a:#x}");
    check!(seed != 0x1234, "the seed is the same");
    Ok(())
}

/// Learn, RtlTimeToTimeFields: the Gregorian calendar from 1601, days of the week from Sunday.
fn times_have_fields() -> Outcome {
    let fields = |time: i64| {
        let mut fields = TIME_FIELDS::default();
        RtlTimeToTimeFields(&raw const time, &raw mut fields);
        fields
    };
    let day = 864_000_000_000;
    let start = TIME_FIELDS {
        Year: 1601,
        Month: 1,
        Day: 1,
        Weekday: 1,
        ..TIME_FIELDS::default()
    };
    equal!(fields(0), start, "the start of time");
    let leap = TIME_FIELDS {
        Year: 2000,
        Month: 2,
        Day: 29,
        Hour: 13,
        Minute: 14,
        Second: 15,
        Milliseconds: 16,
        Weekday: 2,
    };
    // Days from 1601-01-01 to 2000-02-29.
    let time = 145_790 * day + ((13 * 60 + 14) * 60 + 15) * 10_000_000 + 16 * MILLISECOND;
    equal!(fields(time), leap, "the 29th of February 2000");
    Ok(())
}

/// Learn, RtlGetVersion: the version of a Windows 10 or later.
fn the_version_is_known() -> Outcome {
    let mut version = OSVERSIONINFOW {
        dwOSVersionInfoSize: size_of::<OSVERSIONINFOW>() as u32,
        dwMajorVersion: 0,
        dwMinorVersion: 9,
        dwBuildNumber: 0,
        dwPlatformId: 0,
        szCSDVersion: [0; 128],
    };
    equal!(
        RtlGetVersion(&raw mut version),
        STATUS_SUCCESS,
        "RtlGetVersion"
    );
    // VER_PLATFORM_WIN32_NT.
    equal!(
        (
            version.dwMajorVersion,
            version.dwMinorVersion,
            version.dwPlatformId
        ),
        (10, 0, 2),
        "version and platform"
    );
    check!(
        version.dwBuildNumber >= 10240,
        "the build is {}",
        version.dwBuildNumber
    );
    Ok(())
}

/// Learn, MmGetSystemRoutineAddress: the address of a routine, which can be called; NULL for a name that is unknown.
fn routines_are_found_by_name() -> Outcome {
    let name = counted(wide!("KeGetCurrentIrql"));
    let address = MmGetSystemRoutineAddress(&raw const name);
    check!(!address.is_null(), "KeGetCurrentIrql is unknown");
    // SAFETY: that function's type.
    let irql: extern "system" fn() -> KIRQL = unsafe { core::mem::transmute(address) };
    equal!(irql(), PASSIVE_LEVEL, "the IRQL, asked by address");
    let none = counted(wide!("KeDoesNotExist"));
    check!(
        MmGetSystemRoutineAddress(&raw const none).is_null(),
        "a routine that does not exist was found"
    );
    Ok(())
}

group!("strings":
    a_string_is_counted_without_its_zero,
    a_copy_is_cut_off_at_the_targets_size,
    what_does_not_fit_is_not_appended,
    upcasing_allocates_when_asked,
    strings_compare_with_and_without_case,
    integers_are_read_in_their_base,
    a_guid_has_a_text,
    ansi_and_unicode_convert,
    ansi_strings_compare,
    formatting_says_when_it_does_not_fit,
    formats_know_widths_and_sizes,
    equal_bytes_are_counted,
    memory_moves_onto_itself,
    characters_have_their_classes,
    random_numbers_differ,
    times_have_fields,
    the_version_is_known,
    routines_are_found_by_name,
);
